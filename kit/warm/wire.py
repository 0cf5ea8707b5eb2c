"""Messages between client and server: JSON with its length before it, and descriptors beside it (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from kit.errors import WarmUnavailableError

LENGTH = struct.Struct("!I")
# An environment and its arguments; the system itself passes no more than 2 MiB of them to a new program.
LONGEST_BYTES = 16 << 20
MOST_DESCRIPTORS = 8
PIECE_BYTES = 1 << 16
SEND_S = 5.0
STEP_S = 0.05


class Closed(Exception):  # noqa: N818 (no error: the other end has gone, or speaks another language)
    """Nothing more will come."""


class Connection:
    """One end of a stream socket, with whole messages.

    Args:
        end: connected; belongs to the connection from now on.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket, self._data = end, bytearray()
        self._descriptors: list[int] = []
        end.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def peer(self) -> tuple[int, int]:
        """(process id, user id) of the process at the other end when the two were connected."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", raw)
        return pid, uid

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message; waits up to 5 s for a slow reader.

        Raises:
            Closed: it cannot be sent.
        """
        data = json.dumps(message).encode("ascii")  # the lone surrogates of undecodable names are escaped
        try:
            self._socket.settimeout(SEND_S)
            socket.send_fds(self._socket, [LENGTH.pack(len(data))], descriptors)
            self._socket.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                self._socket.setblocking(False)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message with its descriptors, which belong to the caller; None if it is not whole yet.

        Raises:
            Closed: no more will come.
        """
        while (message := self._take()) is None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, PIECE_BYTES, MOST_DESCRIPTORS)
            except BlockingIOError:
                return None
            except OSError as error:
                raise Closed(str(error)) from error
            self._descriptors += descriptors
            if not data:
                raise Closed("the other end was closed")
            self._data += data
        descriptors, self._descriptors = self._descriptors, []
        return message, descriptors

    def close(self) -> None:
        """Close the socket and the descriptors that nobody took."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._socket.close()

    def _take(self) -> dict[str, Any] | None:
        if len(self._data) < LENGTH.size:
            return None
        (size_bytes,) = LENGTH.unpack_from(self._data)
        if size_bytes > LONGEST_BYTES:
            raise Closed(f"a message of {size_bytes} bytes, more than {LONGEST_BYTES}")
        end = LENGTH.size + size_bytes
        if len(self._data) < end:
            return None
        try:
            message = json.loads(bytes(self._data[LENGTH.size : end]))
        except ValueError as error:
            raise Closed("a message that is no JSON") from error
        del self._data[:end]
        if not isinstance(message, dict):
            raise Closed("a message that is no JSON object")
        return message


def await_message(
    connection: Connection, limit_s: float, is_cancelled: Callable[[], bool] = lambda: False
) -> tuple[dict[str, Any], list[int]]:
    """The next message and its descriptors.

    Raises:
        Closed: none will come.
        TimeoutError: none came in time.
        WarmUnavailableError: cancelled.
    """
    end = time.monotonic() + limit_s
    while (received := connection.receive()) is None:
        if is_cancelled():
            raise WarmUnavailableError("interrupted while a server was asked for a kernel")
        if time.monotonic() > end:
            raise TimeoutError(f"no answer within {limit_s:g} s")
        is_readable(connection.fileno(), STEP_S)
    return received


def is_readable(descriptor: int, limit_s: float | None) -> bool:
    """True as soon as something can be read; waits for it, without end if the limit is None."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if limit_s is None else limit_s * 1000))
