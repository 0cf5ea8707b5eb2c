"""What verifying costs: start-up, 1,000 small records, large objects against plain SHA-256 over the same bytes.

python benchmarks/verify.py [N_RECORDS] [MEGABYTES]
"""

from __future__ import annotations

import functools
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from kit.archive import Archive, make_checkpoint, open_archive
from kit.artifact import Artifact
from kit.files import canonical_json
from kit.record import Code
from kit.testing import START, make_key, make_record, seal_record
from kit.verify import verify_archive

KEY = make_key()


def main(n_records: int = 1000, n_megabytes: int = 1000) -> None:
    """Print one line per figure."""
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as folder:
        small = open_archive(Path(folder, "small"), "small", KEY)
        fill(small, n_records)
        tiny = open_archive(Path(folder, "tiny"), "tiny", KEY)
        fill(tiny, 1)
        command = [sys.executable, "-m", "kit.cli", "verify", str(tiny.folder)]
        print(f"kit verify of one record, whole command: {cpu_of(command):.2f} s CPU (goal 0.5)")
        _report(f"{n_records} small signed records", small.folder, goal_s=5.0 * n_records / 1000)
        large = open_archive(Path(folder, "large"), "large", KEY)
        paths = put_objects(large, n_megabytes)
        fill(large, 1)
        plain = min(hash_plainly(paths) for _ in range(3))
        verified = min(cpu_seconds(lambda: verify_archive(large.folder, [KEY.public])) for _ in range(3))
        print(
            f"{n_megabytes} MB of objects: {verified:.2f} s CPU, plain sha256 {plain:.2f} s, ratio {verified / plain:.2f}"
        )


def fill(archive: Archive, n_records: int) -> None:
    """Records with five files each, and what they name in the objects."""
    bundle = archive.objects.put_bytes(b"bundle")
    configuration = archive.objects.put_bytes(canonical_json({}))
    code = Code(bundle, "notebooks/train.ipynb", bundle, None, dirty=True)
    for number in range(n_records):
        output = archive.objects.put_bytes(str(number).encode())
        record = make_record(
            started=START + timedelta(seconds=10 * number),
            code=code,
            configuration_sha256=configuration,
            outputs=(Artifact("a.txt", output, 1, "text/plain"),),
        )
        seal_record(archive, record, {"source.ipynb": b"{}", "executed.ipynb": os.urandom(20_000), "log.txt": b"done"})
    make_checkpoint(archive)


def put_objects(archive: Archive, n_megabytes: int) -> list[Path]:
    """Objects of 50 MB."""
    return [archive.objects.path(archive.objects.put_bytes(os.urandom(50_000_000))) for _ in range(n_megabytes // 50)]


def hash_plainly(paths: list[Path]) -> float:
    """CPU seconds of `hashlib.sha256` over files that are in memory already."""
    contents = (path.read_bytes() for path in paths)
    return sum(cpu_seconds(functools.partial(hashlib.sha256, data)) for data in contents)


def cpu_seconds(work: object) -> float:
    """CPU seconds of this process during a call."""
    before = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - before


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a command, the best of three."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def _report(what: str, folder: Path, goal_s: float) -> None:
    report = None

    def verify() -> None:
        nonlocal report
        report = verify_archive(folder, [KEY.public])

    seconds = cpu_seconds(verify)
    assert report is not None
    assert report.exit_code == 0, report.findings
    print(f"{what}: {seconds:.2f} s CPU (goal {goal_s:g}), {report.n_entries} entries, {report.n_objects} objects")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
