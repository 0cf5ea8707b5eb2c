"""What a sweep is: its stage, what is fixed and what varies. Kept in the archive's objects; its digest names it."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import msgspec

from kit.archive import Archive
from kit.errors import IntegrityError, KitError, UnknownSubjectError, UsageError
from kit.files import canonical_json, open_regular, sha256_bytes

PREFIX = "sweep-"
ID_DIGITS = 12
MAX_BYTES = 64_000_000  # of one; 10,000 points of long texts
_BEGINNING = b'{"axes":'  # its first key
_NAME = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{4,64}})")


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sweep, before anything is executed. The same command on the same code and data gives the same one.

    Attributes:
        kind: tells it from every other object.
        format: of this value.
        stage: what is executed.
        environment: where.
        fixed: parameters that the command line gave one value for all points.
        axes: names of the swept parameters, in the order of the command line.
        points: values in the order of the axes, no two alike.
        keys: of each point, see `kit.execute.key`: what decides what it gives, code and data included.
        seed: of the draw; None if the points are all combinations.
    """

    kind: Literal["kit.sweep"] = "kit.sweep"
    format: Literal[1] = 1
    stage: str
    environment: str
    fixed: dict[str, Any]
    axes: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]
    keys: tuple[str, ...]
    seed: int | None = None

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(msgspec.to_builtins(self))

    @property
    def sha256(self) -> str:
        """Digest of `encode()`, which a record of one of its points names."""
        return sha256_bytes(self.encode())

    @property
    def id(self) -> str:
        """`sweep-4f09c1a2b3c4`: the digest's beginning."""
        return name_sweep(self.sha256)

    def values(self, index: int) -> dict[str, Any]:
        """The swept parameters of one point."""
        return dict(zip(self.axes, self.points[index], strict=True))


def name_sweep(sha256: str) -> str:
    """The id of a sweep of that digest."""
    return PREFIX + sha256[:ID_DIGITS]


def decode_definition(data: bytes, where: str) -> Definition:
    """Read a definition.

    Raises:
        IntegrityError: the bytes are none.
    """
    try:
        definition = msgspec.json.decode(data, type=Definition)
        is_exact = definition.encode() == data
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not the definition of a sweep: {error}") from error
    is_whole = len(definition.keys) == len(definition.points)
    if not (is_exact and is_whole and all(len(point) == len(definition.axes) for point in definition.points)):
        raise IntegrityError(f"{where}: not the definition of a sweep as kit writes one")
    return definition


def find_definition(archive: Archive, name: str) -> Definition:
    """The sweep of that id, or of a unique beginning of it (at least 4 digits, `sweep-` may be left out).

    Raises:
        UnknownSubjectError: there is none.
        UsageError: several, or the name can be none's.
        IntegrityError: its bytes were changed.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(f"expected the id of a sweep, such as sweep-4f09c1a2b3c4, found {name!r}")
    found = [definition for sha256 in _list_objects(archive, match[1]) if (definition := _read(archive, sha256))]
    if not found:
        raise UnknownSubjectError(f"no sweep is named {name!r}; `kit sweep` prints the id of each")
    if len(found) > 1:
        raise UsageError(
            f"{name!r} names {len(found)} sweeps: {', '.join(each.id for each in found)}; write more of the id"
        )
    return found[0]


def _list_objects(archive: Archive, prefix: str) -> list[str]:
    folder = archive.objects.path(prefix.ljust(64, "0")).parent
    return sorted(f"{prefix[:2]}{path.name}" for path in folder.glob(f"{prefix[2:]}*") if path.is_file())


def _read(archive: Archive, sha256: str) -> Definition | None:
    """The definition that an object is; None for any other object."""
    with open_regular(archive.objects.path(sha256)) as file:
        if file.read(len(_BEGINNING)) != _BEGINNING or os.fstat(file.fileno()).st_size > MAX_BYTES:
            return None
    data = archive.objects.read(sha256)
    try:
        return decode_definition(data, f"object {sha256[:12]}…")
    except KitError:
        return None
