"""Stages opened in JupyterLab: `dev` inputs, scratch outputs, nothing recorded."""

from __future__ import annotations

import sys
from pathlib import Path

from kit.archive import MARKER, Archive, read_origin
from kit.bundle import make_bundle
from kit.errors import NotFoundError, UsageError
from kit.execute.inputs import newest_success
from kit.execute.stage import absolute_references
from kit.files import remove_tree
from kit.gate import Release, Verdict
from kit.graph import BUILD, RELEASE, RUN, Graph, Stage
from kit.project import Project, find_project
from kit.session import StageSession
from kit.signing import parse_public_key
from kit.workspace import Context, ReleaseContext

ENVIRONMENT = "dev"


def open_interactively(inputs: list[str], outputs: list[str]) -> StageSession:
    """Open the stage with this signature in the working tree.

    Raises:
        UsageError: no notebook of the project has this signature.
        NotFoundError: an input was never made; names the command that makes it.
    """
    project = find_project(Path.cwd())
    graph = project.read_graph()
    stage = _find_stage(graph, inputs, outputs)
    environment = project.read_environment(ENVIRONMENT)
    # reading only: an archive that is not there is not made
    origin = read_origin(project.archive) if (project.archive / MARKER).is_file() else ""
    archive = Archive(project.archive, origin, index=project.index)
    folder = project.scratch / "interactive" / stage.name
    for part in ("inputs", "outputs", "facts", "release", "scratch"):  # no key tells whose scratch files they are
        remove_tree(folder / part)
    for part in ("inputs", "outputs", "facts", "scratch"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    release = _open_release(project, archive, folder / "release") if stage.name == RUN else None
    paths = {name: str(_provide(name, stage, graph, project, archive, folder / "inputs")) for name in stage.inputs}
    context = Context(
        stage=stage.name,
        environment=environment.name,
        record="",
        root=str(project.root),
        inputs=paths,
        outputs={name: str(folder / "outputs" / name) for name in stage.outputs},
        facts=str(folder / "facts"),
        scratch=str(folder / "scratch"),
        bundle=str(_pack(project, folder / "bundle.zip")) if stage.name == BUILD else "",
        settings=environment.settings,
        secrets=absolute_references(environment.secrets, project.root),
        release=release,
    )
    sys.stderr.write(f"stage {stage.name!r}, environment {environment.name!r}; interactive: not recorded\n")
    judge = (lambda: _judge(project, archive)) if stage.name == RELEASE else None
    return StageSession(context, recorded=False, judge=judge)


def _pack(project: Project, path: Path) -> Path:
    path.write_bytes(make_bundle(project, tracked_only=False).data)
    return path


def _find_stage(graph: Graph, inputs: list[str], outputs: list[str]) -> Stage:
    for stage in graph.stages:
        if sorted(stage.inputs) == sorted(inputs) and sorted(stage.outputs) == sorted(outputs):
            return stage
    raise UsageError(
        f"no saved notebook of this project opens a stage with inputs {inputs} and outputs {outputs}; "
        f"save the notebook, then run this cell again"
    )


def _provide(name: str, stage: Stage, graph: Graph, project: Project, archive: Archive, folder: Path) -> Path:
    environment = project.read_environment(ENVIRONMENT)
    producer = graph.producer_of(name)
    if producer is None:
        if name not in environment.data:
            raise NotFoundError(f"input {name!r} is bound by no [data] of environments/{ENVIRONMENT}.toml")
        return project.root / environment.data[name]
    if stage.name == RUN and producer.name == RELEASE:
        live = _find_live(project, archive)
        record = archive.read_record(live.record) if live else None
    else:
        record = newest_success(archive, producer.name, ENVIRONMENT, stage.name)
    artifact = record.output(name) if record else None
    if artifact is None:
        raise NotFoundError(f"no record of {producer.name!r} has {name!r}; run `kit all --env {ENVIRONMENT}`")
    archive.objects.copy_artifact(artifact, folder / name)
    return folder / name


def _find_live(project: Project, archive: Archive) -> Release | None:
    from kit.release import find_live

    environment = project.read_environment(ENVIRONMENT)
    keys = tuple(map(parse_public_key, project.trusted_keys))
    return find_live(archive, environment.name, keys, signed=environment.policy.signed)


def _open_release(project: Project, archive: Archive, folder: Path) -> ReleaseContext:
    live = _find_live(project, archive)
    if live is None:
        raise NotFoundError(f"nothing is live in environment {ENVIRONMENT!r}; run `kit all --env {ENVIRONMENT}` first")
    manifest = archive.read_manifest(live)
    folder.mkdir(parents=True)
    for artifact in manifest.artifacts:
        archive.objects.copy_artifact(artifact, folder / artifact.name)
    return ReleaseContext(live.id, manifest, str(folder))


def _judge(project: Project, archive: Archive) -> Verdict:
    from kit.execute.sources import bundle_of
    from kit.release import PROBES, bind_now, judge_candidate

    environment = project.read_environment(ENVIRONMENT)
    producer = project.read_graph().producer_of(environment.gates.model)
    training = newest_success(archive, producer.name if producer else "train", environment.training, RELEASE)
    bind = bind_now(archive, environment, project.root)
    return judge_candidate(archive, environment, training, bundle_of(archive, training), bind, PROBES)
