import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from reproductions import Executed

from kit.compare import read_packages
from kit.errors import IntegrityError, KitError, UndecidableError
from kit.files import sha256_bytes
from kit.provenance import describe_machine, describe_software, list_packages, requirements_text
from kit.reproduce import Code, Level, Reproduction, reproduce
from kit.reproduce.rebuild import (
    KIT,
    build_once,
    copy_kit,
    describe_differences,
    differs_from_here,
    read_recorded_packages,
    rebuild_environment,
)
from kit.reproduce.shell import Ended, RealShell

RECORDED = "kit-ml==0.1.0\nnumpy==0.1\nsix==1.0+local\n"


GOOD = Ended(0, "", "")


class FakeShell:
    """Builds nothing; answers for uv, for the listing and for kit in the rebuilt environment."""

    def __init__(self, uv=GOOD, listing=RECORDED, answer=None):
        self.uv, self.listing, self.answer, self.commands = uv, listing, answer, []

    def run(self, command, variables, folder, *, aloud):
        self.commands.append(list(command))
        if Path(command[0]).name == "uv":
            if command[1] == "venv":
                (Path(command[-1]) / "bin").mkdir(parents=True)
            return self.uv
        if command[2] == "-c":
            self.variables = variables
            return Ended(0, self.listing, "") if self.listing else Ended(1, "", "ImportError: no click")
        return self.answer


def answer(code=0, **facts):
    stage = msgspec.to_builtins(Reproduction(record="r", stage="train", again="a", level=Level.BIT_IDENTICAL))
    return Ended(code, json.dumps({"exit_code": code, "stages": [stage | facts]}), "")


@pytest.fixture
def executed(tmp_path):
    """A project whose training was executed with other packages than there are here."""
    made = Executed(tmp_path / "project")
    software = msgspec.structs.replace(describe_software(None), packages_sha256=sha256_bytes(RECORDED.encode()))
    made.copy_record("train", RECORDED, software=software)
    return made


def record_of(executed):
    return executed.records["train"]


def rebuild(executed, shell):
    return rebuild_environment(executed.bench.archive, record_of(executed), executed.project.root / ".kit/e", shell)


def test_same_packages_are_not_rebuilt(tmp_path):
    executed = Executed(tmp_path)
    assert differs_from_here(executed.bench.archive, record_of(executed)) == []
    shell = FakeShell()
    assert executed.again("train", shell=shell).exit_code == 0
    assert shell.commands == []


def test_current_packages_are_used_when_asked_for(executed):
    shell = FakeShell()
    found = executed.again_one("train", with_recorded_packages=False, shell=shell)
    assert (found.findings, shell.commands) == ((), [])
    assert ("package", "numpy") in {(cause.kind, cause.subject) for cause in found.causes}


def test_recorded_packages_are_built_once_and_the_command_runs_there(executed):
    shell = FakeShell(answer=answer())
    report = executed.again("train", shell=shell)
    assert (report.exit_code, report.stages[0].again) == (0, "a")
    record = record_of(executed)
    place = executed.project.scratch / f"environments/{record.software.packages_sha256}-cpython-3.11"
    assert place.is_dir()
    assert (place / "requirements.txt").read_text() == "numpy==0.1\nsix==1.0+local\n"
    python = str(place / "venv/bin/python")
    venv, install, listing, command = shell.commands
    assert (venv[1], venv[-2]) == ("venv", sys.executable)
    assert (install[1:3], install[-3:-1]) == (["pip", "install"], ["--no-deps", "-r"])
    assert listing[:3] == [python, "-P", "-c"]
    assert command == [
        python, "-P", "-m", "kit.cli", "reproduce", record.id, "--env", "current", "--json", "--inner",
    ]  # fmt: skip
    executed.again("train", shell=shell)
    assert len(shell.commands) == 6


def test_reproductions_to_read_from_are_named_to_the_other_kit(executed):
    prepared = executed.records["prepare"].id
    again = executed.again_one("prepare").again
    shell = FakeShell(answer=answer())
    executed.again("train", again={prepared: again}, shell=shell)
    assert shell.commands[-1][-1] == f"--with={prepared}={again}"


def test_rebuilt_environment_finds_the_installed_kit_and_nothing_else_of_here(executed, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    shell = FakeShell()
    rebuild(executed, shell)
    assert "PYTHONHOME" not in shell.variables
    folder = Path(shell.variables["PYTHONPATH"])
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["kit", f"kit_ml-{describe_software(None).kit_version}.dist-info"]


def test_copied_kit_imports_and_knows_its_version(tmp_path):
    folder = copy_kit(tmp_path)
    code = "import kit, importlib.metadata as m; print(kit.__file__, m.version('kit-ml'))"
    ended = RealShell().run(
        [sys.executable, "-P", "-S", "-c", code], {"PYTHONPATH": str(folder)}, tmp_path, aloud=False
    )
    assert (ended.code, ended.out.split()) == (
        0, [str(folder / "kit/__init__.py"), describe_software(None).kit_version],
    ), ended.err  # fmt: skip
    assert copy_kit(tmp_path) == folder


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        (FakeShell(uv=Ended(2, "", "error: no solution\n  numpy==0.1 not found")), "uv venv ended with 2: error: no"),
        (FakeShell(uv=Ended(1, "", "")), "it said nothing"),
        (FakeShell(listing=""), "kit does not start with the recorded packages: ImportError: no click"),
        (FakeShell(listing="numpy==0.2\n"), "numpy 0.1, here 0.2; six 1.0+local, here missing"),
        (FakeShell(listing="numpy"), "the rebuilt environment cannot be listed"),
        (FakeShell(answer=Ended(1, "Traceback", "")), "ended with 1 and no result that can be read"),
        (FakeShell(answer=Ended(0, '{"stages": []}', "")), "no result that can be read"),
        (FakeShell(answer=Ended(0, '{"stages": [{"record": 1}]}', "")), "no result that can be read"),
    ],
)
def test_environment_that_is_not_rebuilt_decides_nothing(executed, shell, words):
    report = executed.again("train", shell=shell)
    ((code, detail),) = [(finding.code, finding.detail) for finding in report.findings]
    assert (report.exit_code, code, words in detail) == (3, Code.ENVIRONMENT_NOT_REBUILT, True), detail


def test_failed_build_leaves_nothing_behind(executed):
    with pytest.raises(UndecidableError):
        rebuild(executed, FakeShell(uv=Ended(2, "", "no")))
    assert list((executed.project.root / ".kit/e").iterdir()) == []


def test_finding_of_the_other_kit_is_passed_on(executed):
    facts = {"level": "executed", "findings": [{"code": "OUTPUT-DIFFERS", "subject": "x", "detail": "y"}]}
    report = executed.again("train", shell=FakeShell(answer=answer(1, **facts)))
    assert (report.exit_code, report.level, str(report.findings[0])) == (1, Level.EXECUTED, "OUTPUT-DIFFERS x: y")


def test_refusal_of_the_other_kit_keeps_its_exit_code(executed):
    refusal = Ended(2, json.dumps({"error": {"kind": "UsageError", "message": "it is failed"}}), "")
    with pytest.raises(KitError, match="it is failed") as caught:
        executed.again("train", shell=FakeShell(answer=refusal))
    assert caught.value.exit_code == 2
    with pytest.raises(KeyboardInterrupt):
        executed.again("train", shell=FakeShell(answer=Ended(130, "", "")))


def test_other_python_is_rebuilt_too(tmp_path):
    executed = Executed(tmp_path)
    machine = msgspec.structs.replace(describe_machine(), python="CPython 3.99.1")
    software = describe_software(None)
    executed.copy_record("train", requirements_text(), machine=machine, software=software)
    assert differs_from_here(executed.bench.archive, record_of(executed))[0].startswith("CPython 3.99.1, here CPython")
    shell = FakeShell(listing=requirements_text(), answer=answer())
    assert executed.again("train", shell=shell).exit_code == 0
    assert shell.commands[0][-2] == "cpython@3.99"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("numpy==1 --find-links=evil", "expected name==version, found 'numpy' at"),
        ("-r other==1", "expected name==version, found '-r other'"),
        ("numpy @ file:///x==1", "expected name==version, found 'numpy @ file:///x'"),
        ("numpy", "cannot be read"),
    ],
)
def test_list_that_no_kit_wrote_is_not_given_to_uv(tmp_path, text, reason):
    executed = Executed(tmp_path)
    software = msgspec.structs.replace(describe_software(None), packages_sha256=sha256_bytes(text.encode()))
    executed.copy_record("train", text, software=software)
    shell = FakeShell()
    report = executed.again("train", shell=shell)
    assert (report.exit_code, reason in report.findings[0].detail) == (3, True), report.findings
    assert shell.commands == []


@pytest.mark.parametrize("text", ["numpy==0.2\n", "not a list", "", None])
def test_edited_or_missing_list_is_found_out_before_packages_are_looked_for(executed, text):
    path = executed.bench.archive.record_folder(record_of(executed).id) / "requirements.txt"
    path.chmod(0o644)
    path.unlink() if text is None else path.write_text(text)
    shell = FakeShell()
    report = executed.again("train", shell=shell)
    ((code, detail),) = [(finding.code, finding.detail) for finding in report.findings]
    assert (report.exit_code, code, shell.commands) == (1, Code.INPUT_CHANGED, [])
    assert detail.startswith(f"requirements.txt of record {record_of(executed).id}: expected ")
    assert "it was changed after it was sealed" in detail


def test_list_that_is_not_the_recorded_one_is_never_read(executed):
    path = executed.bench.archive.record_folder(record_of(executed).id) / "requirements.txt"
    path.chmod(0o644)
    path.write_text("-r other\n")
    with pytest.raises(IntegrityError, match=r"is not the recorded one: expected \w{12}…, found \w{12}…"):
        read_recorded_packages(executed.bench.archive, record_of(executed))
    path.unlink()
    with pytest.raises(UndecidableError, match=r"requirements\.txt cannot be read"):
        read_recorded_packages(executed.bench.archive, record_of(executed))


def test_record_without_a_statement_decides_nothing(executed):
    (executed.bench.archive.record_folder(record_of(executed).id) / "statement.dsse.json").unlink()
    shell = FakeShell()
    report = executed.again("train", shell=shell)
    assert (report.exit_code, report.findings[0].code, shell.commands) == (3, Code.INPUT_NOT_AVAILABLE, [])


def test_rebuilding_is_said_only_when_something_is_built(executed):
    said = []
    bench = dataclasses.replace(executed.bench, notify=said.append)
    for _ in range(2):
        reproduce(bench, record_of(executed).id, shell=FakeShell(answer=answer()))
    assert [text.partition(" (")[0] for text in said] == [
        "train: rebuilding the recorded packages",
        "train: taking the recorded packages, rebuilt before",
    ]


def test_kit_itself_is_no_difference():
    packages = dict(list_packages())
    assert KIT in packages
    assert describe_differences(packages | {KIT: "0"}, packages) == []


def test_many_builders_make_one_whole_folder(tmp_path):
    place, barrier = tmp_path / "environments/place", threading.Barrier(8)

    def fill(folder):
        barrier.wait()
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")

    threads = [threading.Thread(target=build_once, args=(place, fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_what_a_killed_builder_left_is_removed_and_a_living_ones_is_not(tmp_path):
    for name, owner in ((".place.dead.tmp", "999999999 1"), (".other.living.tmp", own_mark())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner").write_text(owner)
    build_once(tmp_path / "place", lambda folder: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.living.tmp", "place"]


def own_mark():
    from kit.provenance import process_mark

    return f"{os.getpid()} {process_mark(os.getpid())}"


def test_interrupted_builder_leaves_nothing_behind(tmp_path):
    def fill(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "place", fill)
    assert list(tmp_path.iterdir()) == []


def test_program_that_is_not_there_decides_nothing(tmp_path):
    with pytest.raises(UndecidableError, match="/no/such/uv cannot be started"):
        RealShell().run(["/no/such/uv"], {}, tmp_path, aloud=False)


def test_shell_hands_back_what_was_said(tmp_path):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert RealShell().run([sys.executable, "-c", code], {}, tmp_path, aloud=False) == (3, "out\n", "err\n")


OBEDIENT = """
import os, signal, sys, time
def end(number, _):
    print(f"sealed after {signal.Signals(number).name}", flush=True)
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, end)
open(sys.argv[1], "w").write(str(os.getpid()))
while True:
    signal.pause()
"""
OUTER = """
import sys
from pathlib import Path
from kit.reproduce.shell import RealShell
try:
    RealShell().run([sys.executable, "-c", sys.argv[1], sys.argv[2]], {}, Path.cwd(), aloud=False)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_kit_alone_reaches_the_program_and_its_end_is_awaited(tmp_path, number):
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", OUTER, OBEDIENT, str(fifo)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    inner = int(fifo.read_text())
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(inner, 0)


def test_handlers_are_as_they_were_after_a_program(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    RealShell().run([sys.executable, "-c", ""], {}, tmp_path, aloud=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_program_is_started_outside_of_the_main_thread_too(tmp_path):
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(RealShell().run([sys.executable, "-c", ""], {}, tmp_path, aloud=False))
    )
    thread.start()
    thread.join()
    assert ended == [Ended(0, "", "")]


def test_what_is_no_unicode_is_handed_back_all_the_same(tmp_path):
    code = "import sys; sys.stdout.buffer.write(bytes([255]))"
    assert RealShell().run([sys.executable, "-c", code], {}, tmp_path, aloud=False).out == "\ufffd"


def test_recorded_list_reads_back(executed):
    assert read_recorded_packages(executed.bench.archive, record_of(executed)) == read_packages(RECORDED.encode())
