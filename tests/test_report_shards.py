"""What the index of a site searches: older records, in pieces that are data and nothing else."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from report_pages import EVIL, START, SiteArchive, make_record

from kit.record import Status
from kit.report.index import N_NEWEST
from kit.report.listing import row_of
from kit.report.shards import encode_shard, write_runs, write_shards

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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
    rows = [row_of(make_record(n=n)) for n in range(30)]
    (shard,) = write_shards(rows, tmp_path)
    before = (tmp_path / "search" / shard.name).stat().st_ino
    assert write_shards(rows, tmp_path) == [shard]
    assert (tmp_path / "search" / shard.name).stat().st_ino == before


@pytest.mark.parametrize(
    ("places", "runs"), [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2 5 7-8"), (range(10**5), "0-99999")]
)
def test_runs_are_short(places: Iterable[int], runs: str) -> None:
    assert write_runs(places) == runs


@pytest.mark.kernel
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH: apt-get install chromium")
def test_search_finds_old_records_without_a_server(tmp_path: Path) -> None:
    records = [make_record("prepare" if n == 7 else "train", n=n, inputs=()) for n in range(N_NEWEST + 900)]
    archive = SiteArchive(tmp_path, records)
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
