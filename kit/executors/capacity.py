"""How much this machine, and the container that we may be in, lets us use: cores and memory."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# What BLAS, OpenMP, numexpr and TensorFlow read when they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")  # fmt: skip
SYSTEM = Path("/")


def usable_cores(root: Path = SYSTEM) -> int:
    """Cores that this process may use: its affinity, and the quota of its control groups rounded up; at least 1.

    Args:
        root: of the file system that holds proc(5) and cgroup v2.
    """
    n_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = (_read_quota(folder / "cpu.max") for folder in _control_groups(root))
    return max(1, min([n_cores, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def available_memory_bytes(root: Path = SYSTEM) -> int | None:
    """Memory that can be used without swapping: the system's, and what the control groups' limits leave.

    Args:
        root: see `usable_cores`.

    Returns:
        Bytes; None where the system does not tell.
    """
    found = [_read_available(root / "proc/meminfo"), *(_read_left(folder) for folder in _control_groups(root))]
    return min((size_bytes for size_bytes in found if size_bytes is not None), default=None)


def divide_threads(n_workers: int, n_cores: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that give each of some workers its part of the cores, at least one; those that the user set are left out."""
    n_threads = str(max(1, n_cores // n_workers))
    return {name: n_threads for name in THREAD_VARIABLES if name not in environment}


def admit(n_wanted: int, peak_bytes: int | None, available_bytes: int | None) -> int:
    """How many at a time fit into memory, at least 1 and at most `n_wanted`.

    Args:
        n_wanted: > 0.
        peak_bytes: that one of them needs; None if it is not known.
        available_bytes: that there are; None if it is not known.
    """
    if not peak_bytes or available_bytes is None:
        return n_wanted
    return max(1, min(n_wanted, available_bytes // peak_bytes))


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of this process' control group and those above it (Linux, Control Group v2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::/") and ".." not in line:
            mount = root / "sys/fs/cgroup"
            folder = mount / line[4:]
            yield folder
            yield from (each for each in folder.parents if each.is_relative_to(mount))


def _read_quota(path: Path) -> float | None:
    """Cores, as `max 100000` or `150000 100000`."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_left(folder: Path) -> int | None:
    """What a control group's limit leaves; file pages that are not in use count as free."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    return max(0, limit - used + int(statistics.get("inactive_file", 0)))


def _read_available(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
