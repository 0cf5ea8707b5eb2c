"""Comparing images by their pixels; dates and programs in their metadata make no difference."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, Any

from kit.compare.tally import Tally, show

_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L")


def compare_images(before: Path | IO[bytes], after: Path | IO[bytes], tally: Tally) -> str:
    """Compare two images frame by frame, pixel by pixel.

    Returns:
        How their sizes or modes differ, in one sentence; then no pixel was compared. Empty if they do not.

    Raises:
        ValueError: one cannot be read, or is too large to be opened safely.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(before) as old, Image.open(after) as new:
                return _compare_opened(old, new, tally)
        except (OSError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"not a readable image: {error}") from error


def _compare_opened(before: Any, after: Any, tally: Tally) -> str:
    if before.size != after.size:
        return f"{_size(after)} pixels, were {_size(before)}"
    frames = [getattr(image, "n_frames", 1) for image in (before, after)]
    if frames[0] != frames[1]:
        return f"{frames[1]} frame{'' if frames[1] == 1 else 's'}, were {frames[0]}"
    if before.mode != after.mode and {before.mode, after.mode} & {*_DEEP_MODES}:
        return f"pixels of mode {after.mode}, were {before.mode}"
    for frame in range(frames[0]):
        before.seek(frame)
        after.seek(frame)
        _compare_frame(before, after, tally, f"frame {frame}, " if frames[0] > 1 else "")
    return ""


def _compare_frame(before: Any, after: Any, tally: Tally, where: str) -> None:
    import numpy

    deep = before.mode in _DEEP_MODES
    old, new = (
        numpy.asarray(image if deep else image.convert("RGBA")).astype(float).reshape(image.height, image.width, -1)
        for image in (before, after)
    )
    distance = numpy.abs(new - old).max(axis=2)
    differs = ~(distance <= tally.comparator.atol)
    tally.n_compared += int(distance.size)
    tally.widen(float(distance.max(initial=0)))  # relative to a level means nothing
    if differs.any():
        y, x = (int(axis[0]) for axis in numpy.nonzero(differs))
        place = f"{where}at x={x}, y={y}"
        tally.add(int(differs.sum()), place, _levels(old[y, x]), _levels(new[y, x]))


def _levels(pixel: Any) -> Any:
    return tuple(int(level) if level == int(level) else float(level) for level in pixel.tolist())


def _size(image: Any) -> str:
    return show(image.size).strip("()").replace(", ", " x ")
