"""A Parquet file or a folder of them, read in batches: only what is needed, whatever the row groups are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import IntegrityError, NotFoundError, UsageError

BUFFER_BYTES = 1 << 20  # read at once of each column


class SourceFile(msgspec.Struct, frozen=True):
    """One file: its name within the source, and what its footer says.

    Attributes:
        name: within the source.
        path: of it.
        n_rows: in it.
        schema: pyarrow's.
        widths: bytes that a row takes in each leaf column, by the column's path, in the row group where it takes most.
    """

    name: str
    path: Path
    n_rows: int
    schema: Any
    widths: dict[str, float] = {}


class ParquetSource(msgspec.Struct, frozen=True):
    """Rows in a fixed order: files by their path, each from its first row to its last."""

    name: str
    files: tuple[SourceFile, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all files, by their footers."""
        return sum(file.n_rows for file in self.files)

    def count_rows_within(self, columns: Sequence[str], n_bytes: int) -> int:
        """How many rows of some columns take so many bytes, at least 1; by the footers, which count repeated texts once."""
        starts = tuple(f"{name}." for name in columns)
        widths = [
            sum(width for path, width in file.widths.items() if path in columns or path.startswith(starts))
            for file in self.files
        ]
        return max(1, int(n_bytes / max(1.0, *widths)))

    def read(self, columns: Sequence[str], batch_rows: int) -> Iterator[Any]:
        """Record batches of pyarrow, of at most `batch_rows` rows.

        Raises:
            IntegrityError: a file cannot be read, or is not the one that it was.
        """
        import pyarrow as pa

        for file in self.files:
            n_rows = 0
            try:
                for batch in _read_file(file, columns, batch_rows):
                    n_rows += batch.num_rows
                    yield batch
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise IntegrityError(
                    f"{file.name} cannot be read as Parquet after row {n_rows:,} of {file.n_rows:,}: {str(error)[:200]}"
                ) from error
            if n_rows != file.n_rows:
                raise IntegrityError(
                    f"{file.name} gave {n_rows:,} rows, and its footer said {file.n_rows:,}; was it written while it was read?"
                )


def open_source(path: Path) -> ParquetSource:
    """Find the files and read their footers.

    Raises:
        NotFoundError: nothing is there, or the folder has no Parquet file.
        IntegrityError: a file cannot be read as Parquet.
    """
    if not path.exists():
        raise NotFoundError(f"{path.name} is not there; expected a Parquet file or a folder of Parquet files")
    paths = _list_files(path) if path.is_dir() else {path.name: path}
    if not paths:
        raise NotFoundError(f"folder {path.name} has no file whose name ends in .parquet")
    return ParquetSource(path.name, tuple(_read_footer(name, each) for name, each in paths.items()))


def require_columns(source: ParquetSource, names: Sequence[str]) -> None:
    """Refuse a source in which a column is missing, or there twice.

    Raises:
        UsageError: names each one and what there is.
    """
    problems = []
    for file in source.files:
        there = file.schema.names
        wrong = [
            f"{name!r} is {'there twice' if name in there else 'missing'}" for name in names if there.count(name) != 1
        ]
        if wrong:
            problems.append(f"{file.name}: column {', '.join(wrong)}; it has {', '.join(there)[:500]}")
    if problems:
        raise UsageError("; ".join(problems[:3]))


def _list_files(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet") if path.is_file()}
    # writers leave their own files beside the data, under names that begin with a point or an underscore
    visible = sorted(name for name in found if not any(part.startswith((".", "_")) for part in name.split("/")))
    return {f"{folder.name}/{name}": found[name] for name in visible}


def _read_footer(name: str, path: Path) -> SourceFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            return SourceFile(name, path, file.metadata.num_rows, file.schema_arrow, _measure_rows(file.metadata))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name} cannot be read as Parquet: {str(error)[:200]}") from error


def _measure_rows(metadata: Any) -> dict[str, float]:
    widths: dict[str, float] = {}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            width = column.total_uncompressed_size / max(1, group.num_rows)
            widths[column.path_in_schema] = max(width, widths.get(column.path_in_schema, 0.0))
    return widths


def _read_file(file: SourceFile, columns: Sequence[str], batch_rows: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # With a buffer and without pre_buffer a row group is read as a stream, never as a whole. Not with read_dictionary: where
    # a column has too many values for its dictionary page, pyarrow 26 gathers all of a row group's in memory (10,000,000
    # texts of 20 characters: 1.3 GiB).
    with pq.ParquetFile(file.path, buffer_size=BUFFER_BYTES, pre_buffer=False) as opened:
        yield from opened.iter_batches(batch_rows, columns=list(columns))
