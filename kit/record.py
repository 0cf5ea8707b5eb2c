"""The record: what remains of one execution of one stage, as a value (design: record.json, format 1)."""

from __future__ import annotations

import enum
import secrets
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from kit.artifact import Artifact, InputArtifact
from kit.check import CheckResult
from kit.errors import IntegrityError, NewerFormatError
from kit.files import canonical_json, leave_out_empty
from kit.parameter import ResolvedParameter

FORMAT = 1
ID_TIME = "%Y%m%dT%H%M%SZ"  # how an id begins: the moment of the start, UTC, so that ids sort by it

# Keys that came later: older records, which lack them, keep their bytes.
_LATER = ("drift", "key", "start", "preloaded", "sweep", "attempts")

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Status(enum.StrEnum):
    """How an execution stands. Closed exactly once; `LOST` is what a never-closed record of a dead process reads as."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    KERNEL_DIED = "kernel-died"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class CellStatus(enum.StrEnum):
    """How one code cell ended, from the kernel's own reply."""

    NOT_RUN = "not-run"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    KERNEL_DIED = "kernel-died"
    INTERRUPTED = "interrupted"


class CellOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code cell's outcome.

    Attributes:
        index: position among all cells of the executed notebook, from 0.
        id: the cell's stable id.
        status: how it ended.
        execution_count: the kernel's counter; None if it never ran.
        duration_s: seconds from sending the cell to the kernel's reply; None if it never ran.
        cut_bytes: bytes of output that went over the budget and were not kept.
    """

    index: int
    id: str
    status: CellStatus
    execution_count: int | None = None
    duration_s: float | None = None
    cut_bytes: int = 0


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an execution did not succeed.

    Attributes:
        kind: the exception's name, or `OutputMissing`, `CheckFailed`, `TimedOut`, `KernelDied`, …
        message: one sentence.
        cell: index of the cell that it happened in; None if in no cell.
    """

    kind: str
    message: str
    cell: int | None = None


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was executed.

    Attributes:
        bundle_sha256: digest of the source bundle, kept in the archive's objects.
        notebook: path in the bundle.
        notebook_sha256: digest of the notebook's bytes in the bundle.
        commit: git commit; None without git.
        dirty: True if the sources differ from that commit, or there is no commit to compare with.
        build: id of the build record whose bundle this is; None for an ad-hoc bundle of the working tree.
    """

    bundle_sha256: str
    notebook: str
    notebook_sha256: str
    commit: str | None
    dirty: bool
    build: str | None = None


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it was executed, as far as results may depend on it."""

    python: str
    platform: str
    cpu_model: str
    cpu_flags_sha256: str
    n_cpus: int
    host: str
    user: str
    thread_settings: dict[str, str]


class Software(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was installed.

    Attributes:
        packages_sha256: digest of the record's requirements.txt.
        n_packages: how many that lists.
        lock_sha256: digest of the bundle's lock file; None without one.
        kit_version: of the kit that executed.
        kit_sources_sha256: digest of its sources where it is an editable install; None otherwise.
    """

    packages_sha256: str
    n_packages: int
    lock_sha256: str | None
    kit_version: str
    kit_sources_sha256: str | None = None


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The process that executed, told from every other by more than its number.

    Attributes:
        pid: process id on its host.
        mark: when it started, in the system's own unit.
        boot: id of the machine's uptime; empty where the system has none.
    """

    pid: int
    mark: str
    boot: str


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it took; None where the system does not tell."""

    wall_s: float
    kernel_cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One execution of one stage. Times are UTC; sizes in bytes; durations in seconds.

    `release`: id of the release that a `run` executed. `reproduces`: id of the record that this execution did again.
    `drift`: what differed from that release and was allowed to, a sentence each. `key`: digest of everything that decides
    what the execution gives, see `kit.execute.key`. `start`: `cold` for a kernel in a new interpreter, `warm` for one forked
    from a process that had imported `preloaded` before. `sweep`: digest of the sweep that it is a point of. `attempts`: ids of
    earlier, unsuccessful executions of the same key whose scratch folder this one went on with, or that it tries again,
    oldest first.
    """

    format: int = FORMAT
    id: str
    stage: str
    environment: str
    configuration_sha256: str
    status: Status
    started: Time
    ended: Time | None = None
    process: Process
    parameters: tuple[ResolvedParameter, ...]
    code: Code
    inputs: tuple[InputArtifact, ...]
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float | int | bool | str] = {}
    checks: tuple[CheckResult, ...] = ()
    cells: tuple[CellOutcome, ...] = ()
    failure: Failure | None = None
    determinism: dict[str, Any] = {}
    machine: Machine
    software: Software
    usage: Usage | None = None
    release: str | None = None
    reproduces: str | None = None
    drift: tuple[str, ...] = ()
    key: str = ""
    start: Literal["", "cold", "warm"] = ""
    preloaded: tuple[str, ...] = ()
    sweep: str = ""
    attempts: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """True only for a closed record of an execution in which everything held."""
        return self.status is Status.SUCCEEDED

    @property
    def wall_s(self) -> float | None:
        """Seconds from start to end; None while it runs or when the end was lost."""
        return (self.ended - self.started).total_seconds() if self.ended else None

    def output(self, name: str) -> Artifact | None:
        """The output of that name, if it has one."""
        return next((artifact for artifact in self.outputs if artifact.name == name), None)

    def encode(self) -> bytes:
        """Canonical JSON, the bytes of record.json."""
        plain = msgspec.to_builtins(self, builtin_types=(datetime,))
        return canonical_json(leave_out_empty(plain, _LATER))


def decode_record(data: bytes, where: str) -> Record:
    """Read record.json.

    Raises:
        IntegrityError: the bytes are no record of a format that this kit reads.
    """
    try:
        declared = msgspec.json.decode(data)
        if isinstance(declared, dict) and isinstance(declared.get("format"), int) and declared["format"] > FORMAT:
            raise NewerFormatError(
                f"{where}: record format {declared['format']} is newer than this kit reads ({FORMAT}); update kit"
            )
        record = msgspec.convert(declared, Record)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not a readable record: {error}") from error
    if record.format != FORMAT:
        raise IntegrityError(f"{where}: there is no record format {record.format}; the first is {FORMAT}")
    return record


def new_record_id(stage: str, started: datetime) -> str:
    """`20260301T093000Z-train-4f09c1`: time and stage to read, six random digits to be unique."""
    return f"{started:{ID_TIME}}-{stage}-{secrets.token_hex(3)}"


def record_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of record.json, as published with the package."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kit run record, format 1",
        **msgspec.json.schema(Record),
    }
