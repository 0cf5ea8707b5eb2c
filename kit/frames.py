"""Records as a table, in a notebook that compares them: `kit.records(stage="train", where="auc>=0.7")`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.archive import MARKER, Archive, read_origin
from kit.errors import UsageError
from kit.index import Query, Row, parse_condition
from kit.project import find_project
from kit.workspace import CONTEXT_VARIABLE

if TYPE_CHECKING:
    import pandas as pd


def records(
    *,
    stage: str = "",
    environment: str = "",
    status: str = "",
    sweep: str = "",
    where: str | Iterable[str] = (),
    limit: int | None = None,
) -> pd.DataFrame:
    """The records of this project's archive, newest first, one row each.

    100,000 of them take about two seconds and 200 MB, most of it for the values of metrics and parameters and to look
    whether each record's file is still the one that the index knows; filters make it less.

    Args:
        stage: only this one; empty for all, as for the next.
        environment: only this one.
        status: only this one: `succeeded`, `failed`, …
        sweep: only points of this one, by its id or a unique beginning of it.
        where: conditions on metrics and parameters that must all hold: `"auc>=0.7"`, `["auc>=0.7", "units=64"]`.
        limit: at most so many.

    Returns:
        Columns `id`, `stage`, `environment`, `status`, `started` (with time zone, UTC), `seconds` (NaN while it runs), then
        `metric.<name>` and `parameter.<name>` of every metric and parameter that one of the rows has. Whole numbers stay
        whole, also where some rows have none (`Int64`); what is not of one type is of type `object`.

    Raises:
        UsageError: it was called in a recorded stage, or a condition is none.
        ProjectError: the working directory lies in no project.
        UnknownNameError: no record has a metric or parameter of a name in `where`.
    """
    if os.environ.get(CONTEXT_VARIABLE):
        raise UsageError(
            "kit.records() reads the archive, which is no declared input of this stage: its result would change with every "
            "execution, and nothing would say why. Compare records in a notebook that opens no stage; what a stage needs of "
            "other records is an output of theirs, and belongs into inputs=[…]"
        )
    project = find_project(Path.cwd())
    origin = read_origin(project.archive) if (project.archive / MARKER).is_file() else ""
    archive = Archive(project.archive, origin, index=project.index)
    conditions = [where] if isinstance(where, str) else where
    query = Query(
        stage=stage,
        environment=environment,
        status=status,
        sweep=_find_sweep(archive, sweep) if sweep else "",
        where=tuple(map(parse_condition, filter(None, conditions))),
        limit=limit,
    )
    return frame_of(archive.search(query).rows)


def _find_sweep(archive: Archive, name: str) -> str:
    from kit.sweep import find_definition

    return find_definition(archive, name).sha256


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of the index as a table; see `records`."""
    import pandas as pd

    columns: dict[str, Any] = {
        "id": pd.Series([row.id for row in rows], dtype="str"),
        "stage": pd.Series([row.stage for row in rows], dtype="str"),
        "environment": pd.Series([row.environment for row in rows], dtype="str"),
        "status": pd.Series([row.status.value for row in rows], dtype="str"),
        "started": pd.Series([row.started for row in rows], dtype="datetime64[us, UTC]"),
        "seconds": pd.Series([row.wall_s for row in rows], dtype="float64"),
    }
    for kind, values in (("metric", [row.metrics for row in rows]), ("parameter", [row.parameters for row in rows])):
        for name in sorted({name for each in values for name in each}):
            columns[f"{kind}.{name}"] = _column([each.get(name) for each in values])
    return pd.DataFrame(columns)


def _column(values: list[Any]) -> pd.Series[Any]:
    """Values of one name; None where a record has none."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    is_whole = all(value is not None for value in values)
    try:
        if kinds and kinds <= {int, float}:
            return pd.Series(values, dtype="float64" if float in kinds else "int64" if is_whole else "Int64")
        if kinds == {bool}:
            return pd.Series(values, dtype="bool" if is_whole else "boolean")
        if kinds == {str}:
            return pd.Series(values, dtype="str")
    except OverflowError:
        pass  # a number that no machine number holds
    return pd.Series(values, dtype="object")
