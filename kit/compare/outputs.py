"""Comparing one output of two executions, a file or a folder: first its bytes, then what its comparator looks at."""

from __future__ import annotations

import csv
import filecmp
import struct
import tokenize
import zlib
from pathlib import Path

from kit.compare.comparator import Comparator, Kind, comparator_of
from kit.compare.comparison import Agreement, Comparison
from kit.compare.images import compare_images
from kit.compare.structure import compare_json
from kit.compare.tables import compare_tables
from kit.compare.tally import Tally
from kit.compare.tensors import compare_tensor_files, compare_variables, is_saved_model, told_by_tensors
from kit.files import CHUNK_BYTES

_UNITS = {Kind.IMAGE: "pixels"}
# What the readers of these formats raise for broken files, found by mutating files of each; a test does so again.
BROKEN = (
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    csv.Error, struct.error, tokenize.TokenError, zlib.error,
)  # fmt: skip


def compare_outputs(name: str, before: Path, after: Path, comparator: Comparator | None = None) -> Comparison:
    """Compare two versions of an output.

    Args:
        name: of the output; its ending chooses the comparator if none is declared, in a folder each file's own.
        before: file or folder; may lie under any name.
        after: the same.
        comparator: as the project declares it; None without one.
    """
    chosen = comparator or _choose(name, before, after)
    if chosen.kind is Kind.IGNORE:
        return Comparison(name, str(chosen), Agreement.IGNORED, chosen.reason)
    try:
        agreement, detail = _compare(name, before, after, chosen, is_declared=comparator is not None)
    except BROKEN as error:
        agreement, detail = Agreement.UNREADABLE, _first_line(error)
    return Comparison(name, str(chosen), agreement, detail)


def _choose(name: str, before: Path, after: Path) -> Comparator:
    if is_saved_model(before) and is_saved_model(after):
        return Comparator(Kind.TENSORS)
    return comparator_of(name)


def _compare(name: str, before: Path, after: Path, comparator: Comparator, is_declared: bool) -> tuple[Agreement, str]:
    for path, which in ((before, "first"), (after, "second")):
        if not path.exists():
            raise FileNotFoundError(f"the {which} one is not there")
    if before.is_dir() != after.is_dir():
        return Agreement.DIFFERENT, f"a {_noun(after)}, was a {_noun(before)}"
    if before.is_dir():
        return _compare_folders(before, after, comparator, is_declared)
    return _compare_files(before, after, comparator)


def _noun(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def _compare_files(before: Path, after: Path, comparator: Comparator) -> tuple[Agreement, str]:
    offset = _first_difference(before, after)
    if offset is None:
        return Agreement.IDENTICAL, ""
    tally, problem = Tally(comparator, _UNITS.get(comparator.kind, "values")), ""
    match comparator.kind:
        case Kind.JSON:
            compare_json(before, after, tally)
        case Kind.TABLE:
            problem = compare_tables(before, after, tally)
        case Kind.TENSORS:
            problem = compare_tensor_files(before, after, tally)
        case Kind.IMAGE:
            problem = compare_images(before, after, tally)
        case _:
            sizes = [path.stat().st_size for path in (before, after)]
            size = f"; {sizes[1]:,} bytes, were {sizes[0]:,}" if sizes[0] != sizes[1] else ""
            problem = f"first at byte {offset:,}{size}"
    return _conclude(tally, problem)


def _conclude(tally: Tally, problem: str) -> tuple[Agreement, str]:
    if problem:
        return Agreement.DIFFERENT, problem
    return Agreement.DIFFERENT if tally.n_differ else Agreement.EQUAL, tally.sentence()


def _first_difference(before: Path, after: Path) -> int | None:
    """Position of the first byte that is not the same, from 0; None for the same bytes."""
    offset = 0
    with before.open("rb") as old_file, after.open("rb") as new_file:
        while True:
            old, new = old_file.read(CHUNK_BYTES), new_file.read(CHUNK_BYTES)
            if old != new:
                shorter = min(len(old), len(new))
                return offset + next((i for i in range(shorter) if old[i] != new[i]), shorter)
            if not old:
                return None
            offset += len(old)


def _compare_folders(before: Path, after: Path, comparator: Comparator, is_declared: bool) -> tuple[Agreement, str]:
    as_model = comparator.kind is Kind.TENSORS and is_saved_model(before) and is_saved_model(after)
    paths = [{path for path in _list(folder) if not (as_model and told_by_tensors(path))} for folder in (before, after)]
    if paths[0] != paths[1]:
        return Agreement.DIFFERENT, f"other files: {', '.join(sorted(paths[0] ^ paths[1])[:5])} on one side only"
    found = [
        (path, *_compare_member(path, before / path, after / path, comparator, is_declared))
        for path in sorted(paths[0])
    ]
    if as_model:
        found.append(("variables", *_compare_variables(before, after, comparator)))
    told = [(path, agreement, detail) for path, agreement, detail in found if agreement is not Agreement.IDENTICAL]
    broken = [each for each in told if not each[1].holds]
    if broken:
        path, agreement, detail = broken[0]
        return agreement, f"{len(broken)} of {len(found)} parts differ, first {path}: {detail}"
    if told:
        return Agreement.EQUAL, "; ".join(f"{path}: {detail}" for path, _, detail in told[:3])
    return Agreement.IDENTICAL, ""


def _list(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def _compare_member(
    path: str, before: Path, after: Path, comparator: Comparator, is_declared: bool
) -> tuple[Agreement, str]:
    """A file of a folder: by the folder's comparator if it is of that type, else by its own type, unless declared."""
    by_type = comparator_of(path)
    chosen = comparator if by_type.kind is comparator.kind else Comparator(Kind.BYTES) if is_declared else by_type
    try:
        return _compare_files(before, after, chosen)
    except BROKEN as error:
        return Agreement.UNREADABLE, _first_line(error)


def _compare_variables(before: Path, after: Path, comparator: Comparator) -> tuple[Agreement, str]:
    names = [sorted(path for path in _list(folder) if told_by_tensors(path)) for folder in (before, after)]
    if names[0] == names[1] and all(filecmp.cmp(before / n, after / n, shallow=False) for n in names[0]):
        return Agreement.IDENTICAL, ""
    tally = Tally(comparator)
    compare_variables(before, after, tally)
    return _conclude(tally, "")


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0][:200]
    return text or type(error).__name__
