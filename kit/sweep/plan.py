"""A sweep, decided before anything is executed: one plan for each point, all of the same code, data and environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kit.errors import UsageError
from kit.execute import Order, Plan, Workbench, plan_stage
from kit.execute.plan import with_parameters
from kit.graph import BUILD, RELEASE, RUN
from kit.parameter import Source
from kit.sweep.definition import Definition
from kit.sweep.points import make_points, parse_axes

_NOT_YET = "0" * 64  # the sweep's digest before it is known; the plan of its first point decides it


@dataclass(frozen=True)
class PlannedSweep:
    """What will be executed. Nothing of it is decided later.

    Attributes:
        definition: kept in the archive's objects.
        plans: one for each point, in the definition's order.
    """

    definition: Definition
    plans: tuple[Plan, ...]


def plan_sweep(
    workbench: Workbench, order: Order, grid: Sequence[str], n_random: int | None = None, seed: int = 0
) -> PlannedSweep:
    """Plan every point of a sweep, and keep its definition in the archive.

    Args:
        workbench: project, archive and collaborators.
        order: of the stage, with the parameters that are the same for all points.
        grid: the axes, see `parse_axes`.
        n_random: draw so many different points; None for all combinations.
        seed: of the draw.

    Raises:
        UsageError: an axis, a parameter or the stage is wrong (see `kit.errors`).
        PolicyError: the environment's policy forbids the code at hand.
        NotFoundError: an input or a build is missing.
    """
    if order.stage in (BUILD, RELEASE, RUN):
        raise UsageError(
            f"stage {order.stage!r} cannot be swept: a sweep executes the stages between build and release"
        )
    base = plan_stage(workbench, dataclasses.replace(order, sweep=_NOT_YET))
    fixed = {name: base.values[name] for name in order.parameters}
    axes = parse_axes(base.stage, grid, fixed)
    names = tuple(axis.name for axis in axes)
    points = make_points(axes, n_random, seed)
    plans = [_plan_point(base, dict(zip(names, point, strict=True))) for point in points]
    definition = Definition(
        stage=base.stage.name,
        environment=base.environment.name,
        fixed=fixed,
        axes=names,
        points=points,
        keys=tuple(plan.key for plan in plans),
        seed=None if n_random is None else seed,
    )
    sha256 = workbench.archive.objects.put_bytes(definition.encode())
    return PlannedSweep(definition, tuple(dataclasses.replace(plan, sweep=sha256) for plan in plans))


def _plan_point(base: Plan, values: Mapping[str, Any]) -> Plan:
    parameters = tuple(
        msgspec.structs.replace(each, value=values[each.name], source=Source.COMMAND_LINE)
        if each.name in values
        else each
        for each in base.parameters
    )
    return with_parameters(base, parameters)
