"""Starts an IPython kernel that cannot outlive the process that asked for it. Run by path, never imported.

ipykernel's own watch on its parent looks once a second and needs the interpreter's lock, which native code may hold for
minutes; Linux itself ends this process at once (prctl(2), PR_SET_PDEATHSIG).

However much a cell puts out, neither process fills up with it. Streams go in small messages, a full queue makes the
cell wait instead of dropping messages, and what no reader would keep is not sent: a "kit_cut" message says its size.
"""

import sys

# The folder of this file must not be importable in the kernel; IPython puts the working directory in its place.
del sys.path[0]

import ctypes  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

import zmq  # noqa: E402
from ipykernel.iostream import IOPubThread, OutStream  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from jupyter_client.session import Session  # noqa: E402
from traitlets import DottedObjectName, Integer, default  # noqa: E402

PR_SET_PDEATHSIG = 1
PIECE_CHARACTERS = 250_000
# A queue holds so many messages at each end, and never more bytes than are sent of a cell.
QUEUE_MESSAGES = 250
# Displays that are sent in any case; the journal decides about them.
SMALL_BYTES = 64_000
ERROR_CHARACTERS = 500_000
DISPLAYS = ("display_data", "execute_result", "update_display_data")
ERRORS = ("error", "execute_reply")


class PubThread(IOPubThread):
    """The publishing thread, which does at once what it asks of itself: its own full queue would stop it forever."""

    def schedule(self, f: Callable[[], object]) -> None:
        """Let the thread call a function."""
        if threading.current_thread() is self.thread:
            f()
        else:
            super().schedule(f)  # type: ignore[no-untyped-call]


class PieceStream(OutStream):
    """A stream that sends a piece as soon as it is full, and then lets the writer wait until it is sent."""

    _n_waiting = 0
    _parent: Any = None
    _key: frozenset[Any] = frozenset()

    def write(self, string: str) -> int:
        """Write piece by piece."""
        if not isinstance(string, str) or self.closed or self._master_pid != os.getpid():
            return super().write(string) or 0
        if len(string) + self._n_waiting < PIECE_CHARACTERS:
            self._keep(string)
            return len(string)
        for start in range(0, len(string), PIECE_CHARACTERS):
            self._keep(string[start : start + PIECE_CHARACTERS])
            self._n_waiting = 0
            self.flush()  # type: ignore[no-untyped-call]
        return len(string)

    def _keep(self, string: str) -> None:
        """OutStream.write without making the buffer's key, most of its time, again for each string."""
        parent = self.parent_header
        with self._buffer_lock:
            if parent is not self._parent:
                self._parent, self._key = parent, frozenset(parent.items())
            self._buffers[self._key].write(string)
        self._n_waiting += len(string)
        if not self._flush_pending:
            self._schedule_flush()  # type: ignore[no-untyped-call]

    def _flush_buffers(self) -> Iterator[tuple[dict[str, Any], str]]:
        # Several threads together may have written more than a piece.
        for parent, text in super()._flush_buffers():  # type: ignore[no-untyped-call]
            for start in range(0, len(text), PIECE_CHARACTERS):
                yield parent, text[start : start + PIECE_CHARACTERS]


class CuttingSession(Session):  # type: ignore[misc]
    """Sends of what is over the limits its size only.

    Attributes:
        display_bytes: of one display.
        cell_bytes: of all that a request puts out, apart from errors and small displays.
    """

    display_bytes = Integer(2**62)
    cell_bytes = Integer(2**62)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sent: dict[str | None, int] = {}

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> Any:
        """The message, or one that says how much was cut."""
        kind = msg["header"]["msg_type"]
        if kind == "stream":
            text = msg["content"]["text"]
            size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            if not self._take(msg, size_bytes):
                msg = self._cut(msg, size_bytes)
        elif kind in DISPLAYS:
            content = self.pack(msg["content"])
            is_sent = len(content) <= self.display_bytes and self._take(msg, len(content))
            msg = (
                {**msg, "content": content} if is_sent or len(content) <= SMALL_BYTES else self._cut(msg, len(content))
            )
        elif kind in ERRORS:
            msg = {**msg, "content": {key: _limit(value) for key, value in msg["content"].items()}}
        return super().serialize(msg, ident)

    def _take(self, msg: dict[str, Any], size_bytes: int) -> bool:
        request = msg["parent_header"].get("msg_id")
        sent = self._sent.get(request, 0) + size_bytes
        self._sent[request] = sent  # also if over: then nothing more is sent, however little
        return sent <= self.cell_bytes

    def _cut(self, msg: dict[str, Any], size_bytes: int) -> dict[str, Any]:
        parent = {"header": msg["parent_header"]}
        cut: dict[str, Any] = self.msg("kit_cut", {"bytes": size_bytes}, parent=parent)
        return cut


class KernelApp(IPKernelApp):
    """An IPython kernel that drops no output, and lets a cell wait rather than fill the memory with it."""

    output_budget_bytes = Integer(2**62, help="of output that is kept of a cell").tag(config=True)
    output_limit_bytes = Integer(2**62, help="of output that is sent of a cell").tag(config=True)
    outstream_class = DottedObjectName("__main__.PieceStream")

    @default("session")
    def _make_session(self) -> Session:
        return CuttingSession(parent=self, display_bytes=self.output_budget_bytes, cell_bytes=self.output_limit_bytes)

    def init_iopub(self, context: Any) -> None:
        """Make the publishing socket; it would drop what comes while its queue is full."""
        context.setsockopt(zmq.XPUB_NODROP, 1)
        context.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        context.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        super().init_iopub(context)  # type: ignore[no-untyped-call]
        self.iopub_thread.__class__ = PubThread  # ipykernel takes no other class

    def close(self) -> None:
        """Let the control thread end before the publishing thread does.

        ipykernel 7.4.0 closes them the other way round; a control thread that is flushing stdout then waits 10 s.
        """
        if self.control_thread and self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join(timeout=1.0)
        super().close()  # type: ignore[no-untyped-call]


def _limit(value: Any) -> Any:
    """An error's texts are kept whatever the budget says, so they must not be endless."""
    if isinstance(value, list):
        return [_limit(item) for item in value]
    if not isinstance(value, str) or len(value) <= ERROR_CHARACTERS:
        return value
    half = ERROR_CHARACTERS // 2
    return f"{value[:half]}\n[kit: {len(value) - 2 * half} characters cut here]\n{value[-half:]}"


def die_with_parent() -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ.get("JPY_PARENT_PID", os.getppid())):
        os._exit(1)  # the parent was gone before we asked


if __name__ == "__main__":
    die_with_parent()
    KernelApp.launch_instance()
