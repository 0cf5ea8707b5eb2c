"""Hostile tests of `kit verify`: whatever is done to an archive, it is found and named."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from probes import GOOD

from kit.archive import STATEMENT, Archive, make_checkpoint, open_archive, read_origin
from kit.checkpoint import Checkpoint, decode_checkpoint
from kit.errors import UndecidableError, UsageError
from kit.execute import Order
from kit.files import canonical_json, sha256_bytes
from kit.ledger import Kind, Ledger
from kit.pipeline import execute_all, execute_stage
from kit.record import Process, Status
from kit.signing import decode_envelope, make_envelope
from kit.statement import describe_execution
from kit.testing import (
    DATA,
    START,
    FakeClock,
    FakeEngine,
    leave_check,
    make_key,
    make_project,
    make_record,
    make_workbench,
    seal_record,
    write_outputs,
)
from kit.verify import Code, Noted, Report, Weight, audit_archive, verify_archive, verify_record
from kit.workspace import Context

KEY = make_key("ana@laptop")
KEYS = (KEY.public,)
GATED = DATA + '[gates]\nmetrics.auc = { min = 0.6 }\n[release]\nfrom = "dev"\n'


def train(context: Context) -> dict[str, Any]:
    for name, path in context.outputs.items():
        if name == "saved_model":
            (Path(path) / "variables").mkdir(parents=True)
            (Path(path) / "saved_model.pb").write_bytes(b"graph")
            (Path(path) / "variables/data").write_bytes(b"weights")
        else:
            Path(path).write_text("{}")
    return {"auc": 0.7}


def prepare(context: Context) -> dict[str, Any]:
    metrics = write_outputs(context)
    leave_check(context, "table.csv")
    return metrics


def fail(context: Context) -> dict[str, Any]:
    raise ValueError("no such luck")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed archive of eight records, one of them failed, one lost; a checkpoint after each command."""
    folder = tmp_path_factory.mktemp("project")
    project = make_project(folder, environments={"dev": GATED})
    clock = FakeClock()
    workbench = make_workbench(project, FakeEngine(train=train, prepare=prepare), clock, KEY)
    for _ in execute_all(workbench, "dev", GOOD):
        make_checkpoint(workbench.archive)
    execute_stage(make_workbench(project, FakeEngine(prepare=fail), clock, KEY), Order("prepare", "dev"))
    execute_stage(workbench, Order("prepare", "dev"))
    lost = make_record(stage="train", started=START + timedelta(days=1), process=Process(1, "gone", "gone"))
    workbench.archive.open_record(msgspec.structs.replace(lost, status=Status.STARTED, ended=None), {"log.txt": b"x"})
    assert len(workbench.archive.list_ids()) == 8
    make_checkpoint(workbench.archive)
    return project.archive


@pytest.fixture
def archive(original: Path, tmp_path: Path) -> Path:
    return copy_of(original, tmp_path / "archive")


def copy_of(original: Path, target: Path) -> Path:
    shutil.copytree(original, target, symlinks=True)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def files_of(archive: Path) -> list[str]:
    return sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file())


def newest_checkpoint(archive: Path) -> Checkpoint:
    path = max((archive / "checkpoints").iterdir(), key=lambda each: int(each.name))
    return decode_checkpoint(path.read_bytes(), path.name)


def codes(report: Report, *weights: Weight) -> set[Code]:
    return {finding.code for finding in report.findings if finding.weight in (weights or (Weight.FALSE,))}


def record_ids(archive: Path, stage: str) -> list[str]:
    return [each for each in Archive(archive).list_ids() if f"-{stage}-" in each]


def test_untouched_archive_holds_and_says_what_it_rests_on(original: Path) -> None:
    outside = Noted(newest_checkpoint(original), "ci.log", outside=True)
    report = verify_archive(original, KEYS, [outside])
    assert report.exit_code == 0
    assert (report.ledger_signers, report.signers) == ((KEY.public.id,), {KEY.public.id: 7})
    assert [finding.code for finding in report.findings] == [Code.LOST]
    assert (report.n_records, report.n_entries) == (8, 16)


def test_verification_without_keys_and_checkpoints_says_so(original: Path) -> None:
    report = verify_archive(original)
    assert (report.exit_code, report.signers) == (0, {})
    assert codes(report, Weight.NOTED) == {Code.LOST, Code.NO_OUTSIDE_CHECKPOINT}


def test_every_record_verifies_alone_and_a_lost_one_cannot_be_decided(original: Path) -> None:
    archive = Archive(original)
    reports = {each: verify_record(original, each, KEYS) for each in archive.list_ids()}
    lost = archive.list_ids()[-1]
    assert {each: report.exit_code for each, report in reports.items()} == {
        each: 3 if each == lost else 0 for each in reports
    }


# --- every file, every kind of damage -------------------------------------------------------------------------------


def edit(path: Path) -> list[Path]:
    data = bytearray(path.read_bytes() or b"x")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return [path]


def delete(path: Path) -> list[Path]:
    path.unlink()
    return [path]


def truncate(path: Path) -> list[Path]:
    data = path.read_bytes()
    path.write_bytes(data[:-1] if data else b"was empty")
    return [path]


def swap(path: Path) -> list[Path]:
    """With another file of the same folder, or of another where there is none."""
    root = next(each for each in path.parents if (each / "archive.json").is_file())
    data = path.read_bytes()
    others = [each for each in (*sorted(path.parent.iterdir()), *sorted(root.rglob("*"))) if each.is_file()]
    other = next(each for each in others if each.read_bytes() != data)
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return [path, other]


def add(path: Path) -> list[Path]:
    added = path.with_name(f"{path.name}-more")
    added.write_bytes(path.read_bytes())
    return [added]


def rename(path: Path) -> list[Path]:
    renamed = path.with_name(f"renamed-{path.name}")
    path.rename(renamed)
    return [path, renamed]


EXPECTED: dict[Callable[[Path], list[Path]], set[Code]] = {
    edit: {Code.EDITED, Code.BAD_SIGNATURE, Code.UNKNOWN_KEY, Code.CHAIN_BROKEN, Code.REWRITTEN, Code.REORDERED},
    delete: {Code.MISSING, Code.INPUT_NOT_AVAILABLE, Code.TRUNCATED, Code.UNLOGGED},
    truncate: {Code.EDITED},
    swap: {Code.EDITED, Code.REORDERED},
    add: {Code.UNLOGGED},
    rename: {Code.UNLOGGED, Code.MISSING},
}


def is_unsealed(name: str) -> bool:
    """What an execution left that never ended is not sealed: LOST says so, whatever it holds."""
    return ".open/" in name


@pytest.mark.parametrize("damage", EXPECTED, ids=lambda each: str(each.__name__))
def test_damage_to_any_file_is_found_and_named(
    original: Path, archive: Path, damage: Callable[[Path], list[Path]]
) -> None:
    outside = Noted(newest_checkpoint(original), "ci.log", outside=True)
    before = {name: (original / name).read_bytes() for name in files_of(original)}
    assert len(before) > 70
    for name in before:
        touched = damage(archive / name)
        if (archive / "archive.json").is_file():
            report = verify_archive(archive, KEYS, [outside])
            found = codes(report, Weight.FALSE, Weight.UNDECIDED)
            assert found & EXPECTED[damage] or is_unsealed(name), f"{damage.__name__} of {name}: {report.findings}"
            assert codes(report, *Weight) & {Code.LOST, *EXPECTED[damage]}
        else:
            assert Code.MISSING in codes(verify_archive(archive, KEYS, [outside]))
        for path in touched:
            path.unlink(missing_ok=True)
            if (data := before.get(path.relative_to(archive).as_posix())) is not None:
                path.write_bytes(data)
    assert verify_archive(archive, KEYS, [outside]).exit_code == 0


def test_what_was_announced_of_a_lost_execution_cannot_be_changed(archive: Path) -> None:
    (announced,) = archive.glob("records/*.open/started.json")
    edit(announced)
    assert codes(verify_archive(archive, KEYS)) == {Code.EDITED}
    delete(announced)
    assert codes(verify_archive(archive, KEYS)) == {Code.MISSING}


# --- the twelve attacks of an attacker who knows the format ---------------------------------------------------------


class Attacker:
    """Rewrites an archive with all that can be known without the key."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.ledger = archive, Ledger(archive)

    def entries(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(each, builtin_types=(datetime,)) for each in self.ledger.read_entries()]

    def write(self, entries: list[dict[str, Any]], *, chained: bool = True, renumbered: bool = True) -> None:
        shutil.rmtree(self.ledger.folder)
        self.ledger.folder.mkdir()
        before = self.ledger.beginning()
        for place, entry in enumerate(entries, 1):
            changed = {**entry, **({"seq": place} if renumbered else {}), **({"prev": before} if chained else {})}
            data = canonical_json(changed)
            self.ledger.path(place).write_bytes(data)
            before = sha256_bytes(data)

    def edit_record(self, record_id: str, *, fix_statement: bool) -> str:
        """A better result in record.json; the statement made again, unsigned. Gives its digest."""
        folder = self.archive / "records" / record_id
        record = Archive(self.archive).read_record(record_id)
        better = msgspec.structs.replace(record, metrics={**record.metrics, "auc": 0.99})
        (folder / "record.json").write_bytes(better.encode())
        if not fix_statement:
            return ""
        files = {
            path.relative_to(folder).as_posix(): sha256_bytes(path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file() and path.name != STATEMENT
        }
        data = make_envelope(describe_execution(better, files, read_origin(self.archive)), None).encode()
        (folder / STATEMENT).write_bytes(data)
        return sha256_bytes(data)

    def end_of(self, record_id: str) -> int:
        return next(i for i, each in enumerate(self.entries()) if each["record"] == record_id and each["kind"] == "end")


def first_train(archive: Path) -> str:
    return record_ids(archive, "train")[0]


def edit_a_record(attacker: Attacker) -> None:
    attacker.edit_record(first_train(attacker.archive), fix_statement=False)


def edit_and_fix_its_entry(attacker: Attacker, *, chained: bool = False) -> None:
    record_id = first_train(attacker.archive)
    sha256 = attacker.edit_record(record_id, fix_statement=True)
    entries = attacker.entries()
    entries[attacker.end_of(record_id)]["sha256"] = sha256
    attacker.write(entries, chained=chained)


def edit_and_rechain_all(attacker: Attacker) -> None:
    edit_and_fix_its_entry(attacker, chained=True)


def edit_the_last(attacker: Attacker) -> None:
    record_id = record_ids(attacker.archive, "prepare")[-1]
    sha256 = attacker.edit_record(record_id, fix_statement=True)
    entries = attacker.entries()
    entries[attacker.end_of(record_id)]["sha256"] = sha256
    attacker.write(entries)


def delete_a_record(attacker: Attacker) -> None:
    shutil.rmtree(attacker.archive / "records" / first_train(attacker.archive))


def without(attacker: Attacker, record_id: str) -> list[dict[str, Any]]:
    shutil.rmtree(attacker.archive / "records" / record_id)
    return [each for each in attacker.entries() if each["record"] != record_id]


def delete_with_its_entry(attacker: Attacker) -> None:
    record_id = record_ids(attacker.archive, "run")[0]
    shutil.rmtree(attacker.archive / "records" / record_id)
    for seq, entry in enumerate(attacker.entries(), 1):
        if entry["record"] == record_id:
            attacker.ledger.path(seq).unlink()


def delete_and_renumber(attacker: Attacker) -> None:
    attacker.write(without(attacker, record_ids(attacker.archive, "run")[0]))


def truncate_the_ledger(attacker: Attacker) -> None:
    last = record_ids(attacker.archive, "train")[-1]
    shutil.rmtree(attacker.archive / "records" / f"{last}.open")
    attacker.ledger.path(len(attacker.entries())).unlink()


def swap_two(attacker: Attacker) -> None:
    a, b = attacker.ledger.path(3), attacker.ledger.path(5)
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)


def swap_and_rechain(attacker: Attacker) -> None:
    entries = attacker.entries()
    entries[2], entries[4] = entries[4], entries[2]
    entries[3], entries[5] = entries[5], entries[3]
    attacker.write(entries)


def insert_back_dated(attacker: Attacker) -> None:
    entries = attacker.entries()
    other = make_record(stage="train", started=START)
    seal_record(Archive(attacker.archive), other)
    added = attacker.entries()[-2:]
    attacker.write([*entries[:2], *added, *entries[2:]])


def drop_in_unlogged(attacker: Attacker) -> None:
    source = attacker.archive / "records" / first_train(attacker.archive)
    shutil.copytree(source, source.with_name("20260301T093000Z-train-ffffff"))


ATTACKS: dict[Callable[[Attacker], None], set[Code]] = {
    edit_a_record: {Code.EDITED},
    edit_and_fix_its_entry: {Code.CHAIN_BROKEN, Code.REWRITTEN},
    edit_and_rechain_all: {Code.REWRITTEN},
    edit_the_last: {Code.REWRITTEN},
    delete_a_record: {Code.MISSING},
    delete_with_its_entry: {Code.MISSING},
    delete_and_renumber: {Code.TRUNCATED},
    truncate_the_ledger: {Code.TRUNCATED},
    swap_two: {Code.REORDERED},
    swap_and_rechain: {Code.REWRITTEN},
    insert_back_dated: {Code.REWRITTEN},
    drop_in_unlogged: {Code.UNLOGGED},
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: str(each.__name__))
def test_attack_without_the_key_is_caught_by_the_archive_alone(
    archive: Path, attack: Callable[[Attacker], None]
) -> None:
    attack(Attacker(archive))
    report = verify_archive(archive, KEYS)
    assert report.exit_code == 1
    assert ATTACKS[attack] <= codes(report), report.findings


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: str(each.__name__))
def test_attack_on_an_unsigned_archive_is_caught_by_a_checkpoint_from_outside(
    original: Path, archive: Path, attack: Callable[[Attacker], None]
) -> None:
    head = msgspec.structs.replace(newest_checkpoint(original), signatures=())
    attack(Attacker(archive))
    shutil.rmtree(archive / "checkpoints")
    report = verify_archive(archive, (), [Noted(head, "ci.log", outside=True)])
    assert ATTACKS[attack] <= codes(report), report.findings


# --- entries that tell of something that did not happen --------------------------------------------------------------


def release_again(attacker: Attacker) -> None:
    """An older genuine verdict, entered once more: what is live would go back."""
    old = next(attacker.ledger.read(seq) for seq in range(1, 17) if attacker.ledger.read(seq).kind is Kind.RELEASE)
    attacker.ledger.append(Kind.RELEASE, old.record, old.sha256, old.who, old.time, "dev")


def release_elsewhere(attacker: Attacker) -> None:
    old = next(attacker.ledger.read(seq) for seq in range(1, 17) if attacker.ledger.read(seq).kind is Kind.RELEASE)
    attacker.ledger.append(Kind.RELEASE, old.record, old.sha256, old.who, old.time, "production")


def release_a_lost_execution(attacker: Attacker) -> None:
    lost = record_ids(attacker.archive, "train")[-1]
    attacker.ledger.append(Kind.RELEASE, lost, "0" * 64, "me", START, "dev")


def import_over_an_execution(attacker: Attacker) -> None:
    lost = record_ids(attacker.archive, "train")[-1]
    folder = attacker.archive / "records" / lost
    shutil.copytree(attacker.archive / "records" / first_train(attacker.archive), folder)
    shutil.rmtree(folder.with_name(f"{lost}.open"))
    attacker.ledger.append(Kind.IMPORT, lost, sha256_bytes((folder / STATEMENT).read_bytes()), "me", START)


def compare_nothing(attacker: Attacker) -> None:
    record = Archive(attacker.archive).read_record(first_train(attacker.archive))
    attacker.ledger.append(Kind.REPRODUCTION, record.id, record.outputs[0].sha256, "me", START)


def take_from_another_archive(attacker: Attacker) -> None:
    other = open_archive(attacker.archive.parent / "other", "example", KEY)
    record = seal_record(other, make_record(stage="prepare", started=START + timedelta(days=3)))
    shutil.copytree(other.record_folder(record.id), attacker.archive / "records" / record.id)
    for entry in other.ledger.read_entries():
        attacker.ledger.append(entry.kind, entry.record, entry.sha256, entry.who, entry.time)


FALSE_ENTRIES: dict[Callable[[Attacker], None], Code] = {
    release_again: Code.REWRITTEN,
    release_elsewhere: Code.REWRITTEN,
    release_a_lost_execution: Code.UNLOGGED,
    import_over_an_execution: Code.REWRITTEN,
    compare_nothing: Code.EDITED,
    take_from_another_archive: Code.REORDERED,
}


@pytest.mark.parametrize("attack", FALSE_ENTRIES, ids=lambda each: str(each.__name__))
def test_entry_that_tells_of_what_did_not_happen_is_found(archive: Path, attack: Callable[[Attacker], None]) -> None:
    attack(Attacker(archive))
    make_checkpoint(Archive(archive, read_origin(archive), KEY))  # an honest command covers it
    assert FALSE_ENTRIES[attack] in codes(verify_archive(archive, KEYS))


def test_links_pipes_and_huge_numbers_are_found_and_stop_nothing(archive: Path) -> None:
    train_folder = archive / "records" / first_train(archive)
    odd: list[Path] = [
        archive / "ledger/000000004.json",
        *(path for path in (archive / "objects").rglob("*") if path.is_file()),
        archive / "checkpoints/16",
        train_folder / STATEMENT,
        train_folder / "record.json",
        next(archive.glob("records/*.open/started.json")),
    ]
    for path in odd:
        data = path.read_bytes()
        kept = archive.parent / "kept"
        kept.write_bytes(data)
        makers: list[Callable[[Path], object]] = [os.mkfifo, lambda path, kept=kept: path.symlink_to(kept), Path.mkdir]  # type: ignore[misc]
        for make in makers:
            path.unlink()
            make(path)
            assert verify_archive(archive, KEYS).exit_code == 1, f"{path.name}"
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            path.write_bytes(data)
    (archive / "ledger/900000000.json").write_bytes(b"{}")
    assert Code.MISSING in codes(verify_archive(archive, KEYS))


def test_record_behind_a_link_is_not_taken_for_a_record(archive: Path) -> None:
    folder = archive / "records" / first_train(archive)
    folder.rename(archive.parent / "elsewhere")
    folder.symlink_to(archive.parent / "elsewhere")
    assert Code.EDITED in codes(verify_record(archive, folder.name, KEYS))


def test_finding_is_one_line_whatever_a_name_holds(archive: Path) -> None:
    (archive / "records" / "x\x1b[2J\nthe claim holds: yes").mkdir()
    (archive / os.fsdecode(b"\xff")).write_bytes(b"")
    command = [sys.executable, "-m", "kit.cli", "verify", str(archive)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, b"\x1b" in done.stdout) == (1, False)
    assert not any(line.startswith(b"the claim holds") for line in done.stdout.splitlines())
    in_json = subprocess.run([*command, "--json"], capture_output=True, check=False)
    assert json.loads(in_json.stdout)["exit_code"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_gives_a_report_and_never_passes(archive: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = [name for name in files_of(archive) if not is_unsealed(name) and name != "archive.json"]
    outside = Noted(newest_checkpoint(archive), "ci.log", outside=True)
    for _ in range(60):
        path = archive / chance.choice(names)
        data = path.read_bytes()
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(damaged) + 1)
            damaged[place : place + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
        path.write_bytes(damaged)
        report = verify_archive(archive, KEYS, [outside])
        assert bytes(damaged) == data or report.exit_code != 0, path
        path.write_bytes(data)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not read")
def test_what_may_not_be_read_cannot_be_decided(archive: Path) -> None:
    (archive / "records" / first_train(archive) / "record.json").chmod(0)
    for folder in archive.parents:
        if str(folder).startswith(tempfile.gettempdir() + os.sep):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(UndecidableError, match="you may not read it"):
            verify_archive(archive, KEYS)
    finally:
        os.seteuid(0)


def test_rollback_to_an_older_genuine_state_is_caught_only_from_outside(original: Path, tmp_path: Path) -> None:
    older = copy_of(original, tmp_path / "older")
    attacker = Attacker(older)
    last_two = [each["record"] for each in attacker.entries()[-3:]]
    for record_id in last_two:
        for name in (record_id, f"{record_id}.open"):
            shutil.rmtree(older / "records" / name, ignore_errors=True)
    kept = [each for each in attacker.entries() if each["record"] not in last_two]
    for seq in range(len(kept) + 1, 17):
        attacker.ledger.path(seq).unlink()
    for path in (older / "checkpoints").iterdir():
        if int(path.name) > len(kept):
            path.unlink()
    inside = verify_archive(older, KEYS)
    assert inside.exit_code == 0
    assert Code.NO_OUTSIDE_CHECKPOINT in codes(inside, Weight.NOTED)
    outside = verify_archive(older, KEYS, [Noted(newest_checkpoint(original), "ci.log", outside=True)])
    assert codes(outside) == {Code.TRUNCATED, Code.MISSING}  # the ledger's end, and the checkpoint that was kept of it


def test_archive_stripped_of_all_signatures_does_not_pass_for_someone_who_trusts_a_key(archive: Path) -> None:
    attacker = Attacker(archive)
    entries = [{**each, "checkpoint": 0} for each in attacker.entries()]
    shutil.rmtree(archive / "checkpoints")
    attacker.write(entries)
    assert Code.UNSIGNED in codes(verify_archive(archive, KEYS))
    assert verify_archive(archive).exit_code == 0  # without keys nothing was promised, and the report says so


def test_checkpoint_by_a_key_that_is_not_trusted_counts_for_nothing(archive: Path) -> None:
    mallory = make_key("ana@laptop")
    attacker = Attacker(archive)
    edit_and_rechain_all(attacker)
    shutil.rmtree(archive / "checkpoints")
    attacker.write([{**each, "checkpoint": 0} for each in attacker.entries()])
    make_checkpoint(Archive(archive, verify_archive(archive).origin, mallory))
    assert {Code.UNKNOWN_KEY, Code.UNSIGNED} <= codes(verify_archive(archive, KEYS))


def test_statement_with_a_forged_signature_is_named(archive: Path) -> None:
    path = archive / "records" / first_train(archive) / STATEMENT
    envelope = decode_envelope(path.read_bytes(), "")
    ((key_id, signature),) = envelope.signatures
    path.write_bytes(msgspec.structs.replace(envelope, signatures=((key_id, signature[::-1]),)).encode())
    assert {Code.BAD_SIGNATURE, Code.EDITED} <= codes(verify_archive(archive, KEYS))


def test_release_whose_model_is_another_than_the_one_that_was_judged_is_void(archive: Path) -> None:
    release = Archive(archive).list_releases()[0]
    manifest = Archive(archive).objects.path(release.manifest_sha256)
    edit(manifest)
    assert Code.EDITED in codes(verify_record(archive, release.record, KEYS))


def test_file_of_a_newer_kit_cannot_be_decided_here(archive: Path) -> None:
    attacker = Attacker(archive)
    entries = attacker.entries()
    entries[-1]["format"] = 99
    attacker.write(entries)
    shutil.rmtree(archive / "checkpoints")
    report = verify_archive(archive)
    assert Code.NEWER_FORMAT in codes(report, Weight.UNDECIDED)


def test_input_that_is_kept_elsewhere_cannot_be_decided_here(archive: Path) -> None:
    record = Archive(archive).read_record(record_ids(archive, "run")[0])
    raw = next(each.artifact for each in record.inputs if each.artifact.name == "raw.csv")
    Archive(archive).objects.path(raw.sha256).unlink()
    report = verify_archive(archive, KEYS)
    assert report.exit_code == 3
    assert codes(report, Weight.UNDECIDED) == {Code.INPUT_NOT_AVAILABLE}


def test_empty_archive_proves_nothing(tmp_path: Path) -> None:
    open_archive(tmp_path / "archive", "x")
    report = verify_archive(tmp_path / "archive")
    assert (report.exit_code, codes(report, Weight.UNDECIDED)) == (3, {Code.TRUNCATED})


def test_what_a_kill_leaves_behind_is_noted_and_fails_nothing(archive: Path) -> None:
    for name in (".archive.json.0123456789ab.tmp", "ledger/.000000099.json.0123456789ab.tmp", "objects/tmp/0123"):
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).write_bytes(b"{")
    (archive / "records/.20260301T093000Z-train-ffffff.tmp").mkdir()
    report = verify_archive(archive, KEYS)
    assert report.exit_code == 0
    assert Code.LEFTOVER in codes(report, Weight.NOTED)


def test_verifying_while_others_write_raises_no_false_alarm(archive: Path) -> None:
    opened = Archive(archive, verify_archive(archive).origin, KEY)
    bundle = opened.objects.put_bytes(b"bundle")
    code = msgspec.structs.replace(make_record().code, bundle_sha256=bundle)

    def write() -> None:
        for number in range(60):
            started = START + timedelta(days=3, seconds=number)
            seal_record(opened, make_record(started=started, code=code, configuration_sha256=bundle))
            make_checkpoint(opened)

    writer = threading.Thread(target=write)
    writer.start()
    reports = [verify_archive(archive, KEYS)]
    while writer.is_alive():
        reports.append(verify_archive(archive, KEYS))
    writer.join()
    assert reports[-1].n_entries > reports[0].n_entries
    assert [report.findings for report in reports if report.exit_code] == []


# --- audit ----------------------------------------------------------------------------------------------------------


def test_audit_remembers_and_accepts_growth_only(original: Path, tmp_path: Path) -> None:
    state, grown = tmp_path / "state", copy_of(original, tmp_path / "grown")
    first, before = audit_archive(grown, state, KEYS)
    assert (first.exit_code, before) == (0, None)
    seal_record(Archive(grown, first.origin, KEY), make_record(stage="prepare", started=START + timedelta(days=2)))
    second, before = audit_archive(grown, state, KEYS)
    assert before is not None
    assert codes(second) <= {Code.MISSING}  # the record of the test has no bundle in the objects
    assert before.size == 16
    back, _ = audit_archive(copy_of(original, tmp_path / "back"), state, KEYS)
    assert back.exit_code == 0 if second.exit_code else Code.TRUNCATED in codes(back)


def test_audit_of_an_archive_that_went_back_fails_and_forgets_nothing(original: Path, tmp_path: Path) -> None:
    state, copied = tmp_path / "state", copy_of(original, tmp_path / "copied")
    audit_archive(copied, state, KEYS)
    remembered = (state / "heads.txt").read_bytes()
    truncate_the_ledger(Attacker(copied))
    shutil.rmtree(copied / "checkpoints")
    for _ in range(2):
        report, _ = audit_archive(copied, state, ())
        assert Code.TRUNCATED in codes(report)
    assert (state / "heads.txt").read_bytes() == remembered


def test_audit_of_another_archive_in_the_same_place_fails(original: Path, tmp_path: Path) -> None:
    audit_archive(original, tmp_path / "state", KEYS)
    other = open_archive(tmp_path / "other", "example", KEY)
    seal_record(other, make_record())
    report, _ = audit_archive(tmp_path / "other", tmp_path / "state", KEYS)
    assert Code.REWRITTEN in codes(report)


def test_audit_keeps_nothing_in_the_archive_itself(archive: Path) -> None:
    for state in (archive, archive / "checkpoints", archive / "state"):
        with pytest.raises(UsageError, match="in the archive itself"):
            audit_archive(archive, state, KEYS)
    assert verify_archive(archive, KEYS).exit_code == 0


def test_missing_entry_is_one_finding_and_what_follows_is_not_blamed(archive: Path) -> None:
    Ledger(archive).path(3).unlink()
    report = verify_archive(archive, KEYS)
    assert [(each.code, each.path) for each in report.findings if each.weight is Weight.FALSE][:1] == [
        (Code.MISSING, "ledger/000000003.json")
    ]
    assert Code.TRUNCATED not in codes(report)


def test_archive_without_its_marker_is_no_wrong_use_but_a_finding(archive: Path) -> None:
    (archive / "archive.json").unlink()
    assert Code.MISSING in codes(verify_archive(archive, KEYS))


def test_unsigned_records_are_counted_and_one_asked_for_with_keys_is_not_attributed(archive: Path) -> None:
    record = make_record(stage="prepare", started=START + timedelta(days=2))
    bundle = Archive(archive).objects.put_bytes(b"bundle")
    code = msgspec.structs.replace(record.code, bundle_sha256=bundle)
    record = msgspec.structs.replace(record, code=code, configuration_sha256=bundle)
    seal_record(Archive(archive, read_origin(archive)), record)
    make_checkpoint(Archive(archive, read_origin(archive), KEY))
    whole = verify_archive(archive, KEYS)
    assert whole.exit_code == 0
    assert any("1 of 8 sealed records have no signature" in each.found for each in whole.findings)
    alone = verify_record(archive, record.id, KEYS)
    assert (alone.exit_code, Code.UNSIGNED in codes(alone, Weight.UNDECIDED)) == (3, True)


def test_audit_state_that_cannot_be_read_is_no_fresh_start(original: Path, tmp_path: Path) -> None:
    (tmp_path / "heads.txt").write_bytes(b"")
    with pytest.raises(OSError, match=r"heads\.txt"):
        audit_archive(original, tmp_path, KEYS)


# --- checkpoints over a ledger that changed -------------------------------------------------------------------------


def test_no_checkpoint_is_made_over_a_ledger_that_is_not_a_continuation(archive: Path, tmp_path: Path) -> None:
    memory = tmp_path / "ledger.json"
    opened = Archive(archive, read_origin(archive), KEY, memory)
    assert make_checkpoint(opened) == newest_checkpoint(archive)
    edit_the_last(Attacker(archive))
    with pytest.raises(OSError, match="not a continuation"):
        make_checkpoint(Archive(archive, opened.origin, KEY, memory))


def test_nothing_is_appended_to_a_ledger_that_went_back(archive: Path, tmp_path: Path) -> None:
    memory = tmp_path / "ledger.json"
    make_checkpoint(Archive(archive, read_origin(archive), KEY, memory))
    truncate_the_ledger(Attacker(archive))
    before = files_of(archive)
    with pytest.raises(OSError, match="not a continuation"):
        seal_record(Archive(archive, read_origin(archive), KEY, memory), make_record(started=START + timedelta(days=4)))
    assert files_of(archive) == before


def test_no_checkpoint_is_made_where_one_of_the_same_size_contradicts(archive: Path) -> None:
    edit_the_last(Attacker(archive))
    with pytest.raises(OSError, match="contradicts the ledger"):
        make_checkpoint(Archive(archive, read_origin(archive), KEY))


def test_no_checkpoint_is_made_of_another_archive_in_the_same_place(archive: Path, tmp_path: Path) -> None:
    make_checkpoint(Archive(archive, read_origin(archive), KEY, tmp_path / "memory"))
    marker = archive / "archive.json"
    marker.write_bytes(marker.read_bytes().replace(read_origin(archive)[-16:].encode(), b"0" * 16))
    with pytest.raises(OSError, match="another archive"):
        make_checkpoint(Archive(archive, read_origin(archive), KEY, tmp_path / "memory"))


def test_no_checkpoint_is_made_over_a_ledger_that_its_newest_checkpoint_contradicts(archive: Path) -> None:
    opened = Archive(archive, verify_archive(archive).origin, KEY)
    edit_and_rechain_all(Attacker(archive))
    with pytest.raises(OSError, match="history was"):
        make_checkpoint(opened)


def test_checkpoint_continued_from_memory_is_the_one_over_everything(archive: Path, tmp_path: Path) -> None:
    opened = Archive(archive, read_origin(archive), memory=tmp_path / "memory")
    make_checkpoint(opened)
    opened.ledger.append(Kind.START, "r", "0" * 64, "me", START)
    assert make_checkpoint(opened) == make_checkpoint(Archive(archive, opened.origin))


# --- what verifying does not do -------------------------------------------------------------------------------------

WATCH = """
import sys
seen = []
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect",
                 "os.rename", "os.remove", "os.mkdir", "os.link", "os.chmod", "shutil.rmtree", "exec.code"):
        seen.append((event, str(arguments)))
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append((event, str(arguments)))
sys.dont_write_bytecode = True
sys.addaudithook(watch)
from kit.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
banned = {"papermill", "nbformat", "nbconvert", "nbclient", "great_expectations", "tensorflow", "keras", "pandas", "pickle5",
          "h5py", "pyarrow", "subprocess_unused"} & set(sys.modules)
print("CODE", code, "SEEN", seen, "BANNED", sorted(banned))
"""


def test_verifying_executes_loads_and_writes_nothing(original: Path, tmp_path: Path) -> None:
    keys = tmp_path / "team.keys"
    keys.write_text(f"# the team\n{KEY.public}\n")
    before = {path: path.stat().st_mtime_ns for path in original.rglob("*")}
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", WATCH, "verify", str(original), "--keys", str(keys)]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert "CODE 0 SEEN [] BANNED []" in done.stdout, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in original.rglob("*")} == before
