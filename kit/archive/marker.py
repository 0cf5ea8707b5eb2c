"""archive.json: which archive a folder is, and in which format."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import msgspec

from kit.errors import IntegrityError, NewerFormatError, NotFoundError
from kit.files import canonical_json, create_exclusive, read_regular

FORMAT = 2  # 1: before there was a ledger
MARKER = "archive.json"


def make_marker(folder: Path, name: str) -> None:
    """Make a folder an archive, unless it is one already.

    Raises:
        IntegrityError: it holds other things.
    """
    # Looked at before the marker: another process may be making the same archive just now.
    others = [path.name for path in folder.iterdir() if path.name[:1] != "."] if folder.is_dir() else []
    if (folder / MARKER).is_file():
        return
    if others:
        raise IntegrityError(f"{folder} is not empty and has no {MARKER}: choose another folder in [tool.kit]")
    label = re.sub(r"[^\w.-]+", "-", name) or "archive"
    content = {"format": FORMAT, "name": name, "origin": f"kit/{label}/{secrets.token_hex(8)}"}
    create_exclusive(folder / MARKER, canonical_json(content))


def read_origin(folder: Path) -> str:
    """What names an archive's ledger, from its archive.json.

    Raises:
        NotFoundError: the folder is no archive.
        IntegrityError: it cannot be read, or is one of another format.
    """
    marker = folder / MARKER
    try:
        content = msgspec.json.decode(read_regular(marker))
    except FileNotFoundError:
        raise NotFoundError(f"{folder} is no archive: it has no {MARKER}") from None
    except OSError as error:
        raise IntegrityError(f"{marker}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{marker}: expected archive format {FORMAT}, found no JSON: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormatError(f"{marker}: archive format {found} is newer than this kit reads ({FORMAT}); update kit")
    if found == 1:
        raise IntegrityError(
            f"{marker}: an archive of format 1 has no ledger, so nothing can be proved of it; start a new one"
        )
    origin = content.get("origin") if isinstance(content, dict) else None
    if found != FORMAT or not isinstance(origin, str) or not re.fullmatch(r"\S+", origin):
        raise IntegrityError(f"{marker}: expected archive format {FORMAT} with an origin, found {content}")
    return origin
