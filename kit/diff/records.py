"""Two records beside each other: a pure function of what each side left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kit.compare.causes import Cause, find_causes
from kit.compare.volatile import Window
from kit.diff.cells import diff_cells, read_all_outputs, read_cells
from kit.diff.facts import (
    diff_checks,
    diff_inputs,
    diff_mapping,
    diff_metrics,
    diff_outputs_written,
    diff_parameters,
    only_differing,
)
from kit.diff.files import SourceFile, diff_files
from kit.diff.values import CellDiff, Change, Fact, RecordDiff, RecordHead
from kit.record import Record
from kit.tables import flatten_table

# Where and when something was executed, and how long it took, is no difference of what was executed.
_SOFTER_OUTCOME = dict.fromkeys(("wall_s", "kernel_cpu_s", "peak_memory_bytes"), Change.VOLATILE) | {
    "reproduces": Change.ORIGIN
}
_SOFTER_CODE = dict.fromkeys(("commit", "dirty", "build"), Change.ORIGIN)
_SOFTER_MACHINE = dict.fromkeys(("host", "user"), Change.ORIGIN)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One record with all that is left of it.

    Attributes:
        record: the record.
        notebook: its executed notebook; without cells if there is none.
        packages: version by package, None if that is not known.
        sources: the files of its bundle by path; None if the bundle is not there.
        configuration: the effective configuration of its environment; None if it is not there.
        notes: by `notebook`, `packages`, `sources` or `configuration`: what is wrong with it, in one sentence.
    """

    record: Record
    notebook: Mapping[str, Any]
    packages: dict[str, str] | None = None
    sources: dict[str, SourceFile] | None = None
    configuration: dict[str, Any] | None = None
    notes: dict[str, str] = {}


def diff_records(before: Side, after: Side) -> RecordDiff:
    """Everything that two executions have in common and not."""
    old, new = before.record, after.record
    cells = diff_cells(
        read_cells(before.notebook, old.cells),
        read_cells(after.notebook, new.cells),
        read_all_outputs(before.notebook),
        read_all_outputs(after.notebook),
        (_window(old), _window(new)),
    )
    packages = diff_mapping(before.packages or {}, after.packages or {})
    known_packages = before.packages is not None and after.packages is not None
    difference = RecordDiff(
        before=_head(old),
        after=_head(new),
        differs=False,
        causes=_find_causes(before, after),
        parameters=diff_parameters(old.parameters, new.parameters),
        metrics=diff_metrics(old.metrics, new.metrics),
        inputs=diff_inputs(old.inputs, new.inputs),
        outputs=diff_outputs_written(old.outputs, new.outputs),
        checks=diff_checks(old.checks, new.checks),
        cells=cells,
        outcome=diff_mapping(_outcome(old), _outcome(new), _SOFTER_OUTCOME),
        code=diff_mapping(_code(old), _code(new), _SOFTER_CODE),
        files=diff_files(before.sources, after.sources, {old.code.notebook, new.code.notebook}),
        configuration=diff_configurations(before.configuration, after.configuration),
        software=diff_mapping(msgspec.to_builtins(old.software), msgspec.to_builtins(new.software)),
        packages=only_differing(packages) if known_packages else (),
        n_same_packages=sum(fact.change is Change.SAME for fact in packages) if known_packages else 0,
        machine=diff_mapping(_machine(old), _machine(new), _SOFTER_MACHINE),
        determinism=diff_mapping(old.determinism, new.determinism),
        notes=_choose_notes(before, after),
    )
    return msgspec.structs.replace(difference, differs=_differs(difference))


def diff_configurations(before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[Fact, ...]:
    """Two effective configurations key by key, where they differ; nothing if one is not known."""
    if before is None or after is None:
        return ()
    return only_differing(diff_mapping(flatten_table(before), flatten_table(after)))


def _choose_notes(before: Side, after: Side) -> tuple[str, ...]:
    """What is missing, where it is needed: equal digests tell without the bytes that there is no difference."""
    old, new = before.record, after.record
    needless = {"sources"} if old.code.bundle_sha256 == new.code.bundle_sha256 else set()
    if old.configuration_sha256 == new.configuration_sha256:
        needless.add("configuration")
    return tuple(
        f"{side.record.id}: {note}"
        for side in (before, after)
        for key, note in side.notes.items()
        if key not in needless
    )


def _window(record: Record) -> Window | None:
    return (record.started, record.ended) if record.ended else None


def _head(record: Record) -> RecordHead:
    return RecordHead(
        record.id, record.stage, record.environment, record.status, record.started, record.wall_s, record.failure
    )


def _find_causes(before: Side, after: Side) -> tuple[Cause, ...]:
    if before.record.stage != after.record.stage:
        return ()  # what one stage has and another has not explains nothing
    has_packages = before.packages is not None and after.packages is not None
    has_sources = before.sources is not None and after.sources is not None
    has_cells = bool(before.notebook.get("cells") and after.notebook.get("cells"))
    return find_causes(
        before.record,
        after.record,
        before.packages or {} if has_packages else {},
        after.packages or {} if has_packages else {},
        _code_cells(before) if has_cells else {},
        _code_cells(after) if has_cells else {},
        sources_before=_digests(before) if has_sources else {},
        sources_after=_digests(after) if has_sources else {},
    )


def _code_cells(side: Side) -> dict[str, str]:
    """Source by id; the injected parameters are left out, the parameters themselves tell them."""
    cells = (
        cell for cell in read_cells(side.notebook, ()) if cell.kind == "code" and cell.role != "injected-parameters"
    )
    return {cell.id or f"cell {cell.index + 1}": cell.source for cell in cells}


def _digests(side: Side) -> dict[str, str]:
    return {path: file.sha256 for path, file in (side.sources or {}).items()}


def _outcome(record: Record) -> dict[str, Any]:
    usage, failure = record.usage, record.failure
    facts: dict[str, Any] = {"stage": record.stage, "environment": record.environment, "status": record.status.value}
    if failure:
        facts |= {"failure": f"{failure.kind}: {failure.message}", "failed_cell": failure.cell}
    facts |= {"release": record.release} if record.release else {}
    facts |= {"reproduces": record.reproduces} if record.reproduces else {}
    facts |= {"drift": list(record.drift)} if record.drift else {}
    facts["wall_s"] = record.wall_s
    if usage:
        facts |= {"kernel_cpu_s": usage.kernel_cpu_s, "peak_memory_bytes": usage.peak_memory_bytes}
    return facts


def _code(record: Record) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(record.code)
    return facts


def _machine(record: Record) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(record.machine)
    threads: dict[str, Any] = facts.pop("thread_settings")
    return facts | threads


def _differs(difference: RecordDiff) -> bool:
    named = (
        difference.parameters, difference.metrics, difference.inputs, difference.outputs, difference.checks,
        difference.outcome, difference.code, difference.files, difference.configuration, difference.software,
        difference.packages, difference.machine, difference.determinism,
    )  # fmt: skip
    return any(each.change.counts for group in named for each in group) or any(map(cell_differs, difference.cells))


def cell_differs(cell: CellDiff) -> bool:
    """True if a cell's source, end, place or output is another."""
    return cell.change.counts or cell.moved or any(output.change.counts for output in cell.outputs)
