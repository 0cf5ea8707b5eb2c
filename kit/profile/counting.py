"""From tables to counts: which bins describe a column, and how many rows lie in each. Large files a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import UnknownNameError, UsageError
from kit.profile.profile import MAX_LABELS, Column, Labels, Numbers, Profile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Counts = np.ndarray[Any, np.dtype[np.int64]]

N_BINS = 10  # of numbers; a column with at most so many values has a bin for each
BATCH_ROWS = 1 << 16
SAMPLE_ROWS = 100_000  # rows, evenly spaced, that decide on the bins of a large file; all rows are counted
LEAST_ROWS_OF_A_LABEL = 5  # a rarer value decides nothing and might tell of one row; it counts among the others


def write_profile(path: Path, table: pd.DataFrame, columns: Iterable[str] | None = None) -> Profile:
    """Describe a table and write profile.json.

    Args:
        path: where to.
        table: at least one row.
        columns: names of numbers, texts, categories or booleans; None takes all that are such. Frequent values of texts
            are in the profile: name the columns where some of them must not be.

    Raises:
        UnknownNameError: the table has no such column.
        UsageError: no rows, no column to describe, or a named column of another kind, times among them.
    """
    profile = profile_table(table, columns)
    path.write_bytes(profile.encode())
    return profile


def profile_table(table: pd.DataFrame, columns: Iterable[str] | None = None) -> Profile:
    """The profile of a table, its bins chosen from all rows; see `write_profile`."""
    if not table.columns.is_unique:
        raise UsageError("a table with two columns of one name has no profile; rename one")
    if not len(table):
        raise UsageError("a table without rows has no profile")
    arrays = dict(_convert(table, columns))
    described = _keep_describable({name: array.type for name, array in arrays.items()}, columns)
    return _count_into({name: choose_bins(arrays[name]) for name in described}, len(table), [arrays])


def profile_parquet(path: Path, columns: Iterable[str] | None = None) -> Profile:
    """The profile of a Parquet file of any size: two passes, each holding one batch of rows.

    Bins are chosen from at most 100,000 rows that lie evenly in the file; all rows are counted. So a value that is rare may
    count among the others although fewer than 50 are named.

    Raises:
        UnknownNameError, UsageError: as `write_profile`.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        types = {field.name: field.type for field in file.schema_arrow}
        described = _keep_describable({name: types[name] for name in _choose(columns, list(types))}, columns)
        n_rows = file.metadata.num_rows
        if not n_rows:
            raise UsageError(f"{path.name}: a table without rows has no profile")
        sample = _sample(file.iter_batches(BATCH_ROWS, columns=described), max(1, -(-n_rows // SAMPLE_ROWS)))
        bins = {name: choose_bins(sample.column(name)) for name in described}
        return _count_into(bins, n_rows, file.iter_batches(BATCH_ROWS, columns=described))


def count_bins(
    profile: Profile, batches: Iterable[Any], columns: Mapping[str, str] | Sequence[str] | None = None
) -> dict[str, Counts]:
    """Count rows into a profile's bins, a batch at a time.

    Args:
        profile: has the bins.
        batches: Arrow record batches, or mappings from names to Arrow arrays; nothing is kept of them.
        columns: the columns to count; a mapping says which column of the profile each is held against. Without it all of
            the profile's.

    Returns:
        By the name of the counted column, counts in the order of the profile column's `bins`.

    Raises:
        UnknownNameError: the profile or a batch has no such column.
        UsageError: a column is of another kind than in the profile.
    """
    import numpy as np

    names = profile.columns if columns is None else columns
    wanted = dict(columns) if isinstance(columns, Mapping) else {name: name for name in names}
    for name in wanted.values():
        if name not in profile.columns:
            raise UnknownNameError("column", name, profile.columns, "in the reference profile")
    described = {name: profile.columns[reference] for name, reference in wanted.items()}
    totals = {name: np.zeros(len(column.bins), np.int64) for name, column in described.items()}
    for batch in batches:
        for name, column in described.items():
            totals[name] += count_column(column, _column_of(batch, name), name)
    return totals


def count_column(column: Column, values: Any, name: str) -> Counts:
    """Count an Arrow array's values into a profile column's bins.

    Raises:
        UsageError: it is of another kind; `name` says which.
    """
    import pyarrow as pa

    kind = _kind_of(values.type)
    if kind is not type(column) and not pa.types.is_null(values.type):
        was = "numbers" if isinstance(column, Numbers) else "texts, categories or booleans"
        raise UsageError(f"column {name!r} is {values.type}; the reference profile has {was}")
    return _count_numbers(column, values) if isinstance(column, Numbers) else _count_labels(column, values)


def to_arrow(name: str, values: pd.Series[Any]) -> Any:
    """A pandas column as an Arrow array; NaN becomes null.

    Raises:
        UsageError: its values are of several kinds.
    """
    import pyarrow as pa

    try:
        return pa.chunked_array(pa.array(values, from_pandas=True))
    except (pa.ArrowException, OverflowError, UnicodeError) as error:  # its message holds a value
        kind = type(error).__name__
        raise UsageError(f"column {name!r} ({values.dtype}) holds values of several kinds ({kind})") from None


def choose_bins(values: Any) -> Column:
    """Bins for an Arrow array, without counts: tenths of numbers, or the most frequent labels.

    Each of at most 10 different numbers has a bin of its own, with an empty one below and above. More are cut at their
    tenths, where numbers that are equal stay together (quantiles by Hyndman and Fan 1996, definition 1: values that occur).
    """
    import numpy as np
    import pyarrow.compute as pc

    if _kind_of(values.type) is Labels:
        counted = pc.value_counts(_to_texts(values).drop_null())
        often = counted.filter(pc.greater_equal(counted.field("counts"), LEAST_ROWS_OF_A_LABEL)).to_pylist()
        often.sort(key=lambda each: (-each["counts"], each["values"]))
        labels = tuple(each["values"] for each in often[:MAX_LABELS])
        return Labels(labels, (0,) * len(labels), 0, 0)
    numbers = _to_floats(values)
    finite = numbers[np.isfinite(numbers)]
    edges = np.unique(finite)
    if len(edges) > N_BINS:
        edges = np.unique(np.quantile(finite, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf"))
    elif len(edges):
        edges = np.insert(edges, 0, math.nextafter(edges[0], -math.inf))
    edges = edges[np.isfinite(edges)]
    return Numbers(tuple(edges.tolist()), (0,) * (len(edges) + 1), 0)


def _count_into(bins: dict[str, Column], n_rows: int, batches: Iterable[Any]) -> Profile:
    counted = count_bins(Profile(n_rows=n_rows, columns=bins), batches)
    return Profile(n_rows=n_rows, columns={name: _with_counts(bins[name], counted[name]) for name in bins})


def _with_counts(column: Column, counts: Counts) -> Column:
    plain = counts.tolist()
    if isinstance(column, Numbers):
        return Numbers(column.edges, tuple(plain[:-1]), plain[-1])
    return Labels(column.labels, tuple(plain[:-2]), plain[-2], plain[-1])


def _count_numbers(column: Numbers, values: Any) -> Counts:
    import numpy as np

    numbers = _to_floats(values)
    present = numbers[~np.isnan(numbers)]
    positions = np.searchsorted(np.asarray(column.edges, np.float64), present, side="left")
    counts = np.bincount(positions, minlength=len(column.counts))
    return np.append(counts, len(numbers) - len(present)).astype(np.int64)


def _count_labels(column: Labels, values: Any) -> Counts:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = _to_texts(values)
    found = pc.index_in(texts, value_set=pa.array(column.labels, pa.large_string())).drop_null()
    known = np.bincount(found.to_numpy(), minlength=len(column.labels))[: len(column.labels)]
    n_missing = texts.null_count
    return np.append(known, [len(texts) - n_missing - len(found), n_missing]).astype(np.int64)


def _to_floats(values: Any) -> Any:
    """(n,) float64; missing is NaN."""
    import numpy as np
    import pyarrow as pa

    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _to_texts(values: Any) -> Any:
    import pyarrow as pa

    plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    return plain.cast(pa.large_string())


def _kind_of(kind: Any) -> type[Column] | None:
    """How an Arrow type is counted; None if it is not."""
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Numbers
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if is_text or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return Labels
    return Labels if pa.types.is_dictionary(kind) and _kind_of(kind.value_type) else None


def _choose(columns: Iterable[str] | None, present: list[Any]) -> list[Any]:
    if columns is None:
        return present
    names = list(dict.fromkeys(columns))
    for name in names:
        if name not in present:
            raise UnknownNameError("column", name, map(str, present), "in the table to be described")
    return names


def _convert(table: pd.DataFrame, columns: Iterable[str] | None) -> Iterator[tuple[str, Any]]:
    for name in _choose(columns, list(table.columns)):
        try:
            yield str(name), to_arrow(str(name), table[name])
        except UsageError:
            if columns is not None:
                raise


def _keep_describable(types: Mapping[str, Any], named: Iterable[str] | None) -> list[str]:
    described = [name for name, kind in types.items() if _kind_of(kind)]
    if named is not None and len(described) < len(types):
        name = next(name for name in types if name not in described)
        raise UsageError(
            f"column {name!r} is {types[name]}; only numbers, texts, categories and booleans have a profile"
        )
    if not described:
        raise UsageError("the table has no column of numbers, texts, categories or booleans to describe")
    return described


def _sample(batches: Iterable[Any], step: int) -> Any:
    """Every `step`-th row of all batches, as one table."""
    import pyarrow as pa

    return pa.Table.from_batches(list(_every(batches, step)))


def _every(batches: Iterable[Any], step: int) -> Iterator[Any]:
    import numpy as np

    start = 0
    for batch in batches:
        yield batch.take(np.arange(-start % step, len(batch), step))
        start += len(batch)


def _column_of(batch: Any, name: str) -> Any:
    names = list(batch) if isinstance(batch, Mapping) else batch.schema.names
    if name not in names:
        raise UnknownNameError("column", name, names, "in the table that is counted")
    return batch[name]
