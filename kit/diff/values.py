"""What differs between two records or two releases, as values."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec

from kit.compare.causes import Cause
from kit.record import Failure, Status

FORMAT = 1


class Change(enum.StrEnum):
    """How one thing stands in the second beside the first.

    `ORIGIN`: the same, from elsewhere (another source of a value, another record that wrote the same bytes).
    `VOLATILE`: only in what changes every time (durations, memory, times and addresses in texts).
    """

    SAME = "same"
    ORIGIN = "origin"
    VOLATILE = "volatile"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"

    @property
    def counts(self) -> bool:
        """True if it makes the two different."""
        return self in (Change.CHANGED, Change.ADDED, Change.REMOVED)


class LineKind(enum.StrEnum):
    """What a line of a difference is; `SKIPPED` stands for lines that are not shown and says how many."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"
    SKIPPED = "skipped"


class Line(msgspec.Struct, frozen=True):
    """One line of a unified difference.

    Attributes:
        kind: on which side it stands.
        text: without its end.
        marks: (start, end) of the characters that differ from the line it stands against; empty: the whole line.
    """

    kind: LineKind
    text: str
    marks: tuple[tuple[int, int], ...] = ()


class Fact(msgspec.Struct, frozen=True):
    """One named value on both sides; a side that does not have it has None and the change says so."""

    name: str
    change: Change
    before: Any = None
    after: Any = None


class ParameterDiff(msgspec.Struct, frozen=True):
    """One parameter; the sources are `notebook`, `environment`, `command line`, empty on a side that lacks it."""

    name: str
    change: Change
    before: Any = None
    after: Any = None
    source_before: str = ""
    source_after: str = ""


class MetricDiff(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: of the metric.
        change: whether it differs.
        before: its value; None if it has none.
        after: its value; None if it has none.
        difference: after − before, in the metric's unit; None unless both are numbers.
        relative: the difference as a fraction of |before|; None also if that is 0.
    """

    name: str
    change: Change
    before: float | int | bool | str | None = None
    after: float | int | bool | str | None = None
    difference: float | None = None
    relative: float | None = None


class ArtifactFacts(msgspec.Struct, frozen=True):
    """One side's bytes of an artifact; `origin` is the record or location of an input, empty for an output."""

    sha256: str
    size_bytes: int
    origin: str = ""


class ArtifactDiff(msgspec.Struct, frozen=True):
    """One input or output."""

    name: str
    change: Change
    before: ArtifactFacts | None = None
    after: ArtifactFacts | None = None


class CheckFacts(msgspec.Struct, frozen=True):
    """One side's check of an artifact."""

    passed: bool
    suite_sha256: str
    n_rows: int
    n_expectations: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class CheckDiff(msgspec.Struct, frozen=True):
    """One check, with those of its expectations that do not read the same on both sides."""

    artifact: str
    change: Change
    before: CheckFacts | None = None
    after: CheckFacts | None = None
    expectations: tuple[Fact, ...] = ()


class OutputKind(enum.StrEnum):
    """How an output of a cell is shown: terminal text, a picture, HTML, the text of an exception."""

    TEXT = "text"
    PICTURE = "picture"
    RICH = "rich"
    ERROR = "error"


class Output(msgspec.Struct, frozen=True):
    """One output of a cell in its richest form.

    Attributes:
        kind: how it is shown.
        media_type: of the content; `stdout` and `stderr` are `text/plain`.
        content: the text, HTML or SVG itself, base64 of another picture.
        text: what a terminal shows; empty for a picture without a text of its own.
        sha256: digest of the content.
    """

    kind: OutputKind
    media_type: str
    content: str
    text: str
    sha256: str


class OutputDiff(msgspec.Struct, frozen=True):
    """One output on both sides; `lines` is the difference of their texts, `detail` that of two pictures in a sentence."""

    change: Change
    before: Output | None = None
    after: Output | None = None
    lines: tuple[Line, ...] = ()
    detail: str = ""


class Cell(msgspec.Struct, frozen=True):
    """One side's cell.

    Attributes:
        index: position among all cells of the executed notebook, from 0.
        id: the cell's id; empty in an old notebook.
        kind: `code`, `markdown` or `raw`.
        role: `parameters`, `injected-parameters` or empty.
        source: its text.
        status: how it ended; empty for a cell that is no code or whose end is not known.
        duration_s: seconds; None if it never ran.
    """

    index: int
    id: str
    kind: str
    role: str
    source: str
    status: str = ""
    duration_s: float | None = None


class CellDiff(msgspec.Struct, frozen=True):
    """One cell.

    Attributes:
        change: of the source and the status.
        moved: True if it stands in another place among the cells that both have.
        before: the first's cell.
        after: the second's cell.
        lines: the difference of the sources; empty if they are the same.
        outputs: all its outputs, pair by pair.
    """

    change: Change
    moved: bool = False
    before: Cell | None = None
    after: Cell | None = None
    lines: tuple[Line, ...] = ()
    outputs: tuple[OutputDiff, ...] = ()


class FileDiff(msgspec.Struct, frozen=True):
    """One file of the source bundle; `lines` is empty for the stage's notebook, whose cells tell more, and for no text."""

    path: str
    change: Change
    lines: tuple[Line, ...] = ()


class RecordHead(msgspec.Struct, frozen=True):
    """Which record, and how it ended."""

    id: str
    stage: str
    environment: str
    status: Status
    started: datetime
    wall_s: float | None
    failure: Failure | None


class RecordDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Two records beside each other. Everything that was compared is in it, what is the same too, but for packages.

    Attributes:
        differs: True if anything but origins and volatile things is not the same.
        causes: what differs around the two and may be why their results do.
        outcome: status, failure, durations, memory.
        code: bundle, notebook, commit, build.
        files: those of the bundles that differ; empty if a bundle is not in the archive, which `notes` says.
        packages: those that differ.
        n_same_packages: how many are installed on both sides in the same version.
        configuration: key by key, those that differ; empty if one is not in the archive, which `notes` says.
        notes: what could not be compared, and why.
    """

    format: int = FORMAT
    before: RecordHead
    after: RecordHead
    differs: bool
    causes: tuple[Cause, ...]
    parameters: tuple[ParameterDiff, ...]
    metrics: tuple[MetricDiff, ...]
    inputs: tuple[ArtifactDiff, ...]
    outputs: tuple[ArtifactDiff, ...]
    checks: tuple[CheckDiff, ...]
    cells: tuple[CellDiff, ...]
    outcome: tuple[Fact, ...]
    code: tuple[Fact, ...]
    files: tuple[FileDiff, ...]
    configuration: tuple[Fact, ...]
    software: tuple[Fact, ...]
    packages: tuple[Fact, ...]
    n_same_packages: int
    machine: tuple[Fact, ...]
    determinism: tuple[Fact, ...]
    notes: tuple[str, ...]


class ReleaseHead(msgspec.Struct, frozen=True):
    """Which release."""

    id: str
    environment: str
    time: datetime
    who: str
    record: str
    training_record: str
    passed: bool


class EvidenceDiff(msgspec.Struct, frozen=True):
    """One thing that the gates looked at: findings and details; None on a side whose gate did not."""

    kind: str
    subject: str
    change: Change
    finding_before: str | None = None
    finding_after: str | None = None
    detail_before: str | None = None
    detail_after: str | None = None


class ReleaseDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Two releases beside each other.

    Attributes:
        differs: True if anything but origins is not the same.
        manifest: what the two pin, apart from the fields below.
        artifacts: model and what comes with it.
        metrics: of the trainings.
        configuration: key by key, those that differ.
        evidence: of the gates' verdicts.
        files: those of the bundles that differ.
        notes: what could not be compared, and why.
    """

    format: int = FORMAT
    before: ReleaseHead
    after: ReleaseHead
    differs: bool
    manifest: tuple[Fact, ...]
    artifacts: tuple[ArtifactDiff, ...]
    metrics: tuple[MetricDiff, ...]
    configuration: tuple[Fact, ...]
    evidence: tuple[EvidenceDiff, ...]
    files: tuple[FileDiff, ...]
    notes: tuple[str, ...]
