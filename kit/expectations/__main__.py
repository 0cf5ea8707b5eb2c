"""The checking process: `python -m kit.expectations REQUESTS RESULTS`, started by `check_in_process` alone."""

from __future__ import annotations

import sys
from pathlib import Path

from kit.expectations.process import answer_requests

if __name__ == "__main__":
    answer_requests(Path(sys.argv[1]), Path(sys.argv[2]))
