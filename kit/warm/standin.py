"""What libraries find while they are imported before there is a kernel: the answers that a kernel would give.

A library that asks at its import whether it is in a notebook (pandas 3.0 and tqdm.auto 4.67 do), or keeps the stream that is
`sys.stderr` then (absl's logging does), must end up as in a cold kernel.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

# What ipykernel 7 puts there at its start (`IPKernelApp.init_gui_pylab`), if nobody else did.
INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class LateStream(io.TextIOBase):
    """Whatever `sys.stdout` or `sys.stderr` is at the time of each call, for who keeps it for later.

    Args:
        name: `stdout` or `stderr`.
        early: what takes its place until `settle`.
    """

    def __init__(self, name: str, early: Any) -> None:
        self._name, self._early = name, early

    def settle(self) -> None:
        """From now on what `sys` has counts."""
        self._early = None

    def write(self, text: str) -> int:
        """Write to the stream of now."""
        return int(self._now.write(text) or 0)

    def flush(self) -> None:
        """Flush the stream of now."""
        now = self._now
        if now is not None:
            now.flush()

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self._now.fileno())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._now.isatty())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._now, name)

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        """The encoding of the stream of now."""
        return getattr(self._now, "encoding", "utf-8")

    @property
    def _now(self) -> Any:
        if self._early is not None:
            return self._early
        now = getattr(sys, self._name)
        return getattr(sys, f"__{self._name}__") if now is self else now


@contextlib.contextmanager
def pretend_kernel(asked: list[str]) -> Iterator[None]:
    """While entered, an import finds what it would find in a kernel.

    Args:
        asked: gets the names of what was asked of the shell and cannot be answered before there is one.
    """
    streams = {name: LateStream(name, getattr(sys, name)) for name in ("stdout", "stderr")}
    before = {name: getattr(sys, name) for name in streams}
    for name, stream in streams.items():
        setattr(sys, name, stream)
    had_backend = "MPLBACKEND" in os.environ
    os.environ.setdefault("MPLBACKEND", INLINE_BACKEND)
    try:
        with _pretend_shell(asked):
            yield
    finally:
        if not had_backend and os.environ.get("MPLBACKEND") == INLINE_BACKEND:
            del os.environ["MPLBACKEND"]
        for name, stream in streams.items():
            stream.settle()
            setattr(sys, name, before[name])


class _Unanswering:
    """The shell's kernel, of which can be said only that there is one (pandas 3.0 looks for it to know a terminal)."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        self._asked.append(f"kernel.{name}")
        raise AttributeError(name)


@contextlib.contextmanager
def _pretend_shell(asked: list[str]) -> Iterator[None]:
    from ipykernel.zmqshell import ZMQInteractiveShell as Shell
    from traitlets.config import Config

    ipython = sys.modules["IPython"]
    answers = {"config": Config({"IPKernelApp": {}}), "kernel": _Unanswering(asked)}

    class ZMQInteractiveShell(Shell):
        """Of the name that libraries look at; never initialised."""

        def __getattribute__(self, name: str) -> Any:
            if name in answers:
                return answers[name]
            if name.startswith("__"):
                return object.__getattribute__(self, name)
            asked.append(name)
            raise AttributeError(name)

    shell = object.__new__(ZMQInteractiveShell)
    classes = list(Shell._walk_mro())
    names = {"get_ipython": ipython.get_ipython, "display": ipython.display.display, "__IPYTHON__": True}
    fresh = [name for name in names if not hasattr(builtins, name)]
    for each in classes:
        each._instance = shell  # type: ignore[assignment]
    for name in fresh:
        setattr(builtins, name, names[name])
    try:
        yield
    finally:
        for each in classes:
            each._instance = None
        for name in fresh:
            delattr(builtins, name)
