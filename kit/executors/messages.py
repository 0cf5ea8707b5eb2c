"""What a worker process and the pool say to each other: one JSON value a line, in both directions."""

from __future__ import annotations

from typing import Any

import msgspec

from kit.errors import IntegrityError
from kit.record import Failure

INTERRUPTED = "KeyboardInterrupt"  # the kind of failure of a task that was asked to stop
DIED = "WorkerDied"  # of one whose process ended


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To the worker: what the target function is called with."""

    value: Any


class Progressed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="progressed"):
    """From the worker: what the target function reported meanwhile."""

    value: Any


class Finished(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="finished"):
    """From the worker: what the target function gave."""

    value: Any


class Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """From the worker, or about it: the target function gave nothing."""

    failure: Failure


Answer = Progressed | Finished | Failed

_DECODER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def decode_answer(line: bytes) -> Answer:
    """Read one line of a worker.

    Raises:
        IntegrityError: it is no answer.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"a worker process answered with {line[:100]!r}, which is none: {error}") from error


def encode_line(message: Task | Answer) -> bytes:
    """A message as the line that is sent."""
    return msgspec.json.encode(message) + b"\n"
