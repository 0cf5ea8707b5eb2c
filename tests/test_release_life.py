"""Promotion, history, and two releases at once: what is live is compared with, and never lost or doubled."""

import threading
from pathlib import Path

import msgspec
import pytest
from lives import ENVIRONMENTS, PRODUCTION, STAGING, Life, change
from probes import EVALUATION, GOOD

from kit.errors import GateRefusedError, IntegrityError, NotFoundError, PolicyError, UsageError
from kit.execute import Order
from kit.gate import Finding
from kit.ledger import Kind
from kit.release import cut_release, find_live, plan_promotion, plan_release, read_history, roll_back
from kit.release.evidence import LIVE
from kit.release.life import read_release_life
from kit.signing import Standing
from kit.testing import DATA
from kit.verify import verify_archive


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.train()
    return life


def test_promotion_takes_bundle_and_training_with_the_other_environments_configuration(life: Life) -> None:
    released = life.archive.read_manifest(life.release())
    promoted = life.promote("staging-1")
    manifest = life.archive.read_manifest(promoted)
    production = life.project.read_environment("production")
    assert promoted.id == "production-1"
    assert manifest == msgspec.structs.replace(
        released,
        environment="production",
        configuration=production.configuration,
        configuration_sha256=production.sha256,
        promoted_from="staging-1",
        verdict=manifest.verdict,
    )
    evidence = {each.kind: each for each in manifest.verdict.evidence}
    assert evidence["promotion"].finding is Finding.HOLDS
    assert "were released as staging-1" in evidence["promotion"].detail
    assert evidence["drop"].detail == "no live release to compare with"
    assert verify_archive(life.archive.folder).exit_code == 0


def test_promoted_release_passes_the_gate_of_where_it_goes(life: Life) -> None:
    life.release()
    change(life.project, "production", PRODUCTION.replace("min = 0.6", "min = 0.75"))
    (reason,) = life.refusals("staging-1")
    assert reason.startswith("metric auc: below the limit: 0.7, at least 0.75")
    record, release = cut_release(
        life.bench, plan_promotion(life.bench, Order("release", "production"), "staging-1", GOOD)
    )
    assert (record.succeeded, release) == (False, None)


def test_wrong_promotion_is_refused_with_what_to_do(life: Life) -> None:
    life.release()

    def promote(release_id: str, environment: str, **order: str) -> None:
        plan_promotion(life.bench, Order("release", environment, inputs=order), release_id, GOOD)

    with pytest.raises(NotFoundError, match="'staging-7' does not exist; `kit releases`"):
        promote("staging-7", "production")
    with pytest.raises(UsageError, match=r"already; `kit rollback staging --to staging-1"):
        promote("staging-1", "staging")
    with pytest.raises(UsageError, match="did you mean 'production'"):
        promote("staging-1", "prodction")
    with pytest.raises(UsageError, match="has no other inputs"):
        promote("staging-1", "production", saved_model="x")
    with pytest.raises(PolicyError, match=r"'dev' takes no releases: .*\[release\] with from.* or \[policy\]"):
        promote("staging-1", "dev")
    with pytest.raises(
        PolicyError, match=r"only what was released in staging before; `kit promote staging-N --to prod"
    ):
        plan_release(life.bench, Order("release", "production"), GOOD)


def test_production_takes_only_what_was_released_in_staging(life: Life) -> None:
    change(life.project, "production", PRODUCTION + '[release]\nfrom = "dev"\n')
    trained = life.archive.newest(lambda record: record.stage == "train")
    assert trained is not None
    (reason,) = life.refusals()
    assert reason == (
        f"promotion bundle.zip: {trained.id} was not released in staging before; run `kit release --env staging --from "
        f"{trained.id}`, then `kit promote staging-N --to production`"
    )
    life.release()
    assert life.release("production").id == "production-1", "without `kit promote` too"
    later = life.train(0.71)
    assert "was not released in staging before" in life.refusals()[0]
    assert life.release("production", training=trained.id).id == "production-2"
    life.release(training=later.id)
    assert life.release("production").id == "production-3"


def test_what_was_rolled_back_from_in_staging_does_not_reach_production(life: Life) -> None:
    life.release()
    life.train(0.72)
    life.release()
    roll_back(life.bench, "staging", "answers are too slow")
    (reason,) = life.refusals("staging-2")
    assert reason.startswith("promotion bundle.zip: staging-2 was rolled back from (ledger entry ")
    assert reason.endswith(
        ": answers are too slow) and is not live again; release another training in staging, or "
        "`kit rollback staging --to staging-2 --reason …`"
    )
    assert life.promote("staging-1").id == "production-1"
    roll_back(life.bench, "staging", "it was the network", to="staging-2")
    assert life.promote("staging-2").id == "production-2"


def test_promotion_is_judged_by_the_source_where_no_policy_names_one(life: Life) -> None:
    change(life.project, "production", DATA + '[release]\nfrom = "dev"\n')
    life.release()
    life.train(0.72)
    life.release()
    roll_back(life.bench, "staging", "slow")
    assert "was rolled back from" in life.refusals("staging-2")[0]
    assert life.promote("staging-1").id == "production-1"
    assert life.release("production").id == "production-2", "a plain release needs no promotion here"


@pytest.mark.parametrize("what", ["saved_model", "bundle.zip", "release.json", "configuration", "verdict"])
def test_changed_byte_of_a_release_is_named_and_it_is_not_promoted(life: Life, what: str) -> None:
    release = life.release()
    manifest = life.archive.read_manifest(release)
    digests = {
        "bundle.zip": manifest.bundle_sha256,
        "release.json": release.manifest_sha256,
        "configuration": manifest.configuration_sha256,
        **{each.name: each.sha256 for each in manifest.artifacts},
    }
    folder = life.archive.record_folder(release.record)
    path = folder / "verdict.dsse.json" if what == "verdict" else life.archive.objects.path(digests[what])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))
    with pytest.raises(IntegrityError, match=r"release staging-1|release\.json|object|verdict") as caught:
        plan_promotion(life.bench, Order("release", "production"), "staging-1", GOOD)
    expected = {"verdict": "verdict", "release.json": release.manifest_sha256[:12]}.get(what, what)
    assert expected in str(caught.value)


def test_missing_object_of_a_release_is_named(life: Life) -> None:
    release = life.release()
    golden = life.archive.read_manifest(release).artifact("golden.json")
    assert golden is not None
    life.archive.objects.path(golden.sha256).unlink()
    with pytest.raises(
        IntegrityError, match=r"release staging-1: golden\.json: object .* cannot be read: No such file"
    ):
        plan_promotion(life.bench, Order("release", "production"), "staging-1", GOOD)


# What is live while a gate judges


def test_verdict_is_bound_to_what_it_was_compared_with(life: Life) -> None:
    for _ in range(2):
        life.release()
    first, second = life.promote("staging-1"), life.promote("staging-2")
    verdicts = [life.archive.read_manifest(each).verdict for each in (first, second)]
    told = [each.detail[-9:] for verdict in verdicts for each in verdict.evidence if each.kind == "promotion"]
    assert told == ["staging-1", "staging-2"]
    assert [each.live for each in verdicts] == ["", "production-1"]
    assert [each.subjects.get(LIVE) for each in verdicts] == [None, first.manifest_sha256]
    assert verify_archive(life.archive.folder).exit_code == 0


def test_of_two_that_were_compared_with_the_same_live_release_one_is_numbered(life: Life) -> None:
    for _ in range(2):
        life.release()
    order = Order("release", "production")
    plans = [plan_promotion(life.bench, order, name, GOOD) for name in ("staging-1", "staging-2")]
    _, first = cut_release(life.bench, plans[0])
    assert first is not None
    with pytest.raises(GateRefusedError, match="compared with nothing, now production-1 is live; release again"):
        cut_release(life.bench, plans[1])
    assert [each.id for each in life.archive.list_releases("production")] == ["production-1"]
    assert life.promote("staging-2").id == "production-2"
    assert verify_archive(life.archive.folder).exit_code == 0, "the record that got no number is as good as any"


def test_rollback_while_a_gate_judges_refuses_what_was_compared(life: Life) -> None:
    for name in ("staging-1", "staging-2", "staging-3"):
        life.release()
        if name != "staging-3":
            life.promote(name)
    plan = plan_promotion(life.bench, Order("release", "production"), "staging-3", GOOD)
    roll_back(life.bench, "production", "slow")
    with pytest.raises(GateRefusedError, match="compared with production-2, now production-1 is live"):
        cut_release(life.bench, plan)


def test_rollback_in_staging_while_production_judges_refuses(life: Life) -> None:
    life.release()
    life.train(0.72)
    life.release()
    plan = plan_promotion(life.bench, Order("release", "production"), "staging-2", GOOD)
    roll_back(life.bench, "staging", "slow")
    with pytest.raises(GateRefusedError, match="staging-2 was rolled back from"):
        cut_release(life.bench, plan)


def test_releases_that_were_compared_with_nothing_get_two_numbers(life: Life) -> None:
    plans = [plan_release(life.bench, Order("release", "staging"), GOOD) for _ in range(2)]
    assert [release.id for _, release in (cut_release(life.bench, plan) for plan in plans) if release] == [
        "staging-1",
        "staging-2",
    ]


def test_many_releases_and_rollbacks_at_once_end_in_a_number_or_one_refusal_each(tmp_path: Path) -> None:
    compared = STAGING.replace("min = 0.6", "min = 0.6, max_drop = 0.1") + EVALUATION
    life = Life(tmp_path, {**ENVIRONMENTS, "compared": compared})
    life.train()
    for environment in ("staging", "compared") * 2:
        life.release(environment)
    n_before = life.archive.ledger.size()
    done: list[str] = []
    refused: list[Exception] = []

    def act(number: int) -> None:
        bench = life.open(None)
        environment = ("staging", "compared")[number % 2]
        try:
            if number % 4 < 2:
                release = life.release(environment, bench)
                done.append(release.id)
            else:
                target = f"{environment}-{1 + number // 4 % 2}"
                done.append(f"rollback {roll_back(bench, environment, 'a reason', to=target).entry}")
        except (GateRefusedError, PolicyError, UsageError) as error:
            refused.append(error)

    threads = [threading.Thread(target=act, args=[number]) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [life.archive.ledger.read(seq) for seq in range(n_before + 1, life.archive.ledger.size() + 1)]
    told = [e.release for e in entries if e.kind is Kind.RELEASE]
    told += [f"rollback {e.seq}" for e in entries if e.kind is Kind.ROLLBACK]
    assert sorted(done) == sorted(told)
    assert len(done) + len(refused) == 24
    for environment in ("staging", "compared"):
        found = [each.number for each in life.archive.list_releases(environment)]
        assert found == list(range(1, len(found) + 1))
    for error in refused:
        assert any(word in str(error) for word in ("is live", "went live", "live in")), error
    in_staging = [str(e) for e in refused if isinstance(e, GateRefusedError) and "'staging'" in str(e)]
    assert all("had its number; release again" in each for each in in_staging), "refused only if another overtook it"
    assert verify_archive(life.archive.folder).exit_code == 0


# History


def test_history_tells_what_was_live_from_when_to_when_by_whom_and_why(life: Life) -> None:
    for _ in range(2):
        life.release()
    life.promote("staging-1")
    life.promote("staging-2")
    rolled = roll_back(life.bench, "production", " answers are too slow ")
    history = read_history(life.archive, "production")
    told = [(each.release, each.why, each.rolled_back_from, each.promoted_from) for each in history]
    assert told == [
        ("production-1", "rolled back from production-2: answers are too slow", "production-2", ""),
        ("production-2", "promoted from staging-2", "", "staging-2"),
        ("production-1", "promoted from staging-1", "", "staging-1"),
    ]
    assert history[0].entry == rolled.entry
    assert history[0].live_from == rolled.rollback.time
    assert [each.live_to for each in history] == [None, history[0].live_from, history[1].live_from]
    assert {each.who for each in history} == {rolled.rollback.who}
    assert [each.verdict for each in history] == ["6 hold, 1 noted", "7 hold, 0 noted", "6 hold, 1 noted"]
    assert [each.standing for each in history] == [Standing.UNSIGNED] * 3
    assert [each.problem for each in history] == [""] * 3
    assert [each.why for each in read_history(life.archive, "staging")] == ["released", "released"]
    assert read_history(life.archive, "nowhere") == ()


def test_history_says_what_cannot_be_read_and_hides_nothing_else(life: Life) -> None:
    for _ in range(2):
        life.release()
    rolled = roll_back(life.bench, "staging", "slow")
    entry = life.archive.ledger.read(rolled.entry)
    life.archive.objects.path(entry.sha256).unlink()
    life.archive.objects.path(life.archive.list_releases("staging")[1].manifest_sha256).unlink()
    newest, second, first = read_history(life.archive, "staging")
    assert (newest.release, newest.why, newest.rolled_back_from) == (
        "staging-1",
        "rolled back from staging-2",
        "staging-2",
    )
    assert "is not in the archive" in newest.problem
    assert (second.release, second.verdict) == ("staging-2", "cannot be read")
    assert (first.problem, first.live_to) == ("", second.live_from)


def test_life_of_a_release_tells_promotions_and_rollbacks(life: Life) -> None:
    for _ in range(2):
        life.release()
    life.promote("staging-1")
    life.promote("staging-2")
    roll_back(life.bench, "production", "slow")

    def read(name: str) -> tuple[bool, int, list[str], str, tuple[str, ...]]:
        release = life.archive.find_release(name)
        assert release is not None
        found = read_release_life(life.archive, release, life.archive.read_manifest(release), life.clock())
        reasons = [each.reason for each in found.rollbacks]
        return found.live, len(found.intervals), reasons, found.promoted_from, found.promoted_as

    assert read("staging-1") == (False, 1, [], "", ("production-1",))
    assert read("production-1") == (True, 2, [], "staging-1", ())
    assert read("production-2") == (False, 1, ["slow"], "staging-2", ())


def test_damaged_release_elsewhere_hides_nothing_of_another(life: Life) -> None:
    first = life.release()
    promoted = life.promote("staging-1")
    (life.archive.record_folder(promoted.record) / "verdict.dsse.json").unlink()
    found = read_release_life(life.archive, first, life.archive.read_manifest(first), life.clock())
    assert (found.live, found.promoted_as) == (True, ())


def test_live_release_is_what_was_released_or_rolled_back_to_last(life: Life) -> None:
    assert find_live(life.archive, "staging") is None
    first, second = life.release(), life.release()
    assert find_live(life.archive, "staging") == second
    roll_back(life.bench, "staging", "slow")
    assert find_live(life.archive, "staging") == first
    assert life.archive.live_release("staging") == first
    third = life.release()
    assert find_live(life.archive, "staging") == third
    assert life.archive.find_release("staging-1") == first
