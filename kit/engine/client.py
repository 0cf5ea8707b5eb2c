"""Sends the cells one by one and tells truthfully how each ended.

One loop waits for everything at once: published messages, the reply, the kernel's end, a signal to us, the deadline.
(nbclient 0.11.0 polls the kernel once a second, waits 4 s for output after a reply and then drops it, and turns a
cancellation into a dead kernel.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from kit.engine.assembly import is_executable
from kit.engine.journal import Journal
from kit.engine.kernel import Kernel
from kit.engine.signals import Interruption
from kit.engine.values import Event, Progress
from kit.record import CellOutcome, CellStatus, Failure, Status

# Seconds that an interrupted cell gets to answer with its traceback, and a kernel to end by itself (exit handlers).
INTERRUPT_GRACE_S = 3.0
SHUTDOWN_GRACE_S = 5.0
# Seconds without any message between a cell's reply and the end of its output after which the output counts as lost.
SILENCE_S = 60.0
# Seconds that a kernel that listens gets to say that it knows who hears it; one that does not do so is asked twice.
WELCOME_S = 1.0
SKIP_TAG = "skip-execution"


class Stop(Exception):  # noqa: N818 (no error: the way an execution ends early)
    """Execution ends here.

    Attributes:
        status: of the whole execution.
        failure: why.
    """

    def __init__(self, status: Status, kind: str, message: str, cell: int | None = None) -> None:
        self.status, self.failure = status, Failure(kind, message, cell)
        super().__init__(message)


class CellRunner:
    """Executes a notebook's cells in a kernel, into a journal.

    Args:
        cells: of the notebook as executed.
        kernel: freshly started.
        journal: with its header written.
        deadline: monotonic seconds; infinite for none.
        interruption: Ctrl-C and SIGTERM to this process.
        progress: called at each start and end.
    """

    def __init__(
        self,
        cells: list[dict[str, Any]],
        kernel: Kernel,
        journal: Journal,
        deadline: float,
        interruption: Interruption,
        progress: Callable[[Progress], None],
    ) -> None:
        self._cells, self._kernel, self._journal = cells, kernel, journal
        self._deadline, self._interruption, self._progress = deadline, interruption, progress
        self._began = time.monotonic()
        self._numbers = [index for index, cell in enumerate(cells) if is_executable(cell)]
        self._n_done = 0

    def run(self) -> None:
        """Every cell in order.

        Raises:
            Stop: it did not succeed.
            JournalError: the journal could not be written.
            Exception: what the progress callback raised.
        """
        self._await_kernel()
        self._report(Event.KERNEL_READY)
        for index in self._numbers:
            if SKIP_TAG not in self._cells[index]["metadata"].get("tags", []):
                self._run_cell(index)

    def _await_kernel(self) -> None:
        while not self._kernel.connect():
            self._check(None)
            self._kernel.wait(1.0)
        # What is published before our subscription arrives is not heard: a kernel that does not greet is asked again.
        limit = time.monotonic() + WELCOME_S
        while not self._kernel.is_subscribed and (left_s := limit - time.monotonic()) > 0:
            if not self._take_messages(_Request(""), None):
                self._check(None)
                self._kernel.wait(left_s)
        while True:
            request = _Request(self._kernel.request_info())
            self._exchange(request, None, until=time.monotonic() + 2.0, after_reply_s=0.1)
            if request.is_complete and request.reply:
                self._journal.write_kernel(request.reply["language_info"])
                return

    def _run_cell(self, index: int) -> None:
        source = "".join(self._cells[index]["source"])
        position = f"{self._numbers.index(index) + 1} of {len(self._numbers)}"
        self._journal.start_cell(index, position, source)
        self._report(Event.CELL_STARTED, index)
        start = time.monotonic()
        request = _Request(self._kernel.send(source))
        stop = self._stop_of(request, index)
        self._kernel.measure()
        self._journal.finish_cell(
            CellOutcome(
                index,
                self._cells[index]["id"],
                CellStatus(stop.status) if stop else CellStatus.SUCCEEDED,
                request.execution_count,
                round(time.monotonic() - start, 6),
            )
        )
        self._n_done += 1
        self._report(Event.CELL_FINISHED, index)
        if stop:
            raise stop
        self._refuse_early_exit(request, index)

    def _stop_of(self, request: _Request, index: int) -> Stop | None:
        """Wait for a cell; why execution must stop after it, if it must."""
        try:
            self._exchange(request, index)
        except Stop as stop:
            if stop.status in (Status.TIMED_OUT, Status.INTERRUPTED):
                self._interrupt(request, index)
            return stop
        reply = request.reply or {}
        if reply.get("status") == "ok":
            return None
        name = reply.get("ename") or "CellAborted"
        return Stop(Status.FAILED, name, reply.get("evalue") or f"the kernel did not execute the cell: {name}", index)

    def _refuse_early_exit(self, request: _Request, index: int) -> None:
        payload = (request.reply or {}).get("payload", [])
        n_left = len(self._numbers) - 1 - self._numbers.index(index)
        if n_left and any(item.get("source") == "ask_exit" for item in payload):
            message = f"the cell ended the kernel with exit(); {n_left} later cells were not run"
            raise Stop(Status.FAILED, "KernelExited", message, index)

    def _interrupt(self, request: _Request, index: int) -> None:
        """Let an interrupted cell put out its traceback, for a moment."""
        self._kernel.interrupt()
        again = (
            time.monotonic() + INTERRUPT_GRACE_S / 2
        )  # Python drops an interrupt that hits a destructor or a callback
        limit = time.monotonic() + INTERRUPT_GRACE_S
        while not request.is_complete and time.monotonic() < limit and not self._interruption.is_impatient:
            if not self._kernel.is_alive:
                return
            self._take_messages(request, index)
            if not request.is_complete:
                self._kernel.wait(0.1)
            if time.monotonic() > again and not request.is_complete:
                self._kernel.interrupt()
                again = limit

    def _exchange(
        self, request: _Request, index: int | None, until: float = float("inf"), after_reply_s: float = SILENCE_S
    ) -> None:
        """Take messages until the request is complete, or to `until`."""
        quiet_since = time.monotonic()
        while not request.is_complete and time.monotonic() < until:
            if self._take_messages(request, index):
                quiet_since = time.monotonic()
                self._check(index, is_dead_checked=False)
                continue
            if self._check(index, request):
                return
            if request.reply and time.monotonic() - quiet_since > after_reply_s:
                if index is None:
                    return
                message = f"the kernel answered, but the end of its output did not come within {after_reply_s:g} s"
                raise Stop(Status.FAILED, "OutputLost", message, index)
            limit = min(self._deadline, until, quiet_since + after_reply_s if request.reply else until)
            self._kernel.wait(min(1.0, max(0.0, limit - time.monotonic())))

    def _check(self, index: int | None, request: _Request | None = None, is_dead_checked: bool = True) -> bool:
        """Raise if execution must stop now; True if a kernel that has died had completed the request before."""
        where = "while the kernel started" if index is None else "in the cell"
        if self._interruption.is_requested:
            raise Stop(Status.INTERRUPTED, "Interrupted", f"interrupted by {self._interruption.name}", index)
        if time.monotonic() >= self._deadline:
            message = f"the stage's time was up {where}"
            raise Stop(Status.TIMED_OUT, "TimedOut", message, index)
        if is_dead_checked and not self._kernel.is_alive:
            self._take_messages(request or _Request(""), index)  # what it said before it died
            if request and request.is_complete:
                return True
            if words := self._kernel.last_words:
                self._journal.log(f"\n--- the kernel's last words\n{words}\n")
            raise Stop(
                Status.KERNEL_DIED,
                "KernelDied",
                f"the kernel died{' at its start' if index is None else ''}: {self._kernel.describe_end()}",
                index,
            )
        return False

    def _take_messages(self, request: _Request, index: int | None) -> bool:
        """Journal what has come; True if anything has."""
        has_any = False
        for message in self._pending():
            has_any = True
            if message["parent_header"].get("msg_id") == request.id:
                self._take_output(message, request, index)
        while reply := self._kernel.read_reply():
            has_any = True
            request.take_reply(reply)
        return has_any

    def _pending(self) -> Iterator[dict[str, Any]]:
        """Published messages, but not so many at a time that a flood hides a signal or the deadline."""
        for _ in range(200):
            message = self._kernel.read_output()
            if message is None:
                return
            yield message

    def _take_output(self, message: dict[str, Any], request: _Request, index: int | None) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "status" if content["execution_state"] == "idle":
                request.is_idle = True
            case "execute_input":
                request.execution_count = content.get("execution_count")
            case _ if index is None:
                return
            case "stream":
                self._journal.add_stream(content["name"], content["text"])
            case "display_data" | "execute_result" | "error" as kind:
                self._journal.add_output(_output(kind, content), _display_id(content))
            case "update_display_data" if display_id := _display_id(content):
                self._journal.update_display(display_id, content["data"], content["metadata"])
            case "kit_cut":
                self._journal.count_cut(int(content["bytes"]))
            case "clear_output":
                self._journal.clear_output(bool(content.get("wait")))

    def _report(self, event: Event, index: int | None = None) -> None:
        elapsed_s = time.monotonic() - self._began
        self._progress(Progress(event, self._n_done, len(self._numbers), elapsed_s, index))


class _Request:
    """One message to the kernel and what has come back; complete when replied to and the kernel is idle again."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self.reply: dict[str, Any] | None = None
        self.is_idle = False
        self.execution_count: int | None = None

    @property
    def is_complete(self) -> bool:
        return self.reply is not None and self.is_idle

    def take_reply(self, message: dict[str, Any]) -> None:
        if message["parent_header"].get("msg_id") == self.id:
            self.reply = message["content"]
            self.execution_count = message["content"].get("execution_count", self.execution_count)


def _output(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """A kernel message's content as an output of nbformat 4."""
    if kind == "error":
        return {"output_type": kind, **{key: content[key] for key in ("ename", "evalue", "traceback")}}
    output = {"output_type": kind, "data": content["data"], "metadata": content["metadata"]}
    return {**output, "execution_count": content["execution_count"]} if kind == "execute_result" else output


def _display_id(content: dict[str, Any]) -> str | None:
    return (content.get("transient") or {}).get("display_id")
