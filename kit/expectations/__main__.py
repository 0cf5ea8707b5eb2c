"""The checking process: `python -m kit.expectations ORDER ANSWER`, started by `check_in_process` alone."""

from __future__ import annotations

import sys

from kit.expectations.process import CheckRequest, check_requests
from kit.fresh import answer

if __name__ == "__main__":
    answer(sys.argv[1:], list[CheckRequest], check_requests)
