"""The probing process: `python -m kit.model SAVED_MODEL GOLDEN RESULT`, started by `probe_saved_model` alone."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from kit.model.golden import read_golden
from kit.model.probe import query_and_compare


def main(saved_model: str, golden: str, result: str) -> None:
    """Probe and write the result as JSON; no result file means failure."""
    found = query_and_compare(Path(saved_model), read_golden(Path(golden)))
    Path(result).write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
