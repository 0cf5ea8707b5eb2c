"""Which environment variables are read while libraries are imported, and which they set."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from kit.warm.key import EVERY

# Those that look through all variables for theirs, which are part of every key (tqdm 4.67 `utils.envwrap`, urllib's proxies);
# and those that only hand them on to a program.
SELECTIVE = ("tqdm.", "urllib.request", "ctypes.util", "subprocess")

MAPPINGS = ("_collections_abc", "collections.abc")


class Watched(os._Environ):  # type: ignore[type-arg]
    """`os.environ` while it is watched: the same object, of this class for a while."""

    def __getitem__(self, key: Any) -> Any:
        frame = sys._getframe(1)
        if not _belongs_to_iteration(frame):
            _names.add(os.fsdecode(key) if isinstance(key, str | bytes) else str(key))
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        reader = _leave(sys._getframe(1), MAPPINGS)  # also `os.environ.copy`
        _iterating[:] = [(reader, reader.f_lasti)] if reader else []
        caller = _leave(reader, ("os",))
        module = caller.f_globals.get("__name__", "") if caller else ""
        if not f"{module}.".startswith(SELECTIVE):
            _names.add(EVERY)
        return super().__iter__()


_names: set[str] = set()
_iterating: list[tuple[FrameType, int]] = []


@contextlib.contextmanager
def watch_reads(names: set[str]) -> Iterator[None]:
    """While entered, every name that Python code reads from `os.environ` is put into the set; `EVERY` if it reads all."""
    _names.clear()
    kind = type(os.environ)
    os.environ.__class__ = Watched
    try:
        yield
    finally:
        os.environ.__class__ = kind
        _iterating.clear()
        names |= _names


def changed_variables(before: dict[str, str], after: dict[str, str]) -> dict[str, str | None]:
    """What imports have set, and None for what they have removed."""
    names = sorted(before.keys() | after.keys())
    return {name: after.get(name) for name in names if after.get(name) != before.get(name)}


def _belongs_to_iteration(frame: FrameType) -> bool:
    """True in `os.environ.items()` and `dict(os.environ)`, which read each name that the iteration gave."""
    is_view = frame.f_globals.get("__name__") in MAPPINGS and frame.f_code.co_name == "__iter__"
    return is_view or (frame, frame.f_lasti) in _iterating


def _leave(frame: FrameType | None, modules: tuple[str, ...]) -> FrameType | None:
    """The nearest frame outside of some modules."""
    while frame and frame.f_globals.get("__name__") in modules:
        frame = frame.f_back
    return frame
