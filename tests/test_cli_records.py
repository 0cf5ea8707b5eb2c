"""`kit records`: filters, order, pages."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from archives import make_archive_of
from commands import Kit

from kit.archive import Archive
from kit.cli.query import make_query
from kit.errors import UsageError
from kit.parameter import ResolvedParameter, Source
from kit.record import Status
from kit.testing import make_project, make_record, seal_record
from kit.verify import verify_archive
from kit.verify.findings import Weight

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """Five trainings, a to e, of 1 to 5 March 2026."""
    project = make_project(tmp_path)
    monkeypatch.chdir(project.root)
    kit = Kit(project, capsys)
    for day, (name, auc, units) in enumerate(
        [("a", 0.5, 16), ("b", 0.9, 32), ("c", 0.7, 64), ("d", None, 8), ("e", 0.8, 8)], 1
    ):
        started = datetime(2026, 3, day, 12, tzinfo=UTC)
        record = make_record(
            id=f"{started:%Y%m%dT%H%M%SZ}-train-{name * 6}",
            started=started,
            ended=started + timedelta(seconds=10 - day),
            status=Status.FAILED if name in "de" else Status.SUCCEEDED,
            metrics={} if auc is None else {"auc": auc, "log_loss": 1 - auc},
            parameters=(ResolvedParameter("units", units, Source.NOTEBOOK, "int"),),
        )
        seal_record(kit.archive, record)
    return kit


def listed(kit: Kit, *arguments: str) -> str:
    return "".join(each["id"][-1] for each in kit("records", *arguments, "--json").json)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "auc>=0.7"], "ecb"),
        (["--where", "auc>=0.7", "--where", "units=64"], "c"),
        (["--best", "auc"], "bca"),
        (["--best", "log_loss", "--reverse"], "bca"),
        (["--sort", "auc"], "beca"),
        (["--sort", "units", "--limit", "2"], "cb"),
        (["--sort", "seconds"], "abcde"),
        (["--reverse"], "abcde"),
        (["--limit", "2"], "ed"),
        (["--limit", "2", "--page", "3"], "a"),
        (["--limit", "2", "--offset", "1"], "dc"),
        (["--since", "2026-03-03"], "edc"),
        (["--until", "2026-03-02"], "ba"),
        (["--since", "2026-03-02T12:00", "--until", "2026-03-03T12:00:00+00:00"], "b"),
        (["--status", "failed", "--env", "dev", "--stage", "train"], "ed"),
        (["--env", "dev", "--status", "lost"], ""),
    ],
)
def test_options_choose_and_order_records(kit: Kit, arguments: list[str], expected: str) -> None:
    assert listed(kit, *arguments) == expected


def test_list_shows_what_it_is_sorted_by_and_how_much_there_is(kit: Kit) -> None:
    lines = kit("records", "--sort", "units", "--limit", "2").out.splitlines()
    assert [line.split("  ")[-1] for line in lines[2:4]] == ["units 64", "units 32"]
    assert lines[4] == "1 to 2 of 5: 3 more; use --limit, or --page 2"
    assert kit("records", "--limit", "2", "--page", "3").out.splitlines()[-1] == "5 to 5 of 5"
    assert kit("records", "--limit", "2", "--offset", "1").out.splitlines()[-1].endswith("or --offset 3")
    assert kit("records", "--page", "9").out.splitlines()[-1] == "none: there are 5, and 400 were left out"
    assert "more" not in kit("records").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "auc"], "expected NAME, then one of"),
        (["--where", "acu>1"], "did you mean 'auc'"),
        (["--sort", "acu"], "--sort 'acu' does not exist; did you mean 'auc'"),
        (["--best", "auc", "--sort", "units"], "leave out --sort and --status"),
        (["--best", "auc", "--status", "failed"], "leave out --sort and --status"),
        (["--page", "2", "--offset", "5"], "give one"),
        (["--since", "yesterday"], "expected a time such as 7d"),
        (["--status", "succeded"], "did you mean 'succeeded'"),
        (["--best", "acu"], "--best 'acu' does not exist; did you mean 'auc'"),
        (["--stage", "trian"], "stage 'trian' does not exist; did you mean 'train'?"),
        (["--env", "devv"], "environment 'devv' does not exist; did you mean 'dev'?"),
        (["--sweep", "sweep-000000000000"], "no sweep is named"),
    ],
)
def test_wrong_use_says_what_to_write(kit: Kit, arguments: list[str], message: str) -> None:
    called = kit("records", *arguments)
    assert (called.code, called.out) == (2, "")
    assert message in called.err


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T09:30", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T09:30+01:00", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
    ],
)
def test_time_is_counted_back_or_taken_as_it_is(tmp_path: Path, text: str, since: datetime) -> None:
    values = dict.fromkeys(("stage", "environment", "status", "sweep", "until", "best"), "")
    values |= {"since": text, "where": (), "sort": "started", "reverse": False, "limit": 50, "page": 1, "offset": 0}
    assert make_query(Archive(tmp_path), NOW, values).since == since
    with pytest.raises(UsageError, match="expected a time"):
        make_query(Archive(tmp_path), NOW, {**values, "until": "9999999w"})


def test_archive_of_many_records_is_one_that_holds(tmp_path: Path) -> None:
    report = verify_archive(make_archive_of(tmp_path / "archive", 40, n_releases=2))
    assert [finding for finding in report.findings if finding.weight is Weight.FALSE] == []
