"""Doing an execution again in another environment: the same command, there, with its result handed back as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kit.errors import IntegrityError, KitError, NotFoundError, UndecidableError
from kit.execute import Workbench
from kit.lineage import Code
from kit.record import Record
from kit.reproduce.findings import Finding, Reproduction
from kit.reproduce.plan import require_sealed
from kit.reproduce.rebuild import differs_from_here, rebuild_environment
from kit.reproduce.shell import Shell

INTERRUPTED = 130
_SHOWN = 5


def find_obstacle(workbench: Workbench, record: Record) -> tuple[list[str], Finding | None]:
    """How what is installed here differs from what a record was executed with, or why that cannot be told.

    A record that is not what was sealed is found out first: what it says of packages is not worth a look then.
    """
    try:
        require_sealed(workbench.archive, record)
        return differs_from_here(workbench.archive, record), None
    except IntegrityError as error:
        return [], Finding(Code.INPUT_CHANGED, "", str(error))
    except NotFoundError as error:
        return [], Finding(Code.INPUT_NOT_AVAILABLE, "", str(error))
    except UndecidableError as error:
        return [], Finding(Code.ENVIRONMENT_NOT_REBUILT, "", str(error))


def reproduce_elsewhere(
    workbench: Workbench, record: Record, again: Mapping[str, Record], differences: list[str], shell: Shell
) -> Reproduction:
    """Do an execution again with the recorded packages.

    Args:
        workbench: project and archive.
        record: a succeeded one.
        again: reproductions whose outputs are read, by the id of the record that they did again.
        differences: between what is installed here and what is recorded.
        shell: starts uv, and kit in the rebuilt environment.

    Raises:
        KitError: what that kit refused, with its exit code.
        KeyboardInterrupt: it was interrupted.
    """
    shown = "; ".join(differences[:_SHOWN]) + (
        f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    )

    def notify(what: str) -> None:
        workbench.notify(f"{record.stage}: {what} ({shown})")

    try:
        cache = workbench.project.scratch / "environments"
        rebuilt = rebuild_environment(workbench.archive, record, cache, shell, notify)
        command = [str(rebuilt.python), "-P", "-m", "kit.cli", "reproduce", record.id]
        command += ["--env", "current", "--json", "--inner"]
        command += [f"--with={record_id}={done.id}" for record_id, done in again.items()]
        ended = shell.run(command, rebuilt.variables, workbench.project.root, aloud=True)
        return _read_answer(ended.code, ended.out)
    except (UndecidableError, OSError) as error:
        finding = Finding(Code.ENVIRONMENT_NOT_REBUILT, "", str(error))
        return Reproduction(record=record.id, stage=record.stage, findings=(finding,))


def _read_answer(code: int, out: str) -> Reproduction:
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    try:
        answer: dict[str, Any] = msgspec.json.decode(out.encode(), type=dict[str, Any])
        if "error" in answer:
            refused = KitError(str(answer["error"]["message"]))
            refused.exit_code = code
            raise refused
        (stage,) = msgspec.convert(answer["stages"], tuple[Reproduction, ...])
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise UndecidableError(
            f"kit in the rebuilt environment ended with {code} and no result that can be read: {error}"
        ) from error
    return stage
