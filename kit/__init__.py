"""kit: a notebook-centric, reproducible research kit for machine learning teams.

In a stage notebook:

    import kit
    stage = kit.open_stage(inputs=["features.parquet"], outputs=["model.keras"])
"""

from __future__ import annotations

TYPE_CHECKING = False  # the one of typing takes 5 ms, half of what a command with nothing to do takes
if TYPE_CHECKING:
    from typing import Any

    from kit.errors import KitError
    from kit.frames import records
    from kit.project import find_project, lint_notebooks, stage_graph
    from kit.provenance import compare_lock, list_packages
    from kit.session import StageSession, open_stage

__all__ = [
    "KitError",
    "StageSession",
    "compare_lock",
    "find_project",
    "lint_notebooks",
    "list_packages",
    "open_stage",
    "records",
    "stage_graph",
]

_HOMES = {
    "KitError": "kit.errors",
    "StageSession": "kit.session",
    "compare_lock": "kit.provenance",
    "find_project": "kit.project",
    "lint_notebooks": "kit.project",
    "list_packages": "kit.provenance",
    "open_stage": "kit.session",
    "records": "kit.frames",
    "stage_graph": "kit.project",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
