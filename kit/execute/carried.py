"""What a release would take along of a training's sources: the notebooks that release and run it, and what these can reach.

A release executes the sources that trained its model. So a training whose sources release or run otherwise than those at hand
is not what would be trained now, although the model would be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kit.archive import Archive
from kit.bundle import Bundle
from kit.environment import Environment
from kit.errors import KitError, UnknownNameError
from kit.execute.key import digest_sources, list_files
from kit.execute.plan import Plan
from kit.execute.sources import BUNDLE, bundle_of
from kit.files import canonical_json, sha256_bytes
from kit.graph import BUILD, RELEASE, RUN, Graph, Stage
from kit.notebook import read_notebook
from kit.notebook.imports import executed_cells, find_reach
from kit.record import Record


def find_carried_change(archive: Archive, record: Record, plan: Plan) -> str:
    """Which file a release of a record would execute otherwise than one of the plan; empty if none, or nobody releases it.

    Args:
        archive: holds the record's sources.
        record: with the plan's key.
        plan: of the stage.
    """
    if record.code.bundle_sha256 == plan.code.bundle_sha256:
        return ""
    graph = plan.bundle.read_graph()
    if not is_released(plan.stage, graph, plan.environment):
        return ""
    try:
        old = bundle_of(archive, record)
        before = list_carried(old, old.read_graph(), plan.environment)
    except (KitError, OSError) as error:
        return str(error)
    now = list_carried(plan.bundle, graph, plan.environment)
    return next((name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)), "")


def is_released(stage: Stage, graph: Graph, environment: Environment) -> bool:
    """True for the stage whose record a release is cut from."""
    released = {environment.gates.model} | {name for each in _stages(graph, RELEASE) for name in each.inputs}
    return stage.name not in (BUILD, RELEASE, RUN) and bool((released - {BUNDLE}) & set(stage.outputs))


def list_carried(bundle: Bundle, graph: Graph, environment: Environment) -> dict[str, str]:
    """Digests by path of what a release from a bundle would execute or read; of notebooks only the code."""
    found = {}
    for stage in _stages(graph, RELEASE, RUN):
        notebook = read_notebook(bundle.read(stage.notebook), stage.notebook)
        sources = [cell["source"] for _, cell in executed_cells(notebook)]
        found[stage.notebook] = sha256_bytes(canonical_json(sources))
        reach = find_reach(bundle, stage.notebook, notebook)
        names = bundle.names()
        files = [name for name in names if not name.endswith((".ipynb", ".md"))] if reach.reads_all else reach.helpers
        found |= digest_sources(bundle, [*files, *list_files(stage, names)])
    measure = environment.gates.evaluation.measure if environment.gates.evaluation else ""
    if measure:
        path = f"notebooks/{measure.partition(':')[0].replace('.', '/')}.py"
        notebook = _as_notebook(f"import {measure.partition(':')[0]}")
        found |= digest_sources(bundle, find_reach(bundle, path, notebook).helpers)
    return found


def _stages(graph: Graph, *names: str) -> Iterator[Stage]:
    for name in names:
        try:
            yield graph.stage(name)
        except UnknownNameError:
            continue


def _as_notebook(source: str) -> dict[str, Any]:
    return {"cells": [{"cell_type": "code", "metadata": {}, "source": source}]}
