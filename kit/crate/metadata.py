"""`ro-crate-metadata.json`: an export described as a Workflow Run Crate, a release's as a Provenance Run Crate.

Source: RO-Crate 1.1; Workflow RO-Crate 1.0; Process, Workflow and Provenance Run Crate 0.5 (w3id.org/ro/wfrun). A crate that
declares a later version of these is not checked against them by the checkers that there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath

from kit.crate.contents import FOLDERS, MANIFEST, README, RECORDS, Contents, CrateFile
from kit.crate.execution import describe_execution, ended, notebook_id
from kit.crate.graph import DESCRIPTOR, ROOT, Graph, crate_time, path_id, ref, refs
from kit.crate.licence import Licence
from kit.crate.pipeline import describe_pipeline

CRATE = "https://w3id.org/ro/crate/1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
RUN_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
PROVENANCE = {"https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5")}


def describe_contents(contents: Contents, extra: Iterable[CrateFile], project: str, licence: Licence) -> bytes:
    """The bytes of ro-crate-metadata.json.

    Args:
        contents: what the export holds.
        extra: files that come with it.
        project: name of the project whose archive it is.
        licence: under which terms its sources stand.
    """
    graph = Graph()
    _add_surroundings(graph, contents, project, licence)
    _add_files(graph, contents, extra)
    for record in contents.records:
        describe_execution(graph, contents, record)
    main = describe_pipeline(graph, contents) if contents.release else notebook_id(contents, contents.records[0])
    _add_root(graph, contents, project, licence, main)
    value = {"@context": [f"{CRATE}/context", RUN_CONTEXT], "@graph": graph.entities()}
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _profiles(contents: Contents) -> dict[str, tuple[str, str]]:
    return {**PROFILES, **(PROVENANCE if contents.release else {})}


def _add_surroundings(graph: Graph, contents: Contents, project: str, licence: Licence) -> None:
    """The descriptor, profiles, licence, language and project."""
    graph.add(DESCRIPTOR, "CreativeWork", about=ref(ROOT), conformsTo=refs([CRATE, WORKFLOW_CRATE]))
    for identifier, (name, version) in _profiles(contents).items():
        graph.add(identifier, "CreativeWork", name=name, version=version)
    graph.add(licence.id, "CreativeWork", name=licence.name, description=licence.description)
    graph.add("#project", "Organization", name=project, url=licence.home or ROOT)
    graph.add("#jupyter", "ComputerLanguage", name="Jupyter Notebook", url="https://jupyter.org")


def _add_root(graph: Graph, contents: Contents, project: str, licence: Licence, main: str) -> None:
    last, release = contents.records[-1], contents.release
    what = f"One execution of stage '{last.stage}' in environment '{last.environment}'"
    if release:
        what = f"Release {release.id}: {len(contents.records)} executions, from the raw data to what was released"
    graph.add(
        ROOT,
        "Dataset",
        name=f"{project}: {release.id if release else last.id}",
        description=f"{what}, with what was read and written, exported by kit. {MANIFEST} has the digest of every other "
        f"file; proof/ has what shows that the archive's ledger tells of it.",
        datePublished=crate_time(max([*map(ended, contents.records), *([release.time] if release else [])])),
        identifier=release.id if release else last.id,
        license=ref(licence.id),
        author=ref("#project"),
        publisher=ref("#project"),
        mainEntity=ref(main),
        conformsTo=refs(_profiles(contents)),
    )


def _add_files(graph: Graph, contents: Contents, extra: Iterable[CrateFile]) -> None:
    for file in (*contents.list_files(), *extra):
        identifier = graph.add(
            path_id(file.path),
            "File",
            name=PurePosixPath(file.path).name,
            encodingFormat=file.media_type,
            contentSize=str(file.size_bytes),
            sha256=file.sha256,
        )
        graph.add(path_id(_shown_in(file.path)) or ROOT, hasPart=ref(identifier))
    # No digest: it lists that of this description, which therefore cannot have its own.
    graph.add(path_id(MANIFEST), "File", name=MANIFEST, encodingFormat="text/plain")
    graph.add(README, about=ref(ROOT))
    for record in contents.records:
        identifier = path_id(f"{RECORDS}/{record.id}/")
        graph.add(identifier, "Dataset", name=f"Record {record.id}", identifier=record.id)
        graph.add(ROOT, hasPart=ref(identifier))
    for placed in contents.placed.values():
        if placed.artifact.is_folder:
            graph.add(path_id(placed.path), "Dataset", name=placed.artifact.name)
        graph.add(ROOT, hasPart=ref(path_id(placed.path)))
    graph.add(ROOT, hasPart=ref(path_id(MANIFEST)))


def _shown_in(path: str) -> str:
    """The folder that a file is shown in: its record's, its folder artifact's, else none."""
    parts = path.split("/")
    if parts[0] == RECORDS:
        return f"{RECORDS}/{parts[1]}/"
    return f"{'/'.join(parts[:3])}/" if parts[0] == FOLDERS and len(parts) > 3 else ""
