"""Parquet files that name the release they come from: written as a stream, whole or not at all, same rows same bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kit.errors import IntegrityError
from kit.files import temporary_beside

RELEASE_KEY, RECORD_KEY, SOURCE_KEY = "kit.release", "kit.record", "kit.source_sha256"
ROW_GROUP_ROWS = 1 << 18
ROW_GROUP_BYTES = 256 << 20  # in memory; a row group of documents has fewer rows
COMPRESSION = "zstd"


class Target:
    """A Parquet file that grows by tables, in row groups of a fixed size, whatever the size of the tables is.

    Only what is larger than 256 MiB is written earlier.
    """

    def __init__(self, path: Path, schema: Any, metadata: Mapping[str, str]) -> None:
        import pyarrow.parquet as pq

        self._schema, self._n_waiting, self._n_waiting_bytes, self.n_rows = schema, 0, 0, 0
        self._tables: list[Any] = []
        self._writer = pq.ParquetWriter(path, schema, compression=COMPRESSION, use_dictionary=_texts_of(schema))
        self._writer.add_key_value_metadata(dict(metadata))

    def write(self, table: Any) -> None:
        """Append the rows of a pyarrow table of this schema."""
        self._tables.append(table)
        self._n_waiting += table.num_rows
        self._n_waiting_bytes += table.nbytes
        self.n_rows += table.num_rows
        if self._n_waiting >= ROW_GROUP_ROWS:
            self._write_groups(ROW_GROUP_ROWS)
        elif self._n_waiting_bytes > ROW_GROUP_BYTES:
            self._write_groups(1)

    def close(self, metadata: Mapping[str, str]) -> None:
        """Write what waits and the footer, with what is known only now."""
        self._write_groups(1)
        self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file; what is in it does not matter any more."""
        with contextlib.suppress(Exception):  # a full disk refuses the footer, too
            self._writer.close()

    def _write_groups(self, min_rows: int) -> None:
        import pyarrow as pa

        waiting = pa.concat_tables(self._tables or [self._schema.empty_table()])
        while waiting.num_rows >= min_rows:
            self._writer.write_table(waiting.slice(0, ROW_GROUP_ROWS), ROW_GROUP_ROWS)
            waiting = waiting.slice(ROW_GROUP_ROWS)
        self._tables, self._n_waiting, self._n_waiting_bytes = [waiting], waiting.num_rows, waiting.nbytes


@contextlib.contextmanager
def open_target(path: Path, schema: Any, metadata: Mapping[str, str]) -> Iterator[Target]:
    """A target under another name, which gets its own name at the end of the block if nothing was raised in it.

    The block must close it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        target = Target(temporary, schema, metadata)
        try:
            yield target
        except BaseException:
            target.abandon()
            raise
        temporary.replace(path)


def write_table(table: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a pandas or Arrow table as Parquet with metadata in the footer; the index of a pandas table is left out.

    Args:
        table: a `pandas.DataFrame`, a `pyarrow.Table`, or any other that Arrow reads.
        path: where to; what is there is replaced, whole or not at all.
        metadata: for the footer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_pandas = type(table).__module__.partition(".")[0] == "pandas"
    content = pa.Table.from_pandas(table, preserve_index=False) if is_pandas else pa.table(table)
    own = {key.encode(): value.encode() for key, value in metadata.items()}
    with temporary_beside(path) as temporary:
        pq.write_table(content.replace_schema_metadata({**(content.schema.metadata or {}), **own}), temporary)
        temporary.replace(path)


def read_release_id(path: Path) -> str:
    """The id of the release that a Parquet file names; empty if it names none.

    Raises:
        IntegrityError: the file cannot be read as Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name} cannot be read as Parquet: {str(error)[:200]}") from error
    return str(metadata.get(RELEASE_KEY.encode(), b"").decode("utf-8", "replace"))


def _texts_of(schema: Any) -> list[str]:
    from kit.scoring.column import is_text

    # a dictionary of numbers that are all different costs time and saves nothing
    return [field.name for field in schema if is_text(field.type)]
