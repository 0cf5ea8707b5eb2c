"""What makes servers interchangeable, how messages arrive, and what is watched while libraries are imported."""

import os
import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import WarmUnavailableError
from kit.warm import client, folder, key, preloading, reads, safety, servers, standin, starting
from kit.warm.wire import LENGTH, LONGEST_BYTES, Closed, Connection

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

LAUNCHER = Path(__file__).with_name("warm_launcher.py")
VARIABLES = {"HOME": "/home/ana", "PATH": "/bin"}


def test_key_holds_for_all_that_is_of_no_meaning_to_an_import() -> None:
    one = key.make_key(("numpy",), LAUNCHER, VARIABLES)
    assert one == key.make_key(("numpy",), LAUNCHER, {**VARIABLES, "PATH": "/usr/bin", "KIT_CONTEXT": "x", "ANY": "y"})


@pytest.mark.parametrize(
    "name",
    [
        "HOME", "LANG", "LC_NUMERIC", "TZ", "PYTHONHASHSEED", "PYTHONPATH", "LD_PRELOAD", "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "TF_DETERMINISTIC_OPS", "TF2_BEHAVIOR",
        "KERAS_BACKEND", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "MPLBACKEND", "MALLOC_ARENA_MAX", "https_proxy",
    ],
)  # fmt: skip
def test_key_differs_with_a_variable_that_is_read_where_nobody_can_watch(name: str) -> None:
    plain = key.make_key((), LAUNCHER, VARIABLES)
    assert len({plain, *(key.make_key((), LAUNCHER, {**VARIABLES, name: value}) for value in ("", "1"))}) == 3


def test_key_differs_with_the_preload_list_and_the_launcher(tmp_path: Path) -> None:
    other = tmp_path / "launcher.py"
    shutil.copy(LAUNCHER, other)
    keys = [
        key.make_key(("numpy", "pandas"), LAUNCHER, VARIABLES),
        key.make_key(("pandas", "numpy"), LAUNCHER, VARIABLES),
        key.make_key((), LAUNCHER, VARIABLES),
        key.make_key((), other, VARIABLES),
    ]
    other.write_text(other.read_text() + "#")
    assert len({*keys, key.make_key((), other, VARIABLES)}) == 5


def test_key_differs_when_a_package_is_installed_or_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key, "site_folders", lambda: (tmp_path,))
    keys = [key.make_key((), LAUNCHER, VARIABLES)]
    package = tmp_path / "thing-1.0.dist-info"
    package.mkdir()
    keys.append(key.make_key((), LAUNCHER, VARIABLES))
    os.utime(package, ns=(1, 1))
    keys.append(key.make_key((), LAUNCHER, VARIABLES))
    (tmp_path / "__pycache__").mkdir()
    assert key.make_key((), LAUNCHER, VARIABLES) == keys[-1]
    assert len(set(keys)) == 3


def test_key_differs_with_limits_and_rights_of_the_process() -> None:
    facts = key.describe_process()
    assert facts.keys() == {"status", "namespaces", "cgroup", "limits", "nice", "scheduler"}
    names = {line.partition(":")[0] for line in facts["status"]}
    assert {"Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"} <= names


def test_name_is_of_the_values_of_what_is_read() -> None:
    names = ["PATH", "COLUMNS", "KIT_X", "PWD"]
    one = key.make_name("k", names, VARIABLES)
    assert one == key.make_name("k", names, {**VARIABLES, "OTHER": "1", "KIT_X": "1", "PWD": "/"})
    assert one != key.make_name("k", names, {**VARIABLES, "COLUMNS": ""})
    assert one != key.make_name("k", names[1:], VARIABLES)
    assert key.pick([key.EVERY, "NO"], {"A": "1", "KIT_B": "2", "_": "3"}) == {"A": "1", "NO": None}


def test_servers_own_environment_has_nothing_of_one_execution() -> None:
    variables = {"A": "1", "KIT_CONTEXT": "2", "JPY_PARENT_PID": "3", "PYTEST_CURRENT_TEST": "4", "PWD": "/", "_": "x"}
    assert key.shared_variables(variables) == {"A": "1"}


def test_reads_of_variables_are_watched_and_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHED_A", "1")
    found: set[str] = set()
    kind = type(os.environ)
    with reads.watch_reads(found):
        assert os.environ["WATCHED_A"] == os.getenv("WATCHED_A") == "1"
        assert "WATCHED_B" not in os.environ
        assert os.environ.get("WATCHED_C") is None
        os.environ.setdefault("WATCHED_D", "1")
        del os.environ["WATCHED_D"]
    assert type(os.environ) is kind
    assert {"WATCHED_A", "WATCHED_B", "WATCHED_C", "WATCHED_D"} <= found
    assert key.EVERY not in found


@pytest.mark.parametrize("text", ["dict(environ)", "environ.copy()", "list(environ.items())", "[k for k in environ]"])
@pytest.mark.parametrize(
    ("module", "expected"), [("urllib.request", set()), ("tqdm.utils", set()), ("lib", {key.EVERY})]
)
def test_library_that_reads_every_variable_depends_on_every_one(text: str, module: str, expected: set[str]) -> None:
    found: set[str] = set()
    with reads.watch_reads(found):
        exec(text, {"__name__": module, "environ": os.environ})
    assert found == expected


def test_variables_that_imports_set_and_remove() -> None:
    assert reads.changed_variables({"A": "1", "B": "1", "C": "1"}, {"A": "1", "B": "2", "D": ""}) == {
        "B": "2",
        "C": None,
        "D": "",
    }


def test_only_installed_modules_and_kits_own_are_preloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    names = ["numpy", "numpy.linalg", "kit", "project_module", "json", "sys", "no_such_module", "tests", "pandas"]
    assert [name for name in names if preloading.is_installed(name)] == ["numpy", "numpy.linalg", "kit", "pandas"]


def test_changed_removed_and_new_file_is_found(tmp_path: Path) -> None:
    file, absent = tmp_path / "a", tmp_path / "b"
    file.touch()
    marks = {str(path): preloading.read_mark(str(path)) for path in (file, absent)}
    preloaded = preloading.Preloaded((), {}, marks, (), frozenset(), frozenset(), frozenset())
    assert preloaded.find_changed() == ""
    absent.touch()
    assert preloaded.find_changed() == str(absent)
    absent.unlink()
    os.utime(file, ns=(1, 1))
    assert preloaded.find_changed() == str(file)


def test_file_that_is_changed_while_it_is_imported_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(preloading.ChangedError, match="was changed while it was imported"):
        preloading.mark_files(0)


def test_descriptors_that_kernels_may_share(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    with file.open() as reading, file.open("a") as writing, socket.socket() as end, Path(os.devnull).open() as nothing:
        found = [safety.describe_descriptor(each.fileno()) for each in (reading, writing, end, nothing)]
    assert found == [
        "",
        f"keeps open {file}, which each kernel needs for itself",
        "opened a network connection or another socket",
        "",
    ]


def test_module_that_is_not_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert safety.find_foreign([*key.site_folders(), Path(__file__).parents[1]]) == ""
    import foreign_module  # type: ignore[import-not-found]

    del foreign_module
    try:
        name = f"foreign_module ({tmp_path / 'foreign_module.py'})"
        assert safety.find_foreign([*key.site_folders(), Path(__file__).parents[1]]) == name
    finally:
        del sys.modules["foreign_module"]


def test_late_stream_is_the_stream_of_each_moment(capsys: pytest.CaptureFixture[str]) -> None:
    class Early:
        encoding = "latin-1"

        def write(self, text: str) -> int:
            texts.append(text)
            return len(text)

    texts: list[str] = []
    stream = standin.LateStream("stdout", Early())
    print("early", file=stream)
    assert stream.encoding == "latin-1"
    stream.settle()
    print("late", file=stream)
    assert (texts, capsys.readouterr().out) == (["early", "\n"], "late\n")


def test_folder_is_private(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    opened = folder.open_folder({folder.FOLDER_VARIABLE: str(path)})
    assert (opened.path, path.stat().st_mode & 0o777) == (path, 0o700)
    path.chmod(0o755)
    with pytest.raises(WarmUnavailableError, match=f"^{folder.FOLDER_VARIABLE}: {path} must .* nobody else may enter"):
        folder.open_folder({folder.FOLDER_VARIABLE: str(path)})
    (tmp_path / "link").symlink_to(path)
    path.chmod(0o700)
    with pytest.raises(WarmUnavailableError, match="must be a folder"):
        folder.open_folder({folder.FOLDER_VARIABLE: str(tmp_path / "link")})
    with pytest.raises(WarmUnavailableError, match="cannot be made"):
        folder.open_folder({folder.FOLDER_VARIABLE: str(tmp_path / "no" / "folder")})


def test_folder_is_in_the_runtime_folder_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.open_folder({"XDG_RUNTIME_DIR": str(tmp_path)}).path == tmp_path / "kit-warm"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert folder.open_folder({"XDG_RUNTIME_DIR": "/nowhere"}).path == tmp_path / f"kit-warm-{os.getuid()}"


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_refusal_is_remembered_for_a_day_and_old_files_go(tmp_path: Path) -> None:
    place = folder.WarmFolder(tmp_path)
    place.refuse("name", "it may not")
    place.add_names("key", {"B", "A"})
    assert (place.read_refusal("name"), place.add_names("key", ["C"])) == ("it may not", ["A", "B", "C"])
    before = time.time() - folder.REFUSED_S - 1
    os.utime(place.refused("name"), (before, before))
    place.remove_old()
    assert (place.read_refusal("name"), names_in(tmp_path)) == ("", ["key.names", "name.refused"])
    old = time.time() - folder.OLD_S - 1
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    place.socket("s").touch()
    os.utime(place.socket("s"), (old, old))
    place.remove_old()
    assert names_in(tmp_path) == ["s.sock"]
    place.names("key").write_text("no JSON")
    assert place.read_names("key") == []


def test_log_does_not_grow_over_its_bound(tmp_path: Path) -> None:
    place = folder.WarmFolder(tmp_path)
    place.log("key").write_bytes(b"x" * folder.LOG_BYTES)
    place.cut_log("key")
    assert place.log("key").stat().st_size == folder.LOG_BYTES
    place.log("key").write_bytes(b"x" * (folder.LOG_BYTES + 1))
    place.cut_log("key")
    assert place.log("key").stat().st_size == 0


def test_socket_can_lie_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40) / "name.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        with folder.short_path(path) as address:
            listener.bind(address)
        listener.listen()
        folder.connect(path).close()
    with pytest.raises(ConnectionRefusedError):
        folder.connect(path)


def server(idle_s: float, memory_bytes: int = 100, n_kernels: int = 0) -> servers.Server:
    return servers.Server(1, (), n_kernels, 1, datetime.now(UTC), idle_s, memory_bytes)


@pytest.mark.parametrize(
    ("found", "available_bytes", "surplus"),
    [
        ([], 0, []),
        ([server(1), server(9)], 10_000, []),
        ([server(1), server(9)], 600, [1]),
        ([server(1), server(9)], 0, [1, 0]),
        ([server(1), server(9, n_kernels=1)], 0, [0]),
        ([server(1), server(9)], None, []),
        ([server(each) for each in range(6)], None, [5]),
        ([server(each, n_kernels=1) for each in range(8)], 0, []),
    ],
)
def test_longest_unused_servers_end_where_one_more_is_too_many_or_too_much_memory(
    found: list[servers.Server], available_bytes: int | None, surplus: list[int]
) -> None:
    named = {Path(str(number)): each for number, each in enumerate(found)}
    assert servers.choose_surplus(named, available_bytes) == [Path(str(number)) for number in surplus]


@pytest.mark.parametrize("text", ["no", "0", "-1", "nan", "inf"])
def test_seconds_of_an_unused_server_must_be_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(starting.IDLE_VARIABLE, text)
    with pytest.raises(WarmUnavailableError, match=f"must be seconds above 0, found '{text}'"):
        starting.read_idle_s()


def test_second_starter_waits_and_can_be_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        starting.hold_lock(path, lambda: False),
        pytest.raises(WarmUnavailableError, match="interrupted"),
        starting.hold_lock(path, lambda: True),
    ):
        pass
    with starting.hold_lock(path, lambda: True):
        pass


def test_client_says_what_a_new_process_would_have_from_it() -> None:
    before = os.umask(0o027)
    try:
        facts = client.describe_self()
    finally:
        os.umask(before)
    assert (facts["umask"], facts["blocked"]) == (0o027, [])
    assert 13 not in facts["ignored"], "Python ignores SIGPIPE, and no new process has that from it"


@pytest.fixture
def ends() -> tuple[Connection, socket.socket]:
    one, other = socket.socketpair()
    return Connection(one), other


@given(message=st.dictionaries(st.text(), st.none() | st.text(st.characters()) | st.integers()), cut=st.integers(0, 20))
def test_message_arrives_whole_however_it_is_cut(message: dict[str, object], cut: int) -> None:
    one, other = socket.socketpair()
    three, four = socket.socketpair()
    sender, receiver = Connection(one), Connection(four)
    sender.send(message)
    data = other.recv(1 << 20)
    three.sendall(data[:cut])
    early = receiver.receive() if cut < len(data) else None
    assert early is None
    three.sendall(data[cut:])
    assert receiver.receive() == (message, [])
    for each in (sender, receiver, other, three):
        each.close()


def test_descriptors_arrive_with_their_message_and_nobody_keeps_those_that_are_not_taken(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    sender, receiver = Connection(one), Connection(other)
    reading, writing = os.pipe()
    sender.send({"name": os.fsdecode(b"\xff")}, [writing])
    received = receiver.receive()
    assert received is not None
    message, (passed,) = received
    assert message == {"name": "\udcff"}
    os.write(passed, b"x")
    os.close(writing)
    os.close(passed)
    assert (os.read(reading, 9), os.read(reading, 9)) == (b"x", b"")
    os.close(reading)
    sender.close()
    with pytest.raises(Closed):
        receiver.receive()
    receiver.close()


@pytest.mark.parametrize(
    "data",
    [LENGTH.pack(LONGEST_BYTES + 1), LENGTH.pack(2) + b"[]", LENGTH.pack(1) + b"{", LENGTH.pack(2) + b"\xff\xff"],
)
def test_what_is_no_message_ends_the_connection(data: bytes, ends: tuple[Connection, socket.socket]) -> None:
    connection, other = ends
    other.sendall(data)
    with pytest.raises(Closed):
        connection.receive()
    connection.close()
    other.close()
