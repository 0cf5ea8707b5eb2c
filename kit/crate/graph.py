"""JSON-LD as RO-Crate wants it: one flat list of entities, single values unpacked, paths as relative URIs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from kit.files import format_time

ROOT = "./"
DESCRIPTOR = "ro-crate-metadata.json"
COMPLETED = "http://schema.org/CompletedActionStatus"  # text in the profiles, not a reference
FAILED = "http://schema.org/FailedActionStatus"


class Graph:
    """Entities by id; what is added to one that is there already is merged into it."""

    def __init__(self) -> None:
        self._entities: dict[str, dict[str, list[Any]]] = {}

    def add(self, identifier: str, types: str | Iterable[str] = (), /, **properties: Any) -> str:
        """Add an entity, or properties of one; None and empty lists are left out. Gives the id."""
        entity = self._entities.setdefault(identifier, {})
        for name, value in {"@type": [types] if isinstance(types, str) else list(types), **properties}.items():
            values = entity.setdefault(name, [])
            for each in value if isinstance(value, list) else [value]:
                if each is not None and not any(each == other and type(each) is type(other) for other in values):
                    values.append(each)
        return identifier

    def entities(self) -> list[dict[str, Any]]:
        """All of them, the descriptor and the root first, single values unpacked."""
        first = {DESCRIPTOR: 0, ROOT: 1}
        names = sorted(self._entities, key=lambda name: (first.get(name, 2), name))
        return [{"@id": name, **_unpack(self._entities[name])} for name in names]


def _unpack(entity: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values for name, values in entity.items() if values}


def ref(identifier: str) -> dict[str, str]:
    """A reference to an entity."""
    return {"@id": identifier}


def refs(identifiers: Iterable[str]) -> list[dict[str, str]]:
    """References to entities."""
    return [ref(each) for each in identifiers]


def path_id(path: str) -> str:
    """A path in the crate as a relative URI: `größe #1.csv` becomes `gr%C3%B6%C3%9Fe%20%231.csv`."""
    return quote(path, safe="/")


def local_id(*parts: str) -> str:
    """Id of something that is no file: `#train/metric/auc`."""
    return "#" + "/".join(quote(part, safe="") for part in parts)


def crate_time(time: datetime) -> str:
    """`2026-03-01T09:30:00.250+00:00`, the one form of a time that the run profiles take."""
    return format_time(time).replace("Z", "+00:00")
