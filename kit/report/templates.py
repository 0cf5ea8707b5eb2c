"""The Jinja templates of all pages but a record's, which nbconvert loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from kit.report.rows import FILTERS

FOLDER = Path(__file__).parent / "template"


def load_template(name: str, **filters: Callable[..., Any]) -> Any:
    """A template with escaping on: values are text unless marked otherwise; a name that it does not get is an error.

    Args:
        name: of the file.
        filters: beside those that all pages have; the same name means the same filter in every page.
    """
    environment = _environment()
    environment.filters.update(filters)
    return environment.get_template(name)


@cache
def _environment() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(FILTERS)
    return environment
