"""Records, objects and releases in a folder: made once, never rewritten."""

import os
import socket
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kit.archive import OPEN, STARTED, STATEMENT, VERDICT, Archive, Objects, open_archive
from kit.artifact import TREE_MEDIA_TYPE, Artifact, Tree, TreeEntry
from kit.environment import Environment
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import sha256_bytes
from kit.gate import Manifest, Verdict
from kit.ledger import Kind
from kit.record import Machine, Process, Record, Status
from kit.statement import describe_verdict
from kit.testing import START, make_manifest, make_record, seal_record, seal_release


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test")


def started(record: Record, **changes: object) -> Record:
    return msgspec.structs.replace(record, status=Status.STARTED, ended=None, **changes)


def here() -> Machine:
    return msgspec.structs.replace(make_record().machine, host=socket.gethostname())


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest() -> Manifest:
    return make_manifest(Verdict("dev", Environment(name="dev").sha256, {}, ()))


def test_sealed_record_reads_as_it_was_closed_and_its_files_are_read_only(archive: Archive) -> None:
    record = make_record()
    opened = archive.open_record(started(record), {"source.ipynb": b"{}"})
    (opened.folder / "log.txt").write_text("hello")
    (opened.folder / "journal.jsonl").write_text("{}")
    opened.close(record, {"checks/a.csv.json": b"{}"})
    folder = archive.record_folder(record.id)
    assert archive.read_record(record.id) == record
    assert set(files_below(folder)) == {
        "record.json",
        "started.json",
        "statement.dsse.json",
        "source.ipynb",
        "log.txt",
        "checks/a.csv.json",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o444}
    assert [path.name for path in archive.records_folder.iterdir()] == [record.id]


def test_record_is_closed_once_and_a_second_time_changes_nothing(archive: Archive) -> None:
    record = make_record()
    opened = archive.open_record(started(record), {})
    opened.close(record, {})
    before = files_below(archive.folder)
    with pytest.raises(UsageError, match="closed already"):
        opened.close(msgspec.structs.replace(record, status=Status.FAILED), {"more": b""})
    assert files_below(archive.folder) == before
    with pytest.raises(FileExistsError):
        seal_record(archive, record)
    assert archive.read_record(record.id).succeeded


def test_record_that_cannot_be_opened_or_sealed_whole_is_no_record(archive: Archive) -> None:
    record = make_record()
    with pytest.raises(OSError, match="log"):
        archive.open_record(started(record), {"log": b"", "log/in-a-file": b""})
    assert archive.list_ids() == []
    opened = archive.open_record(started(record), {"checks": b""})
    with pytest.raises(OSError, match="checks"):
        opened.close(record, {"checks/table.csv.json": b""})
    assert not archive.read_record(record.id).succeeded


@pytest.mark.parametrize("status", [Status.STARTED, Status.LOST])
def test_record_cannot_be_closed_as_something_that_is_no_end(archive: Archive, status: Status) -> None:
    record = make_record()
    with pytest.raises(UsageError, match="cannot be closed"):
        archive.open_record(started(record), {}).close(msgspec.structs.replace(record, status=status), {})


def test_open_record_reads_started_while_its_process_lives_then_lost(archive: Archive) -> None:
    alive = make_record()
    here = msgspec.structs.replace(alive.machine, host=__import__("socket").gethostname())
    archive.open_record(started(alive, machine=here), {})
    gone = make_record(stage="prepare", machine=here)
    # our own process number, but of a process that started at another time: told apart by more than the number
    other = Process(gone.process.pid, gone.process.mark + "0", gone.process.boot)
    archive.open_record(started(gone, process=other), {})
    rebooted = make_record(stage="run", machine=here)
    archive.open_record(started(rebooted, process=msgspec.structs.replace(rebooted.process, boot="x")), {})
    assert archive.read_record(alive.id).status is Status.STARTED
    assert archive.read_record(gone.id).status is Status.LOST
    assert archive.read_record(rebooted.id).status is Status.LOST
    assert archive.record_folder(gone.id).name == f"{gone.id}.open"


def test_record_killed_between_its_last_file_and_the_rename_is_not_succeeded(archive: Archive) -> None:
    record = make_record(
        machine=msgspec.structs.replace(make_record().machine, host=__import__("socket").gethostname())
    )
    opened = archive.open_record(started(record), {})
    (opened.folder / "started.json").unlink()
    (opened.folder / "record.json").write_bytes(record.encode())
    assert archive.read_record(record.id).status is Status.STARTED
    dead = msgspec.structs.replace(record, process=Process(record.process.pid, "0", record.process.boot))
    (opened.folder / "record.json").write_bytes(dead.encode())
    assert archive.read_record(record.id).status is Status.LOST


def test_corrupt_record_is_skipped_and_named(archive: Archive) -> None:
    good, bad, moved = (seal_record(archive, make_record(stage=stage)) for stage in ("train", "prepare", "run"))
    file = archive.record_folder(bad.id) / "record.json"
    file.chmod(0o644)
    file.write_bytes(b'{"format": 1')
    archive.record_folder(moved.id).rename(archive.records_folder / "20260301T093000Z-run-000000")
    assert list(archive.records()) == [good]
    assert len(archive.unreadable) == 2
    assert any(bad.id in sentence for sentence in archive.unreadable)
    with pytest.raises(IntegrityError, match=bad.id):
        archive.read_record(bad.id)


def test_record_is_found_by_any_unique_beginning_or_end(archive: Archive) -> None:
    for identity in ("20260301T093000Z-train-aaaaaa", "20260301T093000Z-train-bbbbbb", "20260302T093000Z-run-cccccc"):
        seal_record(archive, make_record(id=identity))
    assert archive.find_record("bbbbbb").id == "20260301T093000Z-train-bbbbbb"
    assert archive.find_record("20260302").id == "20260302T093000Z-run-cccccc"
    with pytest.raises(UsageError, match=r"names 2 records.*aaaaaa.*bbbbbb"):
        archive.find_record("20260301")
    for name in ("dddddd", ""):
        with pytest.raises(NotFoundError, match="kit records"):
            archive.find_record(name)


def test_newest_is_the_latest_that_is_accepted(archive: Archive) -> None:
    first = seal_record(archive, make_record())
    second = seal_record(archive, make_record(started=START.replace(hour=10)))
    seal_record(archive, make_record(started=START.replace(hour=11), status=Status.FAILED))
    assert archive.newest(lambda record: record.succeeded) == second
    assert archive.newest(lambda record: record.id == first.id) == first
    assert archive.newest(lambda record: record.stage == "run") is None


def test_newest_is_the_one_that_ended_last_whatever_the_clocks_say(archive: Archive) -> None:
    seal_record(archive, make_record(started=START.replace(year=2099)))
    last = seal_record(archive, make_record())
    assert archive.newest(lambda record: record.succeeded) == last


def test_record_that_no_entry_tells_of_is_never_the_newest(archive: Archive) -> None:
    first = seal_record(archive, make_record())
    other = open_archive(archive.folder.with_name("other"), "other")
    dropped = seal_record(other, make_record(started=START.replace(year=2099)))
    other.record_folder(dropped.id).rename(archive.records_folder / dropped.id)
    assert archive.newest(lambda _: True) == first


def test_changed_object_is_an_integrity_error_and_leaves_no_copy(archive: Archive, tmp_path: Path) -> None:
    artifact = Artifact("a.csv", archive.objects.put_bytes(b"x\n1\n"), 4, "text/csv")
    path = archive.objects.path(artifact.sha256)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    path.chmod(0o644)
    path.write_bytes(b"x\n2\n")
    with pytest.raises(IntegrityError, match="was changed"):
        archive.objects.read(artifact.sha256)
    with pytest.raises(IntegrityError, match=r"a\.csv.*was changed"):
        archive.objects.copy_artifact(artifact, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    path.unlink()
    with pytest.raises(NotFoundError):
        archive.objects.copy_artifact(artifact, tmp_path / "copy")


def test_folder_artifact_comes_back_as_it_was(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    source = tmp_path / "model"
    (source / "variables").mkdir(parents=True)
    (source / "graph.pb").write_bytes(b"g")
    (source / "variables/v").write_bytes(b"vv")
    artifact = objects.put_artifact("model", source)
    assert (artifact.is_folder, artifact.size_bytes) == (True, 3)
    assert objects.put_artifact("model", source) == artifact
    objects.copy_artifact(artifact, tmp_path / "copy")
    assert files_below(tmp_path / "copy") == {"graph.pb": b"g", "variables/v": b"vv"}
    assert not list((tmp_path / "objects/tmp").iterdir())


def test_empty_folder_and_links_are_no_artifacts(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/l").symlink_to("/etc/hostname")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("empty", "linked", "link", "nothing"):
        with pytest.raises(UsageError, match=name):
            objects.put_artifact(name, tmp_path / name)


def test_two_writers_releasing_at_once_get_two_numbers(archive: Archive) -> None:
    archive.objects.put_bytes(manifest().encode())
    barrier, found = threading.Barrier(8), []

    def release() -> None:
        barrier.wait()
        found.append(seal_release(Archive(archive.folder), manifest()).id)

    threads = [threading.Thread(target=release) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"dev-{number}" for number in range(1, 9)]
    live = archive.live_release("dev")
    assert live is not None
    assert (live.id, archive.read_manifest(live)) == ("dev-8", manifest())
    assert archive.live_release("de") is None


def test_two_writers_opening_a_new_archive_at_once_both_get_it(tmp_path: Path) -> None:
    for number in range(20):
        barrier, problems = threading.Barrier(4), []

        def make(folder: Path = tmp_path / f"archive-{number}", barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                seal_record(open_archive(folder, "test"), make_record())
            except Exception as error:  # noqa: BLE001 - collected for the assertion
                problems.append(error)  # noqa: B023

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems


def test_manifest_must_be_in_the_objects(archive: Archive) -> None:
    with pytest.raises(IntegrityError, match=r"release\.json"):
        seal_release(archive, manifest())
    assert archive.list_releases() == []


def test_release_whose_verdict_is_not_the_one_in_the_ledger_is_named(archive: Archive) -> None:
    archive.objects.put_bytes(manifest().encode())
    release = seal_release(archive, manifest())
    verdict = archive.record_folder(release.record) / VERDICT
    data = verdict.read_bytes()
    verdict.chmod(0o644)
    other = describe_verdict(manifest().verdict, "other", manifest().sha256)
    verdict.write_bytes(archive.state(other).encode())
    with pytest.raises(IntegrityError, match=r"release dev-1.*not the one that the ledger names"):
        archive.list_releases()
    verdict.write_bytes(data)
    assert archive.find_release("dev-1") == release


def test_execution_is_announced_before_it_is_opened_and_ended_before_it_is_named(archive: Archive) -> None:
    record = make_record()
    opened = archive.open_record(started(record), {})
    (start,) = archive.ledger.read_entries()
    assert (start.kind, start.record) == (Kind.START, record.id)
    assert start.sha256 == sha256_bytes((opened.folder / STARTED).read_bytes())
    opened.close(record, {})
    _, end = archive.ledger.read_entries()
    statement = (archive.record_folder(record.id) / STATEMENT).read_bytes()
    assert (end.kind, end.record, end.sha256) == (Kind.END, record.id, sha256_bytes(statement))


def test_record_that_was_ended_but_not_named_when_its_process_died_is_closed_by_the_next_reader(
    archive: Archive,
) -> None:
    record = make_record(process=Process(1, "gone", "gone"), machine=here())
    seal_record(archive, record)
    folder = archive.record_folder(record.id)
    folder.rename(folder.with_name(f"{record.id}{OPEN}"))
    assert archive.read_record(record.id) == record
    assert folder.is_dir()


def test_record_without_an_end_in_the_ledger_is_lost_whatever_its_files_say(archive: Archive) -> None:
    record = make_record(process=Process(1, "gone", "gone"), machine=here())
    seal_record(archive, record)
    folder = archive.record_folder(record.id)
    folder.rename(folder.with_name(f"{record.id}{OPEN}"))
    archive.ledger.path(2).unlink()
    assert archive.read_record(record.id).status is Status.LOST


def test_what_kit_did_not_write_is_never_sealed(archive: Archive, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("secret")
    secret.chmod(0o600)

    def link(folder: Path) -> None:
        (folder / "x").symlink_to(secret)

    plants: list[Callable[[Path], object]] = [
        link,
        lambda folder: (folder / "record.json").write_bytes(b"{}"),
        lambda folder: (folder / "statement.dsse.json").write_bytes(b"{}"),
        lambda folder: (folder / "more.txt").write_bytes(b"more"),
        lambda folder: (folder / "source.ipynb").unlink(),
        lambda folder: os.mkfifo(folder / "pipe"),
    ]
    for number, plant in enumerate(plants):
        record = make_record(started=START + timedelta(hours=number))
        opened = archive.open_record(started(record), {"source.ipynb": b"{}"})
        plant(opened.folder)
        with pytest.raises(OSError, match=r"was there before|not what kit wrote|was removed|regular|[Ll]oop|symbolic"):
            opened.close(record, {})
        assert archive.read_record(record.id).status is not Status.SUCCEEDED
    assert [entry.kind for entry in archive.ledger.read_entries()] == [Kind.START] * len(plants)
    assert (stat.S_IMODE(secret.stat().st_mode), secret.read_text()) == (0o600, "secret")


def test_record_of_another_host_that_was_ended_but_not_named_is_closed_by_the_next_reader(archive: Archive) -> None:
    record = seal_record(archive, make_record())
    folder = archive.record_folder(record.id)
    folder.rename(folder.with_name(f"{record.id}{OPEN}"))
    assert archive.read_record(record.id) == record


def test_record_that_did_another_again_is_never_the_newest(archive: Archive) -> None:
    first = seal_record(archive, make_record())
    seal_record(archive, make_record(started=START + timedelta(hours=1), reproduces=first.id))
    newest = archive.newest(lambda _: True)
    assert newest is not None
    assert newest.id == first.id


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 2}', b'{"format": 1, "name": "x"}', b'{"format": 3}'])
def test_archive_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"archive (of )?format"):
        open_archive(tmp_path, "x")


def test_folder_with_other_things_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(IntegrityError, match="choose another folder"):
        open_archive(tmp_path, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_object_is_kept_once(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert archive.objects.put_file(tmp_path / "a") == (sha256_bytes(b"a"), 1)
    before = archive.objects.path(sha256_bytes(b"a")).stat()
    archive.objects.put_bytes(b"a")
    assert archive.objects.path(sha256_bytes(b"a")).stat() == before


@pytest.mark.parametrize("path", ["../../escaped.txt", "/escaped.txt", "a/./b", "a//b", "", "a\0b"])
def test_folder_whose_list_leads_elsewhere_is_never_written(archive: Archive, tmp_path: Path, path: str) -> None:
    sha256 = archive.objects.put_bytes(b"text")
    tree = Tree((TreeEntry(path, sha256, 4),))
    artifact = Artifact("saved_model", archive.objects.put_bytes(tree.encode()), 4, TREE_MEDIA_TYPE)
    with pytest.raises(IntegrityError, match="does not lie inside of the folder"):
        archive.objects.copy_artifact(artifact, tmp_path / "deep" / "saved_model")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_list_of_a_folder_that_is_none_is_an_integrity_error(archive: Archive, tmp_path: Path) -> None:
    artifact = Artifact("saved_model", archive.objects.put_bytes(b"[1]"), 4, TREE_MEDIA_TYPE)
    with pytest.raises(IntegrityError, match="not a list of files"):
        archive.objects.copy_artifact(artifact, tmp_path / "saved_model")
