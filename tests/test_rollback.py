"""Rolling back: verified first, recorded, never to and fro, never by somebody who may not say so."""

import dataclasses
import itertools
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from lives import ENVIRONMENTS, STAGING, Life, change
from probes import GOOD

from kit.archive import Archive, make_checkpoint
from kit.decision import Rollback
from kit.errors import IntegrityError, NotFoundError, PolicyError, UsageError
from kit.execute import Order, execute_plan
from kit.ledger import Entry, Kind
from kit.release import find_live, plan_release, plan_run, roll_back
from kit.signing import SigningKey, decode_envelope, make_envelope
from kit.statement import ROLLBACK, describe_rollback, subjects_of
from kit.testing import make_key
from kit.verify import Code, Weight, verify_archive

ANA, BEN = make_key("ana"), make_key("ben")
SIGNED = {**ENVIRONMENTS, "staging": STAGING + "[policy]\nsigned = true\n"}


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(tmp_path)
    life.train()
    return life


def live(life: Life, environment: str = "staging") -> str:
    release = find_live(life.archive, environment)
    return release.id if release else ""


def last(archive: Archive) -> Entry:
    return archive.ledger.read(archive.ledger.size())


def test_rollback_is_an_entry_and_a_statement_about_the_release(life: Life) -> None:
    first, _ = life.release(), life.release()
    n_before = life.archive.ledger.size()
    rolled = roll_back(life.bench, "staging", "answers are too slow")
    entry = last(life.archive)
    assert (entry.seq, rolled.entry) == (n_before + 1,) * 2
    assert (entry.kind, entry.record, entry.release) == (Kind.ROLLBACK, first.record, "staging-1")
    assert rolled.rollback == Rollback(
        environment="staging",
        before="staging-2",
        since_entry=n_before,
        after="staging-1",
        reason="answers are too slow",
        who=entry.who,
        time=entry.time,
    )
    statement = decode_envelope(life.archive.objects.read(entry.sha256), "r").read_statement("r")
    assert statement["predicateType"] == ROLLBACK
    assert subjects_of(statement) == {"release.json": first.manifest_sha256}
    assert statement["predicate"]["archive"] == life.archive.origin
    assert verify_archive(life.archive.folder).exit_code == 0


def test_run_executes_what_was_rolled_back_to(life: Life) -> None:
    for _ in range(2):
        life.release()
    roll_back(life.bench, "staging", "slow")
    assert execute_plan(life.bench, plan_run(life.bench, Order("run", "staging"))).release == "staging-1"
    assert execute_plan(life.bench, plan_run(life.bench, Order("run", "staging"), "staging-2")).release == "staging-2"


def test_rolling_back_again_goes_further_back_and_never_to_and_fro(life: Life) -> None:
    for _ in range(4):
        life.release()
    went = [roll_back(life.bench, "staging", "slow").rollback.after for _ in range(3)]
    assert went == ["staging-3", "staging-2", "staging-1"]
    with pytest.raises(UsageError, match="no release of 'staging' is left to roll back to from staging-1"):
        roll_back(life.bench, "staging", "slow")
    assert life.release().id == "staging-5"
    assert roll_back(life.bench, "staging", "slow").rollback.after == "staging-1"


def test_named_release_becomes_live_again_also_one_that_was_rolled_back_from(life: Life) -> None:
    for _ in range(3):
        life.release()
    roll_back(life.bench, "staging", "slow", to="staging-1")
    assert live(life) == "staging-1"
    roll_back(life.bench, "staging", "it was the network", to="staging-3")
    assert live(life) == "staging-3"
    assert roll_back(life.bench, "staging", "no, it was not").rollback.after == "staging-1", "what was live before"
    assert verify_archive(life.archive.folder).exit_code == 0


def test_wrong_rollback_changes_nothing(life: Life) -> None:
    with pytest.raises(NotFoundError, match="nothing is live in 'staging'"):
        roll_back(life.bench, "staging", "slow")
    life.release()
    n_before = life.archive.ledger.size()
    with pytest.raises(UsageError, match="no release of 'staging' is left"):
        roll_back(life.bench, "staging", "slow")
    life.promote("staging-1")
    n_before = life.archive.ledger.size()
    for environment, reason, to, sentence in (
        ("stagin", "slow", "", "did you mean 'staging'"),
        ("staging", " \n", "", "needs a reason"),
        ("staging", "slow", "staging-1", "staging-1 is live in 'staging' already"),
        ("staging", "slow", "staging-9", "'staging-9' does not exist"),
        ("staging", "slow", "production-1", "`kit promote production-1 --to staging`"),
    ):
        with pytest.raises((UsageError, NotFoundError), match=sentence):
            roll_back(life.bench, environment, reason, to)
    assert life.archive.ledger.size() == n_before


def test_release_with_a_changed_byte_is_not_rolled_back_to(life: Life) -> None:
    first, _ = life.release(), life.release()
    model = life.archive.read_manifest(first).artifact("saved_model")
    assert model is not None
    path = life.archive.objects.path(model.sha256)
    path.chmod(0o644)
    path.write_bytes(b"another model")
    with pytest.raises(IntegrityError, match=r"release staging-1: saved_model: object .* was changed in the archive"):
        roll_back(life.bench, "staging", "slow")
    assert live(life) == "staging-2"


def test_damaged_release_is_rolled_back_from(life: Life) -> None:
    first, second = life.release(), life.release()
    life.archive.objects.path(second.manifest_sha256).unlink()
    for act in (
        lambda: plan_run(life.bench, Order("run", "staging")),
        lambda: roll_back(life.bench, "staging", "damaged"),
    ):
        with pytest.raises(IntegrityError, match="not in the archive"):
            act()
    roll_back(life.bench, "staging", "damaged", to="staging-1")
    assert find_live(life.archive, "staging") == first


class LateArchive(Archive):
    """Another release goes live after the first look at what is live, and before the entry is made."""

    meanwhile: Life

    def enter_decision(self, *arguments, **named):  # type: ignore[no-untyped-def]
        self.meanwhile.release()
        return super().enter_decision(*arguments, **named)


def test_rollback_is_refused_if_another_release_went_live_meanwhile(life: Life) -> None:
    for _ in range(2):
        life.release()
    archive = LateArchive(life.archive.folder, life.archive.origin)
    archive.meanwhile = life
    late = dataclasses.replace(life.bench, archive=archive)
    with pytest.raises(
        PolicyError, match="staging-3 went live in 'staging' while the rollback from staging-2 was prepared"
    ):
        roll_back(late, "staging", "slow")
    assert live(life) == "staging-3"
    assert last(life.archive).kind is Kind.RELEASE


# Who may say what is live


@pytest.fixture
def signed(tmp_path: Path) -> Life:
    """Two signed releases where signed work is demanded."""
    life = Life(tmp_path, SIGNED, ANA)
    life.train()
    for _ in range(2):
        life.release()
    return life


def enter(life: Life, key: SigningKey | None, **changes: object) -> Rollback:
    """A rollback from staging-2 to staging-1 that nobody verified, as somebody who can write to the archive makes one."""
    turn = next(life.archive.tell(Kind.RELEASE, Kind.ROLLBACK))
    target = life.archive.find_release(str(changes.get("after", "staging-1")))
    assert target is not None
    facts = {
        "environment": "staging",
        "before": turn.release,
        "since_entry": turn.seq,
        "after": target.id,
        "reason": "because",
        "who": "mallory@laptop",
        "time": turn.time,
    }
    rollback = msgspec.convert({**facts, **changes}, Rollback)
    archive = Archive(life.archive.folder, life.archive.origin, key)
    statement = describe_rollback(rollback, target.manifest_sha256, archive.origin)
    archive.enter_decision(
        Kind.ROLLBACK, statement, rollback.who, rollback.time, record=target.record, release=target.id
    )
    return rollback


def test_signed_rollback_counts(signed: Life) -> None:
    roll_back(signed.bench, "staging", "slow")
    found = find_live(signed.archive, "staging", [ANA.public], signed=True)
    assert found is not None
    assert found.id == "staging-1"
    make_checkpoint(signed.archive)
    assert verify_archive(signed.archive.folder, [ANA.public]).exit_code == 0


def test_rollback_needs_a_trusted_key_where_signed_work_is_demanded(signed: Life) -> None:
    with pytest.raises(PolicyError, match="there is no key to sign with"):
        roll_back(signed.open(None, ANA), "staging", "slow")
    with pytest.raises(PolicyError, match=r"your key ben.*is not among the trusted keys"):
        roll_back(signed.open(BEN, ANA), "staging", "slow")
    change(signed.project, "staging", STAGING)  # the frozen policy of what becomes live demands it too
    with pytest.raises(PolicyError, match="there is no key to sign with"):
        roll_back(signed.open(None, ANA), "staging", "slow")


@pytest.mark.parametrize("key", [None, BEN], ids=["unsigned", "not trusted"])
def test_rollback_that_nobody_trusted_signed_is_not_believed(signed: Life, key: SigningKey | None) -> None:
    enter(signed, key)
    bench = signed.open(ANA, ANA)
    with pytest.raises(PolicyError, match="staging-1 is live in 'staging' by a rollback") as caught:
        plan_run(bench, Order("run", "staging"))
    assert "`kit rollback staging --to ID --reason …`" in str(caught.value)
    plan = plan_release(bench, Order("release", "staging"), GOOD)
    assert plan.gate is not None
    assert [reason[:20] for reason in plan.gate.verdict.reasons] == ["metric live release:"]
    change(signed.project, "staging", STAGING)  # nor if the file no longer demands it, but the releases do
    with pytest.raises(PolicyError, match="by a rollback"):
        find_live(signed.archive, "staging", [ANA.public])
    report = verify_archive(signed.archive.folder, [ANA.public])
    false = {each.code for each in report.findings if each.weight is Weight.FALSE}
    assert (Code.UNKNOWN_KEY if key else Code.UNSIGNED) in false


def test_someone_with_a_trusted_key_says_what_is_live_after_such_a_rollback(signed: Life) -> None:
    enter(signed, None)
    bench = signed.open(ANA, ANA)
    with pytest.raises(PolicyError, match="by a rollback"):
        roll_back(bench, "staging", "mallory was here")
    for target in ("staging-2", "staging-1"):
        roll_back(bench, "staging", "mallory was here", to=target)
        found = find_live(signed.archive, "staging", [ANA.public], signed=True)
        assert found is not None
        assert found.id == target
    enter(signed, None)
    roll_back(bench, "staging", "mallory was here, and staging-1 is right", to="staging-1")


def test_unsigned_rollbacks_one_after_the_other_do_not_hide_that_signatures_are_demanded(tmp_path: Path) -> None:
    life = Life(tmp_path, key=ANA)
    life.train()
    for _ in range(2):
        life.release()
    change(life.project, "staging", SIGNED["staging"])
    life.release()
    for target in ("staging-2", "staging-1"):  # neither of them demanded signatures
        enter(life, None, after=target)
    with pytest.raises(PolicyError, match="staging-1 is live in 'staging' by a rollback"):
        find_live(life.archive, "staging", [ANA.public])


def test_decision_that_is_entered_again_has_no_effect_again(signed: Life) -> None:
    bench = signed.open(ANA, ANA)
    roll_back(bench, "staging", "slow")
    old = last(signed.archive)
    roll_back(bench, "staging", "it was the network", to="staging-2")
    signed.archive.ledger.append(Kind.ROLLBACK, old.record, old.sha256, old.who, old.time, release=old.release)
    with pytest.raises(IntegrityError, match=r"was decided when staging-2 was live by entry .*, which was not so"):
        find_live(signed.archive, "staging", [ANA.public], signed=True)
    make_checkpoint(signed.archive)
    report = verify_archive(signed.archive.folder, [ANA.public])
    assert Code.REWRITTEN in {each.code for each in report.findings if each.weight is Weight.FALSE}
    roll_back(bench, "staging", "entered again by mallory", to="staging-2")
    found = find_live(signed.archive, "staging", [ANA.public], signed=True)
    assert found is not None
    assert found.id == "staging-2"


def test_old_release_under_a_new_number_is_not_believed(signed: Life) -> None:
    old = next(entry for entry in signed.archive.ledger.read_entries() if entry.kind is Kind.RELEASE)
    signed.archive.ledger.append(Kind.RELEASE, old.record, old.sha256, old.who, old.time, "staging")
    with pytest.raises(IntegrityError, match=r"staging-3 .* is staging-1 entered again"):
        find_live(signed.archive, "staging", [ANA.public], signed=True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"before": "staging-1"}, Code.REWRITTEN),
        ({"since_entry": 3}, Code.REWRITTEN),
        ({"environment": "production"}, Code.EDITED),
        ({"who": "ana@laptop", "time": "2026-03-01T00:00:00Z"}, None),
    ],
    ids=repr,
)
def test_rollback_that_contradicts_the_ledger_is_found(signed: Life, changes: dict[str, object], code: Code) -> None:
    enter(signed, ANA, **changes)
    make_checkpoint(signed.archive)
    report = verify_archive(signed.archive.folder, [ANA.public])
    false = {each.code for each in report.findings if each.weight is Weight.FALSE}
    if code is None:
        assert false == set()
        return
    assert false == {code}
    with pytest.raises(IntegrityError):
        find_live(signed.archive, "staging", [ANA.public])


def test_rollback_to_what_was_never_released_is_found(life: Life) -> None:
    release = life.release()
    ledger = life.archive.ledger
    ledger.append(Kind.ROLLBACK, release.record, "0" * 64, "me", release.time, release="staging-7")
    with pytest.raises((IntegrityError, NotFoundError)):
        find_live(life.archive, "staging")
    with pytest.raises(IntegrityError, match=r"makes staging-7 of record .* live, which was never released"):
        life.archive.live_release("staging")
    report = verify_archive(life.archive.folder)
    false = {each.code for each in report.findings if each.weight is Weight.FALSE}
    assert false == {Code.UNLOGGED, Code.MISSING}


def test_rollback_of_another_archive_is_found(life: Life, tmp_path: Path) -> None:
    for _ in range(2):
        life.release()
    roll_back(life.bench, "staging", "slow")
    entry = last(life.archive)
    path = life.archive.objects.path(entry.sha256)
    statement = decode_envelope(path.read_bytes(), "r").read_statement("r")
    statement["predicate"]["archive"] = "kit/another/0123456789abcdef"
    sha256 = life.archive.objects.put_bytes(make_envelope(statement, None).encode())
    life.archive.ledger.path(entry.seq).unlink()
    ledger = Archive(life.archive.folder, life.archive.origin).ledger
    ledger.append(Kind.ROLLBACK, entry.record, sha256, entry.who, entry.time, release=entry.release)
    with pytest.raises(IntegrityError, match="it states another decision than the entry tells of"):
        find_live(life.archive, "staging")
    report = verify_archive(life.archive.folder)
    assert next((each.code, each.weight) for each in report.findings) == (Code.EDITED, Weight.FALSE)


ROLLING = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from kit.errors import KitError
from kit.execute import Workbench
from kit.project import find_project
from kit.release import roll_back
from kit.testing import make_workbench

bench = make_workbench(find_project(pathlib.Path({root!r})))
sys.stdin.readline()
for number in range(5):
    try:
        print("done", roll_back(bench, "staging", "from a process", to=f"staging-{{1 + number % 3}}").entry)
    except KitError as error:
        print("refused", error)
"""


def test_rollbacks_from_many_processes_end_in_an_entry_or_one_refusal_each(life: Life) -> None:
    for _ in range(3):
        life.release()
    n_before = life.archive.ledger.size()
    program = ROLLING.format(tests=str(Path(__file__).parent), root=str(life.project.root))
    command = [sys.executable, "-c", program]
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables) for _ in range(4)]
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    lines = list(itertools.chain.from_iterable(each.communicate()[0].splitlines() for each in running))
    assert len(lines) == 20
    entries = [life.archive.ledger.read(seq) for seq in range(n_before + 1, life.archive.ledger.size() + 1)]
    done = sorted(int(line.split()[1]) for line in lines if line.startswith("done"))
    assert done == [entry.seq for entry in entries]
    assert {entry.kind for entry in entries} == {Kind.ROLLBACK}
    assert all("live in 'staging'" in line for line in lines if not line.startswith("done"))
    turns = [entry.release for entry in reversed(list(life.archive.tell(Kind.RELEASE, Kind.ROLLBACK)))]
    assert all(before != after for before, after in itertools.pairwise(turns))
    assert verify_archive(life.archive.folder).exit_code == 0
    assert life.clock() - entries[0].time < timedelta(days=1)
