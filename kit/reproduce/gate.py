"""Judging a release again: the same gate, over the evidence that there was when the release was cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from kit.archive import Archive
from kit.bundle import Bundle
from kit.environment import Environment
from kit.execute import Workbench
from kit.gate import Manifest, Release
from kit.ledger import Entry, Kind
from kit.record import Record
from kit.release import Probe, judge_candidate
from kit.workspace import GateContext


class ArchiveThen(Archive):
    """An archive as a past execution saw it: what was live then, and the builds that there were.

    Args:
        archive: as it is now.
        record: the execution.
    """

    def __init__(self, archive: Archive, record: Record) -> None:
        super().__init__(archive.folder, archive.origin, archive.key)
        starts = (e.seq for e in archive.ledger.read_entries() if e.record == record.id and e.kind is Kind.START)
        self._started, self._start = record.started, next(starts, 0)  # no start: it came from another archive

    def newest(self, accept: Callable[[Record], bool]) -> Record | None:
        """The newest record of then that is accepted."""
        return super().newest(lambda record: record.started <= self._started and accept(record))

    def live_release(self, environment: str) -> Release | None:
        """What was live in an environment then."""
        names = {e.release for e in self.ledger.read_entries() if e.kind is Kind.RELEASE and self._was_before(e)}
        return next((each for each in reversed(self.list_releases(environment)) if each.id in names), None)

    def _was_before(self, entry: Entry) -> bool:
        return entry.seq < self._start if self._start else entry.time <= self._started


def judge_again(
    workbench: Workbench,
    record: Record,
    environment: Environment,
    bundle: Bundle,
    manifest: Manifest,
    again: Mapping[str, Record],
    probe: Probe,
) -> GateContext:
    """The gate's verdict on the training that a release took, or on the one that did it again.

    Args:
        workbench: project, archive and collaborators.
        record: of the execution that cut the release.
        environment: as it was then.
        bundle: that the record executed.
        manifest: that it wrote.
        again: reproductions by the id of the record that they did again.
        probe: loads and queries the model.

    Raises:
        NotFoundError: the training is not in the archive.
    """
    training = again.get(manifest.training_record) or workbench.archive.read_record(manifest.training_record)
    then = ArchiveThen(workbench.archive, record)
    workbench.notify(f"gate of {environment.name}: judging {training.id}, as of {record.id}")
    verdict = judge_candidate(then, environment, training, bundle, probe, workbench.trusted_keys)
    admitted = msgspec.structs.replace(
        manifest,
        training_record=training.id,
        artifacts=training.outputs,
        lock_sha256=training.software.lock_sha256,
        metrics=training.metrics,
        verdict=verdict,
    )
    return GateContext(verdict, admitted if verdict.passed else None)
