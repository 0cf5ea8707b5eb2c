"""`kit releases`, `promote`, `rollback`, `history`, `waive` and `show` on the command line; nothing here executes a notebook."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands import Kit
from lives import STAGING, Life, change

from kit.archive import VERDICT, Archive
from kit.signing import KEY_VARIABLE


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """staging-1 and staging-2, both promoted; production-2 relies on a waiver that has expired."""
    life = Life(tmp_path)
    life.train()
    for name in ("staging-1", "staging-2"):
        life.release()
        life.promote(name)
    return life


@pytest.fixture
def kit(life: Life, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    monkeypatch.chdir(life.project.root)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(life.project.root / "no-settings"))
    return Kit(life.project, capsys)


@pytest.mark.parametrize("command", ["releases", "promote", "rollback", "history", "waive"])
def test_help_begins_with_an_example(kit: Kit, command: str) -> None:
    assert kit(command, "--help").out.startswith(f"Example: kit {command}")


def test_releases_tell_what_is_live_and_promoted_from_what(kit: Kit) -> None:
    kit("rollback", "production", "--reason", "slow")
    lines = kit("releases").out.splitlines()
    rows = [line.split() for line in lines[2:]]
    assert [row[0] for row in rows] == ["production-1", "production-2", "staging-1", "staging-2"]
    assert ["live" in row for row in rows] == [True, False, False, True]
    assert [row[-1] for row in rows[:2]] == ["staging-1", "staging-2"]
    listed = kit("releases", "--json").json
    assert [(each["id"], each["live"], each["promoted_from"], each["waivers"]) for each in listed] == [
        ("production-1", True, "staging-1", []),
        ("production-2", False, "staging-2", []),
        ("staging-1", False, "", []),
        ("staging-2", True, "", []),
    ]


def test_releases_and_show_name_waivers_in_use_and_say_which_have_expired(life: Life, kit: Kit) -> None:
    life.train(auc=0.5)
    today = datetime(2026, 3, 1, tzinfo=UTC).date()
    from kit.release import give_waiver

    given = give_waiver(life.bench, "staging", "metric:auc", "new feed, ticket 12", today + timedelta(days=1))
    life.release()
    row = next(line for line in kit("releases").out.splitlines() if line.startswith("staging-3"))
    assert row.endswith("metric:auc EXPIRED on 2026-03-02"), "the command's clock is the real one"
    shown = kit("show", "staging-3")
    assert f"metric:auc  EXPIRED on 2026-03-02  by {given.who}  new feed, ticket 12" in shown.out
    assert "waived" in shown.out
    assert "waived until 2026-03-02" in shown.out
    called = kit("run", "--env", "staging")
    assert called.code == 1
    assert "expired on 2026-03-02: new feed, ticket 12" in called.err
    assert kit("show", "staging-3", "--json").json["life"]["waivers"][0]["state"] == "EXPIRED on 2026-03-02"


def test_rollback_makes_an_earlier_release_live_and_history_tells_why(kit: Kit) -> None:
    called = kit("rollback", "production", "--reason", "answers are too slow")
    assert (called.code, called.out) == (0, "production-1 is live in production; before it was production-2\n")
    assert "checkpoint kit/example/" in called.err
    lines = kit("history", "production").out.splitlines()
    assert lines[0].split("  ")[0] == "release"
    assert [line.split()[0] for line in lines[2:]] == ["production-1", "production-2", "production-1"]
    assert "now" in lines[2]
    assert "rolled back from production-2: answers are too slow" in lines[2]
    assert "promoted from staging-2" in lines[3]
    assert "6 hold, 1 noted" in lines[4]
    history = kit("history", "production", "--json").json
    assert [each["why"] for each in history["intervals"]][1:] == ["promoted from staging-2", "promoted from staging-1"]
    assert (history["environment"], history["waivers"], history["intervals"][0]["live_to"]) == ("production", [], None)


def test_rollback_again_says_what_to_do(kit: Kit) -> None:
    kit("rollback", "production", "--reason", "slow")
    called = kit("rollback", "production", "--reason", "slow")
    assert called.code == 2
    assert "`kit history production` lists them" in called.err
    back = kit("rollback", "production", "--to", "production-2", "--reason", "it was the network", "--json").json
    assert (back["rollback"]["before"], back["rollback"]["after"]) == ("production-1", "production-2")


def test_show_tells_the_life_of_a_release(kit: Kit) -> None:
    kit("rollback", "production", "--reason", "answers are too slow")
    first, second, staged = (kit("show", name).out for name in ("production-1", "production-2", "staging-1"))
    assert first.startswith("production-1  LIVE  cut ")
    assert "until now" in first
    assert "promoted       from staging-1" in first
    assert not second.startswith("production-2  LIVE")
    assert "rolled back to production-1: answers are too slow" in second
    assert "promoted       as production-1" in staged
    life = kit("show", "production-2", "--json").json["life"]
    assert (life["live"], life["promoted_from"], len(life["rollbacks"])) == (False, "staging-2", 1)


def test_waive_gives_and_revokes(kit: Kit) -> None:
    until = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    arguments = ("waive", "metric:auc", "--env", "staging", "--reason", "new feed")
    called = kit(*arguments, "--until", until)
    assert called.code == 0
    assert called.out.startswith(f"metric:auc is waived until {until} in staging (ledger entry ")
    assert kit("history", "staging").out.splitlines()[-1].startswith("metric:auc")
    called = kit(*arguments, "--revoke", "--json")
    assert called.json["waiver"]["revoked"] is True
    given, revoked = kit("history", "staging", "--json").json["waivers"]
    assert (given["waiver"]["until"], revoked["waiver"]["revoked"]) == (until, True)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["history", "prodction"], 2, "did you mean 'production'"),
        (["rollback", "prodction", "--reason", "x"], 2, "did you mean 'production'"),
        (["rollback", "production"], 2, "--reason"),
        (["rollback", "production", "--reason", " "], 2, "needs a reason"),
        (
            ["rollback", "production", "--to", "staging-1", "--reason", "x"],
            2,
            "`kit promote staging-1 --to production`",
        ),
        (["promote", "staging-9", "--to", "production"], 2, "'staging-9' does not exist"),
        (["promote", "staging-1"], 2, "--to"),
        (
            ["waive", "metric:acu", "--env", "staging", "--reason", "x", "--until", "2026-04-01"],
            2,
            "did you mean 'auc'",
        ),
        (["waive", "metric:auc", "--env", "staging", "--reason", "x", "--until", "soon"], 2, "as YYYY-MM-DD"),
        (["waive", "metric:auc", "--env", "staging", "--reason", "x"], 2, "either --until YYYY-MM-DD"),
        (["waive", "metric:auc", "--env", "staging", "--reason", "x", "--revoke"], 2, "no waiver of metric:auc holds"),
        (["release", "--env", "production"], 1, "`kit promote staging-N --to production`"),
        (["release", "--env", "staging", "--from", "nothing"], 2, "no record is named 'nothing'"),
    ],
)
def test_wrong_call_ends_with_its_code_and_a_sentence_also_as_json(
    kit: Kit, arguments: list[str], code: int, sentence: str
) -> None:
    called = kit(*arguments)
    assert (called.code, sentence in called.err) == (code, True), called.err
    assert sentence in kit(*arguments, "--json").json["error"]["message"]


def test_environment_in_which_nothing_was_ever_live_has_an_empty_history(kit: Kit) -> None:
    assert kit("history", "dev").out == "nothing was ever live in dev\n"
    assert kit("history", "dev", "--json").json == {"environment": "dev", "intervals": [], "waivers": []}


def test_difference_of_two_releases_tells_promotion_and_waivers(life: Life, kit: Kit) -> None:
    from kit.release import give_waiver

    told = kit("diff", "staging-1", "production-1")
    assert "promoted_from" in told.out
    assert "staging-1" in told.out
    change(life.project, "staging", STAGING.replace("min = 0.6", "min = 0.8"))
    give_waiver(life.bench, "staging", "metric:auc", "new feed", life.clock().date())
    life.release()
    told = kit("diff", "staging-1", "staging-3")
    assert "waiver of metric:auc" in told.out
    assert ": new feed" in told.out


def test_origin_of_a_promoted_release_names_what_it_repeats(life: Life, kit: Kit) -> None:
    tree = kit("why", "production-1", "--json").json
    assert (tree["facts"]["promoted_from"], tree["facts"]["waivers"]) == ("staging-1", [])
    assert (tree["facts"]["live"], tree["facts"]["data"]) == (None, {})
    assert "promoted from staging-1\n" in kit("why", "production-1").out


def test_reading_commands_write_nothing(life: Life, kit: Kit) -> None:
    before = Archive(life.project.archive).ledger.size()
    for arguments in (["releases"], ["history", "production"], ["show", "production-1"]):
        assert kit(*arguments).code == 0
    assert Archive(life.project.archive).ledger.size() == before


def test_release_that_cannot_be_read_hides_no_other(life: Life, kit: Kit) -> None:
    release = life.archive.find_release("staging-1")
    assert release is not None
    verdict = life.archive.record_folder(release.record) / VERDICT
    verdict.unlink()
    rows = kit("releases", "--json").json
    assert [(row["id"], bool(row["problem"])) for row in rows][-2:] == [("staging-1", True), ("staging-2", False)]
    assert "staging-2" in kit("releases").out


def test_time_limit_of_a_promotion_is_above_zero(kit: Kit) -> None:
    for seconds in ("0", "nan", "-1"):
        called = kit("promote", "staging-1", "--to", "production", "--timeout", seconds)
        assert (called.code, "expected seconds above 0" in called.err) == (2, True)
