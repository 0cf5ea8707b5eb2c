"""One execution as a crate describes it: the notebook and its signature, the action, who did it and with what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from kit.artifact import Artifact
from kit.crate.contents import RECORDS, Contents, key_of
from kit.crate.graph import COMPLETED, FAILED, ROOT, Graph, crate_time, local_id, path_id, ref, refs
from kit.files import canonical_json
from kit.record import Record

_BIOSCHEMAS = "https://bioschemas.org/profiles"
WORKFLOW_PROFILE = f"{_BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"
PARAMETER_PROFILE = f"{_BIOSCHEMAS}/FormalParameter/1.0-RELEASE"
WORKFLOW_TYPES = ("File", "SoftwareSourceCode", "ComputationalWorkflow")
_VALUE_TYPES = {bool: "Boolean", int: "Integer", float: "Float", str: "Text"}


class Slot(msgspec.Struct, frozen=True):
    """A formal parameter and what took its place.

    Attributes:
        parameter: id of the formal parameter.
        value: id of the file, folder or value.
    """

    parameter: str
    value: str


class Signature(msgspec.Struct, frozen=True):
    """What a notebook takes and gives, as entities that are in the graph."""

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    environment: tuple[Slot, ...]


def describe_execution(graph: Graph, contents: Contents, record: Record) -> None:
    """Add everything that is said of one record."""
    signature = Signature(
        inputs=(
            *(_add_artifact(graph, contents, record, "input", each) for each in contents.reads[record.id]),
            *(_add_value(graph, record, "parameter", each.name, each.value, each.type) for each in record.parameters),
        ),
        outputs=tuple(_add_artifact(graph, contents, record, "output", each) for each in record.outputs),
        environment=tuple(
            _add_value(graph, record, "environment", name, value, "str")
            for name, value in sorted(record.machine.thread_settings.items())
        ),
    )
    _add_notebook(graph, contents, record, signature)
    _add_action(graph, contents, record, signature)


def ended(record: Record) -> datetime:
    """When a closed record was closed."""
    return record.ended or record.started


def notebook_id(contents: Contents, record: Record) -> str:
    """Id of the notebook that a record executed."""
    return path_id(contents.notebooks[record.id].path)


def artifact_id(contents: Contents, artifact: Artifact) -> str:
    """Id of an artifact's file or folder."""
    return path_id(contents.placed[key_of(artifact)].path)


def parameter_id(record: Record, role: str, name: str) -> str:
    """Id of a formal parameter; roles are `input`, `output`, `parameter` and `environment`."""
    return local_id(record.id, role, name)


def action_id(record: Record) -> str:
    """Id of what was done."""
    return local_id(record.id)


def add_person(graph: Graph, record: Record) -> str:
    """Add who executed a record."""
    return graph.add(local_id("person", record.machine.user), "Person", name=record.machine.user)


def add_kit(graph: Graph, record: Record) -> str:
    """Add the kit that executed a record."""
    version = record.software.kit_version
    where = f"pkg:pypi/kit-ml@{version}"  # a package URL: names the package, leads nowhere
    return graph.add(
        local_id("software", f"kit {version}"), "SoftwareApplication", name="kit", softwareVersion=version, url=where
    )


def version_of(record: Record) -> str:
    """Version of the sources: the commit, `+changes` if they differ from it; without one the bundle's digest."""
    code = record.code
    return f"{code.commit}{'+changes' if code.dirty else ''}" if code.commit else f"sha256:{code.bundle_sha256}"


def add_formal_parameter(
    graph: Graph, identifier: str, name: str, kind: str, value: str, description: str = ""
) -> Slot:
    """Add a formal parameter and let what took its place refer to it.

    Args:
        graph: added to.
        identifier: of the parameter.
        name: of the parameter.
        kind: `File`, `Dataset`, or the type of a value.
        value: id of what took its place.
        description: a sentence; may be empty.
    """
    graph.add(
        identifier,
        "FormalParameter",
        name=name,
        description=description or None,
        additionalType=kind,
        valueRequired=True,
        conformsTo=ref(PARAMETER_PROFILE),
        workExample=ref(value),
    )
    graph.add(value, exampleOfWork=ref(identifier))
    return Slot(identifier, value)


def _add_artifact(graph: Graph, contents: Contents, record: Record, role: str, artifact: Artifact) -> Slot:
    identifier, first_name = artifact_id(contents, artifact), contents.placed[key_of(artifact)].artifact.name
    graph.add(identifier, alternateName=artifact.name if artifact.name != first_name else None)
    kind = "Dataset" if artifact.is_folder else "File"
    return add_formal_parameter(graph, parameter_id(record, role, artifact.name), artifact.name, kind, identifier)


def _add_value(graph: Graph, record: Record, role: str, name: str, value: Any, declared: str) -> Slot:
    """A literal as it is, any other value as JSON text."""
    kind = _VALUE_TYPES.get(type(value), "PropertyValue")
    plain = value if type(value) in _VALUE_TYPES else canonical_json(value).decode()
    identifier = graph.add(local_id(record.id, role, name, "value"), "PropertyValue", name=name, value=plain)
    declared_as = f"Declared as {declared}." if role == "parameter" else ""
    return add_formal_parameter(graph, parameter_id(record, role, name), name, kind, identifier, declared_as)


def _add_notebook(graph: Graph, contents: Contents, record: Record, signature: Signature) -> None:
    """The notebook: the workflow itself, or one of the tools that a pipeline has."""
    identifier, is_whole = notebook_id(contents, record), contents.release is None
    graph.add(
        identifier,
        WORKFLOW_TYPES if is_whole else WORKFLOW_TYPES[:2],
        name=record.code.notebook,
        description=f"The notebook of stage '{record.stage}', as it is in the bundle of sources that was executed.",
        url=ref(identifier),
        version=version_of(record),
        isPartOf=ref(path_id(contents.placed[record.code.bundle_sha256].path)),
        programmingLanguage=ref("#jupyter"),
        conformsTo=ref(WORKFLOW_PROFILE) if is_whole else None,
        input=refs(slot.parameter for slot in signature.inputs),
        output=refs(slot.parameter for slot in signature.outputs),
        environment=refs(slot.parameter for slot in signature.environment),
        softwareRequirements=refs(_add_software(graph, contents, record)),
    )


def _add_software(graph: Graph, contents: Contents, record: Record) -> list[str]:
    python, _, version = record.machine.python.partition(" ")
    identifier = graph.add(
        local_id("software", record.machine.python),
        "SoftwareApplication",
        name=python,
        softwareVersion=version or "not recorded",
        url="https://www.python.org",
    )
    found = [add_kit(graph, record), identifier]
    requirements = f"{RECORDS}/{record.id}/requirements.txt"
    if any(file.path == requirements for file in contents.files[record.id]):
        n = record.software.n_packages
        packages = f"The {n} packages that were installed." if n != 1 else "The one package that was installed."
        found.append(graph.add(path_id(requirements), description=packages))
    return found


def _add_action(graph: Graph, contents: Contents, record: Record, signature: Signature) -> None:
    configuration = contents.placed[record.configuration_sha256]
    where = f"in environment '{record.environment}' on {record.machine.platform}, {record.machine.cpu_model or 'cpu'}"
    read = [*(slot.value for slot in signature.inputs), path_id(configuration.path)]
    left = [*(slot.value for slot in signature.outputs), *_add_metrics(graph, record), _result_id(contents, record)]
    identifier = graph.add(
        action_id(record),
        "CreateAction",
        name=f"Execution of stage '{record.stage}'",
        description=f"kit executed {record.code.notebook} {where}; how it ended: {record.status}.",
        identifier=record.id,
        instrument=ref(notebook_id(contents, record)),
        agent=ref(add_person(graph, record)),
        startTime=crate_time(record.started),
        endTime=crate_time(ended(record)),
        object=refs(read),
        result=refs(left),
        environment=refs(slot.value for slot in signature.environment),
        actionStatus=COMPLETED if record.succeeded else FAILED,
        error=_describe_failure(record),
    )
    graph.add(ROOT, mentions=ref(identifier))


def _add_metrics(graph: Graph, record: Record) -> Iterable[str]:
    for name, value in record.metrics.items():
        yield graph.add(local_id(record.id, "metric", name), "PropertyValue", name=name, value=value)


def _result_id(contents: Contents, record: Record) -> str:
    """What every execution leaves, also one that failed: the executed notebook, at least the record."""
    paths = {file.path for file in contents.files[record.id]}
    executed = f"{RECORDS}/{record.id}/executed.ipynb"
    return path_id(executed if executed in paths else f"{RECORDS}/{record.id}/record.json")


def _describe_failure(record: Record) -> str | None:
    if record.succeeded:
        return None
    return f"{record.failure.kind}: {record.failure.message}" if record.failure else str(record.status)
