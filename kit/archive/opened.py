"""A record while it is being written, and how it is sealed: only what kit itself wrote, under one statement."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kit.archive.names import JOURNAL, LOG, STATEMENT
from kit.errors import IntegrityError, UsageError
from kit.files import create_together, seal_file, sha256_bytes, sync_folder
from kit.ledger import Kind
from kit.record import Record, Status
from kit.statement import describe_execution

if TYPE_CHECKING:
    from kit.archive.archive import Archive


class OpenRecord:
    """A record that is being written: `records/<id>.open/` until `close` renames it to `records/<id>/`.

    Args:
        archive: that it lies in.
        folder: where.
        started: what was announced of it.
        written: digests of the files that are there already, by their path in the record.
    """

    def __init__(self, archive: Archive, folder: Path, started: Record, written: Mapping[str, str]) -> None:
        self.folder, self.started, self._archive, self._written = folder, started, archive, dict(written)

    def close(self, record: Record, files: dict[str, bytes]) -> None:
        """Seal the record: all its files durable and read-only, stated, entered in the ledger, then one rename. Possible once.

        Args:
            record: closed, with the id that was opened.
            files: further files by their path in the record.

        Raises:
            IntegrityError: something is in its folder that kit did not write, or is not what it wrote.
            UsageError: it was closed already, or as another.
        """
        if record.id != self.started.id or record.status in (Status.STARTED, Status.LOST):
            raise UsageError(f"record {self.started.id} cannot be closed as {record.id}, {record.status}")
        if not self.folder.is_dir():
            raise UsageError(f"record {record.id} was closed already; a record is closed once")
        self._write({**files, "record.json": record.encode()})
        (self.folder / JOURNAL).unlink(missing_ok=True)
        digests = self._seal_files()
        data = self._archive.state(describe_execution(record, digests, self._archive.origin)).encode()
        self._write({STATEMENT: data}, others=[self.folder / name for name in digests if name == LOG])
        self._archive.enter(Kind.END, record, sha256_bytes(data), record.ended or self.started.started)
        self._give_final_name()

    def _write(self, files: Mapping[str, bytes], others: Iterable[Path] = ()) -> None:
        """Durable, as are others that are there already."""
        if taken := create_together(self.folder, files, others):
            raise IntegrityError(f"record {self.started.id}: {', '.join(taken)} was there before kit wrote it")
        self._written |= {name: sha256_bytes(data) for name, data in files.items()}

    def _seal_files(self) -> dict[str, str]:
        """Digests of all files, now read-only; each must be what kit wrote, but for the kernel's log."""
        digests = {}
        for path in self.folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                continue
            name = path.relative_to(self.folder).as_posix()
            digests[name] = seal_file(path)
            if name != LOG and digests[name] != self._written.get(name):
                where = f"record {self.started.id}: {name}"
                raise IntegrityError(f"{where} is not what kit wrote; someone else writes there")
        if missing := self._written.keys() - {LOG} - digests.keys():
            names = ", ".join(sorted(missing))
            raise IntegrityError(f"record {self.started.id}: {names} was removed while the record was written")
        return digests

    def _give_final_name(self) -> None:
        final = self.folder.with_name(self.started.id)
        try:
            os.rename(self.folder, final)  # noqa: PTH104 - fails on a non-empty target
        except FileNotFoundError:
            if not final.is_dir():  # a reader that found the end in the ledger was faster
                raise
        sync_folder(final.parent)
