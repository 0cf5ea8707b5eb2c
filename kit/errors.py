"""Every error that kit raises on purpose.

    KitError
    ├── UsageError (ValueError)            the caller asked for something that cannot be
    │   ├── UnknownNameError (KeyError)    a name that nothing has; suggests the nearest one
    │   ├── ProjectError                   pyproject.toml, a folder or a notebook of the project is not as it must be
    │   ├── EnvironmentFileError           environments/<name>.toml is not as it must be
    │   ├── NotebookError                  a stage's cells are not as they must be
    │   ├── ParameterError (TypeError)     a parameter's name, type or value
    │   ├── GraphError                     two producers, a cycle, an unbound input
    │   └── SuiteError                     an expectation suite that cannot be trusted
    ├── StageError (RuntimeError)          an execution did not succeed; carries its record
    ├── GateRefusedError (RuntimeError)    a release was refused; carries the reasons
    ├── PolicyError (PermissionError)      the environment's policy forbids it
    ├── NotFoundError (LookupError)        no such record, release, artifact or object
    │   └── UnknownSubjectError (UsageError)   a name that a person gave, and that no record or release has
    ├── IntegrityError (OSError)           bytes are not the bytes that were recorded
    │   └── NewerFormatError               written by a newer kit than this one
    ├── WarmUnavailableError (RuntimeError)    no kernel can be forked here: start a cold one
    ├── InterruptedByUserError              Ctrl-C or a signal to end
    └── UndecidableError (RuntimeError)    cannot be decided here

`exit_code` is what the command line returns: 1 a stage, check or claim failed, 2 wrong use, 3 cannot be decided here,
130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class KitError(Exception):
    """Root of every error that kit raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """The sentence, also where a builtin parent (KeyError) would quote it."""
        return str(self.args[0]) if self.args else type(self).__name__


class UsageError(KitError, ValueError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name that nothing here has.

    Attributes:
        name: the name that was asked for.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(f"{kind} {name!r}{suggest(name, self.known)}" + (f"  ({where})" if where else ""))


class ProjectError(UsageError):
    """The project's own files are not as they must be."""


class EnvironmentFileError(UsageError):
    """An environment file is not as it must be."""


class NotebookError(UsageError):
    """A stage notebook's cells are not as they must be."""


class ParameterError(UsageError, TypeError):
    """A parameter's name, type or value is wrong."""


class GraphError(UsageError):
    """The stages' inputs and outputs do not form a graph."""


class SuiteError(UsageError):
    """An expectation suite that cannot be trusted: empty, malformed, unknown expectation types."""


class StageError(KitError, RuntimeError):
    """An execution did not succeed.

    Attributes:
        record_id: the record that tells what happened.
    """

    def __init__(self, sentence: str, record_id: str = "") -> None:
        self.record_id = record_id
        super().__init__(sentence)


class GateRefusedError(KitError, RuntimeError):
    """A gate refused a release.

    Attributes:
        reasons: one sentence for each thing that must change, never empty.
    """

    def __init__(self, environment: str, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        lines = "".join(f"\n  - {reason}" for reason in self.reasons)
        super().__init__(f"the gate of environment {environment!r} refuses this release:{lines}")


class PolicyError(KitError, PermissionError):
    """The environment's policy forbids it."""


class NotFoundError(KitError, LookupError):
    """No such record, release, artifact or object."""


class UnknownSubjectError(NotFoundError, UsageError):
    """A name that a person gave, and that no record or release of the archive has."""

    exit_code = 2


class IntegrityError(KitError, OSError):
    """Bytes are not the bytes that were recorded."""


class NewerFormatError(IntegrityError):
    """Written in a format that is newer than this kit reads: what it says cannot be decided here."""

    exit_code = 3


class WarmUnavailableError(KitError, RuntimeError):
    """No kernel can be forked here; a cold one can be started.

    Attributes:
        reason: why, a sentence.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class InterruptedByUserError(KitError):
    """Ctrl-C or a signal to end came while kit itself was at work."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted; what was sealed before stays, and `kit records` lists it")


class UndecidableError(KitError, RuntimeError):
    """Cannot be decided here: something that the decision needs is not on this machine."""

    exit_code = 3


def suggest(name: str, known: Iterable[str]) -> str:
    """'; did you mean …?' for the nearest known name, else the list of what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f" does not exist; did you mean {near[0]!r}?"
    return f" does not exist; there is {', '.join(repr(n) for n in names)}" if names else " does not exist"
