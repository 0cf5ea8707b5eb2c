"""The ledger: appends a second by one writer and by many at once, its root over many entries, and reading them.

    python benchmarks/ledger.py [N_ENTRIES] [FOLDER]

N_ENTRIES (100,000) are those of the root and of reading; FOLDER says which disk to measure. Prints one line a figure;
the goals are at least 100 appends a second and at most 3 s of CPU for the root over 100,000 entries.
"""

import multiprocessing
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from kit.files import sha256_bytes
from kit.ledger import Entry, Kind, Ledger
from kit.merkle import Frontier

N_APPENDS = 800
RECORD = "20260301T093000Z-train-0a1b2c"
TIME = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def main() -> None:
    n_entries = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as name:
        for n_writers in (1, 16):
            measure_appends(Path(name, str(n_writers)), n_writers)
        measure_reading(Path(name, "long"), n_entries)


def measure_appends(archive: Path, n_writers: int) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(n_writers + 1)
    job = (archive, N_APPENDS // n_writers, barrier)
    writers = [context.Process(target=append_entries, args=job) for _ in range(n_writers)]
    for writer in writers:
        writer.start()
    barrier.wait()
    start = time.perf_counter()
    for writer in writers:
        writer.join()
    wall_s = time.perf_counter() - start
    assert Ledger(archive).size() == N_APPENDS
    plural = "s" if n_writers > 1 else ""
    print(f"{N_APPENDS / wall_s:.0f} appends/s by {n_writers} writer{plural} ({N_APPENDS} in {wall_s:.2f} s)")


def append_entries(archive: Path, n_appends: int, barrier: object) -> None:
    ledger, sha256 = Ledger(archive), sha256_bytes(b"statement")
    barrier.wait()
    for _ in range(n_appends):
        ledger.append(Kind.END, RECORD, sha256, "ana@laptop", TIME)


def measure_reading(archive: Path, n_entries: int) -> None:
    fill(archive, n_entries)
    ledger = Ledger(archive)
    start = time.process_time()
    root = ledger.extend(Frontier()).root
    cpu_s = time.process_time() - start
    print(f"root over {n_entries} entries: {cpu_s:.2f} s CPU ({root.hex()[:12]}…)")
    start = time.process_time()
    n_read = sum(1 for _ in ledger.read_entries())
    cpu_s = time.process_time() - start
    assert n_read == n_entries
    print(f"reading {n_entries} entries: {cpu_s:.2f} s CPU")
    start = time.process_time()
    entry = Ledger(archive).append(Kind.RELEASE, RECORD, sha256_bytes(b"verdict"), "ana@laptop", TIME, "staging")
    cpu_s = time.process_time() - start
    print(f"first release after {n_entries} entries ({entry.release}): {cpu_s:.2f} s CPU")


def fill(archive: Path, n_entries: int) -> None:
    """Write a ledger without waiting for the disk: it is read, not crashed."""
    ledger, prev = Ledger(archive), ""
    ledger.folder.mkdir(parents=True)
    for seq in range(1, n_entries + 1):
        entry = Entry(
            seq=seq,
            prev=prev,
            kind=Kind.START if seq % 2 else Kind.END,
            record=RECORD,
            sha256=sha256_bytes(b"statement"),
            time=TIME,
            who="ana@laptop",
        )
        data = entry.encode()
        ledger.path(seq).write_bytes(data)
        prev = sha256_bytes(data)


if __name__ == "__main__":
    main()
