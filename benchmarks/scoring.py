"""Batch scoring beside a bare loop over the same SavedModel signature, on rows of the worked example.

    python benchmarks/scoring.py [--rows 5000000] [--rounds 3]

Goals: at most 2 GiB of memory whatever the number of rows, and at most 1.5 times the seconds of the bare loop, which reads
the same batches and writes nothing. Each measurement is a process of its own; the two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEEP = ["scheduled", "carrier", "flight", "origin", "dest", "tailnum"]
BLOCK_ROWS = 1_000_000
GOAL_GIB, GOAL_RATIO = 2.0, 1.5


def main(n_rows: int, n_rounds: int, row_group_rows: int) -> int:
    """Print a line per measurement and the two goals; 1 if one is missed."""
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as folder:
        call(folder, "make", str(n_rows), str(row_group_rows))
        size_bytes = (Path(folder) / "rows.parquet").stat().st_size
        print(f"{n_rows:,} rows of 24 fields in {size_bytes:,} bytes, row groups of {row_group_rows:,}", flush=True)
        seconds: dict[str, list[float]] = {"bare": [], "kit": []}
        peak_bytes = 0
        for number in range(1, n_rounds + 1):
            for what in seconds:
                found = json.loads(call(folder, what))
                assert found["rows"] == n_rows, found
                seconds[what].append(found["seconds"])
                peak_bytes = max(peak_bytes, found["peak_bytes"] if what == "kit" else 0)
                rate, peak = n_rows / found["seconds"], found["peak_bytes"] / 2**30
                print(
                    f"round {number}, {what:4}: {found['seconds']:.2f} s, {rate:,.0f} rows/s, peak {peak:.2f} GiB",
                    flush=True,
                )
    ratio = statistics.median(seconds["kit"]) / statistics.median(seconds["bare"])
    print(f"seconds of kit over the bare loop's: {ratio:.2f} (goal {GOAL_RATIO})")
    print(f"peak memory: {peak_bytes / 2**30:.2f} GiB (goal {GOAL_GIB})")
    return int(ratio > GOAL_RATIO or peak_bytes > GOAL_GIB * 2**30)


def call(folder: str, *what: str) -> str:
    """Do one thing in a fresh process; the last line that it prints."""
    command = [sys.executable, __file__, "--in", folder, *what]
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.strip().rpartition("\n")[2]


def make(folder: Path, n_rows: int, row_group_rows: int) -> None:
    """Train on the sample for an epoch, and write as many of its rows, drawn with replacement, as wanted."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    import delay_model
    import flights
    import pandas as pd

    from kit.model import save_saved_model

    data = ROOT / "notebooks" / "data"
    tables = [pd.read_parquet(data / f"{name}.parquet") for name in ("flights-sample", "weather", "planes")]
    table, _ = flights.label_flights(flights.prepare_flights(*tables))
    text, numbers = flights.feature_names("honest")
    encoder = delay_model.build_encoder(table, text, numbers)
    encoded = delay_model.encode(encoder, delay_model.to_records(table, text, numbers))
    inner = delay_model.build_inner(encoded.shape[1], 32, 1e-3)
    inner.fit(encoded, table["is_late"].to_numpy("float32"), batch_size=128, verbose=0)
    module, signatures = delay_model.build_serving(delay_model.build_outer(encoder, inner), text, numbers)
    save_saved_model(module, folder / "saved_model", signatures)
    rows = table[list(dict.fromkeys([*KEEP, *text, *numbers]))]
    write_rows(
        folder / "rows.parquet",
        rows.sample(min(n_rows, BLOCK_ROWS), replace=True, random_state=7),
        n_rows,
        row_group_rows,
    )


def write_rows(path: Path, block: Any, n_rows: int, row_group_rows: int) -> None:
    """The same block again and again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(block, preserve_index=False)
    if row_group_rows >= n_rows:
        whole = pa.concat_tables([table] * -(-n_rows // len(table)))
        pq.write_table(whole.slice(0, n_rows), path, row_group_size=n_rows)
        return
    with pq.ParquetWriter(path, table.schema) as writer:
        for start in range(0, n_rows, len(table)):
            writer.write_table(table.slice(0, n_rows - start), row_group_rows)


def kit(folder: Path) -> None:
    """Score with kit, kept columns and a constant beside the answer."""
    from kit.environment import Environment
    from kit.scoring import open_released_model, score_parquet

    servable = open_released_model(Environment(name="benchmark"), folder)
    started = time.perf_counter()
    scored = score_parquet(
        servable, folder / "rows.parquet", folder / "scored.parquet", release="benchmark-1", keep=KEEP,
        constants={"release": "benchmark-1"}, rejects=folder / "rejects.parquet",
    )  # fmt: skip
    tell(scored.rows_out, time.perf_counter() - started)


def bare(folder: Path) -> None:
    """Read the same batches, call the signature, do nothing with the answers."""
    import pyarrow.parquet as pq
    import tensorflow as tf

    from kit.scoring.score import BATCH_ROWS

    loaded = tf.saved_model.load(str(folder / "saved_model"))
    signature, n_rows = loaded.signatures["serving_default"], 0
    specs = signature.structured_input_signature[1]
    started = time.perf_counter()
    with pq.ParquetFile(folder / "rows.parquet", pre_buffer=False, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(specs)):
            fields = {}
            for name, spec in specs.items():
                values = batch.column(name).to_numpy(zero_copy_only=False)
                fields[name] = tf.constant(values if spec.dtype == tf.string else values.astype("float32"))
            n_rows += len(signature(**fields)["p_late"].numpy())
    tell(n_rows, time.perf_counter() - started)


def tell(n_rows: int, seconds: float) -> None:
    """Print what was measured, with the peak of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    print(json.dumps({"rows": n_rows, "seconds": seconds, "peak_bytes": peak_kib * 1024}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row-group-rows", type=int, default=BLOCK_ROWS)
    parser.add_argument("--in", dest="folder", type=Path)
    parser.add_argument("what", nargs="*")
    asked = parser.parse_args()
    if asked.folder:
        name, *numbers = asked.what
        {"make": make, "kit": kit, "bare": bare}[name](asked.folder, *map(int, numbers))
    else:
        sys.exit(main(asked.rows, asked.rounds, asked.row_group_rows))
