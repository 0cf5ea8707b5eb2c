"""Scoring a batch: a thread reads and converts, the model answers, a thread writes; memory depends on the batch size alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import IntegrityError, UsageError
from kit.model.servable import Field, Servable
from kit.scoring.batch import Batch, fill_batches, make_batch
from kit.scoring.column import find_type_problem, value_type
from kit.scoring.counts import Scored, find_lost_rows
from kit.scoring.layout import Layout, answer, choose_outputs
from kit.scoring.progress import Progress
from kit.scoring.source import ParquetSource, open_source, require_columns
from kit.scoring.target import RECORD_KEY, RELEASE_KEY, SOURCE_KEY, Target, open_target
from kit.scoring.threads import WriteBehind, read_ahead

if TYPE_CHECKING:
    import numpy as np

    from kit.scoring.layout import Derive

    Array = np.ndarray[Any, Any]

BATCH_ROWS = 1 << 15
BATCH_BYTES = (
    64 << 20
)  # that the rows of one call of the model take in the source: fewer rows where these are documents


def score_parquet(
    servable: Servable,
    source: Path,
    target: Path,
    *,
    release: str,
    keep: Sequence[str] = (),
    require: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    derive: Derive | None = None,
    constants: Mapping[str, Any] | None = None,
    rejects: Path | None = None,
    record: str = "",
    source_sha256: str = "",
    metadata: Mapping[str, str] | None = None,
    batch_rows: int = BATCH_ROWS,
    allow_empty: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Scored:
    """Score each row of a Parquet file or folder, or reject it with a reason; none is lost.

    A row is rejected if a required column has no value, a number is infinite or does not fit the model's type, or an answer
    is not finite. The target holds the other rows in their order. Files get their names only when all is written.

    Args:
        servable: the model.
        source: a Parquet file, or a folder with files whose names end in `.parquet`, taken in the order of their paths.
        target: the Parquet file to write; what is there is replaced.
        release: id of the release whose model it is; `kit.release` in the footer.
        keep: columns of the source that the target has beside the answers.
        require: columns that must have a value: not null, not NaN, no empty text.
        outputs: those of the model's outputs that are wanted; None for all.
        derive: from the answers, (n,) or (n, k) arrays by name, to further columns by name, n values each. It is also
            called once with no rows, for the columns' types.
        constants: further columns with one value.
        rejects: a Parquet file with `row` (position in the source, from 0) and `reason` of each rejected row.
        record: id of the execution; `kit.record` in the footer. Two executions then write different bytes.
        source_sha256: digest of the source; `kit.source_sha256` in the footer.
        metadata: further entries of the footer.
        batch_rows: rows of one call of the model, at most; fewer where they take more than 64 MiB.
        allow_empty: score a source that has no rows.
        progress: told after each batch, and at the end.

    Returns:
        The counts; rows in are rows out and rows rejected.

    Raises:
        NotFoundError: the source is not there.
        UsageError: before anything is scored: a column is missing or of another type, two columns of the target have one
            name, the source has no rows.
        IntegrityError: the source cannot be read, the model answers something else than its signature says, or rows were
            lost.
    """
    opened = open_source(source)
    _require_sense(opened, batch_rows, allow_empty)
    _require_places(opened, source, [target, *([rejects] if rejects else [])])
    _require_columns(opened, servable.signature.inputs, keep, require)
    batch_rows = min(
        batch_rows, opened.count_rows_within(_names_of(servable.signature.inputs, keep, require), BATCH_BYTES)
    )
    kept = {name: value_type(opened.files[0].schema.field(name).type) for name in keep}
    layout = Layout(kept, choose_outputs(servable.signature.outputs, outputs), derive, constants or {})
    marks = {**(metadata or {}), RELEASE_KEY: release, RECORD_KEY: record, SOURCE_KEY: source_sha256}
    started = time.monotonic()
    with ExitStack() as stack:
        writer = _Writer(stack, layout, target, rejects, {name: text for name, text in marks.items() if text})
        _stream(servable, opened, layout, require, batch_rows, writer, progress)
        return writer.close(opened.n_rows, started)


def _require_sense(source: ParquetSource, batch_rows: int, allow_empty: bool) -> None:
    if batch_rows < 1:
        raise UsageError(f"batch_rows must be at least 1, found {batch_rows}")
    if not source.n_rows and not allow_empty:
        raise UsageError(
            f"{source.name} has no rows, so nothing would be scored; allow_empty=True if that can be right"
        )


def _require_places(source: ParquetSource, path: Path, targets: Sequence[Path]) -> None:
    """Refuse to write over what is read, or to where the next scoring would read it."""
    places, names = [each.resolve() for each in targets], ", ".join(each.name for each in targets)
    if len(set(places)) < len(places) or set(places) & {file.path.resolve() for file in source.files}:
        raise UsageError(f"source, target and rejects must be different files, found {source.name}, {names}")
    if path.is_dir() and any(each.is_relative_to(path.resolve()) for each in places):
        raise UsageError(f"{names} would lie in the folder that is scored, {source.name}; write to another one")


def _require_columns(
    source: ParquetSource, fields: Sequence[Field], keep: Sequence[str], require: Sequence[str]
) -> None:
    require_columns(source, _names_of(fields, keep, require))
    problems = []
    for file in source.files:
        types = {field.name: field.type for field in file.schema}
        problems += [
            f"column {field.name!r} of {file.name}: {problem}"
            for field in fields
            if (problem := find_type_problem(field, types[field.name]))
        ]
        first = source.files[0].schema
        problems += [
            f"column {name!r} of {file.name}: expected {expected} as in {source.files[0].name}, found {types[name]}"
            for name in keep
            if value_type(types[name]) != (expected := value_type(first.field(name).type))
        ]
    if problems:
        raise UsageError("; ".join(problems))


def _names_of(fields: Sequence[Field], keep: Sequence[str] | Mapping[str, Any], require: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*(field.name for field in fields), *keep, *require]))


def _stream(
    servable: Servable,
    source: ParquetSource,
    layout: Layout,
    require: Sequence[str],
    batch_rows: int,
    writer: _Writer,
    progress: Callable[[Progress], None],
) -> None:
    fields = servable.signature.inputs
    started, n_done = time.monotonic(), 0
    batches = fill_batches(_read_batches(source, fields, layout.keep, require, batch_rows), batch_rows)
    with WriteBehind(writer.write) as behind:
        for batch in read_ahead(batches):
            answers = servable.predict(batch.columns) if len(batch.rows) else {}
            behind.put((batch, answers))
            n_done += batch.n_read
            progress(Progress(n_done, source.n_rows, time.monotonic() - started))
    progress(Progress(n_done, source.n_rows, time.monotonic() - started, is_done=True))


def _read_batches(
    source: ParquetSource, fields: Sequence[Field], keep: Mapping[str, Any], require: Sequence[str], batch_rows: int
) -> Iterator[Batch]:
    row = 0
    for record_batch in source.read(_names_of(fields, keep, require), batch_rows):
        yield make_batch(record_batch, row, fields, keep, require)
        row += record_batch.num_rows


class _Writer:
    """Writes answered batches and the rejected rows, and counts both."""

    def __init__(
        self, stack: ExitStack, layout: Layout, target: Path, rejects: Path | None, metadata: Mapping[str, str]
    ) -> None:
        import pyarrow as pa

        self._layout, self._schema, self._rejected = layout, layout.make_schema(), Counter[str]()
        self._target = stack.enter_context(open_target(target, self._schema, metadata))
        self._rejects: Target | None = None
        if rejects:
            schema = pa.schema([("row", pa.int64()), ("reason", pa.string())])
            self._rejects = stack.enter_context(open_target(rejects, schema, metadata))

    def write(self, item: tuple[Batch, Mapping[str, Array]]) -> None:
        """Write one batch and what the model answered to it."""
        batch, answers = item
        if len(batch.rows):
            batch = answer(batch, answers, self._layout.outputs)
            self._target.write(self._layout.make_table(batch, self._schema))
        self._rejected.update({reason: len(rows) for reason, rows in batch.rejected.items()})
        if self._rejects and batch.rejected:
            self._rejects.write(_list_rejected(batch.rejected))

    def close(self, rows_in: int, started: float) -> Scored:
        """Write the footers, and count what they say."""
        scored = Scored(rows_in, self._target.n_rows, dict(sorted(self._rejected.items())))
        problem = find_lost_rows(scored.metrics)
        if problem:
            raise IntegrityError(f"scoring: {problem}")
        counts = {f"kit.{name}": str(scored.metrics[name]) for name in ("rows_in", "rows_out", "rows_rejected")}
        for target in filter(None, (self._target, self._rejects)):
            target.close(counts)
        return Scored(rows_in, scored.rows_out, scored.rejected, round(time.monotonic() - started, 3))


def _list_rejected(rejected: Mapping[str, Array]) -> Any:
    """A table of `row` and `reason`, by row."""
    import pyarrow as pa

    parts = [pa.table({"row": rows, "reason": pa.repeat(reason, len(rows))}) for reason, rows in rejected.items()]
    return pa.concat_tables(parts).sort_by("row")
