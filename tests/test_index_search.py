"""Records that are looked for: conditions, order and pages, in whatever way they are found."""

import operator
import random
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from archives import ORIGIN
from indexed import ids, parameters, seal

from kit.archive import Archive, open_archive
from kit.errors import UnknownNameError, UsageError
from kit.index import Condition, Query, RecordIndex, parse_condition
from kit.index.search import count_rows, find_rows
from kit.record import Record
from kit.testing import START


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test", index=tmp_path / ".kit/index.sqlite")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auc>=0.7", Condition("auc", ">=", 0.7)),
        (" units = 64 ", Condition("units", "=", 64)),
        ("units==64", Condition("units", "=", 64)),
        ("learning rate<1e-3", Condition("learning rate", "<", 0.001)),
        ("optimizer!=sgd", Condition("optimizer", "!=", "sgd")),
        ("code='007'", Condition("code", "=", "007")),
        ('text=""', Condition("text", "=", "")),
        ("good=true", Condition("good", "=", "true")),
        ("n>-5", Condition("n", ">", -5)),
        (f"n<{1 << 70}", Condition("n", "<", float(1 << 70))),
        ("name=a=b", Condition("name", "=", "a=b")),
        ("metric.auc<.5", Condition("metric.auc", "<", 0.5)),
    ],
)
def test_condition_is_read(text: str, expected: Condition) -> None:
    assert parse_condition(text) == expected


@pytest.mark.parametrize("text", ["", "auc", ">=0.7", "auc>=", "=", "auc >", "a\n"])
def test_text_that_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"auc>=0\.7"):
        parse_condition(text)


@pytest.fixture
def varied(archive: Archive) -> Archive:
    """Four trainings a, b, c, d."""
    for hours, (name, auc, units, text) in enumerate(
        [("a", 0.5, 16, "adam"), ("b", 0.9, 32, "sgd"), ("c", 0.7, 64, "64"), ("d", 0.7, 8, "adam")]
    ):
        facts = parameters(units=units, optimizer=text, flag=hours > 1, rest=[1])
        metrics: dict[str, object] = {"auc": auc, "n": hours} if name != "d" else {"auc": auc, "units": 1.5}
        seal(
            archive,
            hours,
            id=f"20260301T0{9 + hours % 1}{hours}000Z-train-{name * 6}",
            metrics=metrics,
            parameters=facts,
        )
    return archive


def names(archive: Archive, *conditions: str, **query: object) -> str:
    found = archive.search(Query(where=tuple(map(parse_condition, conditions)), **query))
    return "".join(row.id[-1] for row in found.rows)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("auc>=0.7",), "dcb"),
        (("auc=0.7",), "dc"),
        (("auc!=0.7",), "ba"),
        (("auc<0.9", "units>8"), "ca"),
        (("n<=1",), "ba"),
        (("n!=1",), "ca"),
        (("optimizer=adam",), "da"),
        (("optimizer!=adam",), "cb"),
        (("optimizer=64",), ""),
        (("optimizer!=64",), "dcba"),
        (("optimizer='64'",), "c"),
        (("optimizer>b",), "b"),
        (("flag=true",), "dc"),
        (("units<2",), "d"),
        (("parameter.units<10",), "d"),
        (("metric.units>1",), "d"),
        (("parameter.units=1.5",), ""),
        (("optimizer=' OR 1=1 --",), ""),
    ],
)
def test_conditions_choose_records(varied: Archive, conditions: tuple[str, ...], expected: str) -> None:
    assert names(varied, *conditions) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "dcba"),
        ({"reverse": True}, "abcd"),
        ({"sort": "auc"}, "bdca"),
        ({"sort": "auc", "reverse": True}, "adcb"),
        ({"sort": "n"}, "cba"),
        ({"sort": "optimizer", "reverse": True}, "cdab"),
        ({"sort": "parameter.units"}, "cbad"),
        ({"sort": "units"}, "d"),
        ({"sort": "stage"}, "dcba"),
        ({"sort": "seconds", "limit": 2}, "dc"),
        ({"limit": 2, "offset": 1}, "cb"),
        ({"offset": 9}, ""),
        ({"limit": 0}, ""),
        ({"since": START + timedelta(hours=1), "until": START + timedelta(hours=3)}, "cb"),
        ({"stage": "train", "environment": "dev", "status": "succeeded"}, "dcba"),
        ({"stage": "'; DROP TABLE records; --"}, ""),
        ({"environment": "\udcff"}, ""),
    ],
)
def test_order_and_pages(varied: Archive, query: dict[str, object], expected: str) -> None:
    assert names(varied, **query) == expected


def test_total_is_that_of_all_pages(varied: Archive) -> None:
    assert varied.count(Query(limit=1, where=(parse_condition("auc>=0.7"),))) == 3
    assert varied.count(Query(limit=1, sort="n")) == 3


def test_name_that_nothing_has_is_told_the_nearest(varied: Archive) -> None:
    for query in (Query(where=(parse_condition("acu>1"),)), Query(sort="acu")):
        with pytest.raises(UnknownNameError, match="did you mean 'auc'"):
            varied.search(query)


ASKED = [
    "auc>=0.9",
    "auc<0.02",
    "auc>2",
    "units=64",
    "units!=64",
    "optimizer=adam",
    "optimizer<b",
    "n_rows>500000",
    "units<=32",
]
CHECKS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def holds(record: Record, condition: Condition) -> bool:
    values = {each.name: each.value for each in record.parameters} | record.metrics
    return condition.name in values and CHECKS[condition.operator](values[condition.name], condition.value)


def choose(records: list[Record], query: Query) -> list[str]:
    """What a query finds, without any index; the records are given newest first."""
    values = {each.id: {p.name: p.value for p in each.parameters} | each.metrics for each in records}
    found = [each for each in records if all(holds(each, condition) for condition in query.where)]
    found = [each for each in found if query.stage in ("", each.stage) and query.status in ("", each.status.value)]
    if query.sort == "started":
        found.sort(key=lambda each: each.started, reverse=not query.reverse)
    else:
        found = [each for each in found if query.sort in values[each.id]]
        found.sort(key=lambda each: values[each.id][query.sort], reverse=not query.reverse)
    names = [each.id for each in found][query.offset :]
    return names[: query.limit]


@pytest.mark.parametrize("seed", range(60))
def test_every_way_to_find_records_finds_the_same(
    many: Path, many_records: list[Record], many_index: RecordIndex, seed: int
) -> None:
    chance = random.Random(seed)
    query = Query(
        where=tuple(map(parse_condition, chance.sample(ASKED, chance.randrange(4)))),
        stage=chance.choice(["", "", "train", "run"]),
        status=chance.choice(["", "", "failed"]),
        sort=chance.choice(["started", "started", "auc", "units"]),
        reverse=chance.random() < 0.5,
        limit=chance.choice([None, 7, 40]),
        offset=chance.choice([0, 0, 3]),
    )
    expected = choose(many_records, query)
    everything = len(choose(many_records, msgspec.structs.replace(query, limit=None, offset=0)))
    with many_index._store.read() as connection:
        for few in (0, 50, 1_000, 1 << 62):
            found, has_more = find_rows(connection, query, few)
            assert [row.id for row, _ in found] == expected
            assert has_more == (query.offset + len(expected) < everything)
        assert count_rows(connection, query) == everything


@pytest.fixture(scope="module")
def many_records(many: Path) -> list[Record]:
    return list(Archive(many, ORIGIN).records())


@pytest.fixture(scope="module")
def many_index(many: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordIndex:
    index = RecordIndex(tmp_path_factory.mktemp("many-index") / "index.sqlite", many, Archive(many, ORIGIN).read_record)
    index.refresh()
    return index


def test_many_answers_are_the_same_in_whatever_way_they_are_found(many: Path, tmp_path: Path) -> None:
    """More answers than `_FEW`, beyond which another plan is chosen."""
    archive = Archive(many, ORIGIN, index=tmp_path / "index.sqlite")
    records = list(archive.records())
    good = [each for each in records if each.metrics.get("n_rows", -1) >= 10]  # type: ignore[operator]
    assert len(good) > 500
    everything = Query(where=(parse_condition("n_rows>=10"),), limit=40)
    assert [row.id for row in archive.search(everything).rows] == [each.id for each in good[:40]]
    best = sorted(good, key=lambda each: each.metrics["auc"], reverse=True)
    by_value = msgspec.structs.replace(everything, sort="auc", offset=5)
    assert [row.id for row in archive.search(by_value).rows] == [each.id for each in best[5:45]]
    sweep = next(each.sweep for each in records if each.sweep)
    assert ids(archive, sweep=sweep) == [each.id for each in records if each.sweep == sweep]
