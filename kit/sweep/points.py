"""The points of a sweep: every combination of the axes' values, or some of them drawn at random."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kit.errors import ParameterError, UnknownNameError, UsageError
from kit.files import canonical_json
from kit.graph import Stage
from kit.parameter import Parameter, Source, parse_text, require_value

MAX_POINTS = 10_000
DIGITS = 6  # significant ones of a number that is drawn from a range
_LISTS = ("list", "dict")
_RANGE = re.compile(r"(log:)?(.+?)\.\.(.+)")
_DRAWS_PER_POINT = 1_000  # in vain, before we say that there are no more different points


class Values(msgspec.Struct, frozen=True):
    """An axis that lists its values."""

    name: str
    values: tuple[Any, ...]

    def draw(self, generator: random.Random) -> Any:
        """One of them, each as likely as any other."""
        return self.values[int(generator.random() * len(self.values))]


class Range(msgspec.Struct, frozen=True):
    """An axis that values are drawn from, both ends included.

    Attributes:
        name: the parameter's.
        low: the lower end.
        high: the upper end, above it.
        is_log: True if each factor is as likely as any other, and not each difference.
        is_whole: True if only whole numbers are drawn.
    """

    name: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    def draw(self, generator: random.Random) -> Any:
        """One number, rounded to `DIGITS` significant digits or to a whole one."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        if self.is_whole and not self.is_log:
            return self.low + int(generator.random() * (self.high - self.low + 1))
        drawn = low + generator.random() * (high - low)
        drawn = math.exp(drawn) if self.is_log else drawn
        rounded = round(drawn) if self.is_whole else float(f"{drawn:.{DIGITS}g}")
        return min(max(rounded, self.low), self.high)


Axis = Values | Range
Point = tuple[Any, ...]  # a value for each axis


def parse_axes(stage: Stage, texts: Sequence[str], fixed: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Read what `--grid` was given, by the notebook's declared types.

    Args:
        stage: declares the parameters.
        texts: `name=a,b`, `name=[…]` (JSON), `name=1..8`, `name=log:1e-4..1e-1`.
        fixed: names of the parameters that were given as one value for all points.

    Raises:
        UsageError: a text of another form, a name twice, or one that is fixed too.
        UnknownNameError: the stage has no such parameter.
        ParameterError: a value of another type than declared, or one twice.
    """
    declared = {parameter.name: parameter for parameter in stage.parameters}
    axes: dict[str, Axis] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise UsageError(f"--grid must be NAME=VALUE,VALUE or NAME=LOW..HIGH, found {text!r}")
        if name not in declared:
            raise UnknownNameError(f"stage {stage.name!r}: parameter", name, declared, f"declared in {stage.notebook}")
        if name in axes:
            raise UsageError(f"--grid names parameter {name!r} twice; write all its values behind one")
        if name in fixed:
            raise UsageError(
                f"parameter {name!r} is an axis of --grid and fixed to {fixed[name]!r}; leave one of them out"
            )
        axes[name] = _parse_axis(declared[name], values)
    if not axes:
        raise UsageError("a sweep needs at least one axis: --grid NAME=VALUE,VALUE")
    return tuple(axes.values())


def make_points(axes: Sequence[Axis], n_random: int | None = None, seed: int = 0) -> tuple[Point, ...]:
    """All combinations in the order of the axes, the last one changing fastest; or different ones, drawn.

    Args:
        axes: at least one.
        n_random: how many to draw; None for all.
        seed: of the draw; the same seed and axes give the same points.

    Raises:
        UsageError: more points than `MAX_POINTS`, or than there are; a range without a draw.
    """
    if n_random is None:
        return _combine(axes)
    if n_random > MAX_POINTS:
        raise UsageError(f"--random {n_random}: a sweep has at most {MAX_POINTS:,} points")
    n_known = math.prod(len(axis.values) for axis in axes if isinstance(axis, Values))
    if n_random > n_known and all(isinstance(axis, Values) for axis in axes):
        raise UsageError(f"--random {n_random}: the grid has no more than {n_known:,} points")
    generator, points = random.Random(seed), dict[bytes, Point]()
    for _ in range(n_random * _DRAWS_PER_POINT):
        if len(points) == n_random:
            break
        point = tuple(axis.draw(generator) for axis in axes)
        points.setdefault(canonical_json(point), point)
    if len(points) < n_random:
        raise UsageError(f"--random {n_random}: only {len(points):,} different points could be drawn; widen a range")
    return tuple(points.values())


def _combine(axes: Sequence[Axis]) -> tuple[Point, ...]:
    lists = []
    for axis in axes:
        if isinstance(axis, Range):
            raise UsageError(
                f"--grid {axis.name}: a range has no end of values; say with --random N how many points to draw"
            )
        lists.append(axis.values)
    n_points = math.prod(map(len, lists))
    if n_points > MAX_POINTS:
        raise UsageError(
            f"this grid has {n_points:,} points, a sweep at most {MAX_POINTS:,}: name fewer values, or draw some of "
            f"them with --random N"
        )
    return tuple(itertools.product(*lists))


def _parse_axis(parameter: Parameter, text: str) -> Axis:
    if text.startswith("["):
        return _list_values(parameter, _parse_json(parameter, text))
    match = _RANGE.fullmatch(text)
    if match and (kind := _number_of(parameter)):
        return _parse_range(parameter, kind, match)
    if parameter.type.name in _LISTS:
        raise ParameterError(
            f"parameter {parameter.name!r} is {parameter.type}: write its values as JSON, such as "
            f"--grid '{parameter.name}=[{json.dumps(parameter.default)}]', found {text!r}"
        )
    return _list_values(parameter, [parse_text(parameter, part) for part in text.split(",")])


def _parse_json(parameter: Parameter, text: str) -> list[Any]:
    try:
        values: list[Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(
            f"--grid {parameter.name}: what begins with '[' must be a JSON list of values, found {text!r}: {error}"
        ) from None
    for value in values:
        require_value(parameter, value, Source.COMMAND_LINE)
    return values


def _list_values(parameter: Parameter, values: Sequence[Any]) -> Values:
    seen = set()
    for value in values:
        text = canonical_json(value)
        if text in seen:
            raise ParameterError(f"--grid {parameter.name}: value {value!r} is there twice")
        seen.add(text)
    if not values:
        raise ParameterError(f"--grid {parameter.name}: there is no value in it")
    return Values(parameter.name, tuple(values))


def _number_of(parameter: Parameter) -> str:
    """`int` or `float`, whichever a range of this parameter is of; empty if it is no number."""
    names = [
        member.name for member in (parameter.type.arguments if parameter.type.name == "union" else [parameter.type])
    ]
    if "str" in names:
        return ""
    return next((name for name in ("float", "int") if name in names), "")


def _parse_range(parameter: Parameter, kind: str, match: re.Match[str]) -> Range:
    read = int if kind == "int" else float
    try:
        low, high = read(match[2]), read(match[3])
    except ValueError:
        raise ParameterError(
            f"--grid {parameter.name}: a range goes from one {kind} to another, found {match[0]!r}"
        ) from None
    if not low < high or not math.isfinite(high - low):
        raise ParameterError(f"--grid {parameter.name}: the low end comes first, found {match[0]!r}")
    if match[1] and low <= 0:
        raise ParameterError(f"--grid {parameter.name}: a range by factors (log:) is above 0, found {match[0]!r}")
    return Range(parameter.name, low, high, bool(match[1]), kind == "int")
