import json

import pytest
from builders import TITLE, code, make_notebook, make_stage, markdown
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import NotebookError
from kit.notebook import lint_notebook, read_notebook, read_stage, strip_notebook
from kit.notebook.cells import parse_cell
from kit.notebook.signature import read_parameters

PATH = "notebooks/train.ipynb"


def read(data):
    return read_stage(read_notebook(data, PATH), PATH)


def lint(*cells):
    return [str(problem) for problem in lint_notebook(make_notebook(*cells), PATH)]


def test_signature_is_read_without_running():
    parameters = 'epochs: int = 3  # passes over the data\nname = "a"\n"""prose"""\nfrom typing import Literal\n'
    stage = read(make_stage(["a.csv", "b.csv"], ["model.keras"], parameters, "# Train\n\n## More"))
    assert (stage.name, stage.notebook, stage.title, stage.where) == ("train", PATH, "Train", f"{PATH}, cell 3")
    assert (stage.inputs, stage.outputs) == (("a.csv", "b.csv"), ("model.keras",))
    assert [(p.name, str(p.type), p.default, p.help, p.line) for p in stage.parameters] == [
        ("epochs", "int", 3, "passes over the data", 1),
        ("name", "str", "a", "", 2),
    ]


def test_notebook_that_opens_no_stage_is_none():
    assert read(make_notebook(code("x = 1"), code("%%bash\necho kit.open_stage"), code("other.open_stage()"))) is None


@pytest.mark.parametrize(
    ("source", "name", "type_", "default", "help_"),
    [
        ("rate: float = 1e-3  # Adam step, (0, 1]", "rate", "float", 1e-3, "Adam step, (0, 1]"),
        ("rate: float = 1", "rate", "float", 1, ""),
        ("x = -1", "x", "int", -1, ""),
        ("x = True", "x", "bool", True, ""),
        ("x: 'int | None' = None", "x", "int | None", None, ""),
        ("x: list[str] = [\n    'a',  # first\n    'b#',\n]  # both", "x", "list[str]", ["a", "b#"], "both"),
        ("x: dict[str, int] = {'a': 1}", "x", "dict[str, int]", {"a": 1}, ""),
        ("x: Literal['a', 'b'] = 'b'", "x", "Literal['a', 'b']", "b", ""),
        ("x: typing.Literal[1] = 1", "x", "Literal[1]", 1, ""),
        ("x = '# no comment'", "x", "str", "# no comment", ""),
        ("größe: int = 1", "größe", "int", 1, ""),
    ],
)
def test_annotation_default_and_comment_become_type_value_and_help(source, name, type_, default, help_):
    (parameter,) = read_parameters(source, "cell")
    assert (parameter.name, str(parameter.type), parameter.default, parameter.help) == (name, type_, default, help_)


def test_annotation_above_its_parameter_needs_no_typing_import():
    (parameter,) = read_parameters("# seconds, > 0\nlimit: Literal[1, 2] = 2\n", "cell")
    assert (parameter.type.choices, parameter.help) == ((1, 2), "")


def test_cell_of_comments_alone_declares_nothing():
    assert read(make_stage(parameters="# nothing to set")).parameters == ()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("x = 1 + y", "line 1: the default of 'x' must be a literal JSON value, found `1 + y`"),
        ("x = {1, 2}", "must be a literal JSON value"),
        ("x = {1: 2}", "must be a literal JSON value"),
        ("x = {[1]: 2}", "must be a literal JSON value"),
        ("x = b'a'", "must be a literal JSON value"),
        ("x = 1e999", "must be a literal JSON value"),
        ("x = '\\ud800'", "must be a literal JSON value"),
        ("x = (1, 2)", "is a tuple; only JSON values cross: write a list"),
        ("x = [(1, 2)]", "must be list, found"),
        ("x: int = 1.5", "'x' must be int, found 1.5 (float) from the notebook"),
        ("x: int = True", "'x' must be int, found True (bool) from the notebook"),
        ("x: Literal['a'] = 'b'", "must be Literal['a'], found 'b'"),
        ("x: Literal[1.5] = 1.5", "Literal[…] takes texts, integers and booleans"),
        ("x: Literal[y] = 1", "Literal[…] takes texts, integers and booleans"),
        ("x: set = 1", "unknown parameter type `set`; expected int, float, str, bool"),
        ("x: Optional[int] = 1", "unknown parameter type `Optional[int]`"),
        ("x: dict[int, int] = {}", "unknown parameter type `dict[int, int]`"),
        ("x: 'list[' = 1", "unknown parameter type `'list['`"),
        ("x: int", "expected `name: type = literal  # help`, found `x: int`; move other code to a later cell"),
        ("x.y = 1", "expected `name: type = literal"),
        ("x['a-b'] = 1", "expected `name: type = literal"),
        ("x, y = 1, 2", "expected `name: type = literal"),
        ("x = y = 1", "expected `name: type = literal"),
        ("import os", "expected `name: type = literal"),
        ("x = 1\nx = 2", "line 2: parameter 'x' is declared twice"),
        ("x = 1\na-b: int = 1", "line 2: illegal target for annotation; a parameters cell is plain Python"),
        ("x = 1\ny = (", "line 2: '(' was never closed; a parameters cell is plain Python"),
        ("%matplotlib inline", "line 1: invalid syntax; a parameters cell is plain Python"),
        ("x = 1\0", "null bytes"),
        ("env = 'a'", "parameter 'env' would hide the command line's own --env: rename it"),
        *((f"{name}: int = 1", f"own --{name}: rename it") for name in ("json", "input", "timeout", "release", "help")),
    ],
)
def test_parameters_that_cannot_be_are_refused_with_place_and_remedy(source, sentence):
    with pytest.raises(NotebookError) as caught:
        read(make_stage(parameters=source))
    assert str(caught.value).startswith(f"{PATH}, cell 2")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("kit.open_stage(inputs=names)", "cell 3, inputs: expected a literal list of names"),
        ("kit.open_stage(inputs={[1]: 2})", "expected a literal list of names"),
        ("kit.open_stage(outputs=['a', 1])", "expected a literal list of names"),
        ("kit.open_stage(outputs='a')", "expected a literal list of names"),
        ("kit.open_stage(['a'])", "cell 3: write kit.open_stage(inputs=[…], outputs=[…])"),
        ("kit.open_stage(input=['a'])", "kit.open_stage has no argument 'input'; it takes inputs and outputs"),
        ("kit.open_stage(inputs=['a', 'a'])", "a name stands twice in ['a', 'a']"),
        ("kit.open_stage(inputs=['a'], outputs=['a'])", "'a' is input and output"),
        ("kit.open_stage(); kit.open_stage()", "calls kit.open_stage in cells 3, 3; a stage opens once"),
        ("x = 1\nkit.open_stage(", "cell 3, line 2: '(' was never closed; mend the cell that opens the stage"),
    ],
)
def test_signature_that_cannot_be_read_is_refused_with_its_cell(call, sentence):
    with pytest.raises(NotebookError) as caught:
        read(make_notebook(markdown(TITLE), code("", "parameters"), code(call)))
    assert str(caught.value).startswith(PATH)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("tags", "found"), [([], "none"), (["parameters", "parameters"], "cells 1, 2")])
def test_stage_needs_exactly_one_parameters_cell(tags, found):
    with pytest.raises(
        NotebookError, match=f"needs one code cell tagged 'parameters' .*, found {found}; set the tag in"
    ):
        read(make_notebook(*(code("x = 1", tag) for tag in tags), code("kit.open_stage()")))


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nimport a",
        "!pip list | grep 'it's\nx = 1",
        "files = !ls\na, b = %time 1",
        "if x:\n    %time y = 1\n    ?len",
        "len?\na.b??",
        "%%bash\nfor i in; do",
        "\n%%time\nx = 1",
        "x = (a\n     % b)",
        "x = [\n    1,  # is it?\n]",
        'x = """Is it?\n!text\n% more"""',
        "x = '\\d'",
        "",
    ],
)
def test_cells_with_magics_are_read(source):
    parse_cell(source)


def test_stage_opens_between_magics_and_questions():
    call = "%load_ext autoreload\nstage = kit.open_stage(\n    inputs=['a'],  # which?\n)\n!ls"
    assert read(make_notebook(code("", "parameters"), code(call))).inputs == ("a",)
    assert read(make_notebook(code("", "parameters"), code(f"%%time\n{call}"))).inputs == ("a",)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a notebook: Expecting value"),
        (b"\xff\xfe\xfa", "is not a notebook"),
        (b"[]", "expected an object with a list of cells"),
        (b'{"cells": {}}', "expected an object with a list of cells"),
        (b'{"cells": [], "nbformat": 3}', "has notebook format 3, kit reads format 4"),
        (b'{"cells": [], "nbformat": 4, "metadata": []}', "expected its metadata to be an object"),
        (b'{"cells": [1], "nbformat": 4}', "cell 1: expected a code, markdown or raw cell"),
        (make_notebook({"cell_type": "heading"}), "cell 1: expected a code, markdown or raw cell"),
        (make_notebook(code(None)), "cell 1: expected its source to be text or a list of lines"),
        (make_notebook(code([1])), "cell 1: expected its source to be text or a list of lines"),
        (make_notebook(code("", metadata=None)), "cell 1: expected metadata to be an object, and its tags a list"),
        (make_notebook(code("", metadata={"tags": "parameters"})), "and its tags a list"),
    ],
)
def test_what_is_no_notebook_is_refused(data, sentence):
    with pytest.raises(NotebookError) as caught:
        read_notebook(data, PATH)
    assert str(caught.value).startswith(PATH)
    assert sentence in str(caught.value)


OUTPUT = {"output_type": "stream", "name": "stdout", "text": "hello"}
EXECUTED = make_notebook(
    markdown(["# Ü\n", "text"], attachments={"a.png": {"image/png": "eA=="}}),
    code(
        "x = 1",
        metadata={"tags": ["parameters"], "execution": {"started": "now"}, "collapsed": True},
        outputs=[OUTPUT],
        execution_count=7,
    ),
    metadata={
        "kernelspec": {"name": "python3"},
        "language_info": {"name": "python", "version": "3.11.7"},
        "widgets": {},
    },
)


def test_stripping_keeps_what_is_source():
    stripped = json.loads(strip_notebook(EXECUTED, PATH))
    assert stripped["metadata"] == {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    assert stripped["cells"] == [
        {
            "cell_type": "markdown",
            "id": "cell-0",
            "metadata": {},
            "source": "# Ü\ntext",
            "attachments": {"a.png": {"image/png": "eA=="}},
        },
        {
            "cell_type": "code",
            "id": "cell-1",
            "metadata": {"tags": ["parameters"]},
            "source": "x = 1",
            "outputs": [],
            "execution_count": None,
        },
    ]


SOURCES = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3)


@given(SOURCES, st.sampled_from([4, 5]), st.integers(0, 9))
def test_same_cells_give_the_same_bytes_however_they_ran(sources, minor, count):
    plain = make_notebook(*(code(source) for source in sources), minor=minor)
    ran = [code(source.splitlines(True), outputs=[OUTPUT], execution_count=count) for source in sources]
    executed = json.dumps(json.loads(make_notebook(*ran, minor=minor, metadata={"widgets": count})), indent=4)
    stripped = strip_notebook(plain, PATH)
    assert stripped == strip_notebook(executed.encode(), PATH) == strip_notebook(stripped, PATH)


def test_older_notebook_gets_stable_ids():
    data = make_notebook(code("x = 1"), code("x = 1"), minor=4)
    first, second = (cell["id"] for cell in json.loads(strip_notebook(data, PATH))["cells"])
    assert (first.split("-")[0], second.split("-")[0], first != second) == ("c000", "c001", True)
    assert json.loads(strip_notebook(data, PATH))["nbformat_minor"] == 5


def test_text_that_is_no_unicode_is_refused():
    for minor in (4, 5):
        with pytest.raises(NotebookError, match="holds text that is no Unicode"):
            strip_notebook(make_notebook(code("x = '\ud800'"), minor=minor), PATH)


def test_good_stage_has_no_problems():
    assert lint_notebook(make_stage(["a"], ["b"], "x: int = 1"), PATH) == []
    assert lint(code("%time x = 1")) == []


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([code("def f(:\n  pass")], ", cell 1: line 1: invalid syntax"),
        ([code("x = 1\0")], ", cell 1: line None: source code string cannot contain null bytes"),
        ([code("class A:\n    pass")], ", cell 1: defines a class; move it to a module"),
        ([code("\n" * 41)], ", cell 1: 42 lines in one cell"),
        ([code("1 / 0", "raises-exception")], ", cell 1: tag 'raises-exception' has no effect"),
        ([code("1", id="a"), code("2", id="a")], ": cell id 'a' stands twice"),
        ([code("", "parameters"), code("kit.open_stage()")], ", cell 1: a stage begins with a title"),
        (
            [markdown(TITLE), code("kit.open_stage()"), code("", "parameters")],
            ", cell 2: the parameters cell must be the first code cell",
        ),
        (
            [markdown(TITLE), code("", "parameters"), code("kit.open_stage()"), *[code("x = 1\n" * 31)] * 10],
            ": 311 lines of code; move logic",
        ),
        ([code("kit.open_stage()")], ": notebooks/train.ipynb needs one code cell tagged 'parameters'"),
    ],
)
def test_lint_names_the_cell_and_what_to_mend(cells, problem):
    (found,) = lint(*cells)
    assert found.startswith(f"{PATH}{problem}")


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("x = 5", True),
        ("x: int = 5", True),
        ("y = x = [1]", True),
        ("x = int(x)", False),
        ("y = 5", False),
        ("f(x=5)", False),
        ("x: int", False),
        ("def f():\n    x = 5", False),
    ],
)
def test_cell_that_sets_a_parameter_to_a_literal_is_a_problem(line, is_found):
    notebook = json.loads(make_stage([], ["b"], "x: int = 1"))
    notebook["cells"].append({**code(line), "id": "last"})
    found = [str(problem) for problem in lint_notebook(json.dumps(notebook).encode(), PATH)]
    sentence = "sets parameter 'x' to a literal, so that no other value has an effect: remove it, or rename it"
    assert found == ([f"{PATH}, cell 4: {sentence}"] if is_found else [])


def test_parameters_that_papermill_left_in_a_notebook_are_refused():
    cells = code("x = 1", "parameters"), code("x = 5", "injected-parameters"), code("kit.open_stage()")
    with pytest.raises(
        NotebookError, match=r"cell 2 is tagged 'injected-parameters': papermill left it.*remove the cell"
    ):
        read(make_notebook(*cells))


def test_lint_of_what_is_no_notebook_is_a_problem():
    (problem,) = lint_notebook(b"{", PATH)
    assert "is not a notebook" in problem.message
    (problem,) = lint_notebook(make_notebook(code("1"), minor=4), PATH)
    assert "cells have no ids" in problem.message
