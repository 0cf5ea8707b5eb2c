"""Calls of the command line, in this process."""

import json
from typing import Any

import pytest

from kit.archive import Archive
from kit.cli.main import main
from kit.project import Project
from kit.testing import make_workbench


class Called:
    """What a call of `kit` gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """Its standard output, which must be one JSON value."""
        return json.loads(self.out)


class Kit:
    """`kit` in a project's folder."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self._capsys = project, capsys
        self.archive: Archive = make_workbench(project).archive

    def __call__(self, *arguments: str) -> Called:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert isinstance(stopped.value.code, int)
        return Called(stopped.value.code, *self._capsys.readouterr())
