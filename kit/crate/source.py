"""A file of a bundle of sources that a stranger may have made."""

from __future__ import annotations

import zipfile
from pathlib import Path

from kit.crate.limits import LIMITS, Limits
from kit.errors import IntegrityError
from kit.files import format_bytes
from kit.zips import open_zip, readable


def read_source(bundle: Path, name: str, limits: Limits = LIMITS) -> bytes | None:
    """One file of a bundle of sources; None if it has none of that name.

    Raises:
        IntegrityError: the bundle is no zip, or the file is packed or too large, as in no bundle that kit makes.
    """
    with open_zip(bundle, limits.list_bytes) as archive:
        entry = next((each for each in archive.infolist() if each.filename == name), None)
        if entry is None:
            return None
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limits.list_bytes:
            raise IntegrityError(f"{name} in the bundle is packed, or larger than {format_bytes(limits.list_bytes)}")
        with readable(f"{name} in the bundle"):
            return archive.read(entry)
