"""What the index searches: all records as small scripts that it loads when somebody searches, from a disk or a server alike.

A page on a disk may not fetch files, but it may load scripts. A shard is named by its content, so one that did not change
keeps its name and its bytes. The index's policy admits only its own script, by digest, and what that one loads
(`strict-dynamic`, Content Security Policy Level 3, section 8.2); from a server it also asks for each shard's digest. Browsers
compare digests of files on a disk with nothing (Subresource Integrity, section 3.3: the request must be CORS-enabled).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kit.files import sha256_bytes, write_atomically
from kit.record import ID_TIME
from kit.report.listing import Cut, RecordRow, cut_rows

FOLDER = "search"
SHARDS = Cut(least=1000, one_in=1000, most=4000)
NAME = re.compile(r"[0-9a-f]{16}\.js")
_DIGITS = 9  # of a metric's value: more than any page shows


class Shard(msgspec.Struct, frozen=True):
    """A written shard: the digest that names it, and how many records it has."""

    sha256: str
    n_rows: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.sha256[:16]}.js"


def write_shards(rows: Iterable[RecordRow], folder: Path) -> list[Shard]:
    """Write those shards that are not there yet; `remove_old` removes those that no index names any more.

    Args:
        rows: of all records, oldest first.
        folder: the reports; `search/` in it is written.

    Returns:
        The shards, oldest records first.
    """
    return [_write(piece, folder / FOLDER) for piece in cut_rows(rows, SHARDS)]


def remove_old(folder: Path, kept: Iterable[str], name: re.Pattern[str]) -> None:
    """Remove the files of a folder that have such a name and are none of the kept."""
    names = set(kept)
    if folder.is_dir():
        for path in folder.iterdir():
            if name.fullmatch(path.name) and path.name not in names:
                path.unlink(missing_ok=True)


def _write(rows: Sequence[RecordRow], folder: Path) -> Shard:
    data = encode_shard(rows)
    shard = Shard(sha256_bytes(data), len(rows))
    path = folder / shard.name
    if not path.is_file() or path.stat().st_size != len(data):
        write_atomically(path, data)
    return shard


def encode_shard(rows: Sequence[RecordRow]) -> bytes:
    """A call of the index's function `kitRecords` with the rows, every repeated text once. ASCII, a few dozen bytes a row.

    A row is [seconds since `base`, stage, environment, status, seconds it took, metric, value, id, does another again];
    texts are places in `texts`. An id of the usual form is its last six digits only, any other is written after a `=`.
    """
    texts: dict[str, int] = {}
    base = int(rows[0].started.timestamp())

    def place(text: str) -> int:
        return texts.setdefault(text, len(texts))

    encoded = [
        [
            int(row.started.timestamp()) - base,
            place(row.stage),
            place(row.environment),
            place(row.status.value),
            None if row.wall_s is None else round(row.wall_s, 2),
            place(row.metric),
            _shorten(row.value),
            _shorten_id(row),
            int(bool(row.reproduces)),
        ]
        for row in rows
    ]
    content = json.dumps({"base": base, "texts": list(texts), "rows": encoded}, separators=(",", ":"))
    return f"kitRecords({content})\n".encode("ascii")


def _shorten(value: float | None) -> Any:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{_DIGITS}g}")


def _shorten_id(row: RecordRow) -> str:
    usual, last = f"{row.started:{ID_TIME}}-{row.stage}-", row.id[-6:]
    return last if row.id == usual + last and len(last) == 6 else f"={row.id}"


def write_runs(places: Iterable[int]) -> str:
    """Places in rising order as `0-5 7 9-12`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
