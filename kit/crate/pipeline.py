"""A release as a crate describes it: the bundle as a workflow whose steps are the notebooks of its lineage.

kit organised the run (OrganizeAction), each step was controlled (ControlAction) and executed (CreateAction); what a step read
from another is a connection of two formal parameters, held by the step that reads, as the Common Workflow Language has it.
"""

from __future__ import annotations

from collections.abc import Iterable

from kit.artifact import Artifact
from kit.crate.contents import Contents
from kit.crate.execution import (
    WORKFLOW_PROFILE,
    WORKFLOW_TYPES,
    Slot,
    action_id,
    add_formal_parameter,
    add_kit,
    add_person,
    artifact_id,
    ended,
    notebook_id,
    parameter_id,
    version_of,
)
from kit.crate.graph import COMPLETED, FAILED, ROOT, Graph, crate_time, local_id, path_id, ref, refs
from kit.record import Record

_RUN = "#pipeline/run"
_ORGANIZE = "#pipeline/organize"


def describe_pipeline(graph: Graph, contents: Contents) -> str:
    """Add the workflow above the executions, which must be in the graph; gives its id."""
    last = contents.records[-1]
    workflow = path_id(contents.placed[last.code.bundle_sha256].path)
    inputs, outputs = _add_inputs(graph, contents), _add_outputs(graph, contents)
    graph.add(
        workflow,
        (*WORKFLOW_TYPES, "HowTo"),
        description="The project's sources as one bundle; its stages are the steps.",
        url=ref(workflow),
        version=version_of(last),
        programmingLanguage=ref("#jupyter"),
        conformsTo=ref(WORKFLOW_PROFILE),
        hasPart=refs(notebook_id(contents, record) for record in contents.records),
        step=refs(_add_step(graph, contents, record, n) for n, record in enumerate(contents.records, 1)),
        input=refs(slot.parameter for slot in inputs.values()),
        output=refs(slot.parameter for slot in outputs),
        connection=refs(
            _connect(graph, parameter_id(last, "output", artifact.name), slot.parameter)
            for artifact, slot in zip(last.outputs, outputs, strict=True)
        ),
    )
    _add_run(graph, contents, workflow, inputs.values(), outputs)
    return workflow


def _add_inputs(graph: Graph, contents: Contents) -> dict[str, Slot]:
    """What no step wrote, by formal parameter; connected with the steps that read it."""
    found: dict[str, Slot] = {}
    for record in contents.records:
        for each in record.inputs:
            if not each.record:
                slot = _add_outer(graph, contents, "input", each.artifact)
                found[slot.parameter] = slot
                target = parameter_id(record, "input", each.artifact.name)
                graph.add(_step_id(record), connection=ref(_connect(graph, slot.parameter, target)))
    return found


def _add_outputs(graph: Graph, contents: Contents) -> list[Slot]:
    """What the last step wrote: the release."""
    return [_add_outer(graph, contents, "output", artifact) for artifact in contents.records[-1].outputs]


def _add_outer(graph: Graph, contents: Contents, role: str, artifact: Artifact) -> Slot:
    kind = "Dataset" if artifact.is_folder else "File"
    identifier = local_id("pipeline", role, artifact.name, artifact.sha256[:16])
    return add_formal_parameter(graph, identifier, artifact.name, kind, artifact_id(contents, artifact))


def _step_id(record: Record) -> str:
    return local_id("pipeline", "step", record.id)


def _add_step(graph: Graph, contents: Contents, record: Record, position: int) -> str:
    """A step, and what it read from other steps."""
    by_id = {each.id: each for each in contents.records}
    inner = (each for each in record.inputs if each.record)
    connections = [
        _connect(
            graph,
            parameter_id(by_id[each.record], "output", each.artifact.name),
            parameter_id(record, "input", each.artifact.name),
        )
        for each in inner
    ]
    identifier = graph.add(
        _step_id(record),
        "HowToStep",
        name=record.stage,
        position=str(position),
        workExample=ref(notebook_id(contents, record)),
        connection=refs(connections),
    )
    graph.add(
        local_id("pipeline", "control", record.id),
        "ControlAction",
        name=f"Step {position}, {record.stage}",
        instrument=ref(identifier),
        object=ref(action_id(record)),
        actionStatus=COMPLETED if record.succeeded else FAILED,
    )
    return identifier


def _connect(graph: Graph, source: str, target: str) -> str:
    identifier = f"#pipeline/connection/{source[1:]}/to/{target[1:]}"
    return graph.add(identifier, "ParameterConnection", sourceParameter=ref(source), targetParameter=ref(target))


def _add_run(graph: Graph, contents: Contents, workflow: str, inputs: Iterable[Slot], outputs: Iterable[Slot]) -> None:
    release, last = contents.release, contents.records[-1]
    name = release.id if release else last.id
    facts = {
        "agent": ref(add_person(graph, last)),
        "startTime": crate_time(min(record.started for record in contents.records)),
        "endTime": crate_time(max(map(ended, contents.records))),
        "actionStatus": COMPLETED,
    }
    graph.add(
        _RUN,
        "CreateAction",
        name=f"The executions that release {name} came from",
        description=f"{len(contents.records)} stages, one after the other, perhaps on several days and machines.",
        instrument=ref(workflow),
        object=refs(slot.value for slot in inputs),
        result=refs(slot.value for slot in outputs),
        **facts,
    )
    graph.add(
        _ORGANIZE,
        "OrganizeAction",
        name=f"kit organised the executions that release {name} came from",
        instrument=ref(add_kit(graph, last)),
        object=refs(local_id("pipeline", "control", record.id) for record in contents.records),
        result=ref(_RUN),
        **facts,
    )
    graph.add(ROOT, mentions=refs([_RUN, _ORGANIZE]))
