"""What a stage notebook calls: `stage = kit.open_stage(inputs=[…], outputs=[…])`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kit.errors import UsageError
from kit.session.checks import EXPECTATIONS
from kit.session.paths import Paths
from kit.session.released import OpenedRelease
from kit.session.stage import StageSession
from kit.workspace import CONTEXT_VARIABLE, read_context

__all__ = ["EXPECTATIONS", "OpenedRelease", "Paths", "StageSession", "open_stage"]


def open_stage(*, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> StageSession:
    """Open the stage that this notebook implements.

    Under kit its inputs are verified copies and all it does is recorded. In JupyterLab the inputs are those of
    environment `dev`, outputs go to a scratch folder, and nothing is recorded.

    Args:
        inputs: names of what it reads; literal, because kit reads them without running the notebook.
        outputs: names of what it writes.

    Raises:
        UsageError: the names are not those of the stage that executes here.
    """
    path = os.environ.get(CONTEXT_VARIABLE)
    if not path:
        from kit.interactive import open_interactively

        return open_interactively(list(inputs), list(outputs))
    context = read_context(Path(path))
    if sorted(context.inputs) != sorted(inputs) or sorted(context.outputs) != sorted(outputs):
        raise UsageError(
            f"stage {context.stage!r} executes here, with inputs {sorted(context.inputs)} and outputs "
            f"{sorted(context.outputs)}; this call names {sorted(inputs)} and {sorted(outputs)}. Was another stage's "
            f"notebook run inside it?"
        )
    return StageSession(context, recorded=True)
