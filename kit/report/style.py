"""Style sheet, the index's script, and the content security policies that admit exactly these by digest."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from kit.report.templates import FOLDER


@cache
def style_sheet() -> str:
    """The one style sheet of all pages."""
    return (FOLDER / "style.css").read_text("utf-8")


@cache
def own_style(name: str) -> str:
    """What one kind of page has beside it: a file of the templates."""
    return (FOLDER / name).read_text("utf-8")


@cache
def index_script() -> str:
    """The index's script: search and sort."""
    return (FOLDER / "index.js").read_text("utf-8")


def page_policy(style: str = "") -> str:
    """No script, no request, pictures as data, only one style sheet: the page's own, or that of all pages."""
    source = _source(style or style_sheet())
    return f"default-src 'none'; img-src data:; style-src {source}; base-uri 'none'; form-action 'none'"


def index_policy(*, loads: bool = False) -> str:
    """The same with the index's own script.

    Args:
        loads: that script may load others, see `kit.report.shards`; without it nothing else is executed.
    """
    more = " 'strict-dynamic'" if loads else ""
    return f"{page_policy()}; script-src {_source(index_script())}{more}"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
