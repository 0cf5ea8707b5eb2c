"""How a kernel comes to be, and that nothing else comes of it."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernels import assert_gone, make_notebook, set_of_children, texts, until

from kit.engine import Job, Outcome, PapermillEngine
from kit.engine.interpreter import Interpreter
from kit.engine.start import make_variables
from kit.engine.values import Start
from kit.errors import NotebookError, WarmUnavailableError
from kit.record import Status

pytestmark = pytest.mark.kernel
PID = "import os; print(os.getpid())"


def execute(folder: Path, *sources: str, engine: PapermillEngine, **options: Any) -> Outcome:
    outcome = engine.execute(Job(notebook=make_notebook(*sources), folder=folder, journal=folder, **options))
    assert outcome.failure is None
    return outcome


class Forks:
    """Stands for a fork server: loads the launcher by its path in a process that has other things to do before.

    Args:
        first: code that the process executes then.
    """

    LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("launcher", sys.argv[1])
launcher = importlib.util.module_from_spec(spec)
before = list(sys.path), sys.argv[:], sys.stdout
spec.loader.exec_module(launcher)
assert before == (list(sys.path), sys.argv[:], sys.stdout), "loading it did something"
"""

    def __init__(self, first: str = "") -> None:
        self._code = f"{self.LOAD}\n{first}\nlauncher.main(sys.argv[2:])"
        self.preloads: list[tuple[str, ...]] = []

    def __call__(
        self, *, preload: tuple[str, ...], launcher: Path, arguments: list[str], folder: Path, variables: dict[str, str],
        stdout: int, stderr: int, is_cancelled: Callable[[], bool],
    ) -> Any:  # fmt: skip
        assert not is_cancelled()
        self.preloads.append(preload)
        command = [sys.executable, "-c", self._code, str(launcher), *arguments]
        process: Any = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=folder, env=variables,
            start_new_session=True,
        )  # fmt: skip
        process.exit_fd, process.preloaded = os.pidfd_open(process.pid), ("ipykernel", *preload)
        process.close = lambda: os.close(process.exit_fd)
        return process


def refuse(**_: Any) -> Any:
    raise WarmUnavailableError("a thread was there")


def test_forked_kernel_is_used_as_any_other(tmp_path: Path) -> None:
    forks = Forks()
    engine = PapermillEngine(fork=forks)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sources = ("import os, sys; print(os.getcwd(), os.environ['KIT_X'], sys.argv[1])", "print('x' * 600_000)")
    options: dict[str, Any] = {"variables": {"KIT_X": "x"}, "preload": ("json",)}
    warm = execute(tmp_path / "a", *sources, engine=engine, start=Start.WARM, **options)
    ready = execute(tmp_path / "b", "1", engine=engine, start=Start.READY, **options)
    assert texts(warm) == f"{tmp_path / 'a'} x -f\n" + "x" * 600_000 + "\n"
    assert (warm.start, warm.preloaded, warm.start_note) == ("warm", ("ipykernel", "json"), "")
    assert (ready.start, ready.preloaded) == ("warm", ("ipykernel",))
    assert forks.preloads == [("json",), ()]


def test_kernel_that_does_not_say_who_listens_is_asked_until_it_is_heard(tmp_path: Path) -> None:
    silent = "launcher.IOPubThread._setup_xpub_listener = lambda self: None"
    outcome = execute(tmp_path, "print('heard')", engine=PapermillEngine(fork=Forks(silent)), start=Start.WARM)
    assert (outcome.status, texts(outcome)) == (Status.SUCCEEDED, "heard\n")


def test_kernel_that_dies_at_its_start_says_why(tmp_path: Path) -> None:
    engine = PapermillEngine(fork=Forks("sys.exit('broken on purpose')"))
    outcome = engine.execute(Job(notebook=make_notebook("1"), folder=tmp_path, journal=tmp_path, start=Start.READY))
    assert (outcome.status, outcome.start) == (Status.KERNEL_DIED, "warm")
    assert "broken on purpose" in (tmp_path / "log.txt").read_text()


def test_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    job = Job(notebook=make_notebook("1"), folder=tmp_path / "nowhere", journal=tmp_path)
    outcome = PapermillEngine().execute(job)
    assert (outcome.status, outcome.start, outcome.failure and outcome.failure.kind) == (
        Status.FAILED,
        "",
        "KernelNotStarted",
    )


def test_notebook_that_papermill_refuses_leaves_no_kernel(tmp_path: Path) -> None:
    before = set_of_children()
    notebook = make_notebook("1")
    notebook["cells"].append({"cell_type": "heading"})
    with pytest.raises((NotebookError, KeyError, AttributeError)):
        PapermillEngine().execute(Job(notebook=notebook, folder=tmp_path, journal=tmp_path))
    assert set_of_children() == before


@pytest.mark.parametrize(("start", "note"), [(Start.WARM, "a thread was there"), (Start.READY, "")])
def test_where_none_can_be_forked_it_is_cold_and_says_why_if_that_was_asked_for(
    tmp_path: Path, start: Start, note: str
) -> None:
    outcome = execute(tmp_path, "1", engine=PapermillEngine(fork=refuse), start=start)
    assert (outcome.start, outcome.preloaded, outcome.start_note) == ("cold", (), note)


def test_kernel_of_the_real_server(tmp_path: Path, warm_folder: Path) -> None:
    outcome = execute(tmp_path, "import sys; print('ipykernel.debugger' in sys.modules)", engine=PapermillEngine(),
                      start=Start.READY)  # fmt: skip
    assert (outcome.start, outcome.preloaded, texts(outcome)) == ("warm", ("ipykernel",), "False\n")


def test_prepared_interpreter_becomes_the_kernel(tmp_path: Path) -> None:
    before, engine = set_of_children(), PapermillEngine()
    engine.prepare(Start.COLD, ())
    (prepared,) = set_of_children() - before
    engine.prepare(Start.COLD, ())
    source = f"{PID}; print(os.getcwd(), os.environ['KIT_X'], 'KIT_SIGNING_KEY' in os.environ)"
    outcome = execute(tmp_path, source, engine=engine, variables={"KIT_X": "x"})
    assert texts(outcome) == f"{prepared}\n{tmp_path} x False\n"
    assert set_of_children() == before


def test_interpreter_that_read_other_variables_is_ended_and_not_used(tmp_path: Path) -> None:
    before, engine = set_of_children(), PapermillEngine()
    engine.prepare(Start.COLD, ())
    (prepared,) = set_of_children() - before
    outcome = execute(tmp_path, f"{PID}; print(os.environ['MALLOC_ARENA_MAX'])", engine=engine,
                      variables={"MALLOC_ARENA_MAX": "3"})  # fmt: skip
    pid, limit = texts(outcome).split()
    assert (pid != prepared, limit) == (True, "3")
    assert set_of_children() == before


def test_prepared_interpreter_that_died_is_not_used(tmp_path: Path) -> None:
    before, engine = set_of_children(), PapermillEngine()
    engine.prepare(Start.COLD, ())
    (prepared,) = set_of_children() - before
    os.kill(int(prepared), signal.SIGKILL)
    until(lambda: ") Z " in Path(f"/proc/{prepared}/stat").read_text())
    assert texts(execute(tmp_path, PID, engine=engine)) != f"{prepared}\n"
    assert set_of_children() == before


def test_interpreter_that_nobody_needs_ends() -> None:
    before, engine = set_of_children(), PapermillEngine()
    engine.prepare(Start.COLD, ())
    assert set_of_children() != before
    del engine
    assert set_of_children() == before


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [("KIT_CONTEXT", "c", True), ("PYTHONPATH", "/a:/b", False), ("LD_PRELOAD", "x.so", False), ("HOME", "/h", False)],
)
def test_only_what_is_kits_own_may_come_late(name: str, value: str, fits: bool) -> None:
    variables = make_variables({})
    interpreter = Interpreter(variables)
    try:
        assert interpreter.fits({**variables, name: value}) is fits
        assert interpreter.fits(variables)
    finally:
        interpreter.end()


def test_relative_path_of_modules_means_the_folder_that_it_was_started_in(tmp_path: Path) -> None:
    variables = make_variables({"PYTHONPATH": f"{tmp_path}{os.pathsep}lib"})
    interpreter = Interpreter(variables)
    try:
        assert not interpreter.fits(variables)
    finally:
        interpreter.end()


PREPARED = """
import sys
from kit.engine import PapermillEngine
from kit.engine.values import Start
engine = PapermillEngine()
engine.prepare(Start.COLD, ())
print(engine._waiting.pid, flush=True)
sys.stdin.read()
"""


def test_kill_of_the_process_ends_its_prepared_interpreter() -> None:
    kit = subprocess.Popen([sys.executable, "-c", PREPARED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert kit.stdout is not None
    pid = int(kit.stdout.readline())
    kit.kill()
    kit.communicate()
    assert_gone(pid)


def test_end_of_a_kernel_runs_its_exit_handlers_and_writes_open_files(tmp_path: Path) -> None:
    sources = (
        "import atexit, pathlib; _ = atexit.register(pathlib.Path('handler').write_text, 'called')",
        "file = open('file', 'w'); _ = file.write('written')",
        "class Held:\n    def __del__(self): pathlib.Path('deleted').touch()\nheld = Held()",
    )
    execute(tmp_path, *sources, engine=PapermillEngine())
    assert (tmp_path / "handler").read_text() == "called"
    assert (tmp_path / "file").read_text() == "written"
    assert (tmp_path / "deleted").exists()


def test_success_needs_neither_papermills_other_libraries_nor_jupyter_clients(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from kit.engine import Job, PapermillEngine
from kernels import make_notebook
folder = Path({str(tmp_path)!r})
outcome = PapermillEngine().execute(Job(notebook=make_notebook("x = 1"), folder=folder, journal=folder, parameters={{"x": 2}}))
names = ("nbclient", "requests", "tenacity", "numpy", "asyncio", "jsonschema.validators", "tornado.ioloop", "sqlite3")
print(outcome.status, [name for name in names if name in sys.modules])
"""
    command, tests = [sys.executable, "-c", code], Path(__file__).parent
    said = subprocess.run(command, cwd=tests, capture_output=True, text=True, check=True).stdout
    assert said == f"{Status.SUCCEEDED} []\n"


@pytest.mark.parametrize("start", list(Start))
def test_kernel_reads_and_writes_nothing_that_a_person_keeps_for_ipython(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, work = tmp_path / "ipython", tmp_path / "work"
    files = {
        "profile_default/startup/00-first.py": "personal = 'startup'",
        "profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['personal = 1']",
        "profile_default/ipython_kernel_config.py": "c.InteractiveShellApp.exec_lines = ['personal = 2']",
        "start.py": "personal = 'PYTHONSTARTUP'",
    }
    for name, text in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    monkeypatch.setenv("IPYTHONDIR", str(own))
    monkeypatch.setenv("PYTHONSTARTUP", str(own / "start.py"))
    work.mkdir()
    sources = (
        f"import os\nprint('personal' in globals(), os.environ['IPYTHONDIR'] == {str(own)!r})",
        "x = 1",
        "%store x",
        "shell = get_ipython(); print({shell.ipython_dir, os.path.dirname(shell.profile_dir.location)} - {''})",
    )
    outcome = execute(work, *sources, engine=PapermillEngine(), start=start)
    first, stored, places = texts(outcome).splitlines()
    assert (outcome.start, outcome.start_note) == ("cold" if start is Start.COLD else "warm", "")
    assert (first, stored) == ("False True", "Stored 'x' (int)")
    (place,) = ast.literal_eval(places)
    assert not Path(place).exists(), "the kernel's own folder stays"
    assert {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()} == files.keys()
