"""Comparing an execution with the one that did it again: outputs, metrics and cells, by the comparators of its own sources."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from kit.archive import RELEASE_FILE, Archive
from kit.artifact import Artifact
from kit.bundle import Bundle
from kit.compare import (
    Agreement,
    Comparator,
    Comparison,
    compare_cells,
    compare_metrics,
    compare_outputs,
    read_comparators,
)
from kit.compare.comparator import CELLS, METRICS, comparator_of
from kit.errors import IntegrityError, KitError, NotFoundError
from kit.execute import read_notebook_of
from kit.execute.sources import bundle_of
from kit.lineage import Code
from kit.notebook import read_notebook
from kit.record import Record
from kit.reproduce.findings import Finding
from kit.reproduce.manifest import compare_manifests
from kit.reproduce.names import Names

PYPROJECT = "pyproject.toml"
_MANIFEST = "release"  # how release.json is compared


class Judgement(msgspec.Struct, frozen=True):
    """What comparing two executions found; see `kit.reproduce.findings.Reproduction`."""

    outputs: tuple[Comparison, ...]
    metrics: tuple[Comparison, ...]
    cells: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def judge_records(archive: Archive, before: Record, after: Record, names: Names) -> Judgement:
    """Compare two executions.

    Args:
        archive: holds both.
        before: the record that was done again.
        after: the one that did it again, succeeded.
        names: what earlier reproductions stand for; those of this one are added.
    """
    comparators, notes = _read_comparators(archive, before)
    outputs = tuple(_judge_outputs(archive, before, after, comparators, names))
    names.add_record(before, after)
    metrics = compare_metrics(before.metrics, after.metrics, comparators)
    cells, broken = _judge_cells(archive, before, after, comparators, names)
    findings = [finding for _, finding in outputs if finding] + broken
    findings += [
        Finding(code, comparison.subject.partition(".")[2], f"by {comparison.comparator}: {comparison.detail}")
        for code, comparisons in ((Code.METRIC_DIFFERS, metrics), (Code.CELL_DIFFERS, cells))
        for comparison in comparisons
        if not comparison.holds
    ]
    compared = [*(comparison for comparison, _ in outputs), *metrics, *cells]
    if all(comparison.agreement is Agreement.IGNORED for comparison in compared):
        findings.append(Finding(Code.NOTHING_COMPARED, "", "it has no output, metric or cell that is not ignored"))
    return Judgement(tuple(comparison for comparison, _ in outputs), metrics, cells, tuple(findings), notes)


def _read_comparators(archive: Archive, record: Record) -> tuple[dict[str, Comparator], tuple[str, ...]]:
    """The comparators that the record's own sources declare, so that a later loosening does not count."""
    bundle = bundle_of(archive, record)
    where = f"{PYPROJECT} of the bundle of {record.id}"
    try:
        comparators = read_comparators(bundle.read(PYPROJECT), where) if PYPROJECT in bundle.names() else {}
    except KitError as error:
        return {}, (f"all was compared without tolerance: {error}",)
    known = _list_subjects(bundle)
    strange = [name for name in comparators if name not in known and not name.startswith(METRICS)]
    return comparators, tuple(f"the comparator of {name!r} ({where}) names no output or cell" for name in strange)


def _list_subjects(bundle: Bundle) -> set[str]:
    graph = bundle.read_graph()
    cells = {
        CELLS + str(cell.get("id"))
        for stage in graph.stages
        for cell in read_notebook(bundle.read(stage.notebook), stage.notebook)["cells"]
    }
    return cells | {name for stage in graph.stages for name in stage.outputs}


def _judge_outputs(
    archive: Archive, before: Record, after: Record, comparators: Mapping[str, Comparator], names: Names
) -> Iterator[tuple[Comparison, Finding | None]]:
    for name in dict.fromkeys(artifact.name for artifact in (*before.outputs, *after.outputs)):
        old, new, declared = before.output(name), after.output(name), comparators.get(name)
        told = str(declared or (_MANIFEST if name == RELEASE_FILE else comparator_of(name)))
        code = Code.OUTPUT_DIFFERS
        if old is None or new is None:
            detail = "it is not written any more" if new is None else "it was not written then"
            comparison = Comparison(name, told, Agreement.DIFFERENT, detail)
        elif old.sha256 == new.sha256:
            comparison = Comparison(name, told, Agreement.IDENTICAL)
        else:
            comparison, code = _compare_artifacts(archive, old, new, comparators, names)
        is_broken = not comparison.holds
        yield comparison, Finding(code, name, f"by {comparison.comparator}: {comparison.detail}") if is_broken else None


def _compare_artifacts(
    archive: Archive, before: Artifact, after: Artifact, comparators: Mapping[str, Comparator], names: Names
) -> tuple[Comparison, Code]:
    """Compare two versions of an output; the code is that of the finding, should they not agree."""
    name, declared = before.name, comparators.get(before.name)
    code = Code.OUTPUT_DIFFERS
    with tempfile.TemporaryDirectory(prefix="kit-reproduce-") as folder:
        old, new = Path(folder, "before"), Path(folder, "after")
        try:
            archive.objects.copy_artifact(before, old)
        except (NotFoundError, IntegrityError) as error:
            code = Code.INPUT_NOT_AVAILABLE if isinstance(error, NotFoundError) else Code.INPUT_CHANGED
            comparator = str(declared or comparator_of(name))
            return Comparison(name, comparator, Agreement.UNREADABLE, f"what it is compared with: {error}"), code
        archive.objects.copy_artifact(after, new)
        if name != RELEASE_FILE or declared:
            return compare_outputs(name, old, new, declared), code
        try:
            agreement, detail = compare_manifests(old.read_bytes(), new.read_bytes(), names, comparators)
        except IntegrityError as error:
            agreement, detail = Agreement.UNREADABLE, str(error)
        return Comparison(name, _MANIFEST, agreement, detail), code


def _judge_cells(
    archive: Archive, before: Record, after: Record, comparators: Mapping[str, Comparator], names: Names
) -> tuple[tuple[Comparison, ...], list[Finding]]:
    windows = tuple((record.started, record.ended) if record.ended else None for record in (before, after))
    try:
        old = read_notebook_of(before, archive)
    except (KitError, OSError) as error:
        return (), [Finding(Code.INPUT_CHANGED, "", f"what its cells are compared with: {error}")]
    new = names.translate(read_notebook_of(after, archive))
    return compare_cells(old, new, comparators, windows=(windows[0], windows[1])), []
