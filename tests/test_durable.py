"""What is durable when: a double of the disk sees each file and folder that it is told to keep, and each name that is given."""

import os
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from kit.archive import OPEN, Archive, open_archive
from kit.files import create_together, sync_all
from kit.record import Status
from kit.testing import make_record

FILES = {"source.ipynb": b"{}", "requirements.txt": b"a==1\n"}
MORE = {"executed.ipynb": b"{}", "checks/a.json": b"{}", "checks/b.json": b"{}"}


class Disk:
    """Remembers what it was told to keep; `problems`: names that were given before what they rest on was kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[int, int] = {}  # inode -> bytes when it was kept
        self.folders: dict[int, list[str]] = {}  # inode -> names when they were kept
        self.threads: set[int] = set()
        self.problems: list[str] = []
        self.n_told = 0
        self._real = os.fsync, os.link, os.rename
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "link", self.link)
        monkeypatch.setattr(os, "rename", self.rename)

    def fsync(self, descriptor: int) -> None:
        self.n_told += 1
        self.threads.add(threading.get_ident())
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            self.folders[facts.st_ino] = sorted(os.listdir(descriptor))
        else:
            self.files[facts.st_ino] = facts.st_size
        self._real[0](descriptor)

    def link(self, source: Path, target: Path) -> None:
        self._require_kept(source)
        if target.parent.name == "ledger":
            for folder in (target.parent.parent / "records").glob("*"):
                if folder.suffix in (".tmp", OPEN):
                    self._require_kept(folder)
        self._real[1](source, target)

    def rename(self, source: Path, target: Path) -> None:
        self._require_kept(target.parent.parent / "ledger")
        self._real[2](source, target)

    def _require_kept(self, path: Path) -> None:
        """A file with the bytes that it has, a folder with all that is in it."""
        if path.is_dir():
            kept = self.folders.get(path.stat().st_ino) == sorted(each.name for each in path.iterdir())
            for each in path.iterdir():
                self._require_kept(each)
        else:
            kept = self.files.get(path.stat().st_ino) == path.stat().st_size
        if not kept:
            self.problems.append(str(path))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(tmp_path / "archive", "test")


def test_all_of_a_record_is_durable_before_the_entry_that_announces_it_and_that_before_its_name(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive.folder / "ledger").mkdir()
    archive.records_folder.mkdir()
    disk, record = Disk(monkeypatch), make_record()
    started = msgspec.structs.replace(record, status=Status.STARTED, ended=None)
    opened = archive.open_record(started, dict(FILES))
    (opened.folder / "log.txt").write_bytes(b"a line of the kernel\n")
    (opened.folder / "journal.jsonl").write_bytes(b"{}\n")
    opened.close(record, dict(MORE))
    disk._require_kept(archive.records_folder)
    assert disk.problems == []
    assert disk.n_told <= 20  # 32 when each file and its folder was kept on its own


def test_files_of_one_record_are_kept_by_several_threads(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, two = Disk(monkeypatch), threading.Event()

    def wait_for_another(descriptor: int) -> None:
        disk.fsync(descriptor)
        if len(disk.threads) > 1:
            two.set()
        two.wait(30)

    monkeypatch.setattr(os, "fsync", wait_for_another)
    assert create_together(archive.folder / "together", FILES | MORE) == []
    assert len(disk.threads) > 1


def test_what_cannot_be_kept_is_said_and_no_name_is_given(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fail_once(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        create_together(archive.folder / "together", FILES | MORE)
    assert [path.name for path in (archive.folder / "together").rglob("*") if path.is_file()] == []


def test_names_that_are_taken_are_told_and_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "source.ipynb").write_bytes(b"before")
    assert create_together(tmp_path, FILES | MORE) == ["source.ipynb"]
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {**FILES, **MORE, "source.ipynb": b"before"}


def test_more_files_than_threads_are_all_kept_where_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, paths = Disk(monkeypatch), [tmp_path / str(number) for number in range(50)]
    for path in paths:
        path.write_bytes(b"x")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sync_all(paths[:40])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    sync_all(paths[40:])
    assert disk.files == {path.stat().st_ino: 1 for path in paths}
