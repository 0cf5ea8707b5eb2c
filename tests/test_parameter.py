import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import ParameterError, UnknownNameError
from kit.notebook.signature import read_parameters
from kit.parameter import ParameterType, ResolvedParameter, Source, parse_text, resolve_parameters

WHERE = "stage 'train', notebooks/train.ipynb, cell 2"


def declare(text):
    """The one parameter of a line such as `epochs: int = 3`."""
    (parameter,) = read_parameters(text, "cell")
    return parameter


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ("x: str = ''", "007", "007"),
        ("x: str = ''", "true", "true"),
        ("x: str = ''", "", ""),
        ("x: int = 1", "-12", -12),
        ("x: float = 1.0", "1e-3", 0.001),
        ("x: float = 1.0", "2", 2.0),
        ("x: bool = True", "False", False),
        ("x: int | None = 1", "None", None),
        ("x: int | None = 1", "7", 7),
        ("x: int | str = 1", "007", "007"),
        ("x: int | str = 1", "7", 7),
        ("x: float | str = 1", "1_0", "1_0"),
        ("x: float | str = 1", "-2.5e1", -25.0),
        ("x: str | None = None", "null", None),
        ("x: str | None = None", "a", "a"),
        ("x = None", "007", "007"),
        ("x = None", "false", False),
        ("x: Literal['honest', 'leaky'] = 'honest'", "leaky", "leaky"),
        ("x: Literal[1, -2, True] = 1", "-2", -2),
        ("x: list[str] = []", "007,a", ["007", "a"]),
        ("x: list[int] = []", "1,2", [1, 2]),
        ("x: list[int] = []", "[1, 2]", [1, 2]),
        ("x: list = []", "", []),
        ("x: list = []", "007,1,null", ["007", 1, None]),
        ("x: dict[str, float] = {}", '{"a": 1.5}', {"a": 1.5}),
        ("x: list[list[int]] = []", "[[1], []]", [[1], []]),
    ],
)
def test_text_is_read_by_the_declared_type(declared, text, value):
    result = parse_text(declare(declared), text)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("x: int = 1", "1.0"),
        ("x: int = 1", "true"),
        ("x: int = 1", "9" * 5000),
        ("x: float = 1.0", "nan"),
        ("x: float = 1.0", "-inf"),
        ("x: float = 1.0", "1e999"),
        ("x: bool = True", "1"),
        ("x: bool = True", "yes"),
        ("x: int | None = 1", "x"),
        ("x: Literal['a'] = 'a'", "b"),
        ("x: list[int] = []", "1,x"),
        ("x: list[int] = []", "[1"),
        ("x: list[float] = []", "[NaN]"),
        ("x: list[int] = []", "{}"),
        ("x: dict[str, int] = {}", "a"),
        ("x: dict[str, int] = {}", '{"a": "1"}'),
        ("x: str = ''", "\udcff"),
        ("x: list[str] = []", "a,\udcff"),
    ],
)
def test_text_of_another_type_is_refused_with_what_was_expected(declared, text):
    parameter = declare(declared)
    with pytest.raises(ParameterError) as caught:
        parse_text(parameter, text)
    assert str(caught.value).startswith(f"parameter 'x' must be {parameter.type}, found ")
    assert "command line" in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "value", "accepted"),
    [
        ("x: int = 1", True, False),
        ("x: int = 1", 1.0, False),
        ("x: int = 1", "1", False),
        ("x: float = 1.0", 1, True),
        ("x: float = 1.0", True, False),
        ("x: float = 1.0", float("nan"), False),
        ("x: float = 1.0", 10**400, False),
        ("x: bool = True", 1, False),
        ("x: str = ''", 1, False),
        ("x: str = ''", "\ud800", False),
        ("x: Literal[1] = 1", True, False),
        ("x: Literal[True] = True", 1, False),
        ("x: list = []", (1,), False),
        ("x: list = []", [1, [None, {"a": 2.5}]], True),
        ("x: list = []", [float("inf")], False),
        ("x: list[int] = []", [True], False),
        ("x: dict = {}", {1: 2}, False),
        ("x: dict = {}", {"\ud800": 2}, False),
        ("x: dict[str, int | None] = {}", {"a": None, "b": 1}, True),
        ("x: None = None", 0, False),
    ],
)
def test_nothing_is_cast_silently(declared, value, accepted):
    assert declare(declared).type.accepts(value) is accepted


def test_type_of_an_unknown_kind_accepts_nothing():
    assert not ParameterType("set").accepts(1)


@pytest.mark.parametrize(
    "written",
    ["int", "list[float]", "dict[str, int | None]", "Literal['a', 2, True]", "str | None", "list[str] | None"],
)
def test_type_prints_as_it_is_written(written):
    default = {"int": "1", "Literal['a', 2, True]": "'a'", "dict[str, int | None]": "{}"}.get(written)
    assert str(declare(f"x: {written} = {default or ('None' if 'None' in written else '[]')}").type) == written


DECLARED = read_parameters("a: int = 1\nb: str = 'x'\nc: float = 0.5", "cell")
VALUES = st.fixed_dictionaries({}, optional={"a": st.integers(), "b": st.text("abc"), "c": st.floats(0, 1)})


@given(VALUES, VALUES)
def test_command_line_wins_over_environment_over_notebook(environment, command_line):
    resolved = resolve_parameters(DECLARED, environment, command_line, WHERE)
    defaults = {parameter.name: parameter.default for parameter in DECLARED}
    assert {each.name: each.value for each in resolved} == {**defaults, **environment, **command_line}
    assert [each.name for each in resolved] == ["a", "b", "c"]
    for each in resolved:
        named = [environment, command_line][::-1]
        sources = [Source.COMMAND_LINE, Source.ENVIRONMENT]
        found = [source for source, values in zip(sources, named, strict=True) if each.name in values]
        assert each.source is (found[0] if found else Source.NOTEBOOK)


def test_merging_twice_changes_nothing():
    once = resolve_parameters(DECLARED, {"a": 2}, {}, WHERE)
    assert once[0] == ResolvedParameter("a", 2, Source.ENVIRONMENT, "int")
    assert resolve_parameters(DECLARED, {"a": 2}, {}, WHERE) == once
    assert json.dumps([each.value for each in once]) == '[2, "x", 0.5]'


@pytest.mark.parametrize("values", [({"bb": 1}, {}), ({}, {"bb": 1})])
def test_unknown_name_is_refused_with_the_nearest_one(values):
    with pytest.raises(UnknownNameError) as caught:
        resolve_parameters(read_parameters("bbb: int = 1\nzzz: int = 2", "cell"), *values, WHERE)
    assert str(caught.value) == f"parameter 'bb' does not exist; did you mean 'bbb'?  ({WHERE})"
    assert (caught.value.name, caught.value.known) == ("bb", ["bbb", "zzz"])


@pytest.mark.parametrize(("values", "source"), [(({"a": "1"}, {}), "environment"), (({}, {"a": 1.5}), "command line")])
def test_value_of_another_type_is_refused_with_who_said_so(values, source):
    with pytest.raises(ParameterError, match=rf"'a' must be int, found .* from the {source}"):
        resolve_parameters(DECLARED, *values, WHERE)
