"""The data that an environment binds for the `run` stage, held against its suites and the training's reference profile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from kit.archive import Archive
from kit.artifact import Artifact
from kit.bundle import Bundle
from kit.check import CheckResult
from kit.environment import Environment
from kit.errors import KitError, NotFoundError, UnknownNameError
from kit.execute.inputs import archive_source
from kit.expectations import CheckRequest, check_in_process
from kit.gate import BOUND, Evidence, Finding, Verdict
from kit.graph import RUN
from kit.record import Record
from kit.suite import Suite, parse_suite, suite_path_of

# name of a source -> the bytes that stand for it, in the archive's objects
Bind = Callable[[str], Artifact]
# requests -> one result for each, in order; a fake in tests, `kit.expectations.check_in_process` otherwise
Check = Callable[[Sequence[CheckRequest]], Sequence[CheckResult]]


class BoundData(msgspec.Struct, frozen=True):
    """What a gate found about bound data.

    Attributes:
        evidence: of kind `data`, one for each judged source, by the artifact's name.
        subjects: digests for the verdict, `data/<artifact name>`; every source that could be read.
    """

    evidence: tuple[Evidence, ...]
    subjects: dict[str, str]


class _Source(msgspec.Struct, frozen=True):
    """One source whose bytes are in the archive's objects, with the suite that the bundle has for it."""

    artifact: Artifact
    suite: Suite
    suite_data: bytes


def bind_now(archive: Archive, environment: Environment, root: Path) -> Bind:
    """The data as it lies now where the environment binds it; its bytes go into the archive's objects.

    Args:
        archive: takes them.
        environment: its `[data]` says where.
        root: the project's folder, to which locations are relative.
    """
    where = f"environments/{environment.name}.toml"
    return lambda name: archive_source(name, environment.data[name], archive, root, where).artifact


def bind_as_judged(archive: Archive, verdict: Verdict) -> Bind:
    """The data that a verdict was reached on, from the archive's objects, whatever lies in its place now."""

    def bind(name: str) -> Artifact:
        sha256 = verdict.subjects.get(f"{BOUND}{name}")
        if sha256 is None:
            raise NotFoundError(f"the verdict names no digest of {name!r}")
        return archive.objects.describe(name, sha256)

    return bind


def judge_bound_data(
    archive: Archive,
    environment: Environment,
    training: Record,
    bundle: Bundle,
    bind: Bind,
    check: Check = check_in_process,
    before: Collection[str] = (),
) -> BoundData:
    """Apply the bundle's suites to what the environment binds for the bundle's `run` stage; whatever fails refuses.

    Args:
        archive: its objects hold the data's bytes and the training's profile.
        environment: its `[data]` says what is bound, its `gates.profile` which output of the training describes the
            training's own.
        training: the record that made the model.
        bundle: the sources that will run; a source without a suite in it is not judged.
        bind: gives the bytes of a source, see `bind_now`.
        check: applies suites to files.
        before: names of what was judged for the release that is live; where its suite is gone now, that refuses.
    """
    evidence: dict[str, Evidence] = {}
    sources: list[_Source] = []
    for name in list_bound(environment, bundle, before):
        try:
            sources.append(_read_source(bundle, name, bind))
        except (KitError, OSError) as error:
            evidence[name] = _refuse(name, str(error))
    checkable = []
    profile = training.output(environment.gates.profile)
    for source in sources:
        if source.suite.needs_profile and profile is None:
            evidence[source.artifact.name] = _refuse(source.artifact.name, _describe_missing(environment, training))
        else:
            checkable.append(source)
    evidence |= {each.subject: each for each in _check_all(archive, checkable, profile, check)}
    subjects = {f"{BOUND}{each.artifact.name}": each.artifact.sha256 for each in sources}
    return BoundData(tuple(evidence[name] for name in sorted(evidence)), subjects)


def list_bound(environment: Environment, bundle: Bundle, before: Collection[str]) -> list[str]:
    """Inputs of the run stage that come from `[data]` and have a suite, or had one for what is live."""
    graph, files = bundle.read_graph(), set(bundle.names())
    try:
        inputs = graph.stage(RUN).inputs
    except UnknownNameError:
        return []
    bound = [name for name in inputs if name in environment.data and graph.producer_of(name) is None]
    return [name for name in bound if _suite_of(name) in files or name in before]


def _suite_of(name: str) -> str:
    return suite_path_of(name, Path("notebooks")).as_posix()


def _read_source(bundle: Bundle, name: str, bind: Bind) -> _Source:
    if _suite_of(name) not in bundle.names():
        raise NotFoundError(f"it was checked for what is live, and {_suite_of(name)} is not in the bundle any more")
    data = bundle.read(_suite_of(name))
    return _Source(bind(name), parse_suite(data, _suite_of(name)), data)


def _check_all(
    archive: Archive, sources: Sequence[_Source], profile: Artifact | None, check: Check
) -> Iterator[Evidence]:
    """Evidence of all sources, which one call of `check` looks at together."""
    problem, results = "", tuple[CheckResult, ...]()
    try:
        with tempfile.TemporaryDirectory(prefix="kit-gate-") as folder:
            requests = [_prepare(archive, source, profile, Path(folder, str(n))) for n, source in enumerate(sources)]
            results = tuple(check(requests)) if requests else ()
    except (KitError, OSError) as error:
        problem = f"could not be checked: {error}"
    if len(results) != len(sources):
        problem = problem or f"{len(sources)} checks were asked for, {len(results)} answered"
    if problem:
        yield from (_refuse(source.artifact.name, problem) for source in sources)
        return
    for source, result in zip(sources, results, strict=True):
        yield _judge(source, profile, result)


def _prepare(archive: Archive, source: _Source, profile: Artifact | None, folder: Path) -> CheckRequest:
    """Verified copies of what one check reads, in a folder of its own."""
    name, suite, reference = source.artifact.name, folder / "suite.json", folder / "profile.json"
    data = folder / "data" / name  # keeps its name: the ending says how it is read
    data.parent.mkdir(parents=True)
    archive.objects.copy_artifact(source.artifact, data)
    suite.write_bytes(source.suite_data)
    if profile is None or not source.suite.needs_profile:
        return CheckRequest(str(data), name, str(suite), source.artifact.sha256)
    archive.objects.copy_artifact(profile, reference)
    return CheckRequest(str(data), name, str(suite), source.artifact.sha256, str(reference))


def _judge(source: _Source, profile: Artifact | None, result: CheckResult) -> Evidence:
    name, sha256 = source.artifact.name, source.artifact.sha256
    reference = profile.sha256 if profile and source.suite.needs_profile else ""
    if result.problems:
        return _refuse(name, "; ".join(result.problems))
    found = (result.artifact, result.artifact_sha256, result.suite_sha256, result.profile_sha256 or "")
    if found != (name, sha256, source.suite.sha256, reference):
        return _refuse(
            name, f"was checked on other bytes, or with another suite or profile, than asked ({sha256[:12]}…)"
        )
    n_warnings = len(result.warnings)
    known = f", {n_warnings} known faults noted" if n_warnings else ""
    against = f", against the profile {reference[:12]}…" if reference else ""
    detail = f"{len(result.expectations)} expectations met on {result.n_rows:,} rows of {sha256[:12]}…{against}{known}"
    return Evidence("data", name, Finding.HOLDS, detail)


def _describe_missing(environment: Environment, training: Record) -> str:
    return (
        f"its suite compares with the training's data, but {training.id} wrote no {environment.gates.profile!r}; write it "
        f"there with kit.profile.write_profile, or name another output in [gates] profile"
    )


def _refuse(name: str, reason: str) -> Evidence:
    return Evidence("data", name, Finding.REFUSES, reason)
