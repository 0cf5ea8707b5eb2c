"""The page of an environment: what was live, the waivers, the releases."""

import itertools
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from probes import GOOD

from kit.execute import Workbench
from kit.pipeline import execute_all
from kit.release import give_waiver, read_history, revoke_waiver, roll_back
from kit.report import make_reports
from kit.report.life import draw_timeline
from kit.testing import DATA, FakeEngine, make_project, make_workbench, write_outputs
from kit.workspace import Context

GATED = DATA + '[gates]\nmetrics.auc = { min = 0.6, max = 0.8 }\n[release]\nfrom = "dev"\n'
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Lived:
    """A project in which things were released."""

    def __init__(self, folder: Path) -> None:
        self.auc = 0.7
        engine = FakeEngine(train=self._train)
        self.workbench: Workbench = make_workbench(make_project(folder, environments={"dev": GATED}), engine)

    def _train(self, context: Context) -> dict[str, Any]:
        return {**write_outputs(context), "auc": self.auc}

    def release(self, auc: float = 0.7) -> None:
        self.auc = auc
        for _ in execute_all(self.workbench, "dev", GOOD):
            pass

    def page(self, now: datetime = NOW) -> str:
        index = make_reports(self.workbench.project, self.workbench.archive, now)
        return (index.parent / "environments" / "dev.html").read_text(encoding="utf-8")

    def index(self, now: datetime = NOW) -> str:
        return make_reports(self.workbench.project, self.workbench.archive, now).read_text(encoding="utf-8")


def cells_of(page: str, caption: str) -> list[list[str]]:
    """The texts of a table's body."""
    table = re.search(rf"<caption[^>]*>{caption}</caption>(.*?)</table>", page, re.DOTALL)
    assert table, f"no table {caption!r}"
    rows = re.findall(r"<tr>(.*?)</tr>", table[1].split("<tbody>")[1], re.DOTALL)
    return [
        [
            " ".join(re.sub(r"<[^>]+>", " ", cell).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]


def test_history_tells_what_was_live_until_when_and_why(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    lived.release()
    lived.release()
    roll_back(lived.workbench, "dev", "scores of <b>JFK</b> were off")
    rows = cells_of(lived.page(), "What was live, newest first")
    assert [(row[0], row[2] == "now", row[4]) for row in rows] == [
        ("dev-1 live", True, "rolled back from dev-2: scores of &lt;b&gt;JFK&lt;/b&gt; were off"),
        ("dev-2", False, "released"),
        ("dev-1", False, "released"),
    ]
    assert "<b>JFK" not in lived.page()


def test_index_shows_what_is_live_after_a_rollback(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    lived.release()
    lived.release()
    roll_back(lived.workbench, "dev", "it was wrong")
    index = lived.index()
    assert '<dd class="live"><a href="./environments/dev.html#dev-1">dev-1</a></dd>' in index
    assert re.search(r"dev-1</a> <span class=\"tag\">live</span>", index)
    assert not re.search(r"dev-2</a> <span class=\"tag\">live</span>", index)


def test_waiver_is_shown_wherever_its_release_is_and_when_it_has_expired(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    give_waiver(lived.workbench, "dev", "metric:auc", "a known leak, looked at", date(2026, 3, 31))
    lived.release(auc=0.9)
    page, index = lived.page(), lived.index()
    assert cells_of(page, "Waivers, newest first")[0][:2] == ["metric:auc", "holds until 2026-03-31"]
    assert "passed, 1 waived" in page
    assert "passed, 1 waived" in index
    assert "1 waiver<" in index
    assert "a known leak, looked at" in page
    later = lived.page(NOW + timedelta(days=40))
    assert cells_of(later, "Waivers, newest first")[0][:2] == ["metric:auc", "does not hold EXPIRED on 2026-03-31"]
    assert '<span class="pill bad">waived</span> <code>metric:auc</code> EXPIRED on 2026-03-31' in later


def test_revoked_waiver_is_told_with_its_revocation(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    give_waiver(lived.workbench, "dev", "metric:auc", "for a week", date(2026, 3, 8))
    revoke_waiver(lived.workbench, "dev", "metric:auc", "it was a mistake")
    rows = cells_of(lived.page(), "Waivers, newest first")
    assert [(row[1], row[4]) for row in rows] == [
        ("revocation revocation", "it was a mistake"),
        ("does not hold replaced by a newer one", "for a week"),
    ]


def test_refusal_and_evidence_are_on_the_page(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    lived.release()
    lived.release(auc=0.9)
    page = lived.page()
    assert "above the limit: 0.9, at most 0.8" in page
    assert ["metric", "auc", "holds", "0.7, at least 0.6"] in cells_of(page, "Evidence for dev-1")


def test_environment_without_releases_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = Lived(tmp_path).page()
    assert "Nothing is live here." in page
    assert "Nobody has waived anything here." in page


def test_damaged_ledger_is_said_and_the_rest_shown(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    lived.release()
    lived.release()
    rolled = roll_back(lived.workbench, "dev", "it was wrong")
    entry = lived.workbench.archive.ledger.read(rolled.entry)
    lived.workbench.archive.objects.path(entry.sha256).unlink()
    rows = cells_of(lived.page(), "What was live, newest first")
    assert rows[0][0] == "dev-1 live"
    assert "is not in the archive" in rows[0][4]


def test_timeline_covers_the_whole_time_without_gaps(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    for _ in range(3):
        lived.release()
    spans = draw_timeline(read_history(lived.workbench.archive, "dev"), NOW)
    assert spans[0].left == 0
    assert abs(spans[-1].left + spans[-1].width - 100) < 1e-6
    for before, after in itertools.pairwise(spans):
        assert abs(before.left + before.width - after.left) < 1e-6


def test_page_holds_no_script_and_no_outside_address(tmp_path: Path) -> None:
    lived = Lived(tmp_path)
    lived.release()
    page = lived.page()
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
