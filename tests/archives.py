"""Archives of many sealed records, for tests and benchmarks: their files are written at once, without a word to the disk."""

import functools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from kit.archive import MARKER, RELEASE_FILE, STARTED, STATEMENT, VERDICT
from kit.artifact import Artifact, media_type_of
from kit.environment import Environment
from kit.files import canonical_json, sha256_bytes
from kit.gate import Evidence, Finding, Verdict
from kit.ledger import NO_ENTRY, Entry, Kind
from kit.parameter import ResolvedParameter, Source
from kit.record import CellOutcome, CellStatus, Failure, Process, Record, Status, Usage
from kit.signing import make_envelope
from kit.statement import describe_execution, describe_verdict
from kit.testing import START, make_manifest, make_record

ORIGIN = "kit/many/0123456789abcdef"
STAGES = ("build", "prepare", "train", "train", "train", "run")
ENVIRONMENTS = ("dev", "dev", "ci", "train")
N_POINTS = 32  # of each sweep
RELEASED = "staging"
_OUTPUT = b"what a stage wrote\n"
_PACKAGES = b"click==8.1.8\nmsgspec==0.20.0\n"
_NOBODY = Process(1, "0", "a boot long ago")


def make_archive_of(folder: Path, n: int, *, n_releases: int = 0, seed: int = 7) -> Path:
    """An archive of n sealed, unsigned records and their ledger entries: `kit verify` finds nothing wrong with it.

    About 24 kB a record on a file system of 4 KiB pages, and 0.2 ms. Stages, environments, metrics and parameters vary by
    the seed alone. One in 20 has failed; every ninth training belongs to a sweep.

    Args:
        folder: made; must be empty or not there.
        n: records, of the stages build, prepare, train and run, a second apart.
        n_releases: so many records more, each of which cut a release into `staging`, evenly among the others.
        seed: of what varies.
    """
    for name in ("records", "ledger", *(f"objects/sha256/{sha256_bytes(data)[:2]}" for data in _objects())):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for data in _objects():
        _write(folder / "objects/sha256" / sha256_bytes(data)[:2] / sha256_bytes(data)[2:], data)
    marker = canonical_json({"format": 2, "name": "many", "origin": ORIGIN})
    _write(folder / MARKER, marker)
    ledger = _Ledger(folder / "ledger", sha256_bytes(marker))
    every = (n // n_releases or 1) if n_releases else 0
    for number, record in enumerate(vary_records(n, seed), start=1):
        _seal(folder, ledger, record, {})
        if every and number % every == 0 and number // every <= n_releases:
            _release(folder, ledger, number, number // every)
    return folder


def vary_records(n: int, seed: int = 7) -> Iterator[Record]:
    """Closed records, oldest first."""
    chance = random.Random(seed)
    for number in range(n):
        stage, environment = chance.choice(STAGES), chance.choice(ENVIRONMENTS)
        started = START + timedelta(seconds=number, milliseconds=chance.randrange(1000))
        failed = chance.random() < 0.05
        base = _template(stage, environment, failed)
        changes: dict[str, object] = {
            "id": f"{started:%Y%m%dT%H%M%SZ}-{stage}-{chance.randrange(1 << 24):06x}",
            "started": started,
            "ended": started + timedelta(seconds=chance.randrange(1, 900)),
            "key": sha256_bytes(f"{stage} {environment} {number // 4}".encode()),
        }
        if stage == "train":
            changes |= _vary_training(chance, number, failed=failed)
        yield msgspec.structs.replace(base, **changes)


def _vary_training(chance: random.Random, number: int, *, failed: bool) -> dict[str, object]:
    values = {"units": 2 ** chance.randrange(4, 9), "learning_rate": chance.choice((1e-3, 3e-3)), "optimizer": "adam"}
    facts: dict[str, object] = {
        "parameters": tuple(
            ResolvedParameter(name, value, Source.COMMAND_LINE, type(value).__name__) for name, value in values.items()
        )
    }
    if not failed:
        facts["metrics"] = {"auc": chance.random(), "log_loss": chance.random(), "n_rows": chance.randrange(10**6)}
    if number % 9 == 0:
        facts["sweep"] = sha256_bytes(f"sweep {number // (9 * N_POINTS)}".encode())
    return facts


@functools.cache
def _template(stage: str, environment: str, failed: bool) -> Record:
    status = CellStatus.FAILED if failed else CellStatus.SUCCEEDED
    cells = [CellOutcome(2 * index, f"cell-{2 * index}", CellStatus.SUCCEEDED, index + 1, 0.125) for index in range(9)]
    outputs = (Artifact(f"{stage}.parquet", sha256_bytes(_OUTPUT), len(_OUTPUT), media_type_of("a.parquet")),)
    record = make_record(
        stage=stage,
        environment=environment,
        status=Status.FAILED if failed else Status.SUCCEEDED,
        process=_NOBODY,
        outputs=() if failed else outputs,
        cells=(*cells, CellOutcome(18, "cell-18", status, 10, 1.5)),
        failure=Failure("ValueError", "the table has no rows", 18) if failed else None,
        usage=Usage(5.0, 4.25, 410_000_000),
    )
    software = msgspec.structs.replace(record.software, packages_sha256=sha256_bytes(_PACKAGES), n_packages=2)
    return msgspec.structs.replace(record, software=software)


class _Ledger:
    """Entries by and by, each naming the one before."""

    def __init__(self, folder: Path, beginning: str) -> None:
        self._folder, self._prev, self._seq = folder, beginning or NO_ENTRY, 0

    def append(self, kind: Kind, record: Record, sha256: str, time: datetime, release: str = "") -> None:
        self._seq += 1
        entry = Entry(
            seq=self._seq,
            prev=self._prev,
            kind=kind,
            record=record.id,
            sha256=sha256,
            time=time,
            who=f"{record.machine.user}@{record.machine.host}",
            release=release,
        )
        data = entry.encode()
        _write(self._folder / f"{self._seq:09d}.json", data)
        self._prev = sha256_bytes(data)


def _seal(folder: Path, ledger: _Ledger, record: Record, files: dict[str, bytes]) -> None:
    announced = msgspec.structs.replace(
        record, status=Status.STARTED, ended=None, outputs=(), cells=(), metrics={}, failure=None, usage=None
    )
    contents = {**files, STARTED: announced.encode(), "record.json": record.encode(), "requirements.txt": _PACKAGES}
    digests = {name: sha256_bytes(data) for name, data in contents.items()}
    ledger.append(Kind.START, record, digests[STARTED], record.started)
    contents[STATEMENT] = make_envelope(describe_execution(record, digests, ORIGIN), None).encode()
    (folder / "records" / record.id).mkdir()
    for name, data in contents.items():
        _write(folder / "records" / record.id / name, data)
    ledger.append(Kind.END, record, sha256_bytes(contents[STATEMENT]), record.ended or record.started)


def _release(folder: Path, ledger: _Ledger, number: int, release: int) -> None:
    started = START + timedelta(seconds=number - 1, milliseconds=500)
    environment = Environment(name=RELEASED)
    bundle = sha256_bytes(b"bundle")
    evidence = Evidence("metric", "auc", Finding.HOLDS, "at least 0.6 was expected, 0.7 was found")
    verdict = Verdict(RELEASED, environment.sha256, {"bundle.zip": bundle}, (evidence,))
    manifest = make_manifest(
        verdict,
        environment=RELEASED,
        bundle_sha256=bundle,
        configuration=environment.configuration,
        configuration_sha256=environment.sha256,
    )
    data = manifest.encode()
    path = folder / "objects/sha256" / manifest.sha256[:2] / manifest.sha256[2:]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        _write(path, data)
    record = msgspec.structs.replace(
        _template("release", RELEASED, failed=False),
        id=f"{started:%Y%m%dT%H%M%SZ}-release-{number:06x}",
        started=started,
        ended=started + timedelta(seconds=2),
        outputs=(Artifact(RELEASE_FILE, manifest.sha256, len(data), media_type_of(RELEASE_FILE)),),
    )
    envelope = make_envelope(describe_verdict(verdict, record.id, manifest.sha256), None).encode()
    _seal(folder, ledger, record, {VERDICT: envelope})
    ledger.append(Kind.RELEASE, record, sha256_bytes(envelope), started, f"{RELEASED}-{release}")


def _objects() -> tuple[bytes, ...]:
    return _OUTPUT, b"bundle", b"configuration"


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
