"""A difference as text for the terminal: what differs, section by section; what is the same is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from kit.cli.console import format_when
from kit.cli.terminal import MAX_CHARACTERS, align, count, paint, printable
from kit.diff.values import (
    ArtifactDiff,
    ArtifactFacts,
    CellDiff,
    Change,
    CheckDiff,
    CheckFacts,
    EvidenceDiff,
    Fact,
    FileDiff,
    Line,
    LineKind,
    MetricDiff,
    Output,
    OutputDiff,
    OutputKind,
    ParameterDiff,
    RecordDiff,
    RecordHead,
    ReleaseDiff,
)
from kit.diff.words import tell_difference, tell_relative, tell_value
from kit.files import format_bytes

MAX_LINES = 30  # of one difference; the page and --json have them all
_SIGNS = {
    Change.SAME: " ",
    Change.ORIGIN: "=",
    Change.VOLATILE: "≈",
    Change.CHANGED: "~",
    Change.ADDED: "+",
    Change.REMOVED: "-",
}
_COLOURS = {"+": "green", "-": "red", "~": "yellow"}
_LINE_SIGNS = {LineKind.SAME: " ", LineKind.ADDED: "+", LineKind.REMOVED: "-", LineKind.SKIPPED: "… "}


class Changed(Protocol):
    """Anything that stands in two records."""

    @property
    def change(self) -> Change:
        """How it stands in the second beside the first."""


def describe_record_diff(difference: RecordDiff, *, in_colour: bool = False) -> str:
    """Two records beside each other."""
    d = difference
    heads = align([_head_row("A", d.before), _head_row("B", d.after)], "")
    causes = [f"  {printable(str(cause))}" for cause in d.causes]
    body = [
        *_titled("what differs around them", causes),
        *_section("outcome", d.outcome, _fact_row),
        *_section("parameters", d.parameters, _parameter_row),
        *_section("metrics", d.metrics, _metric_row),
        *_section("inputs", d.inputs, _artifact_row),
        *_section("outputs", d.outputs, _artifact_row),
        *_titled("checks", list(_check_lines(d.checks))),
        *_titled("cells", list(_cell_lines(d.cells))),
        *_titled("what the cells put out", list(_output_lines(d.cells))),
        *_section("code", d.code, _fact_row),
        *_titled("files", list(_file_lines(d.files))),
        *_section("configuration", d.configuration, _fact_row),
        *_section("software", d.software, _fact_row),
        *_section("packages", d.packages, _fact_row),
        *_section("machine", d.machine, _fact_row),
        *_section("determinism", d.determinism, _fact_row),
    ]
    same = _count_same(
        parameters=d.parameters, metrics=d.metrics, inputs=d.inputs, outputs=d.outputs, checks=d.checks,
        cells=[each for each in d.cells if not each.moved],
    )  # fmt: skip
    packages = [count(d.n_same_packages, "package")] if d.n_same_packages else []
    return _finish([*heads, *body], [*same, *packages], d.notes, d.differs, in_colour)


def describe_release_diff(difference: ReleaseDiff, *, in_colour: bool = False) -> str:
    """Two releases beside each other."""
    d = difference
    heads = [
        (
            name,
            head.id,
            f"cut {format_when(head.time)} UTC by {printable(head.who)}",
            f"training {head.training_record}",
        )
        for name, head in (("A", d.before), ("B", d.after))
    ]
    body = [
        *_section("manifest", d.manifest, _fact_row),
        *_section("artifacts", d.artifacts, _artifact_row),
        *_section("metrics", d.metrics, _metric_row),
        *_section("configuration", d.configuration, _fact_row),
        *_titled("evidence", list(_evidence_lines(d.evidence))),
        *_titled("files", list(_file_lines(d.files))),
    ]
    trainings = d.before.training_record, d.after.training_record
    if trainings[0] != trainings[1]:
        body += ["", f"their trainings, cell by cell: kit diff {' '.join(map(printable, trainings))}"]
    same = _count_same(artifacts=d.artifacts, metrics=d.metrics, findings=d.evidence)
    return _finish([*align(heads, ""), *body], same, d.notes, d.differs, in_colour)


def _finish(lines: Iterable[str], same: list[str], notes: Sequence[str], differs: bool, in_colour: bool) -> str:
    end = [] if differs else ["", "no difference" + ("" if not notes else " in what could be compared")]
    end += ["", f"the same: {', '.join(same)}"] if same else []
    end += ["", *(f"note: {printable(note)}" for note in notes)] if notes else []
    return "\n".join(_paint(line, in_colour) for line in [*lines, *end])


def _paint(line: str, in_colour: bool) -> str:
    """By the sign, which stands in the third column, or in the seventh where lines are shown."""
    sign = line[2:3] if line[2:3].strip() else line[6:7]
    colour = _COLOURS.get(sign) if line.startswith("  ") else None
    return paint(line, colour, in_colour=in_colour) if colour else line


def _head_row(name: str, head: RecordHead) -> tuple[str, ...]:
    seconds = f"{head.wall_s:.1f} s" if head.wall_s is not None else "never closed"
    where = printable(f"{head.stage} in {head.environment}")
    return name, printable(head.id), where, head.status.value, f"{format_when(head.started)} UTC", seconds


def _titled(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _section(title: str, found: Iterable[Any], row: Callable[[Any], tuple[str, ...]]) -> list[str]:
    rows = [row(each) for each in found if each.change is not Change.SAME]
    return _titled(title, align(rows))


def _count_same(**groups: Sequence[Changed]) -> list[str]:
    counts = {name: sum(each.change is Change.SAME for each in group) for name, group in groups.items()}
    return [f"{n} {name.removesuffix('s') if n == 1 else name}" for name, n in counts.items() if n]


def _fact_row(fact: Fact) -> tuple[str, ...]:
    return _SIGNS[fact.change], printable(fact.name), _between(fact.change, fact.name, fact.before, fact.after)


def _parameter_row(each: ParameterDiff) -> tuple[str, ...]:
    sources = list(dict.fromkeys(filter(None, (each.source_before, each.source_after))))
    values = _between(Change.SAME if each.change is Change.ORIGIN else each.change, "", each.before, each.after)
    return _SIGNS[each.change], printable(each.name), values, f"from the {' → '.join(sources)}"


def _metric_row(each: MetricDiff) -> tuple[str, ...]:
    values = _between(each.change, "", each.before, each.after)
    return _SIGNS[each.change], printable(each.name), values, tell_difference(each), tell_relative(each)


def _artifact_row(each: ArtifactDiff) -> tuple[str, ...]:
    sides = [_tell_artifact(side) for side in (each.before, each.after) if side]
    if each.change is Change.ORIGIN:
        sides = [_tell_artifact(each.before, with_origin=False) if each.before else ""]
    origins = list(dict.fromkeys(side.origin for side in (each.before, each.after) if side and side.origin))
    origin = f"from {' → '.join(map(printable, origins))}" if origins else ""
    return _SIGNS[each.change], printable(each.name), " → ".join(sides), origin


def _tell_artifact(side: ArtifactFacts, with_origin: bool = True) -> str:
    return f"{side.sha256[:12]} {format_bytes(side.size_bytes)}" if with_origin else f"{side.sha256[:12]}, same bytes"


def _between(change: Change, name: str, before: Any, after: Any) -> str:
    match change:
        case Change.ADDED:
            return _tell(name, after)
        case Change.REMOVED | Change.SAME:
            return _tell(name, before)
    return f"{_tell(name, before)} → {_tell(name, after)}"


def _tell(name: str, value: Any) -> str:
    return printable(tell_value(name, value), 80)


def _check_lines(checks: Iterable[CheckDiff]) -> Iterator[str]:
    changed = [each for each in checks if each.change is not Change.SAME]
    for each in changed:
        sides = list(dict.fromkeys(_tell_check(side) for side in (each.before, each.after) if side))
        yield f"  {_SIGNS[each.change]} {printable(each.artifact)}  {' → '.join(sides)}"
        for fact in each.expectations:
            yield f"      {_SIGNS[fact.change]} {printable(fact.name)}: {_between(fact.change, '', *_findings(fact))}"


def _findings(fact: Fact) -> tuple[Any, Any]:
    """Only what differs of an expectation's result."""
    before, after = fact.before or {}, fact.after or {}
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return tuple({key: side[key] for key in keys if key in side} for side in (before, after))  # type: ignore[return-value]


def _tell_check(side: CheckFacts) -> str:
    problems = f": {printable('; '.join(side.problems))}" if side.problems else ""
    verdict = "passed" if side.passed else "failed"
    return f"{verdict}, {count(side.n_expectations, 'expectation')} on {count(side.n_rows, 'row')}{problems}"


def _cell_lines(cells: Iterable[CellDiff]) -> Iterator[str]:
    for each in cells:
        if not each.change.counts and not each.moved:
            continue
        yield f"  {_SIGNS[each.change] if each.change.counts else '~'} {_name_cell(each)}{_tell_cell(each)}"
        yield from _diff_lines(each.lines)


def _name_cell(each: CellDiff) -> str:
    cell = next(side for side in (each.after, each.before) if side)
    role = f", {cell.role.replace('-', ' ')}" if cell.role else f", {cell.kind}" if cell.kind != "code" else ""
    return f"cell {cell.index + 1}{role}"


def _tell_cell(each: CellDiff) -> str:
    if each.before is None or each.after is None:
        return f" {each.change.value}"
    told = f" moved, is cell {each.before.index + 1} of A" if each.moved else ""
    if each.before.status != each.after.status:
        told += f" {each.before.status or 'not known'} → {each.after.status or 'not known'}"
    return told


def _output_lines(cells: Iterable[CellDiff]) -> Iterator[str]:
    for each in cells:
        for index, output in enumerate(each.outputs, 1):
            if output.change.counts:
                yield f"  {_SIGNS[output.change]} {_name_cell(each)}, output {index}: {_tell_output(output)}"
                yield from _diff_lines(output.lines)
    n_volatile = sum(output.change is Change.VOLATILE for each in cells for output in each.outputs)
    if n_volatile:
        yield f"  ≈ {n_volatile} more differ{'s' if n_volatile == 1 else ''} only in times, addresses, paths and the like"


def _tell_output(output: OutputDiff) -> str:
    kinds = list(dict.fromkeys(_kind_of(side) for side in (output.before, output.after) if side))
    if output.detail:
        return f"{' → '.join(kinds)}, {printable(output.detail)}"
    if output.change is Change.CHANGED and not output.lines:
        return f"{' → '.join(kinds)}, sha256 " + " → ".join(
            side.sha256[:12] for side in (output.before, output.after) if side
        )
    return " → ".join(kinds)


def _kind_of(output: Output) -> str:
    return f"picture {output.media_type}" if output.kind is OutputKind.PICTURE else output.kind.value


def _file_lines(files: Iterable[FileDiff]) -> Iterator[str]:
    for each in files:
        yield f"  {_SIGNS[each.change]} {printable(each.path)}"
        yield from _diff_lines(each.lines)


def _evidence_lines(evidence: Iterable[EvidenceDiff]) -> Iterator[str]:
    for each in evidence:
        if each.change is Change.SAME:
            continue
        findings = list(dict.fromkeys(filter(None, (each.finding_before, each.finding_after))))
        yield f"  {_SIGNS[each.change]} {printable(f'{each.kind} {each.subject}')}  {' → '.join(findings)}"
        for sign, detail in (("-", each.detail_before), ("+", each.detail_after)):
            if detail:
                yield f"      {sign}{printable(detail)}"


def _diff_lines(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines[:MAX_LINES]:
        yield f"      {_LINE_SIGNS[line.kind]}{_cut(line)}".rstrip()
    if len(lines) > MAX_LINES:
        yield f"      … {count(len(lines) - MAX_LINES, 'more line')}; --html and --json have them all"


def _cut(line: Line) -> str:
    """A line from where it differs, if that is too far right to be seen."""
    start = line.marks[0][0] if line.marks else 0
    if len(line.text) <= MAX_CHARACTERS or start < MAX_CHARACTERS // 2:
        return printable(line.text)
    return "…" + printable(line.text[start - MAX_CHARACTERS // 4 :])
