"""Archives with an index and without, what is found in them, and what is done to their files."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from kit.archive import Archive
from kit.environment import Environment
from kit.errors import KitError
from kit.gate import Verdict
from kit.index import Query
from kit.ledger import Kind
from kit.parameter import ResolvedParameter, Source
from kit.testing import START, make_manifest, make_record, seal_record, seal_release

RELEASES = (Kind.RELEASE, Kind.ROLLBACK)


def reopen(archive: Archive) -> Archive:
    """As the next command, with the same index."""
    return Archive(archive.folder, archive.origin, index=index_of(archive))


def index_of(archive: Archive) -> Path:
    return archive.folder.parent / ".kit/index.sqlite"


def bare(archive: Archive) -> Archive:
    """The same archive, looked through without an index."""
    return Archive(archive.folder, archive.origin)


def ids(archive: Archive, **query: object) -> list[str]:
    return [row.id for row in archive.search(Query(**query)).rows]


def seal(archive: Archive, hours: int = 0, **facts: object) -> str:
    return seal_record(archive, make_record(started=START + timedelta(hours=hours), **facts)).id


def parameters(**values: object) -> tuple[ResolvedParameter, ...]:
    return tuple(ResolvedParameter(name, value, Source.NOTEBOOK, "int") for name, value in values.items())


def rewrite(archive: Archive, record_id: str, change: Callable[[bytes], bytes]) -> None:
    path = archive.record_folder(record_id) / "record.json"
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(change(data))


def release(archive: Archive, hours: int) -> str:
    verdict = Verdict("dev", Environment(name="dev").sha256, {}, ())
    manifest = make_manifest(verdict)
    archive.objects.put_bytes(manifest.encode())
    return seal_release(archive, manifest, START + timedelta(hours=hours)).id


def attempt(action: Callable[[], object]) -> object:
    try:
        return action()
    except (KitError, OSError) as error:
        return type(error), str(error)
