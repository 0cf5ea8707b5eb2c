"""Random numbers in forked kernels: a generator that the system has seeded in the server is seeded anew in each kernel.

One that an import has seeded with a number stays as it is: a new interpreter would have the same after that import.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# numpy draws 128 bits where nobody gives a number (numpy 2.4, `SeedSequence`); a person's number is shorter.
DRAWN_BITS = 64


@dataclass
class Chance:
    """What imports have left.

    Attributes:
        generators: those of `random.Random` that the system has seeded, by their identity.
        arrays: numpy's bit generators that the system has seeded.
        state: of Python's global generator where an import has seeded it with a number, which forking undoes; else None.
    """

    generators: dict[int, random.Random] = field(default_factory=dict)
    arrays: list[Any] = field(default_factory=list)
    state: Any = None

    def renew(self) -> None:
        """In a forked process: what would differ from process to process does."""
        for generator in self.generators.values():
            generator.seed()
        for bits in self.arrays:
            bits.state = type(bits)().state
        if self.state is not None:
            random.setstate(self.state)


@contextlib.contextmanager
def watch_seeds() -> Iterator[Chance]:
    """While entered, it is seen how generators are seeded; afterwards the result is whole."""
    chance, is_seeded = Chance(), False
    seed, seed_global = random.Random.seed, random.seed

    def watch(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed(self, a, version)
        if a is None:
            chance.generators[id(self)] = self
        else:
            chance.generators.pop(id(self), None)

    def watch_global(a: Any = None, version: int = 2) -> None:
        nonlocal is_seeded
        seed_global(a, version)
        is_seeded = a is not None

    random.Random.seed, random.seed = watch, watch_global  # type: ignore[method-assign]
    try:
        yield chance
    finally:
        random.Random.seed, random.seed = seed, seed_global  # type: ignore[method-assign]
    chance.state = random.getstate() if is_seeded else None
    chance.arrays = _find_drawn()


def _find_drawn() -> list[Any]:
    """Numpy's bit generators whose seed came from the system."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is None:
        return []
    found = (each for each in gc.get_objects() if issubclass(type(each), numpy_random.BitGenerator))
    return [each for each in found if _is_drawn(getattr(each.seed_seq, "entropy", 0))]


def _is_drawn(entropy: Any) -> bool:
    return isinstance(entropy, int) and entropy.bit_length() > DRAWN_BITS
