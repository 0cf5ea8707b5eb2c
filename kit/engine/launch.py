"""Starts an IPython kernel that cannot outlive the process that asked for it. Run by path, never imported.

ipykernel's own watch on its parent looks once a second and needs the interpreter's lock, which native code may hold for
minutes; Linux itself ends this process at once (prctl(2), PR_SET_PDEATHSIG).
"""

import sys

# The folder of this file must not be importable in the kernel; IPython puts the working directory in its place.
del sys.path[0]

import ctypes  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from typing import Any  # noqa: E402

import zmq  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402

PR_SET_PDEATHSIG = 1


class KernelApp(IPKernelApp):
    """An IPython kernel that drops no output: ZeroMQ 4.3 discards published messages behind the thousandth in the queue."""

    def init_iopub(self, context: Any) -> None:
        """Make the publishing socket without a limit."""
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Let the control thread end before the publishing thread does.

        ipykernel 7.4.0 closes them the other way round; a control thread that is flushing stdout then waits 10 s.
        """
        if self.control_thread and self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join(timeout=1.0)
        super().close()  # type: ignore[no-untyped-call]


def die_with_parent() -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ.get("JPY_PARENT_PID", os.getppid())):
        os._exit(1)  # the parent was gone before we asked


if __name__ == "__main__":
    die_with_parent()
    KernelApp.launch_instance()
