"""Forked kernels: what they are, how they end, and that nothing stays whoever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest
from warm_servers import (
    LAUNCHER,
    Running,
    await_end,
    await_no_process,
    environment,
    find_processes,
    fork,
    kill,
    parent_of,
    run_cold,
    server_of,
)

from kit.errors import WarmUnavailableError
from kit.warm import folder, fork_kernel, list_servers, servers, stop_servers
from kit.warm.wire import Closed, Connection, await_message

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("warm_folder")]

# What an interpreter is made of, apart from what has been imported.
FACTS = """
import builtins, gc, inspect, json, locale, os, resource, signal, sys, tempfile, threading, time, warnings
import multiprocessing.process
lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "folder": os.getcwd(),
    "first folder": multiprocessing.process.ORIGINAL_DIR,
    "temporary folder": tempfile.gettempdir(),
    "path": sys.path,
    "arguments": [sys.argv, sys.orig_argv],
    "flags": repr(sys.flags),
    "variables": dict(os.environ),
    "C variables": sorted(line for line in os.popen("env").read().splitlines() if not line.startswith("_=")),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "streams": [[s.encoding, s.errors, s.line_buffering, s.fileno(), s.isatty()] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "is original": [sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "signals": {str(n): str(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()},
    "masks": [lines[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "CapEff", "Cpus_allowed_list", "Threads")],
    "limits": [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")],
    "nice": os.nice(0),
    "recursion": [sys.getrecursionlimit(), len(inspect.stack())],
    "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
    "filters": [repr(each) for each in warnings.filters],
    "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace(), sys.getprofile()],
    "finders": [repr(each).partition(" at ")[0] for each in sys.meta_path],
    "threads": [each.name for each in threading.enumerate()],
    "locale": locale.setlocale(locale.LC_ALL),
    "time zone": time.tzname,
    "builtins": sorted(dir(builtins)),
    "main": [sys.modules["__main__"].__file__, repr(sys.modules["__main__"].__spec__)],
    "kit": [name for name in sys.modules if name.partition(".")[0] == "kit"],
    "hash": hash("text"),
    "modules": sorted(sys.modules),
}))
"""


def test_forked_kernel_is_what_a_new_interpreter_would_be(tmp_path: Path) -> None:
    forked, cold = fork(FACTS, tmp_path, KIT_X="ü"), run_cold(FACTS, tmp_path, KIT_X="ü")
    assert (forked.code, forked.err, forked.preloaded) == (0, cold.err, ("ipykernel",))
    found, expected = json.loads(forked.out), json.loads(cold.out)
    more = set(found.pop("modules")) - set(expected.pop("modules"))
    assert {name.partition(".")[0] for name in more} <= sys.stdlib_module_names
    assert found == expected


def test_forked_kernel_with_libraries_has_the_variables_and_filters_of_a_cold_one_that_has_imported_them(
    tmp_path: Path,
) -> None:
    names = ("numpy", "pandas", "pyarrow", "sklearn.linear_model")
    text = "".join(f"import {name}\n" for name in names) + FACTS
    forked, cold = fork(text, tmp_path, preload=names), run_cold(text, tmp_path)
    assert forked.preloaded == ("ipykernel", "numpy", "pandas", "pyarrow", "sklearn")
    found, expected = json.loads(forked.out), json.loads(cold.out)
    for facts in (found, expected):
        del facts["modules"], facts["masks"]  # a cold one has OpenBLAS' threads already
    assert found == expected


def test_library_that_asks_whether_it_is_in_a_notebook_is_told_so_before_there_is_one(tmp_path: Path) -> None:
    text = "import pandas; print(pandas.options.display.max_columns)"
    assert run_cold(text, tmp_path).out == "0\n", "pandas no longer asks for a terminal: the stand-in shell may go"
    assert fork(text, tmp_path, preload=("pandas",)).out == "20\n"


def test_path_of_the_kernel_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "helper.py").write_text("x = 1")
    text = "import json, sys; print(json.dumps(sys.path)); import helper"
    forked, cold = fork(text, tmp_path, PYTHONPATH=":own"), run_cold(text, tmp_path, PYTHONPATH=":own")
    assert json.loads(forked.out)[:2] == [str(tmp_path), str(tmp_path / "own")]
    assert forked[:3] == cold[:3]


@pytest.mark.parametrize(
    ("text", "code", "err"),
    [
        ("", 0, ""),
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit(-1)", 255, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os; os._exit(4)", 4, ""),
        ("import os; os.kill(os.getpid(), 11)", -11, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import ctypes; ctypes.string_at(0)", -11, ""),
    ],
)
def test_exit_code_is_the_one_of_a_new_interpreter(text: str, code: int, err: str, tmp_path: Path) -> None:
    forked, cold = fork(text, tmp_path), run_cold(text, tmp_path)
    assert (forked.code, forked.out, forked.err) == (code, "", err)
    assert cold.code == code


def test_exception_ends_with_a_traceback_and_1(tmp_path: Path) -> None:
    forked = fork("1/0", tmp_path)
    assert forked.code == 1
    assert forked.err.endswith("ZeroDivisionError: division by zero\n")


def test_end_of_the_kernel_runs_exit_hooks_waits_for_threads_and_writes_open_files(tmp_path: Path) -> None:
    text = """
        import atexit, threading, sys
        file = open("open.txt", "w"); file.write("kept")
        loop = [open("cycle.txt", "w")]; loop[0].write("kept"); loop.append(loop)
        atexit.register(print, "hook")
        threading.Thread(target=lambda: (threading.main_thread().join(), print("thread"))).start()
        print("end", end=" ")
    """
    assert fork(textwrap.dedent(text), tmp_path)[:3] == (0, "end thread\nhook\n", "")
    assert [(tmp_path / name).read_text() for name in ("open.txt", "cycle.txt")] == ["kept", "kept"]


def test_interrupt_reaches_the_kernel(tmp_path: Path) -> None:
    text = """
        import time
        try:
            print("on", flush=True); time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
    """
    running = Running(textwrap.dedent(text), tmp_path)
    assert running.read_line() == "on"
    assert running.kernel.poll() is None
    os.killpg(running.kernel.pid, signal.SIGINT)
    assert running.end()[:3] == (0, "interrupted\n", "")


def test_ignored_signals_and_umask_are_the_clients(tmp_path: Path) -> None:
    text = "import os, signal; print(signal.getsignal(2), signal.getsignal(1), oct(os.umask(0)))"
    before, hup = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = os.umask(0o027)
    try:
        forked, cold = fork(text, tmp_path), run_cold(text, tmp_path)
    finally:
        os.umask(mask)
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, hup)
    assert forked.out == cold.out == "1 1 0o27\n"
    assert fork(text, tmp_path).out == run_cold(text, tmp_path).out


def test_random_numbers_differ_from_kernel_to_kernel(tmp_path: Path) -> None:
    text = """
        import random, numpy, uuid, tempfile, multiprocessing.process as p
        print(random.random(), numpy.random.random(), uuid.uuid4(), p.current_process().authkey.hex(), tempfile.mkdtemp())
    """
    outs = [fork(textwrap.dedent(text), tmp_path, preload=("numpy",)).out.split() for _ in range(2)]
    assert len({*outs[0], *outs[1]}) == 10


def test_generators_that_imports_make_are_seeded_as_in_a_new_interpreter(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    made = """
        import random, numpy
        free, fixed = random.Random(), random.Random(7)
        drawn, given, old = numpy.random.default_rng(), numpy.random.default_rng(7), numpy.random.RandomState()
        random.seed(7)
        """
    launcher.write_text(f"{textwrap.dedent(made)}{LAUNCHER.read_text()}")
    text = """
        import random, sys
        made = sys.modules["__main__"]
        print(random.random(), made.fixed.random(), made.given.random())
        print(made.free.random(), made.drawn.random(), made.old.random_sample(), made.numpy.random.random())
    """
    first, second = (fork(textwrap.dedent(text), tmp_path, launcher=launcher).out.splitlines() for _ in range(2))
    new = [random.Random(7).random(), random.Random(7).random(), numpy.random.default_rng(7).random()]
    assert first[0] == second[0] == " ".join(map(str, new))
    assert len({*first[1].split(), *second[1].split()}) == 8


def test_child_processes_by_fork_and_spawn(tmp_path: Path) -> None:
    text = """
        import math, multiprocessing, os, subprocess, sys
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                print(method, pool.map(math.sqrt, [4.0, 9.0]), pool.apply(os.getcwd) == os.getcwd())
        print(subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, text=True).stdout)
    """
    done = fork(textwrap.dedent(text), tmp_path, preload=("numpy",))
    assert done[:3] == (0, "fork [2.0, 3.0] True\nspawn [2.0, 3.0] True\n7\n\n", "")


def test_missing_module_is_left_to_the_notebook(tmp_path: Path) -> None:
    done = fork("import no_such_module", tmp_path, preload=("no_such_module", "numpy.no_such", "numpy"))
    assert done.preloaded == ("ipykernel", "numpy")
    assert done.err.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_modules_of_the_project_are_never_preloaded(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("raise SystemExit('imported')")
    done = fork("print('fine')", tmp_path, preload=("helper", "numpy"), PYTHONPATH=str(tmp_path))
    assert done == (0, "fine\n", "", ("ipykernel", "numpy"))


@pytest.mark.parametrize(
    ("file", "path"),
    [("numpy.py", ""), ("numpy/__init__.py", ""), ("six.cpython-311-x86_64-linux-gnu.so", ""), ("traitlets.pyc", ":.")],
)
def test_file_that_hides_an_installed_module_goes_cold(file: str, path: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(WarmUnavailableError) as refused:
        fork("", tmp_path, preload=("numpy", "pandas", "six"), PYTHONPATH=path)
    hiding = file.partition("/")[0]
    assert refused.value.reason == f"{hiding} in the project hides what is installed under that name"


def test_file_that_a_cold_kernel_would_not_import_hides_nothing(tmp_path: Path) -> None:
    for name in ("calendar.py", "traitlets.py", "numpy.txt", "numpy"):
        (tmp_path / name).touch()
    (tmp_path / "pandas").mkdir()
    assert fork("", tmp_path, preload=("numpy", "pandas")).code == 0


def test_settings_file_in_the_working_folder_goes_cold(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    with pytest.raises(WarmUnavailableError, match="matplotlibrc, which is read when matplotlib is imported"):
        fork("", tmp_path, preload=("matplotlib",))


def test_changed_settings_file_takes_another_server(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    text = "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    options = {"preload": ("matplotlib",), "MPLCONFIGDIR": str(settings)}
    assert fork(text, tmp_path, **options).out == "1.5\n"
    (settings / "matplotlibrc").write_text("lines.linewidth: 7")
    assert fork(text, tmp_path, **options).out == "7.0\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='pump', daemon=True).start()",
         "launcher.py started the thread 'pump', which stays alive when it is imported"),
        ("import socket\ns = socket.socket()", "launcher.py opened a network connection or another socket when it is imported"),
        ("import subprocess\np = subprocess.Popen(['sleep', '60'])", "launcher.py left the process "),
        ("import os\np = os.pipe()", "launcher.py keeps open pipe:"),
        ("import sys\nsys.excepthook = print", "launcher.py replaced sys.excepthook, as a kernel does when it is imported"),
        ("import signal\nsignal.signal(15, print)", "launcher.py replaced the handler of SIGTERM"),
        ("import sys\nsys.modules['ipywidgets'] = sys", "launcher.py let ipywidgets look for the running kernel"),
        ("raise ValueError('no')", "cannot be loaded: ValueError: no"),
        ("import os\nos.kill(os.getpid(), 11)", "the imports ended the process with SIGSEGV"),
    ],
)  # fmt: skip
def test_what_cannot_be_forked_is_refused_with_a_sentence_and_remembered(
    text: str, reason: str, tmp_path: Path, warm_folder: Path
) -> None:  # fmt: skip
    launcher = tmp_path / "launcher.py"
    launcher.write_text(f"import ipykernel.kernelapp\n{text}\ndef main(arguments): pass\n")
    with pytest.raises(WarmUnavailableError) as first:
        fork("", tmp_path, launcher=launcher)
    assert reason in first.value.reason
    logs = {path: path.stat().st_mtime_ns for path in warm_folder.glob("*.log")}
    with pytest.raises(WarmUnavailableError) as again:
        fork("", tmp_path, launcher=launcher)
    assert again.value.reason == first.value.reason
    assert {path: path.stat().st_mtime_ns for path in warm_folder.glob("*.log")} == logs, "it was tried again"
    await_no_process(launcher)


def test_other_value_of_a_variable_that_is_read_takes_another_server(tmp_path: Path) -> None:
    text = "import os; print(os.getppid())"
    parents = [
        fork(text, tmp_path, **variables).out
        for variables in (
            {},
            {"KIT_X": "1"},
            {"SOME_OTHER": "1"},
            {"OMP_NUM_THREADS": "1"},
            {"PYZMQ_BACKEND": "cython"},
        )
    ]
    assert parents[0] == parents[1] == parents[2]
    assert len(set(parents)) == 3


def test_clients_at_once_share_one_server(tmp_path: Path) -> None:
    parents: list[str] = []
    text = "import os; print(os.getppid())"
    threads = [
        threading.Thread(target=lambda: parents.append(fork(text, tmp_path, TF_TEST="at once").out)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parents) == 6
    assert len(set(parents)) == 1


BUSY = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1][-36:]])
    print(os.getpid(), os.getppid(), child.pid, flush=True)
    time.sleep(600)
"""
CLIENT = """
    import sys, time
    from pathlib import Path
    from warm_servers import Running
    running = Running(sys.argv[1], Path(sys.argv[2]), TF_TEST=sys.argv[2])
    print(running.read_line(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "killed",
    [
        "client", "server", "guard", "kernel client", "client server", "server client", "client guard", "guard client",
        "server kernel client", "kernel server client", "client kernel guard",
    ],
)  # fmt: skip
def test_no_process_stays_whoever_is_killed(killed: str, tmp_path: Path) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), textwrap.dedent(BUSY), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
        text=True,
    )
    assert client.stdout is not None
    kernel, server, child = map(int, client.stdout.readline().split())
    pids = {"client": client.pid, "server": server, "guard": parent_of(server), "kernel": kernel}
    kill(*(pids[name] for name in killed.split()))
    if killed in ("server", "guard"):  # then the client sees the kernel's end, and ends it
        await_end(kernel)
        kill(client.pid)
    client.wait()
    client.stdout.close()
    await_end(kernel)
    await_end(child)
    if killed in ("client", "kernel client"):
        assert find_processes(f'"TF_TEST": "{tmp_path}"') == []
        kill(server)
    await_end(server)
    await_end(pids["guard"])


def test_killed_server_is_replaced(tmp_path: Path) -> None:
    running = Running("import time; time.sleep(600)", tmp_path, TF_TEST="replaced")
    server = server_of(running.kernel)
    kill(server)
    assert running.end().code == -signal.SIGKILL
    again = Running("import os; print(os.getppid())", tmp_path, TF_TEST="replaced")
    assert again.end().out != f"{server}\n"


def test_server_that_hangs_makes_nobody_wait_who_was_interrupted(tmp_path: Path) -> None:
    running = Running("import time; time.sleep(600)", tmp_path, TF_TEST="hangs")
    server = server_of(running.kernel)
    os.kill(server, signal.SIGSTOP)
    try:
        asked: list[bool] = []
        with pytest.raises(WarmUnavailableError, match="interrupted"):
            fork_kernel(
                preload=(), launcher=LAUNCHER, arguments=[""], folder=tmp_path, stdout=1, stderr=2,
                variables=environment(TF_TEST="hangs"), is_cancelled=lambda: asked.append(True) or len(asked) > 3,
            )  # fmt: skip
    finally:
        os.kill(server, signal.SIGCONT)
    running.kernel.close()
    await_end(running.kernel.pid)
    kill(server)
    running.end()


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": ["fork"]},
        {"kind": "fork"},
        {"kind": "fork", "arguments": [], "variables": {"PYTHONPATH": 1}, "umask": 0, "ignored": [], "blocked": []},
        {"kind": "fork", "arguments": 1, "variables": 2, "umask": 3, "ignored": 4, "blocked": 5},
    ],
)
def test_request_that_is_none_ends_neither_the_server_nor_its_kernels(
    request_: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_WARM_FOLDER", str(tmp_path / "servers"))
    running = Running("import time; time.sleep(600)", tmp_path)
    (path,) = folder.open_folder().sockets()
    connection = Connection(folder.connect(path))
    with Path(os.devnull).open() as nothing:
        connection.send(request_, [nothing.fileno()] * 3)
    with pytest.raises(Closed):
        await_message(connection, 20.0)
    connection.close()
    assert running.kernel.poll() is None
    running.kernel.close()
    running.end()
    stop_servers()
    await_no_process(tmp_path / "servers")


def test_closed_kernel_ends_with_its_group(tmp_path: Path) -> None:
    running = Running(textwrap.dedent(BUSY), tmp_path)
    _, _, child = map(int, running.read_line().split())
    running.kernel.close()
    await_end(running.kernel.pid)
    await_end(child)
    assert running.end().code == -signal.SIGKILL


def test_unused_server_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIT_WARM_IDLE_S", "0.1")
    server = int(fork("import os; print(os.getppid())", tmp_path, TF_TEST="unused").out)
    await_end(server)


def test_server_that_was_unused_for_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIT_WARM_FOLDER", str(tmp_path / "servers"))
    monkeypatch.setattr(servers, "MOST_SERVERS", 2)
    text = "import os; print(os.getppid())"
    first = int(fork(text, tmp_path, TF_TEST="1").out)
    second = int(fork(text, tmp_path, TF_TEST="2").out)
    assert int(fork(text, tmp_path, TF_TEST="1").out) == first
    third = int(fork(text, tmp_path, TF_TEST="3").out)
    await_end(second)
    assert {each.pid for each in list_servers()} == {first, third}
    stop_servers()
    await_no_process(tmp_path / "servers")


def test_server_that_nobody_can_ask_any_more_ends_when_its_successor_starts(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER.read_text())
    text = "import os; print(os.getppid())"
    others = [int(fork(text, tmp_path, launcher=launcher, TF_TEST=value).out) for value in "12"]
    bystander = int(fork(text, tmp_path).out)
    busy = Running("import time; print('on', flush=True); time.sleep(600)", tmp_path, launcher=launcher, TF_TEST="1")
    assert busy.read_line() == "on"
    launcher.write_text(f"{LAUNCHER.read_text()}# as an upgrade would\n")
    fork(text, tmp_path, launcher=launcher, TF_TEST="1")
    await_end(others[1])
    assert busy.kernel.poll() is None
    busy.kernel.close()
    busy.end()
    await_end(others[0])
    assert bystander in {each.pid for each in list_servers()}


def test_secrets_of_one_client_are_not_to_be_seen_in_the_kernels_of_another(tmp_path: Path) -> None:
    text = "import os; print(os.environ.get('SECRET'), 'hidden' in open('/proc/self/environ').read())"
    assert fork(text, tmp_path, TF_TEST="secret", SECRET="hidden").out == "hidden False\n"
    assert fork(text, tmp_path, TF_TEST="secret").out == "None False\n"


def test_server_whose_folder_was_removed_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "servers"
    monkeypatch.setenv("KIT_WARM_FOLDER", str(folder))
    server = int(fork("import os; print(os.getppid())", tmp_path).out)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    await_end(server)
    await_no_process(folder)


def test_warning_that_was_shown_in_the_server_is_shown_in_each_kernel(tmp_path: Path) -> None:
    text = "import numpy, warnings; numpy.array([1.0]) / 0.0; warnings.warn('again', stacklevel=1)"
    errs = {fork(text, tmp_path, preload=("numpy",)).err for _ in range(2)}
    assert len(errs) == 1
    assert "divide by zero" in errs.pop()


def test_servers_are_listed_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kit.cli.main import main

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["kernels", *arguments])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    monkeypatch.setenv("KIT_WARM_FOLDER", str(tmp_path / "servers"))
    assert (call(), call("--json")) == ("", "[]\n")
    running = Running("import time; time.sleep(600)", tmp_path)
    (server,) = list_servers()
    assert (server.pid, server.preloaded, server.n_kernels, server.n_forked) == (
        server_of(running.kernel),
        ("ipykernel",),
        1,
        1,
    )
    assert server.memory_bytes > 10_000_000
    assert [each["pid"] for each in json.loads(call("--json"))] == [server.pid]
    assert str(server.pid) in call("--stop")
    assert list_servers() == []
    assert running.kernel.poll() is None, "a kernel that runs must stay"
    running.kernel.close()
    await_end(server.pid)
    running.end()


def test_tensorflow_pyarrow_and_figures_in_a_forked_kernel(tmp_path: Path) -> None:
    text = """
        import concurrent.futures, io, json, multiprocessing, os, threading
        import matplotlib.pyplot as plt, numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, tensorflow as tf
        tf.keras.utils.set_random_seed(7)
        x = np.arange(64.0).reshape(32, 2); y = x.sum(axis=1)
        data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(32, seed=7).map(lambda a, b: (a / 64, b), num_parallel_calls=2)
        model = tf.keras.Sequential([tf.keras.layers.Dense(4), tf.keras.layers.Dense(1)])
        model.compile("adam", "mse")
        loss = model.fit(data.batch(8).prefetch(1), epochs=2, verbose=0).history["loss"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            dots = list(pool.map(lambda n: float(np.ones((n, n)).dot(np.ones((n, n))).sum()), [300, 301]))
        pq.write_table(pa.table({"a": range(1000)}), "a.parquet")
        frame = pd.read_parquet("a.parquet")
        plt.switch_backend("agg"); plt.plot(y); plt.savefig(io.BytesIO())
        with multiprocessing.get_context("fork").Pool(1) as pool:
            forked = pool.apply(np.sum, (np.ones(10),))
        print(json.dumps([loss, dots, int(frame["a"].sum()), float(forked), os.environ["TF2_BEHAVIOR"]]))
    """
    text = textwrap.dedent(text)
    preload = ("matplotlib.pyplot", "numpy", "pandas", "pyarrow", "pyarrow.parquet", "tensorflow")
    forked = [fork(text, tmp_path, preload=preload, TF_DETERMINISTIC_OPS="1") for _ in range(2)]
    cold = run_cold(text, tmp_path, TF_DETERMINISTIC_OPS="1")
    assert [each.code for each in (*forked, cold)] == [0, 0, 0], forked[0].err
    assert forked[0].out == forked[1].out == cold.out
    assert forked[0].preloaded == ("ipykernel", "matplotlib", "numpy", "pandas", "pyarrow", "tensorflow")
    unseeded = {
        fork("import tensorflow as tf; print(tf.random.uniform([2]).numpy())", tmp_path, preload=preload).out
        for _ in range(2)
    }
    assert len(unseeded) == 2
