"""Executing a notebook: papermill prepares it, our kernel and client execute it, a journal keeps what came out.

papermill 2.7.0 reports a dead kernel, a time-out and Ctrl-C as "completed" and saves the whole notebook at each cell;
nothing here reads its metadata, and nothing of it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.engine.assembly import assemble_notebook
    from kit.engine.papermill import PapermillEngine
    from kit.engine.values import Event, Job, Outcome, Progress

__all__ = ["Event", "Job", "Outcome", "PapermillEngine", "Progress", "assemble_notebook"]

_HOMES = {"PapermillEngine": "kit.engine.papermill", "assemble_notebook": "kit.engine.assembly"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "kit.engine.values")), name)
