"""What a reproduction is called and what it stands for: its ids and digests, back to those of the record that it did again."""

from __future__ import annotations

import json
import re
from typing import Any

from kit.artifact import Artifact
from kit.record import Record

_SHORT = 12  # digits of a digest where a person reads it


class Names:
    """Names of reproductions, and the names that they stand for."""

    def __init__(self) -> None:
        self._originals: dict[str, str] = {}

    def add_record(self, before: Record, after: Record) -> None:
        """Take a reproduction and all that it wrote for the record that it did again."""
        self._originals[after.id] = before.id
        for artifact in before.outputs:
            self.add_artifact(artifact, after.output(artifact.name))

    def add_artifact(self, before: Artifact, after: Artifact | None) -> None:
        """Take one version of an artifact for another."""
        if after is not None and after.sha256 != before.sha256:
            self._originals[after.sha256] = before.sha256
            self._originals[f"{after.sha256[:_SHORT]}…"] = f"{before.sha256[:_SHORT]}…"

    def translate(self, value: Any) -> Any:
        """A JSON value in which every reproduction is called what it stands for."""
        if not self._originals:
            return value
        pattern = "|".join(map(re.escape, sorted(self._originals, key=len, reverse=True)))
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(re.sub(pattern, lambda match: self._originals[match[0]], text))
