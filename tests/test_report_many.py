"""Reports of many records: which have a page, what is made again, lists of older ones, and what is searched."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_report import EVIL, START, Page, assert_inert, make_again, make_record

from kit.artifact import Artifact, InputArtifact
from kit.errors import NotFoundError
from kit.record import Code, Failure, Record, Status
from kit.report import render_record_page
from kit.report.index import N_NEWEST, Index, render
from kit.report.listing import Cut, cut_rows, row_of
from kit.report.lists import LISTS, plan_lists, render_list
from kit.report.pages import list_pages
from kit.report.rows import ReleaseRow, newest_first
from kit.report.shards import Shard, encode_shard, write_runs, write_shards
from kit.report.site import Site, Source, write_site
from kit.report.style import index_script
from kit.report.survey import find_linked, survey_records
from kit.report.sweep import PointView, SweepView, find_sweeps, write_sweep_page
from kit.report.trends import MAX_POINTS, Trend, find_trends

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def make_records(n: int, **changes: Any) -> list[Record]:
    """Records an hour apart, newest first."""
    return newest_first(make_record(n=each, **changes) for each in range(n))


class Archive:
    """Records that a site is made from, and what was asked of them."""

    def __init__(self, folder: Path, records: Iterable[Record]) -> None:
        self.folder, self.records = folder / "reports", newest_first(records)
        self.memory: Path | None = folder / ".kit" / "reports.sqlite"
        self.asked: list[str] = []

    def read(self, record_id: str) -> Record:
        self.asked.append(record_id)
        return self.find(record_id)

    def find(self, record_id: str) -> Record:
        for record in self.records:
            if record.id == record_id:
                return record
        raise NotFoundError(record_id)

    def make(self, n_pages: int | None = 1000, **more: Any) -> list[str]:
        """Bring the site up to date; ids of the records whose pages were made, in order."""
        self.asked.clear()
        site = Site(folder=self.folder, sweeps=find_sweeps(self.folder), memory=self.memory, now=START, **more)
        linked = find_linked(site.releases, site.reproductions, site.sweeps)
        survey = survey_records(self.records, self.find, linked, list_pages(self.folder), n_pages)
        write_site(site, survey, Source(self.read, lambda _: {}))
        return sorted(self.asked)

    def read_all(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}


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
    archive = Archive(tmp_path, make_records(5, inputs=()))
    assert archive.make(n_pages=2) == sorted(record.id for record in archive.records[:2])


def test_all_have_pages_on_demand(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(5, inputs=()))
    archive.make(n_pages=2)
    assert archive.make(n_pages=None) == sorted(record.id for record in archive.records[2:])


def test_what_releases_and_reproductions_link_has_a_page(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(6, inputs=()))
    old = [record.id for record in reversed(archive.records)]
    release = ReleaseRow(id="dev-1", environment="dev", time=START, record=old[0], who="ada", training=old[1])
    again = make_again(record=old[2], again=old[3])
    assert archive.make(n_pages=1, releases=(release,), reproductions=(again,)) == [*old[:4], old[5]]


def test_refused_release_has_a_page(tmp_path: Path) -> None:
    refused = make_record(
        "release", n=0, status=Status.FAILED, failure=Failure("GateRefused", "no\n  - too low"), inputs=()
    )
    archive = Archive(tmp_path, [refused, *make_records(3, inputs=())])
    assert refused.id in archive.make(n_pages=1)
    assert [row.reasons for row in survey_records(archive.records, archive.find, [], [], 1).refusals] == [("too low",)]


def test_what_a_page_was_made_from_has_a_page(tmp_path: Path) -> None:
    records = chain(*(make_record(n=n) for n in range(3)))
    archive = Archive(tmp_path, [*records, *make_records(2, stage="other", inputs=())])
    assert archive.make(n_pages=1) == sorted(record.id for record in records)


def test_points_of_a_sweep_have_pages_and_lead_to_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(3, inputs=(), sweep="4f09c1a2b3c4" + "0" * 52))
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
    archive = Archive(tmp_path, make_records(3, inputs=()))
    oldest = archive.records[-1]
    page = archive.folder / "records" / f"{oldest.id}.html"
    page.parent.mkdir(parents=True)
    page.write_text("made by hand")
    assert archive.make(n_pages=1) == [oldest.id, archive.records[0].id]
    assert "made by hand" not in page.read_text(encoding="utf-8")


def test_every_link_leads_to_a_file(tmp_path: Path) -> None:
    records = chain(*(make_record(n=n) for n in range(N_NEWEST + 400)))
    archive = Archive(
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
    archive = Archive(tmp_path, make_records(2, inputs=()))
    gone = replace(make_record(n=9), inputs=())
    records, archive.records = archive.records, [gone, *archive.records]
    survey = survey_records(archive.records, archive.find, [], [])
    archive.records = records
    write_site(Site(folder=archive.folder, now=START), survey, Source(archive.read, lambda _: {}))
    assert f"records/{gone.id}.html" not in archive.read_all()["index.html"].decode()


# What is made again


def test_nothing_is_made_again_without_a_reason(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(N_NEWEST + 300, inputs=()))
    archive.make(n_pages=3)
    before = {path: path.stat().st_ino for path in archive.folder.rglob("*") if path.is_file()}
    assert archive.make(n_pages=3) == []
    after = {path: path.stat().st_ino for path in archive.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after if before.get(path) != after[path]} == {"index.html"}


def test_no_page_is_opened_to_find_that_it_is_up_to_date(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(3, inputs=()))
    archive.make()
    for path in (archive.folder / "records").iterdir():
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))  # nothing of it can be read now
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert archive.make() == []


@pytest.mark.parametrize("memory", [True, False])
def test_page_that_is_gone_is_made_again(tmp_path: Path, memory: bool) -> None:
    archive = Archive(tmp_path, make_records(3, inputs=()))
    archive.memory = archive.memory if memory else None
    archive.make()
    (archive.folder / "records" / f"{archive.records[1].id}.html").unlink()
    assert archive.make() == [archive.records[1].id]


def test_page_that_was_changed_is_made_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(3, inputs=()))
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
    archive = Archive(tmp_path, make_records(3, inputs=()))
    archive.make()
    assert archive.memory is not None
    harm(archive.memory)
    assert archive.make() == []
    assert archive.make() == []


def test_record_that_ended_is_made_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path, [make_record(status=Status.STARTED, ended=None)])
    archive.make()
    archive.records = [make_record()]
    assert archive.make() == [archive.records[0].id]
    assert archive.make() == []


def test_page_is_made_again_when_what_it_links_gets_a_page(tmp_path: Path) -> None:
    old, new = chain(make_record(n=0, inputs=()), make_record(n=1))
    archive = Archive(tmp_path, [new])
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
    archive = Archive(tmp_path, make_records(N_NEWEST, inputs=()))
    archive.make(n_pages=1)
    files = archive.read_all()
    assert names_of(files, "lists") == names_of(files, "search") == []
    assert "strict-dynamic" not in files["index.html"].decode()


def test_every_record_is_in_the_index_or_in_a_list(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(N_NEWEST + 1000, inputs=()))
    archive.make(n_pages=1)
    files = archive.read_all()
    listed = [name for name, data in files.items() if name == "index.html" or name.startswith("lists/")]
    found = {each for name in listed for each in re.findall(r"<td><code>([^<]*)</code>", files[name].decode())}
    assert found == {record.id for record in archive.records}


def test_lists_lead_from_the_index_to_the_oldest_and_back(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(N_NEWEST + 1500, inputs=()))
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
    archive = Archive(tmp_path, make_records(N_NEWEST + 3000, inputs=()))
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
    archive = Archive(tmp_path, records)
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


# What is searched


def decode_shard(data: bytes) -> dict[str, Any]:
    text = data.decode("ascii")
    assert text.startswith("kitRecords(")
    assert text.endswith(")\n")
    shard: dict[str, Any] = json.loads(text[len("kitRecords(") : -2])
    return shard


def test_shard_holds_what_the_index_shows() -> None:
    records = [
        make_record(n=0),
        make_record(n=1, status=Status.STARTED, ended=None, metrics={}, reproduces="x"),
        make_record("prepare", n=2, id="imported", metrics={"n": 12345678}),
    ]
    shard = decode_shard(encode_shard([row_of(record) for record in records]))
    texts = ["train", "dev", "succeeded", "auc", "started", "", "prepare", "n"]
    assert shard == {
        "base": int(START.timestamp()),
        "texts": texts,
        "rows": [
            [0, 0, 1, 2, 42.0, 3, 0.7231, "4f09c1", 0],
            [3600, 0, 1, 4, None, 5, None, "4f09c1", 1],
            [7200, 6, 1, 2, 42.0, 7, 12345678, "=imported", 0],
        ],
    }


@pytest.mark.parametrize("evil", [*EVIL, "\u2028\u2029", "\ud800", "\x00", '"})//'])
def test_shard_is_data_whatever_it_holds(evil: str) -> None:
    record = make_record(stage=evil, environment=evil, metrics={evil: 1.0}, id=evil)
    shard = decode_shard(encode_shard([row_of(record)]))
    assert shard["texts"] == [evil, "succeeded"]
    assert shard["rows"][0][7] == f"={evil}"


@given(st.text(max_size=40), st.text(max_size=20))
def test_id_can_be_told_from_its_shard(record_id: str, stage: str) -> None:
    row = replace(row_of(make_record()), id=record_id, stage=stage)
    shard = decode_shard(encode_shard([row]))
    (encoded,) = shard["rows"]
    usual = f"{START:%Y%m%dT%H%M%SZ}-{shard['texts'][encoded[1]]}-{encoded[7]}"
    assert (encoded[7][1:] if encoded[7].startswith("=") else usual) == record_id


def test_shard_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    rows = make_index(30).rows
    (shard,) = write_shards(rows, tmp_path)
    before = (tmp_path / "search" / shard.name).stat().st_ino
    assert write_shards(rows, tmp_path) == [shard]
    assert (tmp_path / "search" / shard.name).stat().st_ino == before


def test_files_of_others_stay(tmp_path: Path) -> None:
    archive = Archive(tmp_path, make_records(3, inputs=()))
    for name in ("search/notes.js", "lists/mine.html"):
        (archive.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (archive.folder / name).touch()
    (archive.folder / "search" / f"{'0' * 16}.js").touch()
    archive.make()
    assert sorted(name for name in archive.read_all() if name.startswith(("search/", "lists/"))) == [
        "lists/mine.html",
        "search/notes.js",
    ]


@pytest.mark.parametrize(
    ("places", "runs"), [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2 5 7-8"), (range(10**5), "0-99999")]
)
def test_runs_are_short(places: Iterable[int], runs: str) -> None:
    assert write_runs(places) == runs


@pytest.mark.kernel
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH: apt-get install chromium")
def test_search_finds_old_records_without_a_server(tmp_path: Path) -> None:
    records = [make_record("prepare" if n == 7 else "train", n=n, inputs=()) for n in range(N_NEWEST + 900)]
    archive = Archive(tmp_path, records)
    archive.make(n_pages=None)
    address = f"{(archive.folder / 'index.html').as_uri()}#search={quote('prepare DEV mar 2026')}"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=9999",
    ]
    command = [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", address]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (row,) = re.findall(r"<tr>.*?</tr>", page.split('id="records-table"')[1].split("<tbody>")[1].split("</table>")[0])
    expected = '<th scope="row"><a href="./records/20260301T163000Z-prepare-4f09c1.html">prepare</a></th>'
    assert expected in row
    assert "1 Mar 2026, 16:30 UTC</time>" in row
    assert '<span class="quiet">auc</span> 0.7231' in row
    assert f">1 of 1\u202f{500:03d} records</p>" in page


# Record pages


def test_new_facts_of_a_record_are_shown() -> None:
    record = make_record(
        start="warm",
        preloaded=("numpy", "tensorflow"),
        key="e" * 64,
        sweep="4f09c1a2b3c4" + "0" * 52,
        attempts=("first-try", "second-try"),
    )
    text = render_record_page(record, {}, known_records=["second-try"], sweep_href="../sweeps/sweep-4f09c1a2b3c4.html")
    assert "warm start: forked from a process that had imported <code>numpy</code>, <code>tensorflow</code>" in text
    assert '<dt>Key</dt><dd><code class="sha" title="sha256 ' + "e" * 64 in text
    assert '<a href="../sweeps/sweep-4f09c1a2b3c4.html">sweep-4f09c1a2b3c4</a>' in text
    assert "the scratch folder of 2 earlier attempts: <code>first-try</code>, <a href=" in text
    assert '<a href="./second-try.html"><code>second-try</code></a>' in text


def test_facts_that_are_not_there_are_not_mentioned() -> None:
    text = render_record_page(make_record(), {})
    assert not re.search("<dt>(Kernel|Key|Sweep)</dt>|attempt", text)
    assert "<dt>Kernel</dt><dd>cold start</dd>" in render_record_page(make_record(start="cold"), {})


def test_links_of_a_record_are_what_its_page_links() -> None:
    record = make_record(
        inputs=(InputArtifact(Artifact("x", "a" * 64, 1, "x"), record="made"),),
        code=Code("b" * 64, "notebooks/train.ipynb", "d" * 64, None, False, build="built"),
        reproduces="done",
        attempts=("tried",),
    )
    known = survey_records([record], lambda _: record, [], []).chosen[0].links
    assert known == ("made", "built", "done", "tried")
    text = render_record_page(record, {}, known_records=known)
    assert set(re.findall(r'href="\./([^"]*)\.html"', text)) == set(known)
