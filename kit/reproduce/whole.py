"""Doing a record, or the whole way to a release, again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter

from kit.archive import Archive
from kit.errors import IntegrityError, NotFoundError, UnknownSubjectError, UsageError
from kit.execute import Workbench
from kit.graph import RELEASE
from kit.lineage import Code, read_lineage
from kit.record import Record
from kit.release import PROBES, Probes
from kit.reproduce.elsewhere import find_obstacle, reproduce_elsewhere
from kit.reproduce.findings import Finding, Report, Reproduction
from kit.reproduce.plan import read_manifest_of, require_result
from kit.reproduce.shell import RealShell, Shell
from kit.reproduce.stage import reproduce_record

RELEASE_PREFIX = "release:"


def reproduce(
    workbench: Workbench,
    subject: str,
    *,
    with_recorded_packages: bool = True,
    again: Mapping[str, str] | None = None,
    probes: Probes = PROBES,
    shell: Shell | None = None,
) -> Report:
    """Do a record again, or everything from raw data to a release, each stage on what the ones before made again.

    Args:
        workbench: project, archive and collaborators.
        subject: any unique beginning or end of a record's id, or `release:<id>`.
        with_recorded_packages: rebuild the packages that were installed then, where others are installed here.
        again: ids of reproductions to read from, by the id of the record that they did again.
        probes: for a release: load and query models, check data.
        shell: starts other programs.

    Raises:
        UnknownSubjectError: there is no such record or release.
        UsageError: the record did not succeed; or what `again` names did not do that record again.
    """
    archive = workbench.archive

    def do(record: Record, done: Mapping[str, Record]) -> Reproduction:
        require_result(record)
        if with_recorded_packages:
            differences, obstacle = find_obstacle(workbench, record)
            if obstacle:
                return Reproduction(record=record.id, stage=record.stage, findings=(obstacle,))
            if differences:
                return reproduce_elsewhere(workbench, record, done, differences, shell or RealShell())
        return reproduce_record(workbench, record, done, probes)

    if not subject.startswith(RELEASE_PREFIX):
        if archive.find_release(subject):
            raise UsageError(
                f"{subject} is a release: `kit reproduce {RELEASE_PREFIX}{subject}` does all behind it again"
            )
        record = archive.find_record(subject)
        return Report(record.id, (do(record, _read_again(archive, again or {})),))
    release = archive.find_release(subject.removeprefix(RELEASE_PREFIX))
    if release is None:
        raise UnknownSubjectError(f"{subject.removeprefix(RELEASE_PREFIX)!r} is no release; `kit releases` lists them")
    return _reproduce_chain(archive, f"{RELEASE_PREFIX}{release.id}", archive.read_record(release.record), do)


def _read_again(archive: Archive, names: Mapping[str, str]) -> dict[str, Record]:
    again = {record_id: archive.read_record(name) for record_id, name in names.items()}
    for record_id, record in again.items():
        if record.reproduces != record_id or not record.succeeded:
            raise UsageError(
                f"{record.id} did not do {record_id} again with success; its outputs cannot stand for those"
            )
    return again


def _reproduce_chain(
    archive: Archive, subject: str, last: Record, do: Callable[[Record, Mapping[str, Record]], Reproduction]
) -> Report:
    try:
        chain = list_chain(archive, last)
    except (NotFoundError, IntegrityError) as error:
        code = Code.INPUT_NOT_AVAILABLE if isinstance(error, NotFoundError) else Code.INPUT_CHANGED
        found = Reproduction(record=last.id, stage=last.stage, findings=(Finding(code, "", str(error)),))
        return Report(subject, (found,))
    stages: list[Reproduction] = []
    again: dict[str, Record] = {}
    for record in chain:
        stages.append(do(record, again))
        if not stages[-1].is_executed:
            break
        again[record.id] = archive.read_record(stages[-1].again)
    return Report(subject, tuple(stages), tuple(record.id for record in chain[len(stages) :]))


def list_chain(archive: Archive, last: Record) -> list[Record]:
    """A record and all that it rests on, producers first: its inputs' records, builds, the training that a release took.

    Raises:
        NotFoundError: one is not in the archive.
        IntegrityError: one cannot be read, did not write what was read from it, or rests on itself.
    """
    found: dict[str, Record] = {}
    needs: dict[str, set[str]] = {}
    waiting = [last]
    while waiting:
        for record in read_lineage(archive, waiting.pop()):
            if record.id in found:
                continue
            found[record.id] = record
            others = _rests_on(archive, record)
            needs[record.id] = others
            waiting += [archive.read_record(name) for name in sorted(others) if name not in found]
    sorter = TopologicalSorter(
        {name: sorted(needs[name]) for name in sorted(needs, key=lambda name: found[name].started)}
    )
    try:
        return [found[name] for name in sorter.static_order()]
    except CycleError as error:
        raise IntegrityError(f"these records rest on each other: {', '.join(error.args[1])}") from error


def _rests_on(archive: Archive, record: Record) -> set[str]:
    names = {each.record for each in record.inputs} | {record.code.build or ""}
    if record.stage == RELEASE:
        names.add(read_manifest_of(archive, record).training_record)
    return names - {""}
