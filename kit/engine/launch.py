"""Becomes an IPython kernel that cannot outlive the process that asked for it. Run or loaded by path, never imported.

Run, it imports what a kernel needs and then waits for its order on standard input: a process can be started before it is
known what for. Loaded by a process that forks kernels, it does nothing until `main` is called.

ipykernel's own watch on its parent looks once a second and needs the interpreter's lock, which native code may hold for
minutes; Linux itself ends this process at once (prctl(2), PR_SET_PDEATHSIG).

However much a cell puts out, neither process fills up with it. Streams go in small messages, a full queue makes the
cell wait instead of dropping messages, and what no reader would keep is not sent: a "kit_cut" message says its size.
"""

# ruff: noqa: E402 (the guard is left before anything large is imported)
import gc
import os
import select
import signal
import sys


def leave_guard() -> int:
    """Leave a process in this one's group that ends the group when this process has ended.

    Whoever asked for the kernel does that too, unless it was killed: then what the kernel had started would stay. A forked
    kernel has its server for this. The guard is no child of the kernel, and small: it is left before anything is imported.
    Gives the process between the two, which ends at once and is to be waited for; 0 if there is no guard.
    """
    if not hasattr(os, "pidfd_open") or os.getpgrp() != os.getpid():
        return 0
    kernel = os.pidfd_open(os.getpid())
    between = os.fork()
    if between:
        os.close(kernel)
        return between
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, kernel)
    poll = select.poll()
    poll.register(kernel, select.POLLIN)
    poll.poll()
    os.killpg(0, signal.SIGKILL)
    return 0  # never


if __name__ == "__main__":
    gc.disable()  # nothing of what is imported is garbage
    # The folder of this file must not be importable in the kernel; IPython puts the working directory in its place.
    del sys.path[0]
    _between = leave_guard()

import array
import codecs
import contextlib
import ctypes
import fcntl
import json
import termios
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipykernel.iostream
import zmq
from ipykernel.iostream import IOPubThread, OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from IPython.core.profiledir import ProfileDir
from jupyter_client.session import Session
from traitlets import Any as AnyTrait
from traitlets import Integer, Type, Unicode, default

PR_SET_PDEATHSIG = 1
PIECE_CHARACTERS = 250_000
# A queue holds so many messages at each end, and never more bytes than are sent of a cell.
QUEUE_MESSAGES = 250
# Displays that are sent in any case; the journal decides about them.
SMALL_BYTES = 64_000
ERROR_CHARACTERS = 500_000
DISPLAYS = ("display_data", "execute_result", "update_display_data")
ERRORS = ("error", "execute_reply")
PIPE_BYTES = 1 << 16
DRAIN_S = 5.0
STREAMS: list["PieceStream"] = []


class PubThread(IOPubThread):
    """The publishing thread, which does at once what it asks of itself: its own full queue would stop it forever."""

    def schedule(self, f: Callable[[], object]) -> None:
        """Let the thread call a function."""
        if threading.current_thread() is self.thread:
            f()
        else:
            super().schedule(f)  # type: ignore[no-untyped-call]


class PieceStream(OutStream):
    """A stream that sends a piece as soon as it is full, and then lets the writer wait until it is sent.

    What is written to its descriptor (by C code, by other processes) comes through a pipe, which a thread reads; `drain` waits
    for the thread, so that what a cell has written there is sent as this cell's.
    """

    __module__ = "ipykernel.iostream"  # where it is put, in a cold kernel and in a forked one
    _n_waiting = 0
    _parent: Any = None
    _key: frozenset[Any] = frozenset()
    _n_taken = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._taken = threading.Condition()  # before the thread starts
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

    @property
    def _pipe(self) -> int:
        return self._fid if self._fid is not None else -1

    def drain(self) -> None:
        """Return when what is in the pipe now has been taken out of it; what comes later is not waited for."""
        if not self._should_watch or self._master_pid != os.getpid():
            return
        with self._taken, contextlib.suppress(OSError):  # the cell may have closed all descriptors
            end = self._n_taken + _count_waiting(self._pipe)
            self._taken.wait_for(lambda: self._n_taken >= end, DRAIN_S)

    def _watch_pipe_fd(self) -> None:
        """As OutStream's, which cuts characters into pieces; ends when the stream is closed."""
        decoder, poll = codecs.getincrementaldecoder("utf-8")("replace"), select.poll()
        poll.register(self._pipe, select.POLLIN)
        with contextlib.suppress(OSError):
            while self._should_watch:
                poll.poll()
                with self._taken:
                    data = os.read(self._pipe, PIPE_BYTES)
                    if not data or not self._should_watch:
                        return
                    self.write(decoder.decode(data))
                    os.write(self._original_stdstream_copy, data)
                    self._n_taken += len(data)
                    self._taken.notify_all()

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


def _count_waiting(pipe: int) -> int:
    """Bytes that can be read from a pipe now."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


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


class BatchKernel(IPythonKernel):
    """An IPython kernel without what only a person at a screen uses: its debugger, whose import takes 30 ms."""

    debugger_class = AnyTrait()

    def __init__(self, **options: Any) -> None:
        with _without_debugger():
            super().__init__(**options)  # type: ignore[no-untyped-call]

    @property
    def kernel_info(self) -> dict[str, Any]:
        """What it answers to kernel_info_request."""
        with _without_debugger():
            return super().kernel_info  # type: ignore[no-any-return]

    async def do_execute(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Execute a cell, and have all of its output before it is told that it has ended."""
        reply: dict[str, Any] = await super().do_execute(*arguments, **options)  # type: ignore[no-untyped-call]
        for stream in STREAMS:
            stream.drain()
        return reply

    async def poll_stopped_queue(self) -> None:
        """Nothing stops."""

    async def _progressively_terminate_all_children(self) -> None:
        """Ask them once; who started this process ends what stays of its group.

        ipykernel 7.4.0 goes on asking for 14 s where one does not listen, as multiprocessing's and joblib's resource trackers do
        not: then no exit handler would be called within the time that a kernel gets.
        """
        self._signal_children(signal.SIGTERM)  # type: ignore[no-untyped-call]

    def _process_children(self) -> list[Any]:
        """Child processes; that there are none is known without psutil, which would look at every process."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []
        return super()._process_children()  # type: ignore[no-untyped-call, no-any-return]


class KernelApp(IPKernelApp):
    """An IPython kernel that drops no output, and lets a cell wait rather than fill the memory with it."""

    output_budget_bytes = Integer(2**62, help="of output that is kept of a cell").tag(config=True)
    output_limit_bytes = Integer(2**62, help="of output that is sent of a cell").tag(config=True)
    ready_pipe = Unicode(help="a named pipe that is written to when the sockets are bound").tag(config=True)
    kernel_class = Type(BatchKernel, klass="ipykernel.kernelbase.Kernel").tag(config=True)  # type: ignore[assignment]

    @default("session")
    def _make_session(self) -> Session:
        return CuttingSession(parent=self, display_bytes=self.output_budget_bytes, cell_bytes=self.output_limit_bytes)

    def init_profile_dir(self) -> None:
        """One of its own beside the connection file: what a person keeps in theirs for IPython is in no record."""
        own = Path(self.abs_connection_file).with_name("ipython")
        self.ipython_dir = str(own)
        self.profile_dir = ProfileDir(location=str(own / "profile_default"))

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """None, neither a person's nor the system's; what the arguments say counts."""

    def _run_startup_files(self) -> None:
        """None, nor what PYTHONSTARTUP names."""

    def init_shell(self) -> None:
        """As ipykernel's, whose shell would look for extensions and aliases in the person's folder."""
        super().init_shell()  # type: ignore[no-untyped-call]
        if self.shell:
            self.shell.ipython_dir = self.ipython_dir

    def init_iopub(self, context: Any) -> None:
        """Make the publishing socket; it would drop what comes while its queue is full."""
        context.setsockopt(zmq.XPUB_NODROP, 1)
        context.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        context.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        super().init_iopub(context)  # type: ignore[no-untyped-call]
        self.iopub_thread.__class__ = PubThread  # ipykernel takes no other class

    def init_sockets(self) -> None:
        """Bind them all, and say so: the client connects while the shell is being made."""
        super().init_sockets()  # type: ignore[no-untyped-call]
        if self.ready_pipe:
            with contextlib.suppress(OSError), open(self.ready_pipe, "wb", opener=_open_waiting) as pipe:
                pipe.write(b"!")

    def init_heartbeat(self) -> None:
        """None: whoever started this process sees its end."""

    def init_io(self) -> None:
        """Put our streams in place; ipykernel takes their class by a dotted name only."""
        ipykernel.iostream.PieceStream = PieceStream  # type: ignore[attr-defined]
        self.outstream_class = "ipykernel.iostream.PieceStream"
        super().init_io()  # type: ignore[no-untyped-call]
        STREAMS[:] = [
            each for each in (sys.stdout, sys.stderr) if isinstance(each, PieceStream)
        ]  # a cell may put others there

    def start(self) -> None:
        """Serve until shut down, and end the control thread before anything else ends.

        ipykernel 7.4.0 ends the publishing thread first; a control thread that is flushing stdout then waits 10 s.
        """
        super().start()  # type: ignore[no-untyped-call]
        if self.control_thread and self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join(timeout=5.0)


def _limit(value: Any) -> Any:
    """An error's texts are kept whatever the budget says, so they must not be endless."""
    if isinstance(value, list):
        return [_limit(item) for item in value]
    if not isinstance(value, str) or len(value) <= ERROR_CHARACTERS:
        return value
    half = ERROR_CHARACTERS // 2
    return f"{value[:half]}\n[kit: {len(value) - 2 * half} characters cut here]\n{value[-half:]}"


@contextlib.contextmanager
def _without_debugger() -> Iterator[None]:
    """While entered, ipykernel finds that there is no debugger, without importing one."""
    name = "ipykernel.debugger"
    present, absent = sys.modules.get(name), types.ModuleType(name)
    absent._is_debugpy_available = False  # type: ignore[attr-defined]
    sys.modules[name] = absent
    try:
        yield
    finally:
        del sys.modules[name]
        if present:
            sys.modules[name] = present


def _open_waiting(path: str, flags: int) -> int:
    """Open a named pipe that someone reads; else an OSError."""
    return os.open(path, flags & ~os.O_CREAT | os.O_NONBLOCK)


def die_with(parent: int) -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before we asked


def take_order() -> list[str]:
    """Wait for standard input to say what this process is for; gives the arguments of `main`."""
    data = b""
    while piece := os.read(0, 1 << 16):
        data += piece
    if not data:
        os._exit(0)  # nobody needs it
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    order = json.loads(data)
    for name, value in order["variables"].items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    os.chdir(order["folder"])
    arguments: list[str] = order["arguments"]
    return arguments


def main(arguments: list[str]) -> None:
    """Be a kernel until it is shut down.

    Args:
        arguments: `-f` with the connection file, and settings as traitlets has them.
    """
    sys.argv = [__file__, *arguments]
    # 1: no thread of ipykernel's that watches the parent, and no greeting on stdout.
    parent = 1 if sys.platform == "linux" else os.getppid()
    KernelApp.launch_instance([*arguments, f"--KernelApp.parent_handle={parent}"])


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    if _between:
        os.waitpid(_between, 0)
    # As in a process that kernels are forked from: the collector never looks at the libraries again. Without it the end of
    # the interpreter takes 0.1 s.
    gc.freeze()
    gc.enable()
    main(take_order())
