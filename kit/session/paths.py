"""Paths of a stage's declared inputs or outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from kit.errors import UnknownNameError


class Paths(Mapping[str, Path]):
    """Paths of a stage's declared inputs or outputs, by name."""

    def __init__(self, kind: str, paths: Mapping[str, str]) -> None:
        self._kind, self._paths = kind, paths

    def __getitem__(self, name: str) -> Path:
        """The path of a declared name.

        Raises:
            UnknownNameError: it is not declared.
        """
        if name not in self._paths:
            raise UnknownNameError(self._kind, name, self._paths, f"declare it in kit.open_stage({self._kind}s=[…])")
        return Path(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        """The declared names."""
        return iter(self._paths)

    def __len__(self) -> int:
        """How many are declared."""
        return len(self._paths)
