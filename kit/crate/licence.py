"""Under which terms an export's sources stand and where their project is at home, from the bundle's pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from kit.crate.source import read_source

_HOMES = ("homepage", "repository", "source", "documentation")


class Licence(msgspec.Struct, frozen=True):
    """Terms, as an entity of the crate.

    Attributes:
        id: of the entity; an SPDX address where the project names an SPDX licence.
        name: of the licence.
        description: one sentence.
        home: address of the project; empty if it names none.
    """

    id: str
    name: str
    description: str
    home: str = ""


def read_licence(bundle: Path) -> Licence:
    """The terms that a bundle's `[project]` table states; without any, an entity that says so."""
    table = _read_project(bundle)
    home = _find_home(table.get("urls"))
    stated = table.get("license")
    if isinstance(stated, dict):  # the form before PEP 639
        stated = stated.get("text")
    if not isinstance(stated, str) or not stated.strip():
        sentence = "The project states no licence in its pyproject.toml: ask its authors before you use it further."
        return Licence("#licence", "No licence stated", sentence, home)
    name = stated.strip()
    sentence = f"The project's sources stand under {name}; data and models may stand under other terms."
    is_spdx_id = name.isascii() and all(character.isalnum() or character in ".-+" for character in name)
    return Licence(f"https://spdx.org/licenses/{name}" if is_spdx_id else "#licence", name[:200], sentence[:400], home)


def _read_project(bundle: Path) -> dict[str, Any]:
    text = read_source(bundle, "pyproject.toml") or b""
    try:
        table = tomllib.loads(text.decode()).get("project")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}
    return table if isinstance(table, dict) else {}


def _find_home(urls: Any) -> str:
    named = {str(key).lower(): value for key, value in urls.items()} if isinstance(urls, dict) else {}
    found = (named[key] for key in _HOMES if isinstance(named.get(key), str))
    return next((each for each in found if each.startswith("https://")), "")
