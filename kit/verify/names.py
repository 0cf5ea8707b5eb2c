"""Names that kit itself gives to what is not finished yet; whatever kills it may leave such a file, and nothing reads it."""

from __future__ import annotations

import re

_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{12}\.)?tmp")


def is_leftover(name: str) -> bool:
    """True for the name of a temporary file or folder of kit."""
    return bool(_TEMPORARY.fullmatch(name))
