"""Judging a release again: the same gate, over the evidence that there was when the release was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from kit.archive import Archive
from kit.bundle import Bundle
from kit.environment import Environment
from kit.execute import Workbench
from kit.gate import Manifest
from kit.ledger import Entry, Kind
from kit.record import Record
from kit.release import Probes, judge_candidate
from kit.release.bound_data import bind_as_judged
from kit.release.evidence import LIVE
from kit.workspace import GateContext


class ArchiveThen(Archive):
    """An archive as a past execution saw it: releases, rollbacks and waivers of then, and the builds that there were.

    Args:
        archive: as it is now.
        record: the execution.
    """

    def __init__(self, archive: Archive, record: Record) -> None:
        super().__init__(archive.folder, archive.origin, archive.key, index=archive.index)
        starts = [entry.seq for entry in archive.tell_of(record.id) if entry.kind is Kind.START]
        self._started, self._start = record.started, min(starts, default=0)  # no start: it came from another archive

    def _choose(self, entries: Iterator[Entry], accept: Callable[[Record], bool]) -> Record | None:
        """The newest record of then that is accepted."""
        return super()._choose(entries, lambda record: record.started <= self._started and accept(record))

    def tell(self, *kinds: Kind) -> Iterator[Entry]:
        """The ledger's entries of some kinds up to then, newest first."""
        return filter(self._was_before, super().tell(*kinds))

    def _was_before(self, entry: Entry) -> bool:
        return entry.seq < self._start if self._start else entry.time <= self._started


def judge_again(
    workbench: Workbench,
    record: Record,
    environment: Environment,
    bundle: Bundle,
    manifest: Manifest,
    again: Mapping[str, Record],
    probes: Probes,
) -> GateContext:
    """The gate's verdict on the training that a release took, or on the one that did it again.

    Args:
        workbench: project, archive and collaborators.
        record: of the execution that cut the release.
        environment: as it was then.
        bundle: that the record executed.
        manifest: that it wrote.
        again: reproductions by the id of the record that they did again.
        probes: load and query models, check data.

    Raises:
        NotFoundError: the training is not in the archive.
    """
    training = again.get(manifest.training_record) or workbench.archive.read_record(manifest.training_record)
    then = ArchiveThen(workbench.archive, record)
    workbench.notify(f"gate of {environment.name}: judging {training.id}, as of {record.id}")
    verdict = judge_candidate(
        then,
        environment,
        training,
        bundle,
        bind_as_judged(then, manifest.verdict),
        probes,
        workbench.trusted_keys,
        promoted_from=manifest.promoted_from,
        moment=record.started,
        stands_for=manifest.training_record,
    )
    if not manifest.python:  # an older kit did not tell what it compared with
        subjects = {name: sha256 for name, sha256 in verdict.subjects.items() if name != LIVE}
        verdict = msgspec.structs.replace(verdict, live="", subjects=subjects)
    admitted = msgspec.structs.replace(
        manifest,
        training_record=training.id,
        artifacts=training.outputs,
        lock_sha256=training.software.lock_sha256,
        metrics=training.metrics,
        verdict=verdict,
        python=training.machine.python if manifest.python else "",
    )
    return GateContext(verdict, admitted if verdict.passed else None)
