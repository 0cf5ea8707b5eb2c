"""One record or release as text, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cli.console import format_when
from kit.cli.terminal import count, printable
from kit.files import format_bytes
from kit.gate import Manifest, Release
from kit.lineage import Again
from kit.record import CellStatus, Record

if TYPE_CHECKING:
    from kit.release.life import ReleaseLife, UsedWaiver

N_LAST_LINES = 20


def describe_record(
    record: Record,
    folder: Path,
    notebook: Mapping[str, Any] | None = None,
    signature: str = "",
    reproductions: Sequence[Again] = (),
    attempts: Sequence[Record] = (),
) -> str:
    """Everything a person wants to know: what happened first, then what went in and came out.

    Args:
        record: the record.
        folder: where its files lie.
        notebook: of a record that was never closed, to show what it had put out.
        signature: who vouches for it, in a sentence.
        reproductions: those that did it again; of a reproduction also what it found itself.
        attempts: those of its earlier attempts that can be read.
    """
    lines = [f"{record.id}  {record.status.upper()}"]
    if record.failure:
        cell = f" in cell {record.failure.cell + 1} of executed.ipynb" if record.failure.cell is not None else ""
        lines.append(f"  {record.failure.kind}{cell}: {record.failure.message}")
    own = [("compared", _tell_comparison(each)) for each in reproductions if each.again == record.id]
    if record.reproduces and not own:
        own = [("compared", "the ledger tells of no comparison")]
    lines += _section("", [*_facts(record), *own, *([("signature", signature)] if signature else [])])
    lines += _section("earlier attempts", list(_attempt_rows(record, attempts)))
    lines += _section("drift: differed from the release, allowed", [(printable(each, None),) for each in record.drift])
    lines += _section("done again", [_again_row(each) for each in reproductions if each.record == record.id])
    lines += _section("parameters", [(p.name, f"{p.value!r}", f"from the {p.source}") for p in record.parameters])
    lines += _section("inputs", [_artifact_row(i.artifact, i.origin) for i in record.inputs])
    lines += _section("outputs", [_artifact_row(artifact, "") for artifact in record.outputs])
    lines += _section("metrics", [(name, _number(value)) for name, value in record.metrics.items()])
    lines += _section("checks", [_check_row(check) for check in record.checks])
    lines += _section(f"output, last {N_LAST_LINES} lines", [(line,) for line in _last_lines(notebook or {})])
    lines += ["", f"files: {folder}"]
    return "\n".join(lines)


def _last_lines(notebook: Mapping[str, Any]) -> list[str]:
    texts = (output.get("text", "") for cell in notebook.get("cells", ()) for output in cell.get("outputs", ()))
    return "".join("".join(text) for text in texts).splitlines()[-N_LAST_LINES:]


def _facts(record: Record) -> Iterator[tuple[str, ...]]:
    seconds = f"{record.wall_s:.1f} s" if record.wall_s is not None else "never closed"
    done = sum(cell.status is CellStatus.SUCCEEDED for cell in record.cells)
    yield "stage", f"{record.stage} in {record.environment}" + (f", release {record.release}" if record.release else "")
    yield "started", f"{format_when(record.started)} UTC, {seconds}"
    if record.reproduces:
        yield "does again", record.reproduces
    if record.sweep:
        yield "sweep", record.sweep[:12]
    if record.cells:
        yield "cells", f"{done} of {len(record.cells)} succeeded"
    state = "dirty" if record.code.dirty else "clean"
    commit = f"commit {record.code.commit[:12]}, {state}" if record.code.commit else "not in git"
    yield (
        "code",
        f"bundle {record.code.bundle_sha256[:12]}, {commit}"
        + (f", built by {record.code.build}" if record.code.build else ""),
    )
    if record.key:
        yield "key", record.key[:12]
    software = record.software
    yield "software", f"kit {software.kit_version}, {record.machine.python}, {count(software.n_packages, 'package')}"
    yield (
        "machine",
        f"{record.machine.user}@{record.machine.host}, {record.machine.n_cpus} × {record.machine.cpu_model}",
    )
    if record.start:
        preloaded = f", after import of {', '.join(record.preloaded)}" if record.preloaded else ""
        yield "start", printable(f"{record.start}{preloaded}", None)
    if record.usage and record.usage.peak_memory_bytes:
        cpu = f", {record.usage.kernel_cpu_s:.1f} s of CPU" if record.usage.kernel_cpu_s is not None else ""
        yield "kernel", f"{format_bytes(record.usage.peak_memory_bytes)} at most{cpu}"


def _attempt_rows(record: Record, attempts: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    """Each earlier attempt and how it ended."""
    known = {each.id: each for each in attempts}
    for name in record.attempts:
        each = known.get(name)
        failure = f"{each.failure.kind}: {each.failure.message}" if each and each.failure else ""
        when = format_when(each.ended) if each else ""
        texts = (name, each.status if each else "cannot be read here", f"{when} UTC" if when else "", failure)
        yield tuple(map(printable, texts))


def _tell_comparison(again: Again) -> str:
    parts = [f"level {again.level}", again.verdict, again.reason, f"comparison {again.signature}"]
    return printable("; ".join(filter(None, parts)), None)


def _again_row(again: Again) -> tuple[str, ...]:
    by = f"by {again.who}, {format_when(again.time)} UTC"
    texts = (again.again, again.level, again.verdict, by, again.signature, again.reason)
    return tuple(printable(text, None) for text in texts)


def _artifact_row(artifact: Any, origin: str) -> tuple[str, ...]:
    return artifact.name, f"sha256 {artifact.sha256[:12]}", format_bytes(artifact.size_bytes), origin


def _check_row(check: Any) -> tuple[str, ...]:
    verdict = "passed" if check.passed else "FAILED: " + "; ".join(check.problems)
    warnings = f", {count(len(check.warnings), 'warning')}" if check.warnings else ""
    looked_at = f"{count(len(check.expectations), 'expectation')} on {count(check.n_rows, 'row')}"
    return check.artifact, f"{verdict}{warnings}", looked_at


def describe_release(release: Release, manifest: Manifest, signature: str = "", life: ReleaseLife | None = None) -> str:
    """What a release pins, on what evidence, who vouches for it (a sentence), and what became of it."""
    is_live = "  LIVE" if life and life.live else ""
    lines = [f"{release.id}{is_live}  cut {format_when(release.time)} UTC by {release.who}"]
    facts = [
        ("code", f"bundle {manifest.bundle_sha256[:12]}, commit {(manifest.commit or 'none')[:12]}"),
        ("training", manifest.training_record),
        ("cut by", release.record),
        *([("signature", signature)] if signature else []),
        ("configuration", f"sha256 {manifest.configuration_sha256[:12]}"),
        *([("promoted", f"from {manifest.promoted_from}")] if manifest.promoted_from else []),
        *([("promoted", f"as {', '.join(life.promoted_as)}")] if life and life.promoted_as else []),
    ]
    lines += _section("", facts)
    lines += _section("waivers", [_waiver_row(each) for each in life.waivers] if life else [])
    lines += _section("live", list(_live_rows(life)) if life else [])
    lines += _section("artifacts", [_artifact_row(artifact, "") for artifact in manifest.artifacts])
    lines += _section("metrics", [(name, _number(value)) for name, value in manifest.metrics.items()])
    lines += _section("gate", [(e.finding.value, e.kind, e.subject, e.detail) for e in manifest.verdict.evidence])
    return "\n".join(lines)


def _waiver_row(used: UsedWaiver) -> tuple[str, ...]:
    waiver = used.waiver
    return waiver.evidence, used.state, f"by {waiver.who}", printable(waiver.reason, None)


def _live_rows(life: ReleaseLife) -> Iterator[tuple[str, ...]]:
    """When it was live and why, newest first; behind each what ended it, if that was a rollback."""
    for each in life.intervals:
        to = f"to {format_when(each.live_to)}" if each.live_to else "until now"
        yield (
            f"from {format_when(each.live_from)}",
            to,
            f"by {each.who}",
            printable(f"{each.why} {each.problem}".strip(), None),
        )
        for after in life.rollbacks:
            if after.live_from == each.live_to:
                reason = printable(after.reason or after.problem, None)
                yield "", "", f"by {after.who}", f"rolled back to {after.release}: {reason}"


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(max(map(len, rows)))]
    body = ["  " + "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    return ["", title, *body] if title else body


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
