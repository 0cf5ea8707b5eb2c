"""From a query to SQL. Texts and numbers that people wrote are always bound, never pasted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from kit.errors import UnknownNameError
from kit.index.condition import Condition
from kit.index.store import bindable
from kit.index.values import COLUMNS, SORTS, FileStat, Query, Row, microseconds, row_of

# A sort is made over a covering index, of numbers of rows; whole rows are looked up for one page only.
_ORDERS = {
    "started": ("started DESC, id DESC", "started, id"),
    "stage": ("stage, started DESC, id DESC", "stage DESC, started DESC, id DESC"),
    "environment": ("environment, started DESC, id DESC", "environment DESC, started DESC, id DESC"),
    "status": ("status, started DESC, id DESC", "status DESC, started DESC, id DESC"),
    "seconds": ("wall_s DESC, started DESC, id DESC", "wall_s IS NULL, wall_s, started DESC, id DESC"),
}
_BY_VALUE = ("scalars.value DESC, record DESC", "scalars.value, record DESC")
_FEW = 500
_WHOLE = f"SELECT n, id, imported, {', '.join(COLUMNS)}, file, mtime_ns, ctime_ns, size, inode FROM records"


def find_rows(connection: sqlite3.Connection, query: Query) -> tuple[list[tuple[Row, FileStat]], int]:
    """Rows of one page with the state of their files when they were read, and the total of all pages.

    Raises:
        UnknownNameError: the query names a metric or parameter that no record has.
    """
    number = None if query.sort in SORTS else _numbers_of(connection, query.sort)[0]
    where, values = _test(connection, query, number, walks=False)
    total = connection.execute(f"SELECT count(*) FROM records WHERE {where}", values).fetchone()[0]
    if not total:
        return [], 0
    source, order = "records", (_ORDERS[query.sort] if number is None else _BY_VALUE)[query.reverse]
    if total > _FEW and (number is not None or query.sort == "started"):
        where, values = _test(connection, query, number, walks=True)
        source = "records INDEXED BY listing"
    if number is not None:
        tables = ("scalars", "records") if total > _FEW else ("records", "scalars")
        source = f"{tables[0]} CROSS JOIN {tables[1]} ON record = n AND scalars.name = {number:d}"
    page = f"SELECT n FROM {source} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
    limit = -1 if query.limit is None else query.limit
    return read_rows(connection, [row[0] for row in connection.execute(page, [*values, limit, query.offset])]), total


def read_rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[Row, FileStat]]:
    """Whole rows, in the order of their numbers given."""
    statement = f"{_WHOLE} WHERE n = ?"
    found = []
    for number in numbers:
        _, record_id, imported, *columns = connection.execute(statement, [number]).fetchone()
        width = len(COLUMNS)
        found.append((row_of(record_id, imported, tuple(columns[:width])), FileStat(*columns[width:])))
    return found


def _test(connection: sqlite3.Connection, query: Query, number: int | None, *, walks: bool) -> tuple[str, list[Any]]:
    """The query's conditions in SQL, and the values that they are bound to.

    Args:
        connection: knows the numbers of names.
        query: what is asked.
        number: only records that have a value of this name; None for all.
        walks: records are gone through in order until there are enough: each is tested when it comes, not all before.
    """
    tests, values = ["listed = 1"], list[Any]()
    for column in ("stage", "environment", "status", "sweep"):
        if wanted := getattr(query, column):
            tests.append(f"{column} = ?")
            values.append(bindable(wanted))
    if query.sweep:
        tests.append("sweep <> ''")  # the condition of its index
    for limit, operator in ((query.since, ">="), (query.until, "<")):
        if limit is not None:
            tests.append(f"started {operator} ?")
            values.append(microseconds(limit))
    for condition in query.where:
        test, value = _test_condition(connection, condition, walks=walks)
        tests.append(test)
        values.append(value)
    if number is not None and not walks:
        tests.append(f"+n IN (SELECT record FROM scalars WHERE name = {number:d})")
    return " AND ".join(tests), values


def _test_condition(
    connection: sqlite3.Connection, condition: Condition, *, walks: bool
) -> tuple[str, int | float | str]:
    numbers = ", ".join(f"{number:d}" for number in _numbers_of(connection, condition.name))
    value = bindable(condition.value) if isinstance(condition.value, str) else condition.value
    types = "('text')" if isinstance(value, str) else "('integer', 'real')"
    is_of_type = f"typeof(value) IN {types}"
    test = f"value {condition.operator} ? AND {is_of_type}"
    if condition.operator == "!=":
        test = f"(value != ? OR NOT {is_of_type})"
    rows = f"FROM scalars AS tested WHERE name IN ({numbers}) AND {test}"
    # The plus keeps SQLite from looking up each row by its number instead of going through an index that has them all.
    return (f"EXISTS (SELECT 1 {rows} AND tested.record = n)" if walks else f"+n IN (SELECT record {rows})"), value


def _numbers_of(connection: sqlite3.Connection, name: str) -> list[int]:
    """Numbers of a metric's or parameter's name, a metric's first; `metric.` or `parameter.` before it chooses."""
    names = {(kind, name): number for number, kind, name in connection.execute("SELECT number, kind, name FROM names")}
    found = [names[kind, name] for kind in ("metric", "parameter") if (kind, name) in names]
    kind, _, rest = name.partition(".")
    if not found and (kind, rest) in names:
        found = [names[kind, rest]]
    if not found:
        raise UnknownNameError(
            "metric or parameter", name, {each for _, each in names}, "of the records that are there"
        )
    return found
