"""Executing in other processes: a pool of workers on this machine, and how many of them it bears."""

from kit.executors.capacity import admit, available_memory_bytes, divide_threads, usable_cores
from kit.executors.messages import INTERRUPTED
from kit.executors.pool import Event, Pool, TaskFailed, TaskFinished, TaskProgressed, TaskStarted

__all__ = [
    "INTERRUPTED",
    "Event",
    "Pool",
    "TaskFailed",
    "TaskFinished",
    "TaskProgressed",
    "TaskStarted",
    "admit",
    "available_memory_bytes",
    "divide_threads",
    "usable_cores",
]
