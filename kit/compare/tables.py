"""Comparing tables, Parquet and CSV, a batch of rows at a time; the order of rows and columns matters."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

from kit.compare.arrays import compare_piece
from kit.compare.structure import compare_values
from kit.compare.tally import Tally, show

N_ROWS = 1 << 16  # in a batch
_PARQUET = b"PAR1"
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")  # with a zero in front it is a text: 007


def compare_tables(before: Path, after: Path, tally: Tally) -> str:
    """Compare two tables of one format, told by their first bytes.

    Returns:
        How their columns differ, in one sentence; then no value was compared. Empty if they do not.

    Raises:
        ValueError: one cannot be read.
    """
    formats = [_is_parquet(path) for path in (before, after)]
    if formats[0] != formats[1]:
        return "one is a Parquet file, the other is not"
    return _compare_parquet(before, after, tally) if formats[0] else _compare_csv(before, after, tally)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _compare_csv(before: Path, after: Path, tally: Tally) -> str:
    with (
        before.open(encoding="utf-8-sig", newline="") as old_file,
        after.open(encoding="utf-8-sig", newline="") as file,
    ):
        old, new = (csv.reader(each, delimiter=_delimiter(before)) for each in (old_file, file))
        columns = next(old, [])
        problem = _compare_columns([(name, "") for name in columns], [(name, "") for name in next(new, [])])
        if problem:
            return problem
        for row, (fields, now) in enumerate(zip_longest(old, new)):
            if fields is None or now is None:
                n_rows = row + 1 + sum(1 for _ in (old if now is None else new))
                return _rows_differ(*((n_rows, row) if now is None else (row, n_rows)))
            _compare_fields(row, columns, fields, now, tally)
    return ""


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    return max((",", "\t", ";"), key=header.count)  # of several with one count the first


def _compare_fields(row: int, columns: list[str], before: list[str], after: list[str], tally: Tally) -> None:
    if before == after:
        tally.n_compared += len(before)
        return
    if len(before) != len(after):
        tally.n_compared += 1
        tally.add(1, f"row {row}, number of fields", len(before), len(after), row)
        return
    for column, old, new in zip_longest(columns, before, after, fillvalue=""):
        # Decimal keeps every digit that was written
        as_numbers = old != new and _NUMBER.fullmatch(old) and _NUMBER.fullmatch(new)
        was, now = (Decimal(old), Decimal(new)) if as_numbers else (old, new)
        tally.compare(f"row {row}, column {column!r}", was, now, row, column)


def _compare_parquet(before: Path, after: Path, tally: Tally) -> str:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(before) as old, pyarrow.parquet.ParquetFile(after) as new:
            types = [[(field.name, str(field.type)) for field in side.schema_arrow] for side in (old, new)]
            problem = _compare_columns(types[0], types[1])
            if problem:
                return problem
            if old.metadata.num_rows != new.metadata.num_rows:
                return _rows_differ(old.metadata.num_rows, new.metadata.num_rows)
            for row, was, now in _paired_batches(old, new):
                for index, (name, _) in enumerate(types[0]):
                    _compare_column(name, row, was.column(index), now.column(index), tally)
    except (pyarrow.ArrowException, pyarrow.ArrowInvalid) as error:
        raise ValueError(str(error)) from error
    return ""


def _paired_batches(before: Any, after: Any) -> Iterator[tuple[int, Any, Any]]:
    """(first row, batch, batch) of the same rows, however each file cuts its rows into groups."""
    streams = [filter(len, side.iter_batches(batch_size=N_ROWS)) for side in (before, after)]
    row, old, new = 0, next(streams[0], None), next(streams[1], None)
    while old is not None and new is not None:
        n_rows = min(old.num_rows, new.num_rows)
        yield row, old.slice(0, n_rows), new.slice(0, n_rows)
        row += n_rows
        old, new = (
            batch.slice(n_rows) if batch.num_rows > n_rows else next(stream, None)
            for batch, stream in zip((old, new), streams, strict=True)
        )


def _compare_column(name: str, row: int, before: Any, after: Any, tally: Tally) -> None:
    import pyarrow

    def place(index: int) -> str:
        return f"row {row + index}, column {name!r}"

    if before.equals(after):
        tally.n_compared += len(before)
        return
    kind = before.type
    is_plain = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)
    if is_plain and before.is_null().equals(after.is_null()):
        old, new = (side.fill_null(0).to_numpy(zero_copy_only=False) for side in (before, after))
        compare_piece(old, new, tally, place, lambda index: row + index, name)
        return
    for index, (old, new) in enumerate(zip(before.to_pylist(), after.to_pylist(), strict=True)):
        inner = Tally(tally.comparator)
        compare_values("", old, new, inner)
        tally.n_compared += 1
        tally.widen(inner.largest, inner.largest_relative)
        if inner.n_differ:
            tally.add(1, place(index), old, new, row + index, name)


def _compare_columns(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> str:
    """How two tables' columns, (name, type) each, differ; empty if they do not."""
    names = [[name for name, _ in side] for side in (before, after)]
    gone, new = ([name for name in names[side] if name not in names[1 - side]] for side in (0, 1))
    if gone or new:
        told = [f"without {', '.join(map(repr, gone))}"] if gone else []
        told += [f"with new {', '.join(map(repr, new))}"] if new else []
        return f"other columns: {', '.join(told)}"
    if names[0] != names[1]:
        return f"columns in another order: {show(names[0])}, now {show(names[1])}"
    changed = [(name, old, new) for (name, old), (_, new) in zip(before, after, strict=True) if old != new]
    if not changed:
        return ""
    name, was, now = changed[0]
    rest = f", and {len(changed) - 1} more columns" if len(changed) > 1 else ""
    return f"column {name!r} has type {now}, was {was}{rest}"


def _rows_differ(before: int, after: int) -> str:
    return f"{after:,} rows, were {before:,}"
