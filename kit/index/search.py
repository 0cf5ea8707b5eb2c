"""From a query to SQL. Texts and numbers that people wrote are always bound, never pasted.

Rows come in the order that is asked for until there are enough: from an index that has that order, each tested when it comes.
Only where few records fulfil a condition are these taken first, and sorted.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from kit.errors import UnknownNameError
from kit.index.condition import Condition
from kit.index.store import bindable
from kit.index.values import SORTS, FileStat, Query, Row, microseconds

_ORDERS = {
    "started": ("{started} DESC, id DESC", "{started}, id"),
    "stage": ("stage, started DESC, id DESC", "stage DESC, started DESC, id DESC"),
    "environment": ("environment, started DESC, id DESC", "environment DESC, started DESC, id DESC"),
    "status": ("status, started DESC, id DESC", "status DESC, started DESC, id DESC"),
    "seconds": ("wall_s DESC, started DESC, id DESC", "wall_s IS NULL, wall_s, started DESC, id DESC"),
}
_BY_VALUE = (
    "{ranked}.value DESC, {ranked}.started DESC, {ranked}.record DESC",
    "{ranked}.value, {ranked}.started DESC, {ranked}.record DESC",
)
FEW = 1_000  # to count so many values takes 40 µs, to look at as many records 2 ms
_ALL = 1 << 62
_EXISTS = "EXISTS (SELECT 1 FROM scalars AS one WHERE one.record = {number} AND {test})"
_ROWS = (
    "SELECT n, row, imported, file, mtime_ns, ctime_ns, size, inode FROM records JOIN shown ON number = shown "
    "WHERE n IN (SELECT value FROM json_each(?))"
)


class _Test(msgspec.Struct, frozen=True):
    """A condition in SQL.

    Attributes:
        names: numbers of the names that it may be about: of a metric, of a parameter.
        sql: of its value, in the table `{table}`.
        bound: the value that it is compared with; none for a test that every value passes.
        operator: as a person wrote it.
    """

    names: tuple[int, ...]
    sql: str
    bound: tuple[int | float | str, ...] = ()
    operator: str = ""

    @property
    def is_range(self) -> bool:
        """Whether the values that fulfil it lie beside each other in the index of values."""
        return len(self.names) == 1 and self.operator != "!="

    def over(self, table: str) -> str:
        """The test over a table of values."""
        names = ", ".join(f"{number:d}" for number in self.names)
        return f"{table}.name IN ({names}) AND {self.sql.format(table=table)}"


class _Plan(msgspec.Struct, frozen=True):
    """The rows that are gone through, how each is tested, what the tests are bound to, and the order."""

    number: str
    source: str
    tests: list[str]
    bound: list[Any]
    order: str = ""

    @property
    def rows(self) -> str:
        """The clauses that choose."""
        return f"FROM {self.source} WHERE {' AND '.join(self.tests)}"


def find_rows(connection: sqlite3.Connection, query: Query, few: int = FEW) -> tuple[list[tuple[Row, FileStat]], bool]:
    """Rows of one page with the state of their files when they were read, and whether more come after them.

    Args:
        connection: to the index.
        query: what is asked.
        few: a condition that fewer values fulfil is looked at first.

    Raises:
        UnknownNameError: the query names a metric or parameter that no record has.
    """
    plan = _make_plan(connection, query, few)
    page = f"SELECT {plan.number} {plan.rows} ORDER BY {plan.order} LIMIT ? OFFSET ?"
    limit = _ALL if query.limit is None else query.limit
    numbers = [row[0] for row in connection.execute(page, [*plan.bound, limit + 1, query.offset])]
    return read_rows(connection, numbers[:limit]), len(numbers) > limit


def count_rows(connection: sqlite3.Connection, query: Query) -> int:
    """How many records there are on all pages; see `find_rows`. All that fulfil a condition are gone through."""
    plan = _make_plan(connection, query, _ALL)
    found: int = connection.execute(f"SELECT count(*) {plan.rows}", plan.bound).fetchone()[0]
    return found


def read_rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[Row, FileStat]]:
    """Whole rows, in the order of their numbers given.

    Raises:
        sqlite3.DatabaseError: one is not there, or is none.
    """
    found = {row[0]: row for row in connection.execute(_ROWS, [json.dumps(numbers)])}
    try:
        kept = [found[number] for number in numbers]
        rows = _decoder().decode(b"[%b]" % b",".join(each[1] for each in kept))
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise sqlite3.DatabaseError(f"records: {error!r}") from error
    return [
        (msgspec.structs.replace(row, imported=True) if each[2] else row, FileStat(*each[3:]))
        for row, each in zip(rows, kept, strict=True)
    ]


@functools.cache
def _decoder() -> msgspec.json.Decoder[list[Row]]:
    return msgspec.json.Decoder(list[Row])


def _make_plan(connection: sqlite3.Connection, query: Query, few: int) -> _Plan:
    """How records are found; see `find_rows`."""
    ranked = None if query.sort in SORTS else _numbers_of(connection, query.sort)[0]
    tests = [_make_test(connection, each) for each in query.where]
    first = _choose_first(connection, tests, few)
    if first is None and ranked is not None:
        first = _Test((ranked,), "1")
    elif first is None and query.sort == "started":
        first = next((test for test in tests if test.is_range and test.operator == "="), None)
    plan = _go_through_records(query) if first is None else _go_through_values(query, first, ranked)
    for test in tests:
        if test is not first:
            beside = first is not None and test.is_range and test.names == first.names
            plan.tests.append(
                test.over("first") if beside else _EXISTS.format(number=plan.number, test=test.over("one"))
            )
            plan.bound.extend(test.bound)
    return plan


def _go_through_records(query: Query) -> _Plan:
    """All that are listed, or all of a sweep."""
    tests, bound = _test_columns(query)
    source = "records" if query.sweep else "records INDEXED BY listing"
    order = _ORDERS[query.sort][query.reverse].format(started="started")
    return _Plan("n", source, ["listed = 1", *tests], bound, order)


def _go_through_values(query: Query, first: _Test, ranked: int | None) -> _Plan:
    """The values that fulfil a condition; a record that has one is listed."""
    tests, bound = _test_columns(query)
    source, table = "scalars AS first INDEXED BY by_value", "first"
    if ranked is not None and first.names != (ranked,):
        table = "ranked"
        source = f"{source} CROSS JOIN scalars AS ranked ON ranked.record = first.record AND ranked.name = {ranked:d}"
    if tests or ranked is None:
        source = f"{source} CROSS JOIN records ON n = first.record"
    order = _ORDERS[query.sort] if ranked is None else _BY_VALUE
    ordered = order[query.reverse].format(started="first.started", ranked=table)
    return _Plan("first.record", source, [first.over("first"), *tests], [*first.bound, *bound], ordered)


def _choose_first(connection: sqlite3.Connection, tests: Sequence[_Test], few: int) -> _Test | None:
    """The condition that fewest values fulfil, if these are few."""
    sizes = {}
    for place, test in enumerate(tests):
        if test.is_range:
            source = f"SELECT 1 FROM scalars AS one INDEXED BY by_value WHERE {test.over('one')} LIMIT {few:d}"
            sizes[place] = connection.execute(f"SELECT count(*) FROM ({source})", test.bound).fetchone()[0]
    place = min(sizes, key=sizes.__getitem__, default=-1)
    return tests[place] if place >= 0 and sizes[place] < few else None


def _test_columns(query: Query) -> tuple[list[str], list[Any]]:
    """What is asked of a record itself."""
    tests, values = list[str](), list[Any]()
    for column in ("stage", "environment", "status", "sweep"):
        if wanted := getattr(query, column):
            tests.append(f"{column} = ?")
            values.append(bindable(wanted))
    if query.sweep:
        tests.append("sweep <> ''")  # the condition of its index
    for limit, operator in ((query.since, ">="), (query.until, "<")):
        if limit is not None:
            tests.append(f"records.started {operator} ?")
            values.append(microseconds(limit))
    return tests, values


def _make_test(connection: sqlite3.Connection, condition: Condition) -> _Test:
    value = bindable(condition.value) if isinstance(condition.value, str) else condition.value
    sql = f"{{table}}.value {condition.operator} ?"
    if condition.operator in ("<", "<=") and isinstance(value, str):
        sql = f"{{table}}.value >= '' AND {sql}"  # after all numbers
    elif condition.operator in (">", ">=") and not isinstance(value, str):
        sql = f"{sql} AND {{table}}.value < ''"
    return _Test(tuple(_numbers_of(connection, condition.name)), sql, (value,), condition.operator)


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
