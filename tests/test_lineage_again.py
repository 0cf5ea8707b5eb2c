"""What the ledger tells of executions that were done again; nothing is executed but by a fake."""

import msgspec
import pytest
from reproductions import Executed, train

from kit.files import canonical_json
from kit.ledger import Kind
from kit.lineage import Again, Level, list_reproductions
from kit.signing import Standing, decode_envelope
from kit.testing import make_key


@pytest.fixture
def executed(tmp_path):
    return Executed(tmp_path)


def told(executed, about="", keys=()):
    return list_reproductions(executed.bench.archive, keys, about)


def restate(executed, found, key=None, **changes):
    """Enter another statement on a reproduction, its content changed at the top or below `kit` or `comparison`."""
    archive = executed.bench.archive
    statement = decode_envelope(archive.objects.read(found.statement_sha256), "here").read_statement("here")
    predicate = statement["predicate"]
    for name, value in changes.items():
        place = predicate["kit"]["comparison"]
        target = statement if name in statement else predicate if name in predicate else place
        target[name] = value
    archive.key = key
    data = archive.state(statement).encode()
    return enter(executed, found, data)


def enter(executed, found, data, sha256=""):
    archive = executed.bench.archive
    record = archive.read_record(found.again)
    return archive.enter(Kind.REPRODUCTION, record, sha256 or archive.objects.put_bytes(data), executed.bench.clock())


def test_nothing_done_again_is_an_empty_list(executed):
    assert told(executed) == []


def test_reproduction_is_told_with_its_level_verdict_and_origin(executed):
    found = executed.again_one("train")
    (again,) = told(executed)
    entry = next(entry for entry in executed.bench.archive.ledger.read_back() if entry.kind is Kind.REPRODUCTION)
    assert again == Again(
        record=found.record,
        again=found.again,
        time=entry.time,
        who=entry.who,
        sha256=found.statement_sha256,
        level=Level.BIT_IDENTICAL,
        exit_code=0,
        independence=found.independence,
    )
    assert (again.verdict, again.signature) == ("holds", "not signed")
    assert again.reason.startswith("not independently: record ")


def test_only_what_is_asked_for_is_told(executed):
    first, other = executed.again_one("train"), executed.again_one("prepare")
    second = executed.again_one("train")
    assert [each.again for each in told(executed, first.record)] == [first.again, second.again]
    assert [each.again for each in told(executed, other.again)] == [other.again]
    assert [each.again for each in told(executed)] == [first.again, other.again, second.again]
    assert told(executed, "nothing") == []


def test_claim_that_is_false_or_undecided_is_told_as_that(executed):
    executed.engine.acts["train"] = train(0.73)
    executed.again_one("train")
    (again,) = told(executed)
    assert (again.exit_code, again.verdict, again.level) == (1, "is FALSE", Level.BIT_IDENTICAL)
    restate(executed, executed.again_one("train"), findings=[{"code": "NOTHING-COMPARED"}])
    assert (told(executed)[-1].exit_code, told(executed)[-1].verdict) == (3, "could not be decided")


@pytest.mark.parametrize(
    ("trusts", "standing", "signature"),
    [(True, Standing.TRUSTED, ", a trusted key"), (False, Standing.UNKNOWN_KEY, ", if that key is whose it says")],
)
def test_signer_is_named_as_the_keys_have_it(tmp_path, trusts, standing, signature):
    key = make_key("ana@a")
    executed = Executed(tmp_path, key=key)
    executed.again_one("train")
    (again,) = told(executed, keys=(key.public,) if trusts else ())
    assert (again.standing, again.signature) == (standing, f"signed with {key.public.id}{signature}")


def test_independence_that_nobody_trusted_states_is_marked(executed):
    key = make_key("eve@e")
    restate(executed, executed.again_one("train"), key, independently=True, independence="independently: by eve")
    assert told(executed)[-1].reason == "independently: by eve (so it says itself; `kit verify --keys` decides)"
    assert told(executed, keys=(key.public,))[-1].reason == "independently: by eve"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"again": "other"}, "it states what other did, not "),
        ({"record": "other"}, "it states that other was done again, the record says "),
        ({"subject": []}, "it is about other outputs than those of "),
        ({"result": "FAILED"}, "it names no finding, and its result is FAILED"),
        ({"level": "not-executed"}, "it names no finding, and its result is PASSED at level not-executed"),
        ({"level": "perfect"}, "cannot be read"),
        ({"findings": [{"code": "ODD"}]}, "cannot be read"),
        ({"predicate": None}, "cannot be read"),
        ({"predicate": {"kit": {}}}, "cannot be read"),
    ],
)
def test_statement_that_does_not_fit_never_reads_as_if_it_held(executed, changes, problem):
    restate(executed, executed.again_one("train"), **changes)
    again = told(executed)[-1]
    assert (again.exit_code, problem in again.verdict) == (3, True), again.verdict
    assert again.verdict.startswith("cannot be relied on: ")


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", canonical_json({"payload": "", "payloadType": "x"})])
def test_object_that_is_no_statement_is_told_as_that(executed, data):
    enter(executed, executed.again_one("train"), data)
    assert "cannot be read" in told(executed)[-1].problem


def test_lost_or_changed_statement_is_told_as_that(executed):
    found = executed.again_one("train")
    path = executed.bench.archive.objects.path(found.statement_sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    assert "was changed in the archive" in told(executed)[0].problem
    path.unlink()
    (again,) = told(executed, found.record)
    assert (again.record, again.exit_code, "is not in the archive" in again.problem) == (found.record, 3, True)


def test_record_that_did_nothing_again_proves_nothing(executed):
    found = executed.again_one("train")
    enter(executed, msgspec.structs.replace(found, again=executed.records["build"].id), b"", found.statement_sha256)
    assert told(executed)[-1].problem.startswith("it states what ")
    assert told(executed, found.record) == told(executed)


@pytest.mark.parametrize("lost", ["record", "again"])
def test_lost_record_leaves_the_claim_undecided(executed, lost):
    found = executed.again_one("train")
    path = executed.bench.archive.record_folder(getattr(found, lost)) / "record.json"
    path.chmod(0o644)
    path.write_text("no record")
    (again,) = told(executed, found.record)
    assert (again.record, again.again, again.exit_code) == (found.record, found.again, 3)
    assert f"{getattr(found, lost)}" in again.problem
