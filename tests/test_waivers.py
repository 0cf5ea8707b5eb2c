"""Waivers: in a person's name, until a day, named in every release that relies on one; expired means refused."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lives import ENVIRONMENTS, PRODUCTION, STAGING, Life, change
from probes import GOOD

from kit.archive import VERDICT, Archive
from kit.decision import WAIVABLE, Waiver
from kit.errors import GateRefusedError, PolicyError, UsageError
from kit.execute import Order
from kit.gate import Evidence, Finding, Verdict
from kit.ledger import Kind
from kit.release import cut_release, find_expired, give_waiver, plan_release, plan_run, read_waivers, revoke_waiver
from kit.release import roll_back as roll_back_release
from kit.release.waivers import describe_state, find_decisive, list_standing, waive_evidence
from kit.signing import Standing, decode_envelope
from kit.statement import WAIVER, describe_waiver, subjects_of
from kit.testing import START, encode_notebook, make_key, make_notebook
from kit.verify import Code, Weight, verify_archive, verify_record

ANA, BEN = make_key("ana"), make_key("ben")
SIGNED = {**ENVIRONMENTS, "staging": STAGING + "[policy]\nsigned = true\n"}
TODAY = START.date()
LOW = "metric auc: below the limit: 0.5, at least 0.6"


def in_days(number: int) -> date:
    return TODAY + timedelta(days=number)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A model that is not good enough for staging."""
    life = Life(tmp_path)
    life.train(auc=0.5)
    return life


def verdict_of(life: Life, environment: str = "staging") -> Verdict:
    plan = plan_release(life.bench, Order("release", environment), GOOD)
    assert plan.gate is not None
    return plan.gate.verdict


def metric(verdict: Verdict) -> Evidence:
    (found,) = (each for each in verdict.evidence if each.kind == "metric")
    return found


def false(archive: Archive, *keys: Any) -> set[Code]:
    report = verify_archive(archive.folder, [key.public for key in keys])
    return {each.code for each in report.findings if each.weight is Weight.FALSE}


# Giving


def test_waiver_is_an_entry_and_a_statement_about_the_configuration_of_then(life: Life) -> None:
    given = give_waiver(life.bench, "staging", "metric:auc", " new feed, ticket 12 ", in_days(30))
    entry = life.archive.ledger.read(life.archive.ledger.size())
    assert (entry.kind, entry.record, entry.release, entry.seq) == (Kind.WAIVER, "", "", given.entry)
    assert given.waiver == Waiver(
        environment="staging",
        evidence="metric:auc",
        reason="new feed, ticket 12",
        until=in_days(30),
        who=entry.who,
        time=entry.time,
    )
    statement = decode_envelope(life.archive.objects.read(entry.sha256), "w").read_statement("w")
    environment = life.project.read_environment("staging")
    assert statement["predicateType"] == WAIVER
    assert subjects_of(statement) == {"environments/staging.toml": environment.sha256}
    assert life.archive.objects.has(environment.sha256)
    assert read_waivers(life.archive) == read_waivers(life.archive, "staging") == (given,)
    assert read_waivers(life.archive, "production") == ()
    assert verify_archive(life.archive.folder).exit_code == 0


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ("chek:table.csv", "kind 'chek' does not exist; did you mean 'check'"),
        ("model:saved_model", "cannot be waived: it says that what would be released is sound"),
        ("signature:x", "cannot be waived"),
        ("code:bundle.zip", "cannot be waived"),
        ("table.cvs", "no check of 'table.cvs': 'table.cvs' does not exist; did you mean 'table.csv'"),
        ("metric:acu", "did you mean 'auc'"),
        ("metric:live release", "no metric of 'live release'"),
        ("drop:auc", "the gate of 'staging' has no drop of 'auc'"),
        ("promotion:saved_model", "there is 'bundle.zip'"),
        ("slice:", "no slice of ''"),
        ("slice:carrier=AA auc", "no slice of 'carrier=AA auc'"),
        ("data:table.csv", "no data of 'table.csv'"),
        ("litert:x", "no litert of 'x': 'x' does not exist; there is 'model.tflite'"),
        ("auc", "'auc' may mean more than one thing: write metric:auc"),
        ("", "no check of ''"),
    ],
)
def test_what_no_gate_says_cannot_be_waived(tmp_path: Path, check: str, sentence: str) -> None:
    life = Life(tmp_path)
    suite = life.project.root / "notebooks/expectations/table.json"
    suite.parent.mkdir()
    suite.write_text("{}")
    with pytest.raises(UsageError, match=sentence):
        give_waiver(life.bench, "staging", check, "because", in_days(3))
    assert life.archive.ledger.size() == 0


@pytest.mark.parametrize(
    ("check", "evidence"),
    [
        ("table.csv", "check:table.csv"),
        ("check:table.csv", "check:table.csv"),
        ("slice:carrier=AA auc", "slice:carrier=AA auc"),
        ("slice:home airport=JFK auc", "slice:home airport=JFK auc"),
        ("slice:home airport auc", "slice:home airport auc"),
        ("data:raw.csv", "data:raw.csv"),
        ("batch.csv", "data:batch.csv"),
        ("litert:model.tflite", "litert:model.tflite"),
    ],
)
def test_evidence_is_named_by_kind_and_subject_or_by_what_has_a_suite(
    tmp_path: Path, check: str, evidence: str
) -> None:
    gates = '[gates]\nchecks = ["table.csv"]\nslices.carrier.metrics.auc.min = 0.5\n'
    gates += 'slices."home airport".metrics.auc.min = 0.5\n'
    text = STAGING.replace("[gates]\n", gates).replace("[data]\n", '[data]\n"batch.csv" = "data/raw.csv"\n')
    life = Life(tmp_path, {"staging": text})
    for stem in ("raw", "batch"):
        suite = life.project.root / f"notebooks/expectations/{stem}.json"
        suite.parent.mkdir(exist_ok=True)
        suite.write_text("{}")
    run = make_notebook(title="Run", inputs=["release.json", "raw.csv", "batch.csv"], outputs=["answers.csv"])
    (life.project.root / "notebooks/run.ipynb").write_bytes(encode_notebook(run))
    given = give_waiver(life.bench, "staging", check, "because", in_days(3))
    assert given.waiver is not None
    assert given.waiver.evidence == evidence


@pytest.mark.parametrize(
    ("until", "sentence"),
    [(in_days(-1), "expected a day from today, 2026-03-01 in UTC, to 2027-03-02"), (in_days(367), "366 days at most")],
)
def test_waiver_holds_from_today_for_366_days_at_most(life: Life, until: date, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        give_waiver(life.bench, "staging", "metric:auc", "because", until)
    for day in (0, 366):
        assert give_waiver(life.bench, "staging", "metric:auc", "because", in_days(day)).waiver is not None


def test_waiver_needs_a_reason_and_an_environment(life: Life) -> None:
    with pytest.raises(UsageError, match="a waiver needs a reason"):
        give_waiver(life.bench, "staging", "metric:auc", " ", in_days(3))
    with pytest.raises(UsageError, match="did you mean 'staging'"):
        give_waiver(life.bench, "stagin", "metric:auc", "because", in_days(3))


def test_last_day_is_in_utc() -> None:
    waiver = Waiver(environment="e", evidence="metric:auc", reason="r", until=date(2026, 3, 1), who="w", time=START)
    assert waiver.holds_at(datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC))
    assert not waiver.holds_at(datetime(2026, 3, 2, tzinfo=UTC))


# In the gate


def test_waived_evidence_is_named_and_lets_the_release_pass(life: Life) -> None:
    assert verdict_of(life).reasons == (LOW,)
    given = give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    assert given.waiver is not None
    verdict = verdict_of(life)
    assert verdict.passed
    assert verdict.waivers == (given.waiver,)
    assert metric(verdict) == Evidence(
        "metric",
        "auc",
        Finding.WAIVED,
        f"below the limit: 0.5, at least 0.6; waived until 2026-03-04 by {given.who} (ledger entry {given.entry}): new feed",
    )
    release = life.release()
    predicate = life.archive.read_envelope(release.record, VERDICT).read_statement("v")["predicate"]
    assert predicate["result"] == "WARNED"
    assert "metric auc" in predicate["warnedTests"]
    assert [each["reason"] for each in predicate["kit"]["waivers"]] == ["new feed"]
    assert verify_archive(life.archive.folder).exit_code == 0
    assert verify_record(life.archive.folder, release.record).exit_code == 0


def test_waiver_is_for_one_environment_and_one_piece_of_evidence(life: Life) -> None:
    change(life.project, "production", PRODUCTION + '[release]\nfrom = "dev"\n')
    give_waiver(life.bench, "production", "metric:auc", "only there", in_days(3))
    give_waiver(life.bench, "staging", "promotion:bundle.zip", "another", in_days(3))
    assert verdict_of(life).reasons == (LOW,)
    assert [reason.split(":")[0] for reason in verdict_of(life, "production").reasons] == ["promotion bundle.zip"]


def test_waiver_that_nothing_needs_is_not_listed(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.train()
    give_waiver(life.bench, "staging", "metric:auc", "to be sure", in_days(3))
    assert verdict_of(life).waivers == ()
    assert metric(verdict_of(life)).finding is Finding.HOLDS


def test_expired_waiver_refuses_and_says_so(life: Life) -> None:
    given = give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(0))
    life.wait(hours=14)
    assert verdict_of(life).passed
    life.wait(hours=1)
    (reason,) = verdict_of(life).reasons
    assert reason == f"{LOW}; its waiver (ledger entry {given.entry}) expired on 2026-03-01"


def test_newest_waiver_decides(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "a year", in_days(366))
    shorter = give_waiver(life.bench, "staging", "metric:auc", "no, a day", in_days(1))
    assert verdict_of(life).waivers == (shorter.waiver,)
    life.wait(days=2)
    assert not verdict_of(life).passed


def test_revoked_waiver_refuses(life: Life) -> None:
    with pytest.raises(UsageError, match="no waiver of metric:auc holds in 'staging'; `kit history staging`"):
        revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    revoked = revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    assert revoked.waiver is not None
    assert (revoked.waiver.revoked, revoked.waiver.reason, revoked.waiver.until) == (True, "was wrong", in_days(3))
    assert verdict_of(life).reasons == (LOW,)
    with pytest.raises(UsageError, match="no waiver of metric:auc holds"):
        revoke_waiver(life.bench, "staging", "metric:auc", "again")
    give_waiver(life.bench, "staging", "metric:auc", "was right", in_days(3))
    assert verdict_of(life).passed


def test_several_pieces_of_evidence_of_one_name_are_all_waived() -> None:
    low, high = (Evidence("metric", "auc", Finding.REFUSES, detail) for detail in ("too low", "too high"))
    holds = Evidence("metric", "auc", Finding.HOLDS, "fine")
    waiver = Waiver(environment="e", evidence="metric:auc", reason="r", until=in_days(1), who="w", time=START)
    evidence, used = waive_evidence([low, high, holds], [make_given(waiver)], START)
    assert [each.finding for each in evidence] == [Finding.WAIVED, Finding.WAIVED, Finding.HOLDS]
    assert used == (waiver,)


def make_given(waiver: Waiver, **changes: Any) -> Any:
    from kit.release import GivenWaiver

    return msgspec.structs.replace(GivenWaiver(entry=1, who="w", time=START, waiver=waiver), **changes)


@pytest.mark.parametrize("kind", ["code", "record", "signature", "model"])
def test_what_says_that_bytes_are_sound_is_never_waived_whatever_the_ledger_has(kind: str) -> None:
    assert kind not in WAIVABLE
    waiver = Waiver(environment="e", evidence=f"{kind}:x", reason="r", until=in_days(1), who="w", time=START)
    refused = Evidence(kind, "x", Finding.REFUSES, "damaged")
    assert waive_evidence([refused], [make_given(waiver)], START) == ((refused,), ())


# Who may waive


def test_only_waivers_of_trusted_keys_count_where_signed_work_is_demanded(tmp_path: Path) -> None:
    life = Life(tmp_path, SIGNED, ANA)
    life.train(auc=0.5)
    for key, sentence in ((None, "there is no key to sign with"), (BEN, "not among the trusted keys")):
        with pytest.raises(PolicyError, match=sentence):
            give_waiver(life.open(key, ANA), "staging", "metric:auc", "because", in_days(3))
    change(life.project, "staging", STAGING)
    unsigned = give_waiver(life.open(None, ANA), "staging", "metric:auc", "because", in_days(3))
    change(life.project, "staging", SIGNED["staging"])
    (reason,) = verdict_of(life).reasons
    assert reason == f"{LOW}; its waiver (ledger entry {unsigned.entry}) does not count: it is not signed"
    signed = give_waiver(life.bench, "staging", "metric:auc", "because", in_days(3))
    assert signed.standing is Standing.TRUSTED
    assert verdict_of(life).waivers == (signed.waiver,)
    change(life.project, "staging", STAGING)
    revoke_waiver(life.open(BEN, ANA), "staging", "metric:auc", "mallory takes it back")
    change(life.project, "staging", SIGNED["staging"])
    assert verdict_of(life).passed, "a revocation counts no more than a waiver"


def test_waiver_entered_again_does_not_undo_its_revocation(life: Life) -> None:
    given = give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    old = life.archive.ledger.read(given.entry)
    life.archive.ledger.append(Kind.WAIVER, "", old.sha256, old.who, old.time)
    assert verdict_of(life).reasons == (LOW,)
    assert false(life.archive) == {Code.REWRITTEN}


def test_waiver_does_not_count_where_a_later_one_cannot_be_read(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    revoked = revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    entry = life.archive.ledger.read(revoked.entry)
    life.archive.objects.path(entry.sha256).unlink()
    (reason,) = verdict_of(life).reasons
    assert reason.startswith(f"{LOW}; it does not count, because a later one cannot be read: object ")
    assert false(life.archive) == {Code.MISSING}
    assert [each.waiver is None for each in read_waivers(life.archive, "staging")] == [False, True]


@pytest.mark.parametrize(
    ("changes", "origin"),
    [({"who": "ana@laptop"}, ""), ({"time": START - timedelta(days=1)}, ""), ({}, "kit/another/0123456789abcdef")],
    ids=["who", "time", "archive"],
)
def test_waiver_that_its_entry_does_not_tell_of_is_found(life: Life, changes: dict[str, Any], origin: str) -> None:
    waiver = Waiver(environment="staging", evidence="metric:auc", reason="r", until=in_days(3), who="me", time=START)
    sha256 = life.project.read_environment("staging").sha256
    statement = describe_waiver(msgspec.structs.replace(waiver, **changes), sha256, origin or life.archive.origin)
    life.archive.enter_decision(Kind.WAIVER, statement, "me", START)
    (given,) = read_waivers(life.archive, "staging")
    assert "it states another decision than the entry tells of" in given.problem
    assert not verdict_of(life).passed
    assert false(life.archive) == {Code.EDITED}


# What rests on a waiver


def test_release_does_not_run_once_its_waiver_has_expired(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    release = life.release()
    verdict = life.archive.read_manifest(release).verdict
    assert plan_run(life.bench, Order("run", "staging")).release is not None
    now = life.wait(days=4)
    (sentence,) = find_expired(life.archive, verdict, now)
    assert sentence == f"the waiver of metric:auc by {verdict.waivers[0].who} expired on 2026-03-04: new feed"
    with pytest.raises(
        PolicyError, match=r"the waiver of metric:auc by .* expired on 2026-03-04: new feed.*`kit waive`"
    ):
        plan_run(life.bench, Order("run", "staging"))
    give_waiver(life.bench, "staging", "metric:auc", "feed is still new", in_days(30))
    assert find_expired(life.archive, verdict, now) == []
    assert plan_run(life.bench, Order("run", "staging")).release is not None
    revoke_waiver(life.bench, "staging", "metric:auc", "the feed is old")
    (sentence,) = find_expired(life.archive, verdict, now)
    assert sentence.startswith("the waiver of metric:auc was revoked by ")
    assert sentence.endswith(" on 2026-03-05: the feed is old")


def test_expired_release_is_not_rolled_back_to(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    life.release()
    life.train(auc=0.7)
    life.release()
    life.wait(days=4)
    with pytest.raises(
        PolicyError, match=r"staging-1 cannot become live: the waiver of metric:auc .* expired on 2026-03-04"
    ):
        roll_back_release(life.bench, "staging", "slow")
    give_waiver(life.bench, "staging", "metric:auc", "for the rollback", in_days(30))
    assert roll_back_release(life.bench, "staging", "slow").rollback.after == "staging-1"


def test_waiver_that_is_taken_back_while_the_notebook_runs_refuses_the_number(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    plan = plan_release(life.bench, Order("release", "staging"), GOOD)
    revoke_waiver(life.bench, "staging", "metric:auc", "was wrong")
    with pytest.raises(GateRefusedError, match=r"the waiver of metric:auc was revoked by .*: was wrong"):
        cut_release(life.bench, plan)
    assert life.archive.list_releases() == []


def test_expiry_counts_trusted_waivers_only_where_signed_work_is_demanded(tmp_path: Path) -> None:
    life = Life(tmp_path, SIGNED, ANA)
    life.train(auc=0.5)
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    verdict = life.archive.read_manifest(life.release()).verdict
    now = life.wait(days=4)
    change(life.project, "staging", STAGING)
    give_waiver(life.open(None, ANA), "staging", "metric:auc", "renewed by mallory", in_days(30))
    assert find_expired(life.archive, verdict, now) == []
    assert len(find_expired(life.archive, verdict, now, [ANA.public])) == 1


def test_state_of_a_used_waiver_is_told(life: Life) -> None:
    given = give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    assert given.waiver is not None

    def state(now: datetime) -> str:
        assert given.waiver is not None
        return describe_state(given.waiver, read_waivers(life.archive, "staging"), now)

    assert state(START) == "until 2026-03-04"
    later = life.wait(days=4)
    assert state(later) == "EXPIRED on 2026-03-04"
    renewed = give_waiver(life.bench, "staging", "metric:auc", "still new", in_days(30))
    assert state(later) == "renewed until 2026-03-31"
    waivers = read_waivers(life.archive, "staging")
    assert find_decisive(waivers, "metric:auc") == renewed
    assert list(list_standing(waivers, later)) == [renewed]
    revoke_waiver(life.bench, "staging", "metric:auc", "old")
    assert state(later).startswith("REVOKED on 2026-03-05 by ")
    assert list(list_standing(read_waivers(life.archive, "staging"), later)) == []


def test_waiver_that_holds_can_be_revoked_when_the_gate_no_longer_asks(life: Life) -> None:
    give_waiver(life.bench, "staging", "metric:auc", "new feed", in_days(3))
    release = life.release()
    change(life.project, "staging", STAGING.replace("metrics.auc = { min = 0.6 }", ""))
    revoke_waiver(life.bench, "staging", "metric:auc", "it was wrong")
    (sentence,) = find_expired(life.archive, life.archive.read_manifest(release).verdict, life.clock())
    assert sentence.startswith("the waiver of metric:auc was revoked by")


def test_state_of_a_waiver_counts_only_signatures_where_these_are_demanded(tmp_path: Path) -> None:
    ana = make_key()
    life = Life(tmp_path, key=ana)
    given = give_waiver(life.open(ana, ana), "staging", "metric:auc", "new feed", in_days(1))
    give_waiver(life.open(None, ana), "staging", "metric:auc", "for longer", in_days(90))
    waivers = read_waivers(life.archive, "staging", [ana.public])
    assert given.waiver is not None
    assert describe_state(given.waiver, waivers, life.wait(days=5)).startswith("renewed until")
    assert describe_state(given.waiver, waivers, life.clock(), signed=True).startswith("EXPIRED on")
