"""Attacks on the life of releases: forged, replayed, late, or admitted for something else. Each is refused, or found."""

import dataclasses
import re
import shutil
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lives import ENVIRONMENTS, PRODUCTION, STAGING, Life, change
from probes import EVALUATION, GOOD
from test_bound_data import Case as BoundCase
from test_evidence import Case as EvidenceCase
from test_release_survives import seal

from kit.archive import VERDICT, Archive, make_checkpoint
from kit.crate import export_crate, import_crate
from kit.decision import Rollback, Waiver
from kit.environment import Environment
from kit.errors import GateRefusedError, IntegrityError, PolicyError
from kit.execute import Order
from kit.files import sha256_bytes
from kit.gate import Evidence, Finding, Release, Verdict
from kit.ledger import Entry, Kind
from kit.model.evaluate import Evaluation, EvaluationOrder, Measured, Scored
from kit.record import Failure
from kit.release import (
    cut_release,
    find_live,
    give_waiver,
    plan_promotion,
    plan_release,
    plan_run,
    read_history,
    read_waivers,
    revoke_waiver,
    roll_back,
)
from kit.release.bound_data import bind_now, judge_bound_data
from kit.release.soundness import require_sound
from kit.report import make_reports
from kit.reproduce import reproduce
from kit.signing import Envelope, SigningKey, decode_envelope
from kit.statement import describe_rollback, describe_waiver
from kit.testing import START, leave_check, make_key, make_record, read_from, seal_record, write_outputs
from kit.verify import Weight, verify_archive
from kit.workspace import Context

ANA, BEN = make_key("ana"), make_key("ben")
SIGNED = {name: text + "[policy]\nsigned = true\n" for name, text in ENVIRONMENTS.items() if name != "production"}
SIGNED["production"] = PRODUCTION + "signed = true\n"
UNTIL = START.date() + timedelta(days=3)
LOW = "metric auc: below the limit: 0.5, at least 0.6"


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.train()
    return life


@pytest.fixture
def signed(tmp_path: Path) -> Life:
    """Two signed releases where signed work is demanded everywhere."""
    life = Life(tmp_path, SIGNED, ANA)
    life.train()
    for _ in range(2):
        life.release()
    return life


def enter(archive: Archive, record: str, environment: str) -> Entry:
    """A release, as somebody who can write to the archive enters one, without a key and without kit."""
    sha256 = sha256_bytes((archive.record_folder(record) / VERDICT).read_bytes())
    return archive.ledger.append(Kind.RELEASE, record, sha256, "mallory@laptop", START, environment)


def false(life: Life, *keys: SigningKey) -> list[str]:
    if keys:
        make_checkpoint(life.archive)
    report = verify_archive(life.archive.folder, [key.public for key in keys])
    return [f"{each.code}: {each.meaning}" for each in report.findings if each.weight is Weight.FALSE]


def live(life: Life, environment: str = "staging") -> str:
    found = find_live(life.archive, environment, [ANA.public], signed="signed = true" in text_of(life, environment))
    return found.id if found else ""


def text_of(life: Life, environment: str) -> str:
    return (life.project.environments / f"{environment}.toml").read_text(encoding="utf-8")


# A release that no gate cut


def test_history_says_of_a_release_that_no_gate_cut_what_it_is(life: Life) -> None:
    report = reproduce(life.bench, life.release().record, probes=GOOD)
    enter(life.archive, again_of(report), "staging")
    newest, first = read_history(life.archive, "staging")
    assert "which is proof and no release" in newest.problem
    assert (newest.verdict, first.problem) == ("cannot be read", "")


def test_reproduction_of_an_old_release_is_never_a_new_one(signed: Life) -> None:
    report = reproduce(signed.bench, signed.archive.list_releases("staging")[0].record, probes=GOOD)
    release = signed.archive.release_of(enter(signed.archive, again_of(report), "staging"))
    with pytest.raises(IntegrityError, match=r"staging-3: record .* only did .* again, which is proof and no release"):
        live(signed)
    for refused in (
        lambda: require_sound(signed.archive, release),
        lambda: plan_run(signed.bench, Order("run", "staging"), "staging-3"),
        lambda: roll_back(signed.bench, "staging", "x"),
        lambda: plan_promotion(signed.bench, Order("release", "production"), "staging-3", GOOD),
    ):
        with pytest.raises(IntegrityError, match="which is proof and no release"):
            refused()
    assert "REWRITTEN: it was executed as proof, and entered as a release" in false(signed, ANA)
    roll_back(signed.bench, "staging", "mallory", to="staging-1")
    assert live(signed) == "staging-1"


def test_release_of_another_archive_is_never_one_of_this(signed: Life, tmp_path: Path) -> None:
    """A laptop's archive, with the same keys and a gate of its own."""
    laptop = Life(tmp_path / "laptop", {**SIGNED, "staging": SIGNED["staging"].replace("0.6", "0.1")}, ANA)
    laptop.train(auc=0.2)
    release = laptop.release()
    export_crate(laptop.archive, release, tmp_path / "it.zip", "example", ())
    import_crate(signed.archive, tmp_path / "it.zip", "ben@laptop", START, [ANA.public])
    enter(signed.archive, release.record, "staging")
    with pytest.raises(IntegrityError, match="was executed for another archive, whose gate is not this one's"):
        live(signed)
    assert "REORDERED: the gate of another archive is not this one's" in false(signed, ANA)


def test_unsigned_release_is_not_live_where_the_environments_file_demands_signatures(signed: Life) -> None:
    """With a frozen configuration that demands none: the one in the working tree decides, too."""
    demanded = text_of(signed, "staging")
    change(signed.project, "staging", STAGING)
    mallory = signed.open(None)
    signed.release(bench=mallory)
    change(signed.project, "staging", demanded)
    with pytest.raises(
        PolicyError, match=r"staging-3 is live .* its verdict is not signed\. Someone with a trusted key"
    ):
        live(signed)
    roll_back(signed.bench, "staging", "mallory", to="staging-2")
    assert live(signed) == "staging-2"


def test_signatures_can_be_demanded_where_something_unsigned_is_live(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.train()
    life.release()
    change(life.project, "staging", SIGNED["staging"])
    bench = life.open(ANA)
    life.train(bench=bench)
    assert life.release(bench=bench).id == live(life) == "staging-2"


def test_verdict_of_a_killed_release_is_not_entered_beside_another_live_one(life: Life) -> None:
    """Sealed, then killed before it had a number; months later somebody enters it."""
    change(life.project, "production", PRODUCTION)
    life.release()
    life.promote("staging-1")
    killed = dataclasses.replace(life.bench, archive=Killed(life.archive.folder, life.archive.origin))
    with pytest.raises(KeyboardInterrupt):
        life.promote("staging-1", bench=killed)
    assert false(life) == []
    life.train(auc=0.75)
    life.release()
    life.promote("staging-2")
    record = next(r for r in life.archive.records() if r.stage == "release" and r.id not in numbered(life))
    enter(life.archive, record.id, "production")
    with pytest.raises(IntegrityError, match="was compared with production-1, but production-2 was live when it was"):
        live(life, "production")
    assert {each.split(":")[0] for each in false(life)} == {"REWRITTEN"}
    roll_back(life.bench, "production", "mallory", to="production-2")
    assert live(life, "production") == "production-2"


def test_signed_release_that_was_killed_is_not_entered_after_others(signed: Life) -> None:
    """Where nothing is compared, too: its number is taken at once or never."""
    killed = dataclasses.replace(signed.bench, archive=Killed(signed.archive.folder, signed.archive.origin, ANA))
    with pytest.raises(KeyboardInterrupt):
        signed.release(bench=killed)
    record = next(r for r in signed.archive.records() if r.stage == "release" and r.id not in numbered(signed))
    signed.release()
    enter(signed.archive, record.id, "staging")
    with pytest.raises(
        IntegrityError, match=r"staging-4 .* was entered late: entry \d+ had made staging-3 live after its"
    ):
        live(signed)
    assert false(signed, ANA) == ["REWRITTEN: its gate had decided when staging-3 went live"]
    roll_back(signed.bench, "staging", "mallory", to="staging-3")
    assert live(signed) == "staging-3"


def test_release_that_is_overtaken_before_it_has_its_number_is_refused(life: Life) -> None:
    class Slow(Archive):
        def add_release(self, *args: Any, **more: Any) -> Release:
            life.release()
            return super().add_release(*args, **more)

    slow = dataclasses.replace(life.bench, archive=Slow(life.archive.folder, life.archive.origin))
    with pytest.raises(GateRefusedError, match=r"staging-1 went live \(ledger entry \d+\) before .* had its number"):
        life.release(bench=slow)
    assert live(life) == "staging-1"
    assert false(life) == []


@pytest.mark.parametrize("kind", list(Kind))
def test_entry_that_was_made_unreadable_is_found_and_ends_no_verification(life: Life, kind: Kind) -> None:
    for name in ("staging-1", "staging-2"):
        life.release()
        life.promote(name)
    reproduce(life.bench, life.archive.list_releases("staging")[0].record, probes=GOOD)
    give_waiver(life.bench, "staging", "metric:auc", "r", UNTIL)
    roll_back(life.bench, "staging", "slow")
    life.release()
    for entry in list(life.archive.tell(kind)):
        path = life.archive.ledger.path(entry.seq)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(b"{}")
        assert "EDITED: the entry's bytes were changed" in false(life)
        path.write_bytes(data)
    assert false(life) == []


class Killed(Archive):
    """An archive whose process dies before a release gets its number."""

    def add_release(self, *_args: Any, **_more: Any) -> Release:
        raise KeyboardInterrupt


def numbered(life: Life) -> set[str]:
    return {release.record for release in life.archive.list_releases()}


def test_old_release_under_a_new_number_is_not_live_and_a_rollback_answers_it(signed: Life) -> None:
    first = signed.archive.list_releases("staging")[0]
    enter(signed.archive, first.record, "staging")
    with pytest.raises(IntegrityError, match=r"staging-3 .* is staging-1 entered again"):
        live(signed)
    roll_back(signed.bench, "staging", "mallory", to="staging-2")
    assert live(signed) == "staging-2"
    assert signed.release().id == live(signed) == "staging-4"


def test_old_release_under_a_new_number_is_not_live_without_keys_either(life: Life) -> None:
    first, _ = life.release(), life.release()
    enter(life.archive, first.record, "staging")
    with pytest.raises(IntegrityError, match=r"staging-3 .* is staging-1 entered again"):
        find_live(life.archive, "staging")


def test_number_that_was_given_stays_the_first_releases(life: Life) -> None:
    first, second = life.release(), life.release()
    sha256 = sha256_bytes((life.archive.record_folder(second.record) / VERDICT).read_bytes())
    append_as(life.archive, Kind.RELEASE, second.record, sha256, "staging-1")
    assert life.archive.find_release("staging-1") == first
    assert "REWRITTEN: kit numbers releases without gaps, each once" in false(life)


def test_another_end_of_its_record_does_not_hide_that_a_release_is_entered_again(signed: Life) -> None:
    first = signed.archive.list_releases("staging")[0]
    end = next(e for e in signed.archive.tell(Kind.END) if e.record == first.record)
    signed.archive.ledger.append(Kind.END, end.record, end.sha256, end.who, end.time)
    enter(signed.archive, first.record, "staging")
    with pytest.raises(IntegrityError, match="is staging-1 entered again"):
        live(signed)


@pytest.mark.parametrize("number", [1, 999_999_999])
def test_number_out_of_turn_does_not_move_those_that_follow(life: Life, number: int) -> None:
    """Neither is a number given twice, nor is there none left."""
    for _ in range(3):
        release = life.release()
    sha256 = sha256_bytes((life.archive.record_folder(release.record) / VERDICT).read_bytes())
    append_as(life.archive, Kind.RELEASE, release.record, sha256, f"staging-{number}")
    assert life.release().id == "staging-4"


def append_as(archive: Archive, kind: Kind, record: str, sha256: str, release: str) -> None:
    """An entry with whatever release id."""
    ledger = archive.ledger
    last = ledger.path(ledger.size()).read_bytes()
    entry = Entry(
        seq=ledger.size() + 1,
        prev=sha256_bytes(last),
        kind=kind,
        record=record,
        sha256=sha256,
        time=START,
        who="mallory@laptop",
        release=release,
    )
    ledger.path(entry.seq).write_bytes(entry.encode())


# Promotions


def test_model_that_was_trained_again_was_not_released_in_staging(life: Life) -> None:
    """Its bytes may be others; only the training that staging released passes for it."""
    release = life.release()
    life.auc = 0.99
    report = reproduce(life.bench, life.archive.read_manifest(release).training_record, probes=GOOD)
    change(life.project, "production", PRODUCTION + '[release]\nfrom = "dev"\n')
    order = Order("release", "production", inputs={"--from": again_of(report)})
    plan = plan_release(life.bench, order, GOOD)
    assert plan.gate is not None
    assert [reason.split(":")[0] for reason in plan.gate.verdict.reasons] == ["promotion bundle.zip"]


def again_of(report: Any) -> str:
    """Id of the record that did another again."""
    return str(report.stages[0].again)


def test_unsigned_rollback_brings_nothing_back_that_was_rolled_back_from(signed: Life) -> None:
    """Where production demands signatures, staging's rollbacks without one make nothing live again."""
    signed.train(auc=0.75)
    signed.release()
    roll_back(signed.bench, "staging", "wrong data", to="staging-1")
    assert any("was rolled back from" in reason for reason in signed.refusals("staging-3"))
    change(signed.project, "staging", STAGING)  # the frozen policy of what is live before and after demands it, too
    with pytest.raises(PolicyError, match="demands signed work"):
        roll_back(signed.open(None), "staging", "it was fine", to="staging-3")
    forge_rollback(signed, "staging-3")
    assert any("was rolled back from" in reason for reason in signed.refusals("staging-3"))
    change(signed.project, "staging", SIGNED["staging"])
    roll_back(signed.bench, "staging", "mallory", to="staging-1")
    roll_back(signed.bench, "staging", "ana says that it is fine", to="staging-3")
    assert signed.refusals("staging-3") == ()


def forge_rollback(life: Life, target: str) -> None:
    turn = next(life.archive.tell(Kind.RELEASE, Kind.ROLLBACK))
    release = life.archive.find_release(target)
    assert release is not None
    rollback = Rollback(
        environment="staging",
        before=turn.release,
        since_entry=turn.seq,
        after=target,
        reason="it was fine",
        who="mallory@laptop",
        time=START,
    )
    archive = Archive(life.archive.folder, life.archive.origin)
    statement = describe_rollback(rollback, release.manifest_sha256, archive.origin)
    archive.enter_decision(Kind.ROLLBACK, statement, rollback.who, START, record=release.record, release=target)


def test_release_that_is_entered_again_brings_nothing_back_that_was_rolled_back_from(life: Life) -> None:
    life.release()
    second = life.release()
    life.train()
    third = life.release()
    roll_back(life.bench, "staging", "wrong data", to="staging-1")
    enter(life.archive, third.record, "staging")
    change(life.project, "production", PRODUCTION + '[release]\nfrom = "dev"\n')
    assert any("was rolled back from" in reason for reason in life.refusals())
    assert second.id == "staging-2"


def test_entry_that_nobody_can_read_does_not_close_the_way_to_production(life: Life) -> None:
    life.release()
    life.archive.ledger.append(Kind.RELEASE, "20260101T000000Z-release-000000", "0" * 64, "mallory", START, "staging")
    assert life.promote("staging-1").id == "production-1"


def test_promotion_of_what_was_never_released_is_found(life: Life) -> None:
    """By somebody who writes the record of a promotion by hand."""
    life.release()
    life.promote("staging-1")
    manifest = life.archive.read_manifest(life.archive.list_releases("production")[0])
    life.train(auc=0.9)
    seal(life, msgspec.structs.replace(manifest, training_record=life.archive.list_ids()[-1]))
    (finding,) = [each for each in false(life) if "must come from" in each]
    assert finding.startswith("UNLOGGED: production-2 had not passed where it must come from")


def test_chain_of_environments_is_walked_step_by_step(tmp_path: Path) -> None:
    preprod = PRODUCTION.replace("0.6", "0.65")
    production = PRODUCTION.replace('["staging"]', '["preprod"]')
    life = Life(tmp_path, {**ENVIRONMENTS, "preprod": preprod, "production": production})
    life.train()
    life.release()
    assert [reason.split(":")[0] for reason in life.refusals("staging-1")] == ["promotion bundle.zip"]
    life.promote("staging-1", "preprod")
    assert life.promote("preprod-1").id == "production-1"
    assert false(life) == []


def test_environments_that_wait_for_each_other_take_nothing(tmp_path: Path) -> None:
    circle = {
        name: STAGING + f'[policy]\npromoted_from = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "a"), ("c", "c"))
    }
    life = Life(tmp_path, {"dev": ENVIRONMENTS["dev"], **circle})
    life.train()
    for name in circle:
        assert [reason.split(":")[0] for reason in life.refusals(environment=name)] == ["promotion bundle.zip"]


def test_training_of_another_environment_is_no_candidate_although_it_is_named(life: Life) -> None:
    change(life.project, "big", ENVIRONMENTS["dev"])
    change(life.project, "staging", STAGING.replace('from = "dev"', 'from = "big"'))
    training = life.archive.newest(lambda record: record.stage == "train")
    assert training is not None
    plan = plan_release(life.bench, Order("release", "staging", inputs={"--from": training.id}), GOOD)
    assert plan.gate is not None
    (reason,) = plan.gate.verdict.reasons
    assert reason == f"record {training.id}: was executed in 'dev'; [release] from of 'staging' is 'big'"


@pytest.mark.parametrize("name", ["staging-2", "größe", "a b", "1", "-", "staging-2-1"])
def test_odd_names_of_environments_are_told_apart(tmp_path: Path, name: str) -> None:
    life = Life(tmp_path, {**ENVIRONMENTS, name: STAGING})
    life.train()
    for environment in (name, "staging", name, "staging", "staging"):
        life.release(environment)
    assert [each.id for each in life.archive.list_releases(name)] == [f"{name}-1", f"{name}-2"]
    assert [each.number for each in life.archive.list_releases("staging")] == [1, 2, 3]
    assert roll_back(life.bench, name, "slow").rollback.after == f"{name}-1"
    assert [live(life, each) for each in (name, "staging")] == [f"{name}-1", "staging-3"]
    assert plan_run(life.bench, Order("run", name)).release
    assert false(life) == []
    make_reports(life.project, life.archive, START)
    assert (life.project.reports / "environments" / f"{name}.html").is_file()


# Waivers


@pytest.fixture
def low(tmp_path: Path) -> Life:
    """A model that is not good enough for staging, and signatures are demanded."""
    life = Life(tmp_path, SIGNED, ANA)
    life.train(auc=0.5)
    return life


def reasons(life: Life) -> tuple[str, ...]:
    plan = plan_release(life.bench, Order("release", "staging"), GOOD)
    assert plan.gate is not None
    return plan.gate.verdict.reasons


def test_signed_waiver_in_another_envelope_does_not_undo_its_revocation(low: Life) -> None:
    """A signature more changes the digest of the envelope, not what was signed."""
    given = give_waiver(low.bench, "staging", "metric:auc", "new feed", UNTIL)
    revoke_waiver(low.bench, "staging", "metric:auc", "was wrong")
    old = low.archive.ledger.read(given.entry)
    envelope = decode_envelope(low.archive.objects.read(old.sha256), "w")
    more = Envelope(envelope.payload, envelope.payload_type, (*envelope.signatures, ("mallory+00000000", b"x" * 64)))
    sha256 = low.archive.objects.put_bytes(more.encode())
    low.archive.ledger.append(Kind.WAIVER, "", sha256, old.who, old.time)
    assert reasons(low) == (LOW,)
    assert "REWRITTEN: it was decided before others, and entered again or late to have its effect now" in false(
        low, ANA
    )


def test_waiver_whose_entry_was_lost_does_not_count_after_another_decision(low: Life) -> None:
    """Signed and put into the archive, then killed; entered by somebody when it had been taken back."""
    killed = dataclasses.replace(low.bench, archive=Withheld(low.archive.folder, low.archive.origin, ANA))
    with pytest.raises(KeyboardInterrupt):
        give_waiver(killed, "staging", "metric:auc", "new feed", UNTIL)
    give_waiver(low.bench, "staging", "metric:auc", "new feed", UNTIL)
    revoke_waiver(low.bench, "staging", "metric:auc", "was wrong")
    assert isinstance(killed.archive, Withheld)
    statement, who, time = killed.archive.withheld
    low.archive.enter_decision(Kind.WAIVER, statement, who, time)
    assert reasons(low) == (LOW,)
    assert len(read_waivers(low.archive)) == 2


class Withheld(Archive):
    """An archive whose process dies when a decision is signed and not entered."""

    def enter_decision(self, _kind: Kind, statement: Any, who: str, time: datetime, **_more: Any) -> Entry:
        self.withheld = statement, who, time
        raise KeyboardInterrupt


def enter_waiver(life: Life, key: SigningKey | None, **changes: Any) -> None:
    """A waiver as nobody gives one with kit."""
    since = next((entry.seq for entry in life.archive.tell(Kind.WAIVER)), 0)
    facts: dict[str, Any] = {
        "environment": "staging",
        "evidence": "metric:auc",
        "reason": "r",
        "until": UNTIL,
        "who": "me",
        "time": life.clock(),
        "since_entry": since,
    }
    waiver = Waiver(**{**facts, **changes})
    archive = Archive(life.archive.folder, life.archive.origin, key)
    statement = describe_waiver(waiver, life.project.read_environment("staging").sha256, archive.origin)
    archive.enter_decision(Kind.WAIVER, statement, waiver.who, waiver.time)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": "Staging"},
        {"environment": "staging "},
        {"environment": "stаging"},  # a Cyrillic letter
        {"evidence": "metric:auc "},
        {"evidence": "metric: auc"},
        {"evidence": "metric:AUC"},
        {"evidence": "metric:аuc"},  # likewise
        {"evidence": "metric:"},
        {"evidence": "metric:*"},
        {"evidence": "auc"},
        {"until": UNTIL - timedelta(days=4)},
    ],
    ids=repr,
)
def test_waiver_that_only_looks_like_the_one_that_is_needed_lets_nothing_pass(
    low: Life, changes: dict[str, Any]
) -> None:
    enter_waiver(low, ANA, **changes)
    (reason,) = reasons(low)
    assert reason.startswith(LOW)


@pytest.mark.parametrize("until", [START.date() + timedelta(days=367), date.max])
def test_waiver_for_longer_than_kit_gives_one_is_none(low: Life, until: date) -> None:
    enter_waiver(low, ANA, until=until)
    assert reasons(low) == (LOW,)
    assert "EDITED: nobody decided what the entry tells of" in false(low, ANA)


def test_waiver_of_a_clock_that_was_ahead_holds_no_longer_than_others(low: Life) -> None:
    ahead = dataclasses.replace(low.bench, clock=lambda: START + timedelta(days=3000))
    give_waiver(ahead, "staging", "metric:auc", "r", START.date() + timedelta(days=3300))
    (reason,) = reasons(low)
    assert reason.startswith(
        f"{LOW}; its waiver (ledger entry 7) was given at 2034-05-18T09:30:00.000Z, and here it is"
    )


def test_clock_that_was_set_back_before_a_waiver_was_given_does_not_renew_it(low: Life) -> None:
    give_waiver(low.bench, "staging", "metric:auc", "r", UNTIL)
    release = low.release()
    assert low.archive.find_release(release.id) == release
    low.wait(days=-400)
    with pytest.raises(PolicyError, match=r"and here it is 2025-01-2.* only: set the clock"):
        plan_run(low.bench, Order("run", "staging"))


def test_last_day_of_a_waiver_is_the_same_in_every_time_zone() -> None:
    waiver = Waiver(environment="e", evidence="metric:auc", reason="r", until=UNTIL, who="w", time=START)
    moments = [datetime(UNTIL.year, UNTIL.month, UNTIL.day, 23, 30, tzinfo=UTC) + timedelta(hours=h) for h in (0, 1)]
    for hours in (-12, 0, 14):
        there = timezone(timedelta(hours=hours))
        assert [waiver.holds_at(moment.astimezone(there)) for moment in moments] == [True, False]


def test_waiver_is_given_anew_after_one_that_nobody_can_read(low: Life) -> None:
    """Whoever can write to the archive must not be able to end all waivers for ever."""
    give_waiver(low.bench, "staging", "metric:auc", "new feed", UNTIL)
    low.archive.ledger.append(Kind.WAIVER, "", "0" * 64, "mallory", START)
    (reason,) = reasons(low)
    assert "it does not count, because a later one cannot be read" in reason
    give_waiver(low.bench, "staging", "metric:auc", "new feed", UNTIL)
    assert reasons(low) == ()
    release = low.release()
    assert plan_run(low.bench, Order("run", "staging")).release
    low.archive.ledger.append(Kind.WAIVER, "", "1" * 64, "mallory", START)
    with pytest.raises(PolicyError, match="it does not count, because a later one cannot be read"):
        plan_run(low.bench, Order("run", "staging"), release.id)


def test_of_two_who_waive_at_once_one_is_refused(life: Life) -> None:
    class Slow(Archive):
        def enter_decision(self, *args: Any, **more: Any) -> Entry:
            give_waiver(life.bench, "staging", "metric:auc", "first", UNTIL)
            return super().enter_decision(*args, **more)

    slow = dataclasses.replace(life.bench, archive=Slow(life.archive.folder, life.archive.origin))
    with pytest.raises(PolicyError, match="another waiver was given while this one was prepared"):
        give_waiver(slow, "staging", "metric:auc", "second", UNTIL)
    assert [each.waiver.reason for each in read_waivers(life.archive) if each.waiver] == ["first"]


@pytest.mark.parametrize("subject", ["auc measured again", "golden.json"])
def test_that_a_record_is_wrong_or_nothing_was_measured_is_not_waived_by_hand_either(
    tmp_path: Path, subject: str
) -> None:
    life = Life(tmp_path, {**ENVIRONMENTS, "staging": STAGING + EVALUATION})
    life.train()
    enter_waiver(life, None, evidence=f"metric:{subject}")

    def lie(_order: EvaluationOrder) -> Evaluation:
        if subject == "golden.json":
            return Evaluation("no rows")
        return Evaluation("", 9, {}, Scored("", Measured(9, {"auc": 0.6})))

    plan = plan_release(life.bench, Order("release", "staging"), dataclasses.replace(GOOD, evaluate=lie))
    assert plan.gate is not None
    assert not plan.gate.verdict.passed


def waived(kind: str = "metric", *waivers: Waiver) -> Verdict:
    evidence = (Evidence("code", "x", Finding.HOLDS, "d"), Evidence(kind, "auc", Finding.WAIVED, "low"))
    return Verdict("staging", "0" * 64, {}, evidence, "", waivers)


def test_verdict_whose_evidence_was_waived_by_nobody_does_not_pass() -> None:
    facts: dict[str, Any] = {"environment": "staging", "reason": "r", "until": UNTIL, "who": "w", "time": START}
    good = Waiver(evidence="metric:auc", **facts)
    assert waived("metric", good).passed
    others = [
        (),
        (msgspec.structs.replace(good, environment="production"),),
        (msgspec.structs.replace(good, evidence="metric:brier"),),
        (msgspec.structs.replace(good, revoked=True),),
    ]
    for waivers in others:
        (reason,) = waived("metric", *waivers).reasons
        assert reason == "metric auc: low; the verdict names no waiver that may let it pass"
    assert not waived("model", Waiver(evidence="model:auc", **facts)).passed


def test_release_with_a_waiver_that_nobody_gave_is_found(life: Life) -> None:
    life.release()
    manifest = life.archive.read_manifest(life.archive.list_releases("staging")[0])
    waiver = Waiver(environment="staging", evidence="metric:auc", reason="r", until=UNTIL, who="w", time=START)
    evidence = [
        msgspec.structs.replace(each, finding=Finding.WAIVED) if each.kind == "metric" else each
        for each in manifest.verdict.evidence
    ]
    verdict = msgspec.structs.replace(manifest.verdict, evidence=tuple(evidence), waivers=(waiver,))
    seal(life, msgspec.structs.replace(manifest, verdict=verdict))
    assert false(life) == ["UNLOGGED: nobody let pass what staging-2 was admitted with"]
    with pytest.raises(PolicyError, match=r"the waiver of metric:auc .* is not in the ledger"):
        plan_run(life.bench, Order("run", "staging"))


def test_verdict_that_says_something_else_than_its_release_is_found(life: Life) -> None:
    """release.json refuses, and the statement on it says that all holds."""
    life.release()
    manifest = life.archive.read_manifest(life.archive.list_releases("staging")[0])
    evidence = (*manifest.verdict.evidence, Evidence("metric", "auc", Finding.WAIVED, "low"))
    verdict = msgspec.structs.replace(manifest.verdict, evidence=evidence)
    seal(life, msgspec.structs.replace(manifest, verdict=verdict))
    assert "EDITED: the gate has not admitted these bytes" in false(life)


# What a gate compares and checks


def test_of_two_whose_slices_were_compared_with_the_same_live_release_one_is_numbered(tmp_path: Path) -> None:
    """Where a slice alone asks for what is live."""
    staging = STAGING + EVALUATION + "[gates.slices.carrier]\nmin_rows = 1\nmetrics.auc = { max_drop = 0.01 }\n"
    life = Life(tmp_path, {**ENVIRONMENTS, "staging": staging})
    life.train()
    probes = dataclasses.replace(GOOD, evaluate=score_slices)
    plans = [plan_release(life.bench, Order("release", "staging"), probes) for _ in range(2)]
    _, release = cut_release(life.bench, plans[0])
    assert release is not None
    with pytest.raises(
        GateRefusedError, match="what is live changed while it was judged: it was compared with nothing"
    ):
        cut_release(life.bench, plans[1])
    record = next(r for r in life.archive.records() if r.stage == "release" and r.id not in numbered(life))
    enter(life.archive, record.id, "staging")
    with pytest.raises(IntegrityError, match="was compared with nothing, but staging-1 was live"):
        live(life)
    assert [each.split(":")[0] for each in false(life)] == ["REWRITTEN"]


def score_slices(order: EvaluationOrder) -> Evaluation:
    parts = {"carrier": {"AA": Measured(9, {"auc": 0.7})}}
    scored = Scored("", Measured(9, {"auc": 0.7}), parts)
    return Evaluation("", 9, {}, scored, scored if order.live else None)


SUITE = '{"expectations": []}'


def check_table(context: Context) -> dict[str, Any]:
    write_outputs(context)
    leave_check(context, "table.csv", suite_sha256=sha256_bytes(SUITE.encode()))
    return {}


def test_suite_that_is_gone_refuses_what_was_checked_for_the_live_release(tmp_path: Path) -> None:
    life = Life(tmp_path)
    suite = life.project.root / "notebooks/expectations/table.json"
    suite.parent.mkdir()
    suite.write_text(SUITE, encoding="utf-8")
    engine = life.bench.engine
    engine.acts["prepare"] = check_table
    life.train()
    life.release()
    suite.unlink()
    engine.acts["prepare"] = write_outputs
    life.train()
    assert reasons(life) == ("check table.csv: required, but notebooks/expectations/ has no suite for it",)
    give_waiver(life.bench, "staging", "table.csv", "it is checked elsewhere", UNTIL)
    assert life.release().id == "staging-2"
    life.wait(days=5)
    (reason,) = reasons(life)
    assert reason.startswith("check table.csv: required, but notebooks/expectations/ has no suite for it; its waiver")
    assert "expired on" in reason


@pytest.mark.parametrize("stage", ["build", "prepare", "train"])
def test_record_that_was_edited_is_no_candidate_nor_behind_one(tmp_path: Path, stage: str) -> None:
    """Without keys, too: a metric, a status or a check that was put right by hand."""
    life = Life(tmp_path)
    life.train(auc=0.5)
    record = life.archive.newest(lambda each: each.stage == stage)
    assert record is not None
    path = life.archive.record_folder(record.id) / "record.json"
    path.chmod(0o644)
    path.write_bytes(msgspec.structs.replace(record, metrics={"auc": 0.7}).encode())
    others = [reason for reason in reasons(life) if reason != LOW]
    if stage == "build":
        assert [reason[:40] for reason in others] == ["code bundle.zip: no succeeded build made"]
    else:
        assert others == [f"record {record.id}: it was changed after it was sealed"]


def test_record_that_no_entry_tells_of_is_no_candidate_although_it_is_named(life: Life) -> None:
    training = life.archive.newest(lambda each: each.stage == "train")
    assert training is not None
    laptop = Life(life.project.root / "laptop")
    laptop.train(auc=0.9)
    dropped = laptop.archive.newest(lambda each: each.stage == "train")
    assert dropped is not None
    for name in laptop.archive.list_ids():
        shutil.copytree(laptop.archive.record_folder(name), life.archive.records_folder / name)
    for path in laptop.archive.objects.folder.rglob("*"):
        target = life.archive.objects.folder / path.relative_to(laptop.archive.objects.folder)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    plan = plan_release(life.bench, Order("release", "staging", inputs={"--from": dropped.id}), GOOD)
    assert plan.gate is not None
    told = f"record {dropped.id}: no entry of the ledger tells of its end, so that it was put there without kit"
    assert told in plan.gate.verdict.reasons


def test_suite_of_bound_data_that_is_gone_refuses_what_was_checked_for_the_live_release(tmp_path: Path) -> None:
    case = BoundCase(tmp_path)
    del case.suites["batch"]
    assert case.judge().evidence == ()
    environment = Environment(name="staging", data=case.data)
    bind = bind_now(case.archive, environment, case.root)
    before = ("batch.parquet", "made.csv", "not read any more.csv")
    found = judge_bound_data(case.archive, environment, case.training, case.bundle, bind, case.check, before)
    (evidence,) = found.evidence
    assert (evidence.kind, evidence.subject, evidence.finding) == ("data", "batch.parquet", Finding.REFUSES)
    assert "was checked for what is live, and notebooks/expectations/batch.json is not in the bundle" in evidence.detail


def test_every_version_of_an_artifact_in_the_lineage_must_be_checked(tmp_path: Path) -> None:
    """The model was trained on a table that was checked, and on what another stage made of one that was not."""
    case = EvidenceCase(tmp_path)
    other = case.put("table.csv", b"x\n-1\n")
    made = case.put("made.csv", b"y\n")
    unchecked = case.seal("prepare", outputs=(other,))
    making = case.seal("make", inputs=(read_from(unchecked, other),), outputs=(made,))
    case.judge()
    inputs = (read_from(case.prepared, case.table), read_from(making, made))
    verdict = case.judge(train={"inputs": inputs})
    assert verdict.reasons == (f"check table.csv: was checked on other bytes than these ({other.sha256[:12]}…)",)


def test_limits_that_were_loosened_in_the_working_tree_are_noted_in_the_verdict(life: Life) -> None:
    """The gate cannot know whether they may be; who reads the release must not have to look for it."""
    first = life.archive.read_manifest(life.release()).verdict
    life.release()
    change(life.project, "staging", STAGING.replace("min = 0.6", "max = 1") + "[policy]\nallow_drift = true\n")
    verdict = life.archive.read_manifest(life.release()).verdict
    noted = [each for each in verdict.evidence if each.kind == "code" and each.finding is Finding.NOTED]
    detail = (
        "differs from what staging-2 was held to, in gates.metrics.auc.max: null -> 1.0; gates.metrics.auc.min: 0.6 -> null; "
        "policy.allow_drift: false -> true"
    )
    assert noted == [Evidence("code", "environments/staging.toml", Finding.NOTED, detail)]
    assert not any(each.finding is Finding.NOTED for each in first.evidence)


# Pages


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_hostile_texts_are_text_on_every_page(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    life = Life(tmp_path, {**ENVIRONMENTS, name: STAGING, "staging": STAGING})
    life.train()
    for environment in (name, "staging"):
        for _ in range(2):
            life.release(environment)
        roll_back(life.bench, environment, HOSTILE)
        change(life.project, environment, STAGING + "[gates.slices.x]\nmetrics.auc = { min = 0.1 }\n")
        give_waiver(life.bench, environment, f"slice:x={HOSTILE} auc", HOSTILE, UNTIL)
    make_reports(life.project, life.archive, START)
    pages = [path.read_text(encoding="utf-8") for path in life.project.reports.rglob("*.html")]
    assert len(pages) > 5
    for page in pages:
        assert "Content-Security-Policy" in page
        assert "alert(1)" in page or "records" in page
        assert not re.search(r"<script>alert|<img src=x", page)


@pytest.mark.parametrize("name", ["../../outside", "{root}/outside", "a/b", "x" * 300, "a\0b"])
def test_environment_of_a_forged_record_names_no_file_outside_of_the_reports(life: Life, name: str) -> None:
    life.release()
    name = name.format(root=life.project.root)
    seal_record(
        life.archive,
        make_record(stage="release", environment=name, status="failed", failure=Failure("GateRefused", "because")),
    )
    before = set(life.project.root.parent.rglob("*.html"))
    make_reports(life.project, life.archive, START)
    made = set(life.project.root.parent.rglob("*.html")) - before
    assert all(path.is_relative_to(life.project.reports) for path in made)
    assert {path.name for path in made if path.parent.name == "environments"} == {
        f"{each}.html" for each in ("dev", "production", "staging")
    }


def test_release_that_nobody_can_read_hides_no_other_on_the_pages(life: Life) -> None:
    first, second = life.release(), life.release()
    (life.archive.record_folder(second.record) / VERDICT).unlink()
    make_reports(life.project, life.archive, START)
    page = (life.project.reports / "environments/staging.html").read_text(encoding="utf-8")
    assert first.id in page
    assert f"record {second.record} has no {VERDICT}" in page
