"""The newest execution of a stage, whatever became of it."""

from __future__ import annotations

from itertools import count

from kit.archive import Archive
from kit.errors import IntegrityError, NotFoundError
from kit.files import tell_look
from kit.index import Query
from kit.record import Record

RECORD = "record.json"
PAGE = 50  # executions that are looked at together


def find_latest(archive: Archive, stage: str, environment: str) -> Record | None:
    """The execution of a stage in an environment that was started last; none of a sweep, none that did another again.

    Args:
        archive: its folder may not be there.
        stage: its name.
        environment: its name.
    """
    for offset in count(0, PAGE):
        page = archive.search(Query(stage=stage, environment=environment, limit=PAGE, offset=offset))
        for row in page.rows:  # each was compared with its file
            tell_look(str(archive.record_folder(row.id) / RECORD))
        for row in page.rows:
            if row.sweep or row.reproduces or row.imported:
                continue
            try:
                return archive.read_record(row.id)
            except (IntegrityError, NotFoundError):
                continue
        if not page.has_more:
            break
    return None
