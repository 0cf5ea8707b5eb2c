"""Reading many small files: without a path object and a file object for each, which is a fifth of the time."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

TOLD_AFTER_S = 1.0
_SENTENCE = "kit: reading the archive into the index, once; the index may be deleted whenever you like"
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, and what it was like when it was opened; as `kit.files.read_regular`.

    Raises:
        OSError: it is not there, may not be read, or is no regular file.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        parts = [os.read(descriptor, facts.st_size + 1)]
        while parts[-1] and sum(map(len, parts)) != facts.st_size:
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts), facts
    finally:
        os.close(descriptor)


class Patience:
    """Says once what is going on, if reading takes longer than a second.

    Args:
        notify: is told.
        clock: seconds.
    """

    def __init__(self, notify: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._notify, self._clock = notify, clock
        self._begun, self._is_told = 0.0, False

    def begin(self) -> None:
        """Something is read from now on."""
        self._begun = self._clock()

    def look(self) -> None:
        """Some of it was read."""
        if not self._is_told and self._clock() - self._begun > TOLD_AFTER_S:
            self._notify(_SENTENCE)
            self._is_told = True
