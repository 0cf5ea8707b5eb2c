"""The same notebook in a cold and in a forked kernel of the engine."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from kernels import make_notebook

from kit.engine import Job, Outcome, PapermillEngine
from kit.engine.values import Start
from kit.record import Status

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("warm_folder")]


def execute(folder: Path, start: Start, preload: tuple[str, ...], *sources: str, **variables: str) -> Outcome:
    journal = folder / f"{start}-{len(preload)}"
    journal.mkdir()
    work = folder / "work"
    work.mkdir(exist_ok=True)
    job = Job(
        notebook=make_notebook(*sources), folder=work, journal=journal, start=start, preload=preload,
        variables={"KIT_X": start, **variables}, timeout_s=120.0,
    )  # fmt: skip
    outcome = PapermillEngine().execute(job)
    assert outcome.failure is None, outcome.failure
    assert outcome.status is Status.SUCCEEDED
    return outcome


def outputs(outcome: Outcome) -> list[Any]:
    text = json.dumps([cell.get("outputs") for cell in outcome.notebook["cells"]])
    return list(
        json.loads(re.sub(r"ipykernel_\d+", "ipykernel_N", text))
    )  # the kernel's process id in a cell's file name


LIBRARIES = (
    "numpy",
    "pandas",
    "matplotlib",
    "matplotlib.pyplot",
    "tqdm.auto",
    "great_expectations",
    "tensorflow",
    "absl.logging",
)
SOURCES = (
    "import numpy as np, pandas as pd, matplotlib, matplotlib.pyplot as plt\n"
    "from tqdm.auto import tqdm\nimport great_expectations, tensorflow as tf, absl.logging",
    "pd.DataFrame({'a': range(100), 'b': np.linspace(0, 1, 100)})",
    "plt.plot([1, 2, 4]); plt.title('inline')",
    "print(tqdm.__module__, matplotlib.get_backend(), pd.options.display.max_columns, get_ipython().__class__.__name__)",
    "absl.logging.warning('from absl')\nimport logging; logging.getLogger('x').warning('from logging')",
    "import warnings; warnings.warn('one', DeprecationWarning); warnings.warn('two'); np.array([1.0]) / 0.0",
    "class Point:\n    x = 1\nprint(Point, Point.__module__, __name__, __builtins__, [n for n in dir() if n[0] != '_'])",
    "import os, sys; print(os.getcwd(), sys.path, sys.argv[:1], sys.flags, sys.stdin, os.getpgid(0) == os.getpid())",
    "print(sorted(item for item in os.environ.items() if not item[0].startswith(('KIT_', 'JPY_', 'PYTEST'))))",
    "import threading, signal; print(sorted(t.name for t in threading.enumerate()), signal.getsignal(2), signal.getsignal(15))",
    "tf.keras.utils.set_random_seed(3); print(tf.random.normal([3]).numpy(), np.random.random(), tf.keras.backend.floatx())",
    "import pickle; print(pickle.loads(pickle.dumps(Point)) is Point); print(sys.getrecursionlimit(), sys.gettrace())",
)  # fmt: skip


def test_notebook_puts_out_the_same_warm_and_cold(tmp_path: Path) -> None:
    cold = execute(tmp_path, Start.COLD, LIBRARIES, *SOURCES)
    warm = execute(tmp_path, Start.WARM, LIBRARIES, *SOURCES)
    assert (cold.start, cold.preloaded, warm.start, warm.start_note) == ("cold", (), "warm", "")
    assert warm.preloaded == (
        "absl", "great_expectations", "ipykernel", "matplotlib", "numpy", "pandas", "tensorflow", "tqdm",
    )  # fmt: skip
    # What libraries say at their import is in the server's log, not in the first cell.
    assert outputs(warm)[1:] == outputs(cold)[1:]
    assert outputs(warm)[0] == []


def test_ready_kernel_puts_out_the_same_as_a_cold_one(tmp_path: Path) -> None:
    sources = (
        "import pandas as pd; pd.DataFrame({'a': [1]})",
        "import sys; print(sorted(sys.modules))",
        *SOURCES[6:10],
    )
    cold, ready = (execute(tmp_path, start, (), *sources) for start in (Start.COLD, Start.READY))
    assert (cold.start, ready.start, ready.preloaded) == ("cold", "warm", ("ipykernel",))
    found, expected = outputs(ready), outputs(cold)
    names = [set(json.loads(each[1][0]["text"].replace("'", '"'))) for each in (found, expected)]
    assert {name.partition(".")[0] for name in names[0] ^ names[1]} <= {*sys.stdlib_module_names, "kit_launcher"}
    del found[1], expected[1]
    assert found == expected


def test_project_that_hides_a_library_goes_cold_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "six.py").write_text("x = 'own'")
    outcome = execute(tmp_path, Start.WARM, ("six",), "import six; print(six.x)")
    assert (outcome.start, outcome.preloaded) == ("cold", ())
    assert outcome.start_note == "six.py in the project hides what is installed under that name"
    assert outputs(outcome)[0][0]["text"] == "own\n"
