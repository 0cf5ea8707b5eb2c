"""From an archive to the two sides of a difference; what is not there is noted and the rest compared."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from kit.archive import Archive
from kit.compare.causes import read_packages
from kit.diff.files import SourceFile, read_sources
from kit.diff.records import Side, diff_records
from kit.diff.releases import ReleaseSide, diff_releases
from kit.diff.values import Change, OutputKind, RecordDiff, ReleaseDiff
from kit.errors import KitError, UsageError
from kit.execute import complete_record, read_notebook_of
from kit.files import sha256_bytes
from kit.gate import Release
from kit.lineage import find_subject
from kit.record import Record


def diff_named(archive: Archive, before: str, after: str) -> RecordDiff | ReleaseDiff:
    """The difference of two records or of two releases, by any unique beginning or end of their ids.

    Raises:
        NotFoundError: one does not exist.
        UsageError: a name stands for several, or one is a record and the other a release.
        IntegrityError: a record or a release's manifest cannot be read.
    """
    old, new = find_subject(archive, before), find_subject(archive, after)
    if isinstance(old, Record) and isinstance(new, Record):
        return diff_records(read_side(archive, old), read_side(archive, new))
    if isinstance(old, Release) and isinstance(new, Release):
        return diff_releases(read_release_side(archive, old), read_release_side(archive, new))
    release = old if isinstance(old, Release) else new
    raise UsageError(
        f"one of {old.id} and {new.id} is a record, the other a release: compare two of a kind; "
        f"`kit show {release.id}` names the records behind the release"
    )


def read_side(archive: Archive, record: Record) -> Side:
    """A record with its notebook, packages, sources and configuration, as far as they are there and readable."""
    notes: dict[str, str] = {}
    try:
        notebook = read_notebook_of(record, archive)
    except (KitError, OSError) as error:
        notebook = {"cells": []}
        notes["notebook"] = f"cells and outputs are not compared: {_describe(error)}"
    return Side(
        record=complete_record(record, archive),
        notebook=notebook,
        packages=_read_packages(archive, record, notes),
        sources=_read_sources(archive, record.code.bundle_sha256, notes),
        configuration=_read_configuration(archive, record, notes),
        notes=notes,
    )


def read_release_side(archive: Archive, release: Release) -> ReleaseSide:
    """A release with its manifest and the sources that it runs.

    Raises:
        NotFoundError: its manifest is not in the archive.
        IntegrityError: its manifest cannot be read.
    """
    manifest = archive.read_manifest(release)
    notes: dict[str, str] = {}
    sources = _read_sources(archive, manifest.bundle_sha256, notes)
    return ReleaseSide(release=release, manifest=manifest, sources=sources, note=notes.get("sources", ""))


def _read_packages(archive: Archive, record: Record, notes: dict[str, str]) -> dict[str, str] | None:
    path = archive.record_folder(record.id) / "requirements.txt"
    try:
        data = path.read_bytes()
        packages = read_packages(data)
    except (KitError, OSError) as error:
        notes["packages"] = f"packages are not compared: {_describe(error)}"
        return None
    if sha256_bytes(data) != record.software.packages_sha256:
        notes["packages"] = "its requirements.txt is not the one that the record names; `kit verify` tells more"
    return packages


def _read_sources(archive: Archive, bundle_sha256: str, notes: dict[str, str]) -> dict[str, SourceFile] | None:
    try:
        return read_sources(archive.objects.read(bundle_sha256))
    except (KitError, OSError) as error:
        notes["sources"] = f"files of the source bundle are not compared: {_describe(error)}"
        return None


def _read_configuration(archive: Archive, record: Record, notes: dict[str, str]) -> dict[str, Any] | None:
    try:
        configuration = msgspec.json.decode(archive.objects.read(record.configuration_sha256))
        if isinstance(configuration, dict):
            return configuration
        problem = "it is no table"
    except (KitError, OSError, msgspec.DecodeError) as error:
        problem = _describe(error)
    notes["configuration"] = f"the configuration is not compared key by key: {problem}"
    return None


def _describe(error: Exception) -> str:
    """The system's own word for what is missing, without a path of this machine."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{str(error.filename).rpartition('/')[2]}: {error.strerror}"
    return str(error)


def as_json_value(difference: RecordDiff | ReleaseDiff) -> Any:
    """The difference as JSON values; pictures and what is the same are told by their digests, not their content."""
    plain = msgspec.to_builtins(difference, builtin_types=(datetime,))
    for cell in plain.get("cells", ()):
        for output in cell["outputs"]:
            for side in filter(None, (output["before"], output["after"])):
                if output["change"] == Change.SAME:
                    side["text"] = ""
                if output["change"] == Change.SAME or side["kind"] == OutputKind.PICTURE:
                    side["content"] = ""
    return plain
