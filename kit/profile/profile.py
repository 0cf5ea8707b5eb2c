"""The profile as a value: counts per bin of each column, as `profile.json` (format 1) has them. No rows are in it.

Its bins are values that occurred: texts that were frequent, and numbers at the tenths of a column.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from kit.errors import IntegrityError
from kit.files import canonical_json

FORMAT = 1
MAX_LABELS = 50

Count = Annotated[int, msgspec.Meta(ge=0)]


class Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numbers"):
    """Counts of a column of numbers.

    Attributes:
        edges: inner edges, finite and rising; a bin reaches from one edge, excluded, to the next, included.
        counts: rows in each of the `len(edges) + 1` bins, the first from minus infinity, the last to infinity.
        n_missing: rows without a number, NaN among them.
    """

    edges: tuple[float, ...]
    counts: tuple[Count, ...]
    n_missing: Count

    @property
    def expected(self) -> tuple[int, ...]:
        """Rows in each bin; those without a value last."""
        return (*self.counts, self.n_missing)

    @property
    def bins(self) -> tuple[str, ...]:
        """What each bin is called: by its position, never by a value."""
        n_bins = len(self.counts)
        return (*(f"bin {position} of {n_bins}" for position in range(1, n_bins + 1)), "missing")


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="labels"):
    """Counts of a column of texts, categories or booleans.

    Attributes:
        labels: the most frequent values, at most 50, the most frequent first; booleans are `false` and `true`.
        counts: rows with each of them.
        n_others: rows with any other value, also one that the profile has never seen.
        n_missing: rows without a value.
    """

    labels: tuple[str, ...]
    counts: tuple[Count, ...]
    n_others: Count
    n_missing: Count

    @property
    def expected(self) -> tuple[int, ...]:
        """Rows in each bin; other values and rows without a value last."""
        return (*self.counts, self.n_others, self.n_missing)

    @property
    def bins(self) -> tuple[str, ...]:
        """What each bin is called: by its rank, never by a value."""
        n_labels = len(self.counts)
        return (*(f"label {rank} of {n_labels}" for rank in range(1, n_labels + 1)), "others", "missing")


Column = Numbers | Labels


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a table's values were distributed.

    Attributes:
        n_rows: rows that were counted, the same for every column.
        columns: by name.
    """

    format: int = FORMAT
    n_rows: Annotated[int, msgspec.Meta(ge=1)]
    columns: dict[str, Column]

    def encode(self) -> bytes:
        """Canonical JSON, the bytes of profile.json."""
        return canonical_json(msgspec.to_builtins(self))


def read_profile(path: Path) -> Profile:
    """Read profile.json.

    Raises:
        IntegrityError: it cannot be read, or its counts cannot be those of one table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path.name}: the reference profile cannot be read ({error.strerror})") from error
    return parse_profile(data, path.name)


def parse_profile(data: bytes, where: str) -> Profile:
    """The same for a file's bytes; `where` names the file in messages."""
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not readable as a reference profile: {error}") from error
    problem = find_profile_problem(profile)
    if problem:
        raise IntegrityError(f"{where}: {problem}; write it with kit.profile.write_profile")
    return profile


def find_profile_problem(profile: Profile) -> str:
    """Why these counts cannot be those of one table; empty if they can."""
    if profile.format != FORMAT:
        return f"profile format {profile.format}, expected {FORMAT}"
    if not profile.columns:
        return "a profile without columns describes nothing"
    problems = (
        f"column {name!r}: {problem}"
        for name, column in profile.columns.items()
        if (problem := _find_column_problem(column, profile.n_rows))
    )
    return next(problems, "")


def _find_column_problem(column: Column, n_rows: int) -> str:
    n_counted = sum(column.expected)
    if n_counted != n_rows:
        return f"counts {n_counted} rows, the table has {n_rows}"
    return _find_edge_problem(column) if isinstance(column, Numbers) else _find_label_problem(column)


def _find_edge_problem(column: Numbers) -> str:
    if len(column.counts) != len(column.edges) + 1:
        return f"{len(column.edges)} edges make {len(column.edges) + 1} bins, found {len(column.counts)} counts"
    rising = all(low < high for low, high in pairwise(column.edges))
    if not rising or not all(math.isfinite(edge) for edge in column.edges):
        return "edges must be finite and rise"
    return ""


def _find_label_problem(column: Labels) -> str:
    if len(column.labels) != len(column.counts):
        return f"{len(column.labels)} labels, but {len(column.counts)} counts"
    if len(set(column.labels)) != len(column.labels):
        return "a label is there twice"
    if len(column.labels) > MAX_LABELS:
        return f"{len(column.labels)} labels, at most {MAX_LABELS} are kept"
    return ""
