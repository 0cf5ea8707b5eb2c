"""Other programs that a reproduction starts: uv, and kit itself in a rebuilt environment."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from kit.errors import UndecidableError


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


class Shell(Protocol):
    """Starts programs; a fake in tests."""

    def run(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, *, aloud: bool) -> Ended:
        """Run a program to its end.

        Args:
            command: program and arguments.
            variables: its whole environment.
            folder: that it works in.
            aloud: its standard error goes where ours goes, and is not in the result.
        """


class RealShell:
    """Starts them."""

    def run(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, *, aloud: bool) -> Ended:
        """Run a program to its end; an interrupt reaches it too, and it is left the time to seal what it was doing.

        Raises:
            UndecidableError: there is no such program.
        """
        err = None if aloud else subprocess.PIPE
        try:
            process = subprocess.Popen(
                command,
                env=dict(variables),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        except OSError as error:
            raise UndecidableError(f"{command[0]} cannot be started: {error}") from error
        with process:
            try:
                out, said = process.communicate()
            except KeyboardInterrupt:
                process.communicate()
                raise
        return Ended(process.returncode, out, said or "")
