"""Records and releases in an archive's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from kit.archive.objects import Objects
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import canonical_json, create_exclusive, remove_tree, sync_file, sync_folder
from kit.gate import Manifest, Release, decode_manifest
from kit.provenance import is_alive
from kit.record import Record, Status, decode_record

FORMAT = 1
_OPEN = ".open"
_SECONDS = len("20260301T093000Z")


class OpenRecord:
    """A record that is being written: `records/<id>.open/` until `close` renames it to `records/<id>/`."""

    def __init__(self, folder: Path, started: Record) -> None:
        self.folder, self.started = folder, started

    def close(self, record: Record, files: dict[str, bytes]) -> None:
        """Seal the record: all its files durable and read-only, then one rename. Possible once.

        Args:
            record: closed, with the id that was opened.
            files: further files by their path in the record.
        """
        if record.id != self.started.id or record.status in (Status.STARTED, Status.LOST):
            raise UsageError(f"record {self.started.id} cannot be closed as {record.id}, {record.status}")
        if not self.folder.is_dir():
            raise UsageError(f"record {record.id} was closed already; a record is closed once")
        for name, data in {**files, "record.json": record.encode()}.items():
            create_exclusive(self.folder / name, data)
        for leftover in ("started.json", "journal.jsonl"):
            (self.folder / leftover).unlink(missing_ok=True)
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
                sync_file(path)
        sync_folder(self.folder)
        os.rename(self.folder, self.folder.with_name(record.id))  # noqa: PTH104 - fails on a non-empty target
        sync_folder(self.folder.parent)


class Archive:
    """A folder with `records/`, `objects/` and `releases/`. Many may write at once; nobody locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_folder = folder / "records"
        self.releases_folder = folder / "releases"
        self.objects = Objects(folder / "objects")
        self.unreadable: list[str] = []

    def open_record(self, started: Record, files: dict[str, bytes]) -> OpenRecord:
        """Open a record before its kernel starts, with the files that are known already."""
        folder = self.records_folder / f"{started.id}{_OPEN}"
        making = self.records_folder / f".{started.id}.tmp"  # no one reads it before it is whole
        if (self.records_folder / started.id).exists():
            raise FileExistsError(f"there is a record {started.id} already")
        making.mkdir(parents=True)
        try:
            for name, data in {**files, "started.json": started.encode()}.items():
                create_exclusive(making / name, data)
            os.rename(making, folder)  # noqa: PTH104 - fails on a non-empty target
        except BaseException:
            remove_tree(making)
            raise
        sync_folder(self.records_folder)
        return OpenRecord(folder, started)

    def record_folder(self, record_id: str) -> Path:
        """Where a record's files lie, closed or still open."""
        closed = self.records_folder / record_id
        return closed if closed.is_dir() else self.records_folder / f"{record_id}{_OPEN}"

    def list_ids(self) -> list[str]:
        """Ids of all records, open ones too, oldest first."""
        if not self.records_folder.is_dir():
            return []
        names = (path.name for path in self.records_folder.iterdir())
        return sorted({name.removesuffix(_OPEN) for name in names if not name.startswith(".")})

    def read_record(self, record_id: str) -> Record:
        """A record; one that was never closed reads `started` while its process lives, then `lost`.

        Raises:
            NotFoundError: there is none of that id.
            IntegrityError: it cannot be read.
        """
        closed = self.records_folder / record_id
        opened = self.records_folder / f"{record_id}{_OPEN}"
        where = f"record {record_id}"
        # In this order, and the first again at the end: a record may be sealed and renamed between two looks.
        for path in (closed / "record.json", opened / "started.json", opened / "record.json", closed / "record.json"):
            if not path.is_file():
                continue
            try:
                record = decode_record(path.read_bytes(), where)
            except FileNotFoundError:
                continue
            if record.id != record_id:
                raise IntegrityError(f"{where}: its record.json is that of {record.id}")
            if path.parent == closed:
                return record
            # Not sealed, so no end holds yet, whatever its files say already.
            alive = is_alive(record.process, record.machine.host)
            return msgspec.structs.replace(record, status=Status.STARTED if alive else Status.LOST)
        raise NotFoundError(f"{where} is not in {self.folder}, or has no record.json")

    def records(self) -> Iterator[Record]:
        """All readable records, newest first; what cannot be read is named in `unreadable`."""
        self.unreadable.clear()
        for record_id in reversed(self.list_ids()):
            try:
                yield self.read_record(record_id)
            except (IntegrityError, NotFoundError) as error:
                self.unreadable.append(str(error))

    def find_record(self, name: str) -> Record:
        """The record with that id, or with that unique beginning or end of it.

        Raises:
            NotFoundError: none.
            UsageError: several; names them.
        """
        ids = self.list_ids()
        found = [each for each in ids if each == name] or [e for e in ids if e.startswith(name) or e.endswith(name)]
        if not found or not name:
            raise NotFoundError(f"no record is named {name!r}; `kit records` lists them")
        if len(found) > 1:
            raise UsageError(f"{name!r} names {len(found)} records: {', '.join(found[:5])}…; write more of the id")
        return self.read_record(found[0])

    def newest(self, accept: Callable[[Record], bool]) -> Record | None:
        """The newest record that is accepted."""
        best: Record | None = None
        for record in self.records():
            if best and record.id[:_SECONDS] != best.id[:_SECONDS]:
                break  # ids are in order to the second; within one the records' own times decide
            if accept(record) and (best is None or record.started > best.started):
                best = record
        return best

    def add_release(self, environment: str, record: str, manifest: Manifest, time: datetime, who: str) -> Release:
        """Number a release; two at once get two numbers. The manifest must be in the objects already.

        Raises:
            IntegrityError: the manifest is not in the archive.
        """
        if not self.objects.has(manifest.sha256):
            raise IntegrityError(f"release.json {manifest.sha256[:12]}… is not in the archive's objects")
        taken = [release.number for release in self.list_releases(environment)]
        number = max(taken, default=0) + 1
        while True:
            release = Release(
                id=f"{environment}-{number}",
                environment=environment,
                number=number,
                time=time,
                who=who,
                record=record,
                manifest_sha256=manifest.sha256,
            )
            if create_exclusive(self.releases_folder / f"{release.id}.json", release.encode()):
                return release
            number += 1

    def list_releases(self, environment: str | None = None) -> list[Release]:
        """Releases of one environment or of all, oldest first.

        Raises:
            IntegrityError: one cannot be read.
        """
        found = [_read_release(path) for path in self.releases_folder.glob("[!.]*.json")]
        chosen = [release for release in found if environment in (None, release.environment)]
        return sorted(chosen, key=lambda release: (release.environment, release.number))

    def live_release(self, environment: str) -> Release | None:
        """What is live in an environment: its newest release."""
        releases = self.list_releases(environment)
        return releases[-1] if releases else None

    def find_release(self, release_id: str) -> Release | None:
        """The release of exactly that id, if there is one."""
        return next((release for release in self.list_releases() if release.id == release_id), None)

    def read_manifest(self, release: Release) -> Manifest:
        """A release's manifest, verified against its digest."""
        return decode_manifest(self.objects.read(release.manifest_sha256), f"release {release.id}")


def open_archive(folder: Path, name: str) -> Archive:
    """The archive in a folder, made if there is none.

    Raises:
        IntegrityError: the folder holds an archive of a newer format, or other things.
    """
    marker = folder / "archive.json"
    # Looked at before the marker: another process may be making the same archive just now.
    others = [path.name for path in folder.iterdir() if path.name[:1] != "."] if folder.is_dir() else []
    if not marker.is_file():
        if others:
            raise IntegrityError(f"{folder} is not empty and has no archive.json: choose another folder in [tool.kit]")
        create_exclusive(marker, canonical_json({"format": FORMAT, "name": name}))
    try:
        content = msgspec.json.decode(marker.read_bytes())
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{marker}: expected archive format {FORMAT}, found no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IntegrityError(f"{marker}: expected archive format {FORMAT}, found {content}; update kit")
    return Archive(folder)


def _read_release(path: Path) -> Release:
    try:
        release = msgspec.json.decode(path.read_bytes(), type=Release)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise IntegrityError(f"releases/{path.name} cannot be read: {error}") from error
    if release.id != path.stem or release.id != f"{release.environment}-{release.number}":
        raise IntegrityError(f"releases/{path.name} names itself {release.id!r}")
    return release
