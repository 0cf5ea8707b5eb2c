"""Style sheet, the index's script, and the content security policies that admit exactly these by digest."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

_TEMPLATE = Path(__file__).parent / "template"


@cache
def style_sheet() -> str:
    """The one style sheet of all pages."""
    return (_TEMPLATE / "style.css").read_text("utf-8")


@cache
def index_script() -> str:
    """The index's script: search and sort."""
    return (_TEMPLATE / "index.js").read_text("utf-8")


def page_policy() -> str:
    """No script, no request, pictures as data, only our style sheet."""
    return f"default-src 'none'; img-src data:; style-src {_source(style_sheet())}; base-uri 'none'; form-action 'none'"


def index_policy() -> str:
    """The same with the index's own script."""
    return f"{page_policy()}; script-src {_source(index_script())}"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
