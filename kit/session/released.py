"""The release that a `run` stage executes, as its notebook sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.environment import decode_environment
from kit.errors import UnknownNameError
from kit.gate import Manifest
from kit.scoring import open_released_model

if TYPE_CHECKING:
    from kit.model.servable import Servable


class OpenedRelease:
    """The release that a `run` stage executes."""

    def __init__(self, release_id: str, manifest: Manifest, folder: Path) -> None:
        self.id, self.manifest, self._folder = release_id, manifest, folder

    def artifact(self, name: str) -> Path:
        """Path of a released artifact, verified when it was put there.

        Raises:
            UnknownNameError: the release has none of that name.
        """
        if self.manifest.artifact(name) is None:
            raise UnknownNameError("released artifact", name, [each.name for each in self.manifest.artifacts], self.id)
        return self._folder / name

    def open_model(self) -> Servable:
        """The representation of the model that the release answers with (`[serving] representation`).

        Raises:
            IntegrityError: it does not load.
        """
        return open_released_model(decode_environment(self.configuration, f"release {self.id}"), self._folder)

    @property
    def configuration(self) -> dict[str, Any]:
        """The environment's configuration as the release froze it."""
        return self.manifest.configuration
