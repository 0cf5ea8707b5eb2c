"""Some rows on their way: what the model takes, what is kept beside its answers, and which were rejected and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.model.servable import Field
from kit.scoring.column import MISSING, convert, decode, find_missing

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as they come from the source, the rejected ones left out.

    Attributes:
        n_read: rows that were read, with the rejected ones.
        columns: by field name, (n, *shape) arrays.
        kept: by column name, pyarrow arrays of n values.
        rows: (n,) int64 positions in the source, from 0.
        rejected: positions of the others, by reason; each row has one reason, the first that was found.
    """

    n_read: int
    columns: dict[str, Array]
    kept: dict[str, Any]
    rows: Array
    rejected: dict[str, Array]

    def reject(self, faults: Mapping[str, Array]) -> Batch:
        """Without the rows that have a fault.

        Args:
            faults: by reason, (n,) which rows; a row with several faults is rejected for the first one.
        """
        import numpy as np
        import pyarrow as pa

        good = np.ones(len(self.rows), bool)
        rejected = dict(self.rejected)
        for reason, mask in faults.items():
            found = self.rows[mask & good]
            good &= ~mask
            if len(found):
                rejected[reason] = np.concatenate([rejected[reason], found]) if reason in rejected else found
        if good.all():
            return self
        columns = {name: values[good] for name, values in self.columns.items()}
        kept = {name: values.filter(pa.array(good)) for name, values in self.kept.items()}
        return Batch(self.n_read, columns, kept, self.rows[good], rejected)


def make_batch(
    record_batch: Any, first_row: int, fields: Sequence[Field], keep: Mapping[str, Any], require: Sequence[str]
) -> Batch:
    """A batch from what was read of the source.

    Args:
        record_batch: of pyarrow.
        first_row: position of its first row in the source.
        fields: what the model takes.
        keep: columns that go along, with their pyarrow types.
        require: columns that must have a value.
    """
    import numpy as np

    faults = {f"{name} {MISSING}": find_missing(record_batch.column(name)) for name in require}
    columns = {}
    for field in fields:
        columns[field.name], found = convert(record_batch.column(field.name), field)
        faults |= {f"{field.name} {what}": mask for what, mask in found.items() if f"{field.name} {what}" not in faults}
    n_rows = record_batch.num_rows
    kept = {name: decode(record_batch.column(name)).cast(kind) for name, kind in keep.items()}
    rows = np.arange(first_row, first_row + n_rows, dtype=np.int64)
    return Batch(n_rows, columns, kept, rows, {}).reject(faults)


def fill_batches(batches: Iterable[Batch], batch_rows: int) -> Iterator[Batch]:
    """Small batches put together, up to `batch_rows`: a call of the model costs the same for one row as for hundreds."""
    waiting: list[Batch] = []
    n_rows = 0
    for batch in batches:
        if waiting and n_rows + len(batch.rows) > batch_rows:
            yield _join(waiting)
            waiting, n_rows = [], 0
        waiting.append(batch)
        n_rows += len(batch.rows)
    if waiting:
        yield _join(waiting)


def _join(batches: list[Batch]) -> Batch:
    import numpy as np
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    rejected: dict[str, Array] = {}
    for batch in batches:
        for reason, rows in batch.rejected.items():
            rejected[reason] = np.concatenate([rejected[reason], rows]) if reason in rejected else rows
    return Batch(
        n_read=sum(batch.n_read for batch in batches),
        columns={name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns},
        kept={name: pa.concat_arrays([batch.kept[name] for batch in batches]) for name in batches[0].kept},
        rows=np.concatenate([batch.rows for batch in batches]),
        rejected=rejected,
    )
