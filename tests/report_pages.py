"""Records for reports, and what a page of them is made of: nothing in it may do anything."""

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from kit.artifact import Artifact, InputArtifact
from kit.errors import NotFoundError
from kit.lineage import Again, Level
from kit.parameter import ResolvedParameter, Source
from kit.record import Code, Machine, Process, Record, Software, Status
from kit.report.pages import list_pages
from kit.report.rows import newest_first
from kit.report.site import Site, write_site
from kit.report.site import Source as Maker
from kit.report.survey import find_linked, survey_records
from kit.report.sweep import find_sweeps

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()
EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" java\nscript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<svg onload="alert(1)"><script>alert(1)</script></svg>',
    '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    '<iframe src="https://evil.example/"></iframe>',
    '<link rel="stylesheet" href="https://evil.example/x.css">',
    '<img src="https://evil.example/pixel.png">',
    '<form action="https://evil.example/"><input name=a></form>',
    "<style>body{background:url(https://evil.example/)}</style>",
    '<div style="position:fixed;inset:0">x</div>',
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<base href="https://evil.example/">',
    "</style></title></textarea><script>alert(1)</script>",
    '"><script>alert(1)</script><x y="\'><script>alert(1)</script>',
    '<h2 id="main">x</h2><div class="pill good">passed</div>',
]


class Page(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.headings, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data):
        if re.fullmatch("h[1-6]", self.open or "") and data.strip():
            self.headings.append((self.open, data.strip()))

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def make_record(stage="train", n=0, status=Status.SUCCEEDED, **changes):
    started = START + timedelta(hours=n)
    values = {
        "id": f"{started:%Y%m%dT%H%M%SZ}-{stage}-4f09c1",
        "stage": stage,
        "environment": "dev",
        "configuration_sha256": "c" * 64,
        "status": status,
        "started": started,
        "ended": started + timedelta(seconds=42),
        "process": Process(1, "m", "b"),
        "parameters": (ResolvedParameter("epochs", 3, Source.ENVIRONMENT, "int"),),
        "code": Code("b" * 64, "notebooks/train.ipynb", "d" * 64, "0123456789ab", True),
        "inputs": (InputArtifact(Artifact("features.parquet", "a" * 64, 10, "x"), record="made-it"),),
        "outputs": (Artifact("model.keras", "9" * 64, 20, "x"),),
        "metrics": {"auc": 0.7231},
        "machine": Machine("3.11", "Linux", "CPU", "8" * 64, 2, "host", "ada", {}),
        "software": Software("7" * 64, 12, None, "0.1.0"),
    }
    return Record(**(values | changes))


def make_again(**changes):
    values = {
        "record": make_record().id, "again": make_record(n=1).id, "time": START, "who": "ben@other",
        "sha256": "1" * 64, "level": Level.BIT_IDENTICAL, "exit_code": 0, "independence": "not independently: why",
    }  # fmt: skip
    return Again(**(values | changes))


def assert_inert(text, n_scripts=0):
    page = Page(text)
    assert len(page.find("script")) == n_scripts
    assert (
        not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "form", "link", "base", "svg"}
        or n_scripts
    )
    assert len(page.find("style")) == 1
    assert all("content-security-policy" in str(m).lower() for m in page.find("meta") if "http-equiv" in m)
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", (tag, value)
            if name in ("href", "src", "action"):
                assert not re.match(r"\s*j\s*a\s*v\s*a", value), (tag, value)
                assert tag != "img" or value.startswith("data:image/"), (tag, value)


def make_records(n: int, **changes: Any) -> list[Record]:
    """Records an hour apart, newest first."""
    return newest_first(make_record(n=each, **changes) for each in range(n))


class SiteArchive:
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
        write_site(site, survey, Maker(self.read, lambda _: {}))
        return sorted(self.asked)

    def read_all(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}
