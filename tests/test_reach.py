"""What code can reach, found without running it."""

import json
from pathlib import Path

import pytest

from kit.notebook import read_notebook
from kit.notebook.imports import Reach, find_reach
from kit.notebook.source import read_cell, read_module
from kit.testing import encode_notebook, make_notebook


class Files:
    """A bundle of some texts."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name].encode()


def reach(*cells: str, **files: str) -> Reach:
    """Of a notebook of these cells; files beside it, `/` in a name written as `__` and the dot as `_py`."""
    named = {f"notebooks/{name.replace('__', '/').replace('_py', '.py')}": text for name, text in files.items()}
    notebook = read_notebook(encode_notebook(make_notebook(*cells)), "notebooks/a.ipynb")
    return find_reach(Files({"notebooks/a.ipynb": "", **named}), "notebooks/a.ipynb", notebook)


def helpers(*cells: str, **files: str) -> list[str]:
    return [name.removeprefix("notebooks/") for name in reach(*cells, **files).helpers]


def test_helpers_are_followed_and_others_are_not() -> None:
    files = {"a_py": "import b", "b_py": "def f():\n    import c", "c_py": "", "d_py": ""}
    assert helpers("import a", **files) == ["a.py", "b.py", "c.py"]


def test_helpers_that_import_each_other_end() -> None:
    assert helpers("import a", a_py="import b", b_py="import a") == ["a.py", "b.py"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import p", ["p/__init__.py"]),
        ("import p.q", ["p/__init__.py", "p/q.py"]),
        ("from p import q", ["p/__init__.py", "p/q.py"]),
        ("from p import name", ["p/__init__.py"]),
        ("from p import *", ["p/__init__.py", "p/q.py", "p/r.py"]),
        ("from p.q import x", ["p/__init__.py", "p/q.py"]),
        ("from p import r", ["p/__init__.py", "p/q.py", "p/r.py"]),
        ("import n.m", ["n/m.py"]),
        ("from n import m", ["n/m.py"]),
    ],
)
def test_packages_come_with_their_inits(statement: str, expected: list[str]) -> None:
    files = Files(
        {
            "notebooks/p/__init__.py": "",
            "notebooks/p/q.py": "",
            "notebooks/p/r.py": "from . import q\nfrom .q import x\nfrom .. import never",
            "notebooks/n/m.py": "",
            "elsewhere/p.py": "",
        }
    )
    notebook = read_notebook(encode_notebook(make_notebook(statement)), "notebooks/a.ipynb")
    found = find_reach(files, "notebooks/a.ipynb", notebook)
    assert [name.removeprefix("notebooks/") for name in found.helpers] == expected
    assert not found.reads_all


def test_third_party_modules_stand_in_the_order_of_first_import_without_kit_and_the_standard_library() -> None:
    found = reach(
        "import kit, os\nfrom kit.model import save_keras",
        "import a\nimport pandas as pd\nfrom pyarrow import parquet, Table",
        a_py="from __future__ import annotations\nimport numpy\ndef f():\n    import click\n    import pandas\n",
    )
    assert found.modules == ("numpy", "pandas", "pyarrow", "pyarrow.parquet")
    assert found.late_modules == ("click",)


def test_imports_for_type_checkers_are_late() -> None:
    found = reach(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n    import a", a_py="import click"
    )
    assert (found.modules, found.late_modules, found.helpers) == ((), ("numpy", "click"), ("notebooks/a.py",))


def test_helper_that_is_imported_late_first_and_then_at_once_counts_at_once() -> None:
    found = reach("def f():\n    import a", "import a", a_py="import numpy")
    assert (found.modules, found.late_modules) == (("numpy",), ())


def test_helper_that_hides_a_library_is_always_reached() -> None:
    assert helpers("x = 1", random_py="", numpy_py="", mine_py="") == ["numpy.py", "random.py"]
    assert helpers("x = 1", yaml__a_py="", yaml__b_py="") == ["yaml/a.py", "yaml/b.py"]


def test_attributes_of_cells_and_helpers_are_known() -> None:
    assert {"config", "secret"} <= reach("stage.config", "import a", a_py="def f(stage): stage.secret('X')").attributes


@pytest.mark.parametrize(
    "code",
    [
        "import importlib",
        "from importlib.resources import files",
        "__import__('a')",
        "exec('import a')",
        "eval(text)",
        "import runpy",
        "import sys\nsys.path.insert(0, 'x')",
        "import sys as s\ns.path.append('x')",
        "from sys import path",
        "import os\nos.chdir('/')",
        "from os import chdir as go",
        "import os\nos.system('python x')",
        "import subprocess",
        "stage.root",
        "stage.bundle",
        "getattr(stage, 'root')",
        "open('../secret.csv')",
        "Path('..') / 'x'",
        "open(f'../{name}.csv')",
        "open('notes.md')",
        "Path('helper.py').read_text()",
        "Path(__file__).parent.parent",
        "Path.cwd().parent",
        "Path(__file__).parents[1]",
        "os.path.dirname(os.path.dirname(__file__))",
        "kit.lint_notebooks(x)",
        "from kit import find_project",
        "os.environ['KIT_CONTEXT']",
        "__builtins__.exec('import a')",
        "import builtins\nbuiltins.exec('import a')",
        "import pydoc\npydoc.locate('a.f')",
        "import import_ipynb",
        "__loader__.load_module('a')",
        "from IPython import get_ipython as shell",
        "IPython.get_ipython().system('x')",
        "from asyncio import create_subprocess_exec as start",
        "asyncio.create_subprocess_shell('x')",
        "getattr(sys, 'path').append('x')",
        "stage._context",
        "from os import pardir",
        "os.path.dirname(os.getcwd())",
        "os.path.split(os.path.abspath('.'))[0]",
        "HERE = Path(__file__).parent\nROOT = HERE.parent",
        "here = os.path.dirname(os.path.abspath(__file__))\nroot = os.path.dirname(here)",
        "here = Path.cwd()\n(here.parent / 'x').read_text()",
        "p = Path('.').absolute()\np.parent",
    ],
)
def test_what_may_reach_anything_does_in_cells_and_helpers(code: str) -> None:
    assert reach(code).reads_all
    assert reach("import a", a_py=f"def f():\n    {code.replace(chr(10), chr(10) + '    ')}").reads_all


@pytest.mark.parametrize(
    "cell",
    [
        "!ls",
        "files = !ls",
        "%run other.py",
        "%cd ..",
        "%load_ext mine",
        "%pip install x",
        "%%bash\nls",
        "%%writefile a.py\nx = 1",
        "%%!\nls",
        "%%capture\n%%bash\nls",
        "\n%%sh\nls",
        "%time exec('x')",
        "get_ipython().run_line_magic('run', 'x')",
        "this is no Python",
    ],
)
def test_what_a_shell_or_an_unknown_magic_does_may_be_anything(cell: str) -> None:
    assert reach(cell).reads_all


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nx = 1",
        "%%time\nx = 1",
        "%timeit -n 10 x",
        "x = 5 % 3",
        "x %= 2",
        "x != 3",
        '"""Text with the word exec, ../up and notes.md"""',
        "'%s' % x",
        "pd.DataFrame.eval",
        "model.compile(loss='mse'); model.eval()",
        "import platform\nplatform.system()",
        "os.path.join('a', 'b')",
        "Path(__file__).parent / 'x.csv'",
        "Path('a').parent.mkdir()",
        "here = Path.cwd()\nout.parent.mkdir(parents=True)",
        "here = os.getcwd()\nos.makedirs(os.path.dirname(out), exist_ok=True)",
        "Path('a/b.csv').parent / 'c.csv'",
        "%load_ext autoreload\n%autoreload 2",
        "%%html\n<b>..</b>",
        "x?",
        "sys.argv",
        "re.compile('x')",
        "",
    ],
)
def test_ordinary_code_does_not_reach_everything(cell: str) -> None:
    assert reach(f"import re, sys, os\n{cell}" if not cell.startswith("%%") else cell).opaque == ""


def test_imports_in_a_line_magic_count() -> None:
    assert helpers("%time import a", a_py="") == ["a.py"]
    assert helpers("%%capture\nimport a", a_py="") == ["a.py"]
    assert helpers("%%timeit -n 3 import a\na.f()", a_py="") == ["a.py"]


def test_path_that_one_source_begins_and_another_goes_up_from_may_lead_out() -> None:
    up = "(HERE.parent / 'x.json').read_text()"
    assert reach("from a import HERE", up, a_py="HERE = Path(__file__).resolve().parent").opaque == (
        "a.ipynb goes up from a folder"
    )
    assert reach(up).opaque == ""


def test_environment_variables_that_are_read_by_name_are_known() -> None:
    found = reach(
        "import os\nos.environ['A']\nos.environ.get('B', '')\nos.getenv('C')\n'D' in os.environ",
        "import a",
        "os.environ['SET'] = '1'\nos.environ[name]\ntable['E']\ntable.get('F')",
        a_py="from os import environ, getenv\nx = environ['G'] + getenv('H')",
    )
    assert found.variables == {"A", "B", "C", "D", "G", "H"}


def test_attribute_that_is_asked_for_by_its_name_counts() -> None:
    assert "config" in reach("getattr(stage, 'config')").attributes
    assert "list_packages" in reach("from kit import list_packages as installed").attributes


def test_reason_names_the_file() -> None:
    assert reach("import a", a_py="import importlib").opaque == "notebooks/a.py imports importlib"
    assert reach("!ls").opaque == "a.ipynb uses !ls"
    assert reach("import a", a_py="(").opaque == "notebooks/a.py is not Python"


def test_reading_pickles_reaches_every_module_and_no_more() -> None:
    found = reach("import pickle\npickle.load(file)", a_py="", b_py="import numpy")
    assert (found.helpers, found.opaque, found.late_modules) == (("notebooks/a.py", "notebooks/b.py"), "", ("numpy",))
    assert helpers("import pickle\npickle.dump(x, file)", a_py="") == []
    assert helpers("import json\njson.load(file)", a_py="") == []
    assert helpers("keras.models.load_model(path)", a_py="") == ["a.py"]


@pytest.mark.parametrize(
    "code", ["timeit.timeit('a.f()', 'import a')", "logging.config.dictConfig({'class': 'a.Handler'})"]
)
def test_text_that_names_modules_reaches_every_module(code: str) -> None:
    assert helpers(code, a_py="", b_py="") == ["a.py", "b.py"]


def test_cells_that_are_not_executed_do_not_count() -> None:
    notebook = make_notebook("import a", "x = 1")
    notebook["cells"][0]["metadata"]["tags"] = ["skip-execution"]
    read = read_notebook(json.dumps(notebook).encode(), "notebooks/a.ipynb")
    assert find_reach(Files({"notebooks/a.py": ""}), "notebooks/a.ipynb", read).helpers == ()


def test_module_in_another_encoding_is_opaque() -> None:
    assert read_module("x = 'é'".encode("latin-1")).opaque == "is not Python"
    assert read_cell("x = 1").opaque == ""


def test_reach_of_the_example_is_what_its_notebooks_import() -> None:
    root = Path(__file__).parent.parent / "notebooks"
    files = Files({f"notebooks/{path.name}": path.read_text("utf-8") for path in root.iterdir() if path.is_file()})
    path = "notebooks/train.ipynb"
    found = find_reach(files, path, read_notebook(files.read(path), path))
    assert {"notebooks/delay_model.py", "notebooks/flights.py"} <= set(found.helpers)
    assert {"keras", "pandas", "matplotlib.pyplot"} <= set(found.modules)
    assert not found.reads_all
