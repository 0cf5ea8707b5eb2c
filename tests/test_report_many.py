"""Reports of many records: which have a page, what is made again, lists of older ones, and what is searched."""

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from report_pages import EVIL, START, Page, SiteArchive, assert_inert, make_again, make_record, make_records

from kit.artifact import Artifact, InputArtifact
from kit.record import Failure, Record, Status
from kit.report.index import N_NEWEST, Index, render
from kit.report.listing import Cut, cut_rows, row_of
from kit.report.lists import LISTS, plan_lists, render_list
from kit.report.rows import ReleaseRow, newest_first
from kit.report.shards import Shard
from kit.report.site import Site, Source, write_site
from kit.report.style import index_script
from kit.report.survey import survey_records
from kit.report.sweep import PointView, SweepView, write_sweep_page
from kit.report.trends import MAX_POINTS, Trend, find_trends


def names_of(paths: Iterable[str], folder: str) -> list[str]:
    return sorted(path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/"))


def chain(*records: Record) -> list[Record]:
    """Each made from the one before."""
    found = [records[0]]
    for record in records[1:]:
        item = InputArtifact(Artifact("x", "a" * 64, 1, "x"), record=found[-1].id)
        found.append(replace(record, inputs=(item,)))
    return found


# Which records have a page


def test_newest_records_have_pages(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(5, inputs=()))
    assert archive.make(n_pages=2) == sorted(record.id for record in archive.records[:2])


def test_all_have_pages_on_demand(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(5, inputs=()))
    archive.make(n_pages=2)
    assert archive.make(n_pages=None) == sorted(record.id for record in archive.records[2:])


def test_what_releases_and_reproductions_link_has_a_page(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(6, inputs=()))
    old = [record.id for record in reversed(archive.records)]
    release = ReleaseRow(id="dev-1", environment="dev", time=START, record=old[0], who="ada", training=old[1])
    again = make_again(record=old[2], again=old[3])
    assert archive.make(n_pages=1, releases=(release,), reproductions=(again,)) == [*old[:4], old[5]]


def test_refused_release_has_a_page(tmp_path: Path) -> None:
    refused = make_record(
        "release", n=0, status=Status.FAILED, failure=Failure("GateRefused", "no\n  - too low"), inputs=()
    )
    archive = SiteArchive(tmp_path, [refused, *make_records(3, inputs=())])
    assert refused.id in archive.make(n_pages=1)
    assert [row.reasons for row in survey_records(archive.records, archive.find, [], [], 1).refusals] == [("too low",)]


def test_what_a_page_was_made_from_has_a_page(tmp_path: Path) -> None:
    records = chain(*(make_record(n=n) for n in range(3)))
    archive = SiteArchive(tmp_path, [*records, *make_records(2, stage="other", inputs=())])
    assert archive.make(n_pages=1) == sorted(record.id for record in records)


def test_points_of_a_sweep_have_pages_and_lead_to_it(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=(), sweep="4f09c1a2b3c4" + "0" * 52))
    oldest = archive.records[-1].id
    point = PointView({"x": 1}, oldest, "succeeded", 0.5)
    view = SweepView("sweep-4f09c1a2b3c4", "train", "dev", "auc", False, ("x",), (point,))
    write_sweep_page(view, archive.folder)
    assert oldest in archive.make(n_pages=1)
    files = archive.read_all()
    assert f'href="../records/{oldest}.html"' in files["sweeps/sweep-4f09c1a2b3c4.html"].decode()
    assert b'href="../sweeps/sweep-4f09c1a2b3c4.html"' in files[f"records/{oldest}.html"]
    assert b'href="./sweeps/sweep-4f09c1a2b3c4.html"' in files["index.html"]


def test_page_that_was_made_once_stays_up_to_date(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    oldest = archive.records[-1]
    page = archive.folder / "records" / f"{oldest.id}.html"
    page.parent.mkdir(parents=True)
    page.write_text("made by hand")
    assert archive.make(n_pages=1) == [oldest.id, archive.records[0].id]
    assert "made by hand" not in page.read_text(encoding="utf-8")


def test_every_link_leads_to_a_file(tmp_path: Path) -> None:
    records = chain(*(make_record(n=n) for n in range(N_NEWEST + 400)))
    archive = SiteArchive(
        tmp_path, [replace(record, inputs=record.inputs if n % 50 else ()) for n, record in enumerate(records)]
    )
    archive.make(n_pages=20)
    assert_links_lead_somewhere(archive.folder)


def assert_links_lead_somewhere(folder: Path) -> None:
    for path in folder.rglob("*.html"):
        for href in re.findall(r'href="([^"]*)"', path.read_text(encoding="utf-8")):
            target, _, anchor = href.partition("#")
            aim = (path.parent / target) if target else path
            assert aim.is_file(), (path, href)
            assert not anchor or f'id="{anchor}"' in aim.read_text(encoding="utf-8"), (path, href)


def test_record_that_vanished_meanwhile_is_left_out(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(2, inputs=()))
    gone = replace(make_record(n=9), inputs=())
    records, archive.records = archive.records, [gone, *archive.records]
    survey = survey_records(archive.records, archive.find, [], [])
    archive.records = records
    write_site(Site(folder=archive.folder, now=START), survey, Source(archive.read, lambda _: {}))
    assert f"records/{gone.id}.html" not in archive.read_all()["index.html"].decode()


# What is made again


def test_nothing_is_made_again_without_a_reason(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(N_NEWEST + 300, inputs=()))
    archive.make(n_pages=3)
    before = {path: path.stat().st_ino for path in archive.folder.rglob("*") if path.is_file()}
    assert archive.make(n_pages=3) == []
    after = {path: path.stat().st_ino for path in archive.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after if before.get(path) != after[path]} == {"index.html"}


def test_no_page_is_opened_to_find_that_it_is_up_to_date(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    archive.make()
    for path in (archive.folder / "records").iterdir():
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))  # nothing of it can be read now
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert archive.make() == []


@pytest.mark.parametrize("memory", [True, False])
def test_page_that_is_gone_is_made_again(tmp_path: Path, memory: bool) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    archive.memory = archive.memory if memory else None
    archive.make()
    (archive.folder / "records" / f"{archive.records[1].id}.html").unlink()
    assert archive.make() == [archive.records[1].id]


def test_page_that_was_changed_is_made_again(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    archive.make()
    with (archive.folder / "records" / f"{archive.records[1].id}.html").open("a") as file:
        file.write("and more")
    assert archive.make() == [archive.records[1].id]


def delete(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(b"no database")


@pytest.mark.parametrize("harm", [delete, damage])
def test_lost_memory_costs_a_look_into_each_page_and_nothing_else(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    archive.make()
    assert archive.memory is not None
    harm(archive.memory)
    assert archive.make() == []
    assert archive.make() == []


def test_record_that_ended_is_made_again(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, [make_record(status=Status.STARTED, ended=None)])
    archive.make()
    archive.records = [make_record()]
    assert archive.make() == [archive.records[0].id]
    assert archive.make() == []


def test_page_is_made_again_when_what_it_links_gets_a_page(tmp_path: Path) -> None:
    old, new = chain(make_record(n=0, inputs=()), make_record(n=1))
    archive = SiteArchive(tmp_path, [new])
    archive.make()
    archive.records = [new, old]
    assert archive.make() == [old.id, new.id]


# Lists of older records


@given(st.lists(st.booleans(), max_size=60))
def test_pieces_have_every_row_once_and_no_piece_is_too_large(chosen: list[bool]) -> None:
    rows = [replace(row_of(make_record()), id=f"{n}-{each}") for n, each in enumerate(chosen)]
    cut = Cut(least=2, one_in=3, most=7)
    pieces = list(cut_rows(rows, cut))
    assert [row for piece in pieces for row in piece] == rows
    assert all(2 <= len(piece) <= 7 for piece in pieces[:-1])


def test_few_records_are_all_in_the_index(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(N_NEWEST, inputs=()))
    archive.make(n_pages=1)
    files = archive.read_all()
    assert names_of(files, "lists") == names_of(files, "search") == []
    assert "strict-dynamic" not in files["index.html"].decode()


def test_every_record_is_in_the_index_or_in_a_list(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(N_NEWEST + 1000, inputs=()))
    archive.make(n_pages=1)
    files = archive.read_all()
    listed = [name for name, data in files.items() if name == "index.html" or name.startswith("lists/")]
    found = {each for name in listed for each in re.findall(r"<td><code>([^<]*)</code>", files[name].decode())}
    assert found == {record.id for record in archive.records}


def test_lists_lead_from_the_index_to_the_oldest_and_back(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(N_NEWEST + 1500, inputs=()))
    archive.make(n_pages=1)
    files = {name: data.decode() for name, data in archive.read_all().items()}
    (name,) = {f"lists/{each}" for each in re.findall(r'rel="next" href="\./lists/([^"]*)"', files["index.html"])}
    way = [name]
    while older := re.findall(r'rel="next" href="\./([^"]*)"', files[way[-1]]):
        way.append(f"lists/{older[0]}")
    assert sorted(way) == sorted(name for name in files if name.startswith("lists/"))
    back = [way[-1]]
    while newer := re.findall(r'rel="prev" href="\./([^"]*)"', files[back[-1]]):
        back.append(f"lists/{newer[0]}")
    assert back == way[::-1]
    assert 'rel="prev" href="../index.html#records"' in files[way[0]]
    assert "These are the oldest" in files[way[-1]]


def test_one_record_more_changes_a_few_files(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(N_NEWEST + 3000, inputs=()))
    archive.make(n_pages=10)
    before = archive.read_all()
    archive.records = newest_first([*archive.records, make_record(n=N_NEWEST + 3000, inputs=())])
    archive.make(n_pages=10)
    after = archive.read_all()
    changed = {name.split("/")[0] for name in {*before, *after} if before.get(name) != after.get(name)}
    n_changed = sum(before.get(name) != after.get(name) for name in {*before, *after})
    assert changed <= {"index.html", "records", "search", "lists"}
    assert (
        n_changed <= 8
    )  # the index, the new page, the last shard's old and new name, at most a new list and its neighbour


def test_late_record_changes_only_the_piece_that_it_falls_into(tmp_path: Path) -> None:
    records = make_records(N_NEWEST + 3000, inputs=())
    archive = SiteArchive(tmp_path, records)
    archive.make(n_pages=1)
    before = archive.read_all()
    late = make_record("late", n=1500, inputs=())
    archive.records = newest_first([*records, late])
    archive.make(n_pages=1)
    after = archive.read_all()
    changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    assert len(names_of(changed, "lists")) <= 4
    assert len(names_of(changed, "search")) <= 4
    assert_links_lead_somewhere(archive.folder)


def test_list_is_strict_and_inert() -> None:
    rows = [row_of(replace(record, stage=evil, environment=evil)) for evil in EVIL for record in [make_record()]]
    page = plan_lists([replace(rows[0], id=str(n)) for n in range(LISTS.most)])[0]
    text = render_list(replace(page, rows=rows), title=EVIL[0], known_records=[rows[0].id])
    assert_inert(text)
    policy = next(m["content"] for m in Page(text).find("meta") if "http-equiv" in m)
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'", policy
    )


# The index


def make_index(n: int, **more: Any) -> Index:
    rows = [replace(row_of(make_record()), id=f"id-{each}", started=START + timedelta(hours=each)) for each in range(n)]
    return Index(rows=rows, lists=plan_lists(rows), known={rows[-1].id}, **more)


def test_index_of_100000_records_is_small() -> None:
    rows = make_index(600).rows
    many = [replace(row, id=f"{row.id}-{n}") for n in range(167) for row in rows]
    evidence = ReleaseRow(id="dev-1", environment="dev", time=START, record="r", who="ada", reasons=("why",) * 5)
    index = Index(rows=many, lists=plan_lists(many), releases=(evidence,) * 1000, shards=[Shard("a" * 64, 2000)] * 60)
    assert len(render(index).encode()) < 1_000_000


def test_older_releases_are_counted() -> None:
    row = ReleaseRow(id="dev-1", environment="dev", time=START, record="r", who="ada")
    assert "2 older releases: on the pages" in render(make_index(1, releases=(row,) * 52))


def test_index_admits_only_what_its_own_script_loads() -> None:
    text = render(make_index(700, shards=[Shard("ab" * 32, 700)]))
    page = Page(text)
    policy = next(m["content"] for m in page.find("meta") if "http-equiv" in m)
    assert re.search(r"; script-src 'sha256-[^']{44}' 'strict-dynamic'$", policy)
    assert page.find("script") == [{}]
    assert f"<script>{index_script()}</script>" in text
    (table,) = (each for each in page.find("table") if each.get("id") == "records-table")
    assert table["data-shards"] == f"search/{'ab' * 8}.js:{'ab' * 32}"
    assert (table["data-total"], table["data-pages"]) == ("700", "699")


def test_index_says_how_to_get_pages_of_older_records() -> None:
    text = render(make_index(700))
    assert "<code>kit open ID</code> makes it, <code>kit report --all</code> those of all records" in text


def test_trend_of_many_values_is_drawn_from_few_and_loses_no_peak() -> None:
    values = [0.5] * 50_000
    values[12_345], values[40_000] = 0.9, 0.1
    points = [
        tuple(map(float, point.split(","))) for point in Trend("train", "dev", "auc", tuple(values)).points.split()
    ]
    assert len(points) <= MAX_POINTS
    assert {y for _, y in points} == {3.0, 15.0, 27.0}
    assert [x for x, y in points if y == 3.0] == [24.69]


def test_of_many_trends_the_newest_are_shown() -> None:
    records = [make_record(n=n, environment=f"env-{n // 2}") for n in range(60)]
    assert {trend.environment for trend in find_trends(records)} == {f"env-{n}" for n in range(6, 30)}


def test_files_of_others_stay(tmp_path: Path) -> None:
    archive = SiteArchive(tmp_path, make_records(3, inputs=()))
    for name in ("search/notes.js", "lists/mine.html"):
        (archive.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (archive.folder / name).touch()
    (archive.folder / "search" / f"{'0' * 16}.js").touch()
    archive.make()
    assert sorted(name for name in archive.read_all() if name.startswith(("search/", "lists/"))) == [
        "lists/mine.html",
        "search/notes.js",
    ]
