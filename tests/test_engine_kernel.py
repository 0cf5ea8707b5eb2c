"""Each way an execution can end, in a real kernel."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from kernels import assert_gone, make_notebook, open_full, set_of_children, texts, until

from kit.engine import Event, Job, Outcome, PapermillEngine, Progress, assemble_notebook
from kit.record import CellStatus, Status

pytestmark = pytest.mark.kernel

OK, FAILED, NOT_RUN = CellStatus.SUCCEEDED, CellStatus.FAILED, CellStatus.NOT_RUN


def execute(folder: Path, *sources: str, engine: PapermillEngine | None = None, **options: Any) -> Outcome:
    options.setdefault("notebook", make_notebook(*sources))
    job = Job(folder=folder, journal=folder, **options)
    before = set_of_children()
    outcome = (engine or PapermillEngine()).execute(job)
    assert set_of_children() == before, "a process was left behind"
    json.dumps(outcome.notebook, allow_nan=False)
    return outcome


def statuses(outcome: Outcome) -> list[CellStatus]:
    return [cell.status for cell in outcome.cells]


def test_success_in_this_interpreter_with_the_parameters_whatever_the_kernelspec(tmp_path: Path) -> None:
    cells = [
        "a = 1",
        "",
        "import os, sys; print(a, sys.executable, os.getcwd(), os.environ['KIT_X'], os.environ['PYTHONHASHSEED'])",
        "print('ä 漢 😀')",
        "from IPython.display import display\nh = display('old', display_id=True)\nfor i in range(3000): h.update(i)",
        "for i in range(3000): display(i)",
        "h.update('new'); os.getpgid(0) == os.getpid() and os.getsid(0) == os.getpid()",
    ]
    notebook = make_notebook(*cells, kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    notebook["cells"][0]["metadata"]["tags"] = ["parameters"]
    events: list[Progress] = []
    job = Job(notebook=notebook, folder=tmp_path, journal=tmp_path, parameters={"a": 7}, variables={"KIT_X": "x"})
    outcome = PapermillEngine().execute(job, events.append)
    assert outcome.failure is None
    assert outcome.status is Status.SUCCEEDED
    assert statuses(outcome) == [OK] * 7
    assert [cell.execution_count for cell in outcome.cells] == [1, 2, 3, 4, 5, 6, 7]
    assert texts(outcome) == f"7 {sys.executable} {tmp_path} x 0\nä 漢 😀\n"
    assert outcome.notebook["cells"][5]["outputs"][0]["data"] == {"text/plain": "'new'"}
    assert len(outcome.notebook["cells"][6]["outputs"]) == 3000
    assert outcome.notebook["cells"][7]["outputs"][0]["data"] == {"text/plain": "True"}
    assert "papermill" not in json.dumps(outcome.notebook)
    assert outcome.kernel_cpu_s
    assert outcome.peak_memory_bytes
    assert events[0].event is Event.KERNEL_READY
    assert (events[-1].event, events[-1].n_done, events[-1].n_cells) == (Event.CELL_FINISHED, 7, 7)
    assert assemble_notebook(tmp_path) == (outcome.notebook, outcome.cells)


def test_exception_is_a_failure_even_where_it_was_allowed(tmp_path: Path) -> None:
    notebook = make_notebook("print(1)", "1/0", "print(2)")
    notebook["cells"][1]["metadata"]["tags"] = ["raises-exception"]
    outcome = execute(tmp_path, notebook=notebook)
    assert outcome.status is Status.FAILED
    assert statuses(outcome) == [OK, FAILED, NOT_RUN]
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.message, outcome.failure.cell) == (
        "ZeroDivisionError",
        "division by zero",
        1,
    )
    assert outcome.notebook["cells"][1]["outputs"][-1]["ename"] == "ZeroDivisionError"


def test_early_exit_is_no_success(tmp_path: Path) -> None:
    outcome = execute(tmp_path, "exit()", "print(2)")
    assert outcome.status is Status.FAILED
    assert statuses(outcome) == [OK, NOT_RUN]
    assert outcome.failure is not None
    assert outcome.failure.kind == "KernelExited"


def test_time_is_for_the_whole_stage_and_the_traceback_stays(tmp_path: Path) -> None:
    outcome = execute(
        tmp_path, "import time; time.sleep(0.3)", "print('on', flush=True); time.sleep(60)", timeout_s=2.5
    )
    assert outcome.status is Status.TIMED_OUT
    assert statuses(outcome) == [OK, CellStatus.TIMED_OUT]
    assert outcome.notebook["cells"][1]["outputs"][0]["text"] == "on\n"
    assert outcome.notebook["cells"][1]["outputs"][-1]["ename"] == "KeyboardInterrupt"


def test_kernel_that_hangs_at_its_start_times_out(tmp_path: Path) -> None:
    (tmp_path / "ipykernel").mkdir()
    (tmp_path / "ipykernel" / "__init__.py").write_text("import time; time.sleep(60)")
    outcome = execute(tmp_path, "1", timeout_s=1.5, variables={"PYTHONPATH": str(tmp_path)})
    assert outcome.status is Status.TIMED_OUT
    assert statuses(outcome) == [NOT_RUN]


def test_kernel_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "ipykernel").mkdir()
    (tmp_path / "ipykernel" / "__init__.py").write_text("raise ImportError('broken on purpose')")
    outcome = execute(tmp_path, "1", variables={"PYTHONPATH": str(tmp_path)})
    assert outcome.status is Status.KERNEL_DIED
    assert "broken on purpose" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("death", "how"), [("os._exit(3)", "exit code 3"), ("os.kill(os.getpid(), 9)", "killed by SIGKILL")]
)
def test_dead_kernel_leaves_later_cells_not_run(tmp_path: Path, death: str, how: str) -> None:
    outcome = execute(tmp_path, "import os", f"print('last', flush=True); import time; time.sleep(.3); {death}", "1")
    assert outcome.status is Status.KERNEL_DIED
    assert statuses(outcome) == [OK, CellStatus.KERNEL_DIED, NOT_RUN]
    assert outcome.failure is not None
    assert how in outcome.failure.message
    assert outcome.notebook["cells"][1]["outputs"][0]["text"] == "last\n"


def test_full_disk_ends_the_execution_and_is_no_success(tmp_path: Path) -> None:
    engine = PapermillEngine(open_full(5000))
    outcome = execute(tmp_path, "print('kept')", "while True: print('x' * 1000)", "1", engine=engine)
    assert outcome.status is Status.FAILED
    assert statuses(outcome) == [OK, FAILED, NOT_RUN]
    assert outcome.failure is not None
    assert "No space left" in outcome.failure.message
    assert texts(outcome).startswith("kept\n")


def test_output_budget_bounds_what_is_kept(tmp_path: Path) -> None:
    outcome = execute(tmp_path, "for _ in range(300): print('x' * 100_000)", "1", output_budget_bytes=1_000_000)
    assert outcome.status is Status.SUCCEEDED
    assert outcome.cells[0].cut_bytes == 300 * 100_001 - 1_000_000
    assert texts(outcome).endswith("[kit: 29 MB of output over the budget of 1 MB were cut]\n")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_200_000


FLOODED = """
import sys
from pathlib import Path
from kit.engine import Job, PapermillEngine
from kernels import make_notebook
folder = Path(sys.argv[1])
outcome = PapermillEngine().execute(Job(notebook=make_notebook(sys.argv[2], "1"), folder=folder, journal=folder))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(outcome.status, outcome.cells[0].cut_bytes, int(peak.split()[1]) * 1024, outcome.peak_memory_bytes)
"""
BUDGET = 10_000_000
TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("source", "cut_bytes"),
    [
        ("print('x' * 200_000_000)", 200_000_001 - BUDGET),
        ("import sys\nfor _ in range(2000): sys.stderr.write('é' * 50_000)", 200_000_000 - BUDGET),
        ("import os\nfor _ in range(1000): os.write(1, b'x' * 100_000)", None),
        ("for _ in range(200): get_ipython().display_pub.publish({'text/plain': 'x' * 1_000_000})", 191_000_000),
        ("for _ in range(4): get_ipython().display_pub.publish({'text/plain': 'x' * 50_000_000})", 200_000_000),
        (
            "import os\nif not os.fork():\n    print('x' * 100_000_000, flush=True)\n    os._exit(0)\n_ = os.wait()",
            None,
        ),
    ],
    ids=["one-string", "stderr", "descriptor", "displays", "huge-displays", "forked"],
)
def test_flood_fills_neither_this_process_nor_loses_count(tmp_path: Path, source: str, cut_bytes: int | None) -> None:
    command = [sys.executable, "-c", FLOODED, str(tmp_path), source]
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}  # ipykernel looks
    done = subprocess.run(command, cwd=TESTS, env=variables, capture_output=True, text=True, check=True)
    said = done.stdout.split()
    status, said_cut_bytes, peak_bytes = said[0], int(said[1]), int(said[2])
    assert status == "succeeded"
    # What threads and processes of their own pass on may come after the cell's end, and belongs to no cell then.
    assert said_cut_bytes > 0 if cut_bytes is None else cut_bytes <= said_cut_bytes <= cut_bytes * 1.001
    assert peak_bytes < 200_000_000


def test_what_is_written_to_a_descriptor_is_output_of_the_cell_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # ipykernel looks
    write = "import os; _ = os.write(1, b'{0}') + os.system('echo {0}') + os.write(2, b'{0}')"
    characters = "_ = os.write(1, ('x' + '漢' * 60_000).encode())"
    outcome = execute(tmp_path, *(write.format(number) for number in range(40)), characters)
    found = [
        {name: "".join(o["text"] for o in cell["outputs"] if o["name"] == name) for name in ("stdout", "stderr")}
        for cell in outcome.notebook["cells"]
    ]
    numbered = [{"stdout": f"{n}{n}\n", "stderr": f"{n}"} for n in range(40)]
    assert found == [*numbered, {"stdout": "x" + "漢" * 60_000, "stderr": ""}]


def test_end_of_a_kernel_does_not_wait_for_processes_that_do_not_listen(tmp_path: Path) -> None:
    tracked = (
        "import multiprocessing as m, math\nwith m.get_context('spawn').Pool(1) as p: print(p.map(math.sqrt, [4.0]))"
    )
    handled = "import atexit, pathlib; _ = atexit.register(pathlib.Path('handler').touch)"
    outcome = execute(tmp_path, tracked, handled)
    assert texts(outcome) == "[2.0]\n"
    assert (tmp_path / "handler").exists(), "the kernel had to be killed before its exit handlers were called"


def test_error_as_large_as_memory_is_told_in_short(tmp_path: Path) -> None:
    outcome = execute(tmp_path, "raise ValueError('x' * 50_000_000)")
    assert outcome.failure is not None
    assert outcome.failure.kind == "ValueError"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3_000_000


def test_flood_does_not_hide_the_deadline_nor_what_comes_after_it(tmp_path: Path) -> None:
    background = "import threading\ndef flood():\n    while True: print('x' * 1000)\n"
    start = "threading.Thread(target=flood, daemon=True).start()"
    outcome = execute(tmp_path, background + start, "print('here')", "while True: print('y' * 1000)", timeout_s=4)
    assert statuses(outcome) == [OK, OK, CellStatus.TIMED_OUT]
    assert "KeyboardInterrupt" in {output.get("ename") for output in outcome.notebook["cells"][2]["outputs"]}
    assert "here" in json.dumps(outcome.notebook["cells"][1]["outputs"])


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("a defect")])
def test_error_of_the_progress_callback_is_the_callers_and_not_the_journals(tmp_path: Path, error: Exception) -> None:
    def fail(_: Progress) -> None:
        raise error

    before = set_of_children()
    with pytest.raises(type(error)) as raised:
        PapermillEngine().execute(Job(notebook=make_notebook("1"), folder=tmp_path, journal=tmp_path), fail)
    assert raised.value is error
    assert set_of_children() == before
    log = (tmp_path / "log.txt").read_text()
    assert f"kit stopped the execution: {error}" in log
    assert "could not be written" not in log


def test_secret_is_nowhere(tmp_path: Path) -> None:
    secret = 's3cr"et-hunter2'
    outcome = execute(
        tmp_path,
        "import os, sys, base64, html; s = os.environ['P']",
        "sys.stdout.write(s[:5]); sys.stdout.flush(); import time; time.sleep(.3); print(s[5:], s)",
        "from IPython.display import display, HTML; display({'k': s}, HTML(html.escape(s)))",
        "print(base64.b64encode(('u:' + s).encode()).decode()); raise ValueError(s)",
        parameters={"leak": secret},
        variables={"P": secret},
        secrets={"P": secret},
    )
    everything = json.dumps(outcome.notebook) + repr(outcome) + "".join(p.read_text() for p in tmp_path.iterdir())
    assert outcome.failure is not None
    assert outcome.failure.message == "[secret P]"
    assert "hunter2" not in everything
    assert "[secret P] [secret P]" in texts(outcome)


def test_processes_of_the_kernel_end_with_it(tmp_path: Path) -> None:
    outcome = execute(tmp_path, "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid)")
    assert outcome.status is Status.SUCCEEDED
    assert_gone(int(texts(outcome)))


CHILD = """
import sys, json
from pathlib import Path
from kit.engine import Job, PapermillEngine
folder = Path(sys.argv[1])
job = Job(notebook=json.loads((folder / "n.ipynb").read_text()), folder=folder, journal=folder)
outcome = PapermillEngine().execute(job)
print(outcome.status, outcome.failure.kind, *[cell.status for cell in outcome.cells])
"""


def start_child(folder: Path, *sources: str) -> tuple[subprocess.Popen[str], int]:
    """A process that executes; returns when the cell that writes the kernel's pid has been journalled."""
    (folder / "n.ipynb").write_text(json.dumps(make_notebook(*sources)))
    code = textwrap.dedent(CHILD)
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    until(lambda: (folder / "log.txt").exists() and "ready\n" in (folder / "log.txt").read_text())
    return child, int((folder / "pid").read_text())


WRITE_PID = "import os, time; from pathlib import Path; _ = Path('pid').write_text(str(os.getpid()))"
WAIT = "print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_is_told_and_leaves_no_kernel(tmp_path: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("started with nohup, a process stays deaf to it")
    child, pid = start_child(tmp_path, WRITE_PID, WAIT, "1")
    child.send_signal(number)
    said, _ = child.communicate(timeout=20)
    assert said == "interrupted Interrupted succeeded interrupted not-run\n"
    assert child.returncode == 0
    assert_gone(pid)
    notebook, _ = assemble_notebook(tmp_path)
    assert notebook["cells"][1]["outputs"][-1]["ename"] == "KeyboardInterrupt"


def test_kill_of_the_process_keeps_all_output_and_leaves_no_kernel(tmp_path: Path) -> None:
    # The cell holds the interpreter's lock, so that ipykernel's own watch on its parent could not act.
    busy = "print('ready', flush=True); time.sleep(1); 9 ** 9 ** 8"
    child, pid = start_child(tmp_path, WRITE_PID, "print('x' * 100_000)", busy, "1")
    child.kill()
    child.communicate()
    assert_gone(pid)
    notebook, cells = assemble_notebook(tmp_path)
    assert [cell.status for cell in cells] == [OK, OK, CellStatus.RUNNING, NOT_RUN]
    assert notebook["cells"][1]["outputs"][0]["text"] == "x" * 100_000 + "\n"
    assert notebook["cells"][2]["outputs"][0]["text"] == "ready\n"


def test_kill_of_the_process_leaves_nothing_that_the_notebook_had_started(tmp_path: Path) -> None:
    start = "import subprocess; p = subprocess.Popen(['sleep', '600']); _ = Path('child').write_text(str(p.pid))"
    child, pid = start_child(tmp_path, WRITE_PID, start, WAIT)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert_gone(pid)
    assert_gone(int((tmp_path / "child").read_text()))


def test_full_file_system_ends_the_execution(tmp_path: Path) -> None:
    """A real ENOSPC, where this machine lets us mount a small tmpfs."""
    mount = tmp_path / "disk"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "kit", str(mount)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        job = Job(
            notebook=make_notebook("print('kept')", "while True: print('x' * 1000)"), folder=tmp_path, journal=mount
        )
        outcome = PapermillEngine().execute(job)
        assert (outcome.status, statuses(outcome)) == (Status.FAILED, [OK, FAILED])
        assert texts(outcome).startswith("kept\n")
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
