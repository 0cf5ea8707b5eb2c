"""Running a release file outside of its project: no working tree, no git, an archive that need not know the release."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from kit.archive import RELEASE_FILE
from kit.artifact import Artifact, media_type_of
from kit.bundle import MAX_UNPACKED_BYTES, Bundle, unpack_bundle
from kit.environment import Environment, decode_environment
from kit.errors import IntegrityError, PolicyError, ProjectError, UsageError
from kit.execute import Order, Plan, ResolvedInput, Workbench, finish_plan, resolve_inputs
from kit.execute.plan import choose_parameters
from kit.execute.sources import BUNDLE
from kit.files import sha256_bytes
from kit.gate import Manifest
from kit.graph import RUN, Graph, Stage, require_bound
from kit.project import Project, find_project, stage_graph
from kit.release.contents import LOCK, open_contents, require_digest, saying
from kit.release.difference import advise_to_cut, require_no_drift
from kit.release.file import ReleasedFile
from kit.release.installed import judge_packages, judge_python, unzip_and_install
from kit.signing import PublicKey
from kit.workspace import ReleaseContext
from kit.zips import readable


class OutsideProject(Project, frozen=True, kw_only=True):
    """The project of a release file: the settings of its sources, the folder that kit was called in, scratch elsewhere.

    Attributes:
        private: a folder of this execution alone.
    """

    private: Path

    @property
    def scratch(self) -> Path:
        """Workspaces; gone when the execution has ended."""
        return self.private / "scratch"


def read_run_stage(path: Path) -> Stage:
    """The run notebook's signature, from a release file that is only looked at.

    Raises:
        IntegrityError: it is no release file, or its sources are not those of the release.
        UnknownNameError: the project has no run notebook.
    """
    with open_contents(path) as (members, contents), tempfile.TemporaryDirectory(prefix="kit-run-") as folder:
        with saying(path):
            data = members.read(BUNDLE, MAX_UNPACKED_BYTES)
            require_digest(BUNDLE, contents.manifest.bundle_sha256, sha256_bytes(data))
            with readable(BUNDLE):
                unpack_bundle(data, Path(folder))
        return stage_graph(Path(folder)).stage(RUN)


def open_outside_project(
    released: ReleasedFile, here: Path, archive: Path, reports: Path, keys: Sequence[PublicKey], private: Path
) -> OutsideProject:
    """The project that a release file is executed in.

    Args:
        released: unpacked and verified.
        here: data locations and files of secrets are relative to this folder.
        archive: where the record is sealed.
        reports: where pages go, if any are made.
        keys: trusted public keys; what the sources themselves would trust counts for nothing here.
        private: a folder for the sources and for scratch, that nobody else writes to.

    Raises:
        IntegrityError: the sources are no project of kit.
    """
    source = private / "source"
    with readable(BUNDLE):
        unpack_bundle(released.bundle.read_bytes(), source)
    try:
        project = find_project(source)
    except ProjectError as error:
        raise IntegrityError(f"{released.name}: its sources are no project: {error}") from error
    if project.root != source.resolve():
        raise IntegrityError(f"{released.name}: its sources hold no pyproject.toml with a [tool.kit] table")
    return OutsideProject(
        root=here,
        name=project.name,
        archive=archive,
        reports=reports,
        lock=project.lock,
        exclude=project.exclude,
        trusted_keys=tuple(map(str, keys)),
        compare=project.compare,
        private=private,
    )


def require_runnable(
    released: ReleasedFile, now: datetime, notify: Callable[[str], None], *, allow_drift: bool
) -> tuple[str, ...]:
    """Refuse what may not run here; gives the facts that differ and may, for the record.

    Args:
        released: unpacked and verified.
        now: a release that a waiver let pass runs until the waiver expires.
        notify: is told of a Python that differs in the patch level only.
        allow_drift: a person wants to execute it all the same.

    Raises:
        PolicyError: packages or Python differ and nobody allowed it or nobody may, or a waiver has expired.
    """
    release, manifest = released.release, released.manifest
    expired = [f"{each.evidence} until {each.until}" for each in manifest.verdict.waivers if not each.holds_at(now)]
    if expired:
        raise PolicyError(
            f"release {release.id} was admitted only because of waivers that have expired: {'; '.join(expired)}; "
            f"{advise_to_cut(release.environment)} and export that"
        )
    bundle = Bundle(released.bundle.read_bytes())

    def install(_: str) -> str:
        return unzip_and_install(released.path, LOCK, release)

    differences = [*judge_packages(bundle, manifest, release, install), *judge_python(released.python, release, notify)]
    return require_no_drift(release, manifest, differences, allow=allow_drift)


def plan_run_of_file(workbench: Workbench, released: ReleasedFile, order: Order, drift: tuple[str, ...]) -> Plan:
    """Plan the run notebook of a release file. The archive gets the bundle, the artifacts and release.json by digest.

    Args:
        workbench: on an `OutsideProject`.
        released: unpacked and verified.
        order: parameters and inputs; its environment is that of the release.
        drift: what `require_runnable` gave.

    Raises:
        UsageError: parameters or inputs are wrong, or an input is missing.
        PolicyError: the frozen policy demands signed work, and there is no trusted key to sign with.
    """
    release, manifest = released.release, released.manifest
    environment = decode_environment(manifest.configuration, f"release {release.id}")
    bundle = _read_bundle(released, manifest)
    graph = bundle.read_graph()
    stage = graph.stage(RUN)
    if RELEASE_FILE in order.inputs:
        raise UsageError(f"{RELEASE_FILE} comes out of {released.name}, not from --input")
    require_bound(stage, graph, [*environment.data, *order.inputs], environment.name)
    parameters = choose_parameters(stage, graph, environment, order.parameters)
    inputs = _resolve_inputs(workbench, released, order, environment, graph)
    _keep_artifacts(workbench, released)
    context = ReleaseContext(release.id, manifest, "")
    plan = finish_plan(
        workbench, order, stage, environment, bundle, None, parameters, inputs, release=context, drift=drift
    )
    build = released.training.code.build  # of the archive that the release comes from; no record of it is here
    return dataclasses.replace(plan, code=msgspec.structs.replace(plan.code, build=build))


def _read_bundle(released: ReleasedFile, manifest: Manifest) -> Bundle:
    data = released.bundle.read_bytes()
    require_digest(f"{released.name}, {BUNDLE}", manifest.bundle_sha256, sha256_bytes(data))
    is_clean = manifest.commit is not None and not released.training.code.dirty
    return Bundle(data, manifest.commit, () if is_clean else ("(released)",))


def _resolve_inputs(
    workbench: Workbench, released: ReleasedFile, order: Order, environment: Environment, graph: Graph
) -> list[ResolvedInput]:
    stage = graph.stage(RUN)
    for name in stage.inputs:
        producer = graph.producer_of(name)
        if producer is not None and name not in (RELEASE_FILE, *order.inputs):
            raise UsageError(
                f"input {name!r} is written by stage {producer.name!r} of the project, and no release file holds it; give it "
                f"with --input {name}=PATH"
            )
    others = msgspec.structs.replace(stage, inputs=tuple(name for name in stage.inputs if name != RELEASE_FILE))
    rest = resolve_inputs(others, graph, environment, workbench.archive, workbench.project.root, order.inputs)
    data = released.manifest.encode()
    sha256 = workbench.archive.objects.put_bytes(data)
    artifact = Artifact(RELEASE_FILE, sha256, len(data), media_type_of(RELEASE_FILE))
    return [ResolvedInput(artifact, source=released.name), *rest]


def _keep_artifacts(workbench: Workbench, released: ReleasedFile) -> None:
    for artifact in released.manifest.artifacts:
        kept = workbench.archive.objects.put_artifact(artifact.name, released.artifact(artifact.name))
        require_digest(f"artifact {artifact.name!r} of {released.name}", artifact.sha256, kept.sha256)
