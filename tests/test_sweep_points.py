"""The points of a sweep: what `--grid` means, all combinations, and draws that can be repeated."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import KitError, ParameterError, UnknownNameError, UsageError
from kit.graph import Stage
from kit.notebook import read_stage
from kit.sweep.points import MAX_POINTS, Range, Values, make_points, parse_axes
from kit.testing import make_notebook

PARAMETERS = """\
rate: float = 0.1
units: int = 32
name: str = "a"
layers: list[int] = [32]
options: dict[str, int] = {}
limit: int | None = None
kind: Literal["adam", "sgd"] = "adam"
quick: bool = True
"""


def make_stage() -> Stage:
    stage = read_stage(make_notebook(parameters=PARAMETERS, outputs=["model"]), "notebooks/train.ipynb")
    assert stage
    return stage


def values_of(text: str) -> tuple[Any, ...]:
    (axis,) = parse_axes(make_stage(), [text], {})
    assert isinstance(axis, Values)
    return axis.values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate=1e-3,3e-3", (0.001, 0.003)),
        ("units=32,64", (32, 64)),
        ("units=[32, 64]", (32, 64)),
        ("name=a,1,none", ("a", "1", "none")),
        ('name=["a,b","c"]', ("a,b", "c")),
        ("name=1..3", ("1..3",)),
        ("layers=[[32],[64,32],[]]", ([32], [64, 32], [])),
        ('options=[{"a":1},{}]', ({"a": 1}, {})),
        ("limit=none,5", (None, 5)),
        ("kind=sgd", ("sgd",)),
        ("quick=true,false", (True, False)),
    ],
)
def test_texts_are_read_by_the_declared_type(text: str, expected: tuple[Any, ...]) -> None:
    assert values_of(text) == expected
    assert json.dumps(values_of(text)) == json.dumps(expected), "not 1 for true"


@pytest.mark.parametrize(
    ("texts", "kind", "sentence"),
    [
        ([], UsageError, "at least one axis"),
        (["rate"], UsageError, "NAME=VALUE,VALUE or NAME=LOW..HIGH, found 'rate'"),
        (["=1"], UsageError, "found '=1'"),
        (["rate="], UsageError, "found 'rate='"),
        (["rat=1,2"], UnknownNameError, r"stage 'train': parameter 'rat'.*did you mean 'rate'.*notebooks/train\.ipynb"),
        (["rate=1", "rate=2"], UsageError, "names parameter 'rate' twice"),
        (["quick=true"], UsageError, "'quick' is an axis of --grid and fixed to False"),
        (["units=1,two"], ParameterError, "'units' must be int, found 'two' on the command line"),
        (["units=1.5"], ParameterError, "must be int, found '1.5'"),
        (['units=["1"]'], ParameterError, "must be int, found '1'"),
        (["units=[1"], ParameterError, "must be a JSON list of values, found '\\[1'"),
        (["units=[" * 1000], ParameterError, "must be a JSON list"),
        (["units=[]"], ParameterError, "there is no value in it"),
        (["units=1,"], ParameterError, "must be int, found ''"),
        (["units=1,1"], ParameterError, "value 1 is there twice"),
        (["layers=1,2"], ParameterError, r"write its values as JSON, such as --grid 'layers=\[\[32\]\]', found '1,2'"),
        (["layers=[1,2]"], ParameterError, r"must be list\[int\], found 1 "),
        (["kind=adm"], ParameterError, "'kind' must be Literal"),
        (["rate=nan"], ParameterError, "'rate' must be float"),
        (["rate=[NaN]"], ParameterError, "'rate' must be float"),
        (["units=5..1"], ParameterError, "the low end comes first, found '5..1'"),
        (["units=1..2.5"], ParameterError, "from one int to another"),
        (["rate=log:0..1"], ParameterError, "above 0"),
        (["rate=1..inf"], ParameterError, "the low end"),
        (["rate=nan..1"], ParameterError, "the low end"),
    ],
)
def test_wrong_axis_is_refused_with_what_to_do(texts: list[str], kind: type[KitError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        parse_axes(make_stage(), texts, {"quick": False})


def test_grid_is_every_combination_and_the_last_axis_changes_fastest() -> None:
    axes = parse_axes(make_stage(), ["rate=0.1,0.2", "units=1,2,3"], {})
    assert make_points(axes) == ((0.1, 1), (0.1, 2), (0.1, 3), (0.2, 1), (0.2, 2), (0.2, 3))


def test_grid_with_a_range_needs_a_draw() -> None:
    axes = parse_axes(make_stage(), ["rate=0.1..0.2"], {})
    with pytest.raises(UsageError, match="say with --random N how many"):
        make_points(axes)


@pytest.mark.parametrize("n_random", [None, MAX_POINTS + 1])
def test_too_many_points_are_refused_before_they_are_made(n_random: int | None) -> None:
    axes = [Values(name, tuple(range(1000))) for name in "abcd"]
    with pytest.raises(UsageError, match="10,000"):
        make_points(axes, n_random)


def test_draw_gives_different_points_of_the_grid_and_the_same_for_the_same_seed() -> None:
    axes = parse_axes(make_stage(), ["rate=0.1,0.2,0.3", "units=1,2,3"], {})
    drawn = make_points(axes, 5, seed=3)
    assert len(set(drawn)) == 5
    assert set(drawn) < set(make_points(axes))
    assert make_points(axes, 5, seed=3) == drawn != make_points(axes, 5, seed=4)
    assert set(make_points(axes, 9)) == set(make_points(axes))
    with pytest.raises(UsageError, match="no more than 9 points"):
        make_points(axes, 10)


def test_draw_is_the_same_on_every_python() -> None:
    """An interrupted sweep goes on under another version: only `random()` itself is promised to stay as it is."""
    axes = parse_axes(make_stage(), ["rate=log:1e-4..1e-1", "units=1..100", "name=a,b"], {})
    assert make_points(axes, 3, seed=7) == ((0.00093648, 16, "b"), (0.000164933, 54, "a"), (0.000149278, 51, "a"))


def test_range_without_enough_different_points_says_so() -> None:
    with pytest.raises(UsageError, match="only 3 different points could be drawn"):
        make_points([Range("units", 1, 3, is_log=False, is_whole=True)], 4)


@given(low=st.floats(1e-300, 1e300), factor=st.floats(1.0001, 1e6), is_log=st.booleans(), seed=st.integers(0, 1000))
def test_drawn_numbers_lie_in_their_range(low: float, factor: float, is_log: bool, seed: int) -> None:
    high = low * factor
    drawn = Range("x", low, high, is_log, is_whole=False).draw(random.Random(seed))
    assert low <= drawn <= high


@given(low=st.integers(1, 10**6), more=st.integers(1, 10**6), is_log=st.booleans(), seed=st.integers(0, 1000))
def test_drawn_whole_numbers_stay_whole(low: int, more: int, is_log: bool, seed: int) -> None:
    drawn = Range("x", low, low + more, is_log, is_whole=True).draw(random.Random(seed))
    assert isinstance(drawn, int)
    assert low <= drawn <= low + more


def test_logarithmic_range_gives_each_decade_its_part() -> None:
    axis, generator = Range("x", 1e-4, 1e-1, is_log=True, is_whole=False), random.Random(0)
    decades = [math.floor(math.log10(axis.draw(generator))) for _ in range(3000)]
    assert all(850 < decades.count(decade) < 1150 for decade in (-4, -3, -2))
