"""The probing process: `python -m kit.model ORDER ANSWER`, started by `probe_saved_model` alone."""

from __future__ import annotations

import sys
from pathlib import Path

from kit.fresh import answer
from kit.model.golden import read_golden
from kit.model.probe import ProbeOrder, ProbeResult, query_and_compare


def probe(order: ProbeOrder) -> ProbeResult:
    """What `probe_saved_model` asks for."""
    return query_and_compare(Path(order.saved_model), read_golden(Path(order.golden)))


if __name__ == "__main__":
    answer(sys.argv[1:], ProbeOrder, probe)
