"""Environments: named parameters, data, secrets, gates and policies, from `environments/<name>.toml`, strictly read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from kit.errors import EnvironmentFileError, UnknownNameError, suggest
from kit.files import canonical_json, sha256_bytes
from kit.graph import Graph, Stage
from kit.parameter import ANY_JSON


class MetricLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds that a metric must meet, both included; `max_drop`: below what is live in the environment."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release into this environment needs.

    Attributes:
        checks: artifacts whose checks must have passed; those with a suite in the lineage are always required.
        metrics: limits by the metric's name.
        model: the artifact that is loaded in a fresh process.
        golden: the artifact with the predictions that it must reproduce.
    """

    checks: tuple[str, ...] = ()
    metrics: dict[str, MetricLimits] = {}
    model: str = "saved_model"
    golden: str = "golden.json"


class ReleasePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """`from`: the environment whose newest succeeded training a release takes."""

    source: str


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: what may execute, the working tree as it is or only a clean build's bundle. `signed`: refuse unsigned work."""

    code: Literal["worktree", "build"] = "worktree"
    signed: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout_s`: seconds for one stage. `output_bytes`: output kept of one cell."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 4 * 3600.0
    output_bytes: Annotated[int, msgspec.Meta(gt=0)] = 10_000_000


class SecretReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is found: `env`, the name of an environment variable, or `file`, a path. Never its value."""

    env: str = ""
    file: str = ""


_TABLES: dict[str, type[msgspec.Struct]] = {
    "gates": Gates,
    "limits": Limits,
    "policy": Policy,
    "release": ReleasePolicy,
}


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One environment, as its file has it."""

    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}
    data: dict[str, str] = {}
    secrets: dict[str, SecretReference] = {}
    settings: dict[str, Any] = {}
    gates: Gates = Gates()
    release: ReleasePolicy | None = None
    policy: Policy = Policy()
    limits: Limits = Limits()

    @property
    def training(self) -> str:
        """The environment in which this one's models are trained."""
        return self.release.source if self.release else self.name

    @property
    def configuration(self) -> dict[str, Any]:
        """The effective configuration as JSON values."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, as a file has them
        return plain

    @property
    def sha256(self) -> str:
        """Digest of the effective configuration."""
        return sha256_bytes(canonical_json(self.configuration))

    def parameters_for(self, stage: Stage, graph: Graph) -> dict[str, Any]:
        """Values for one stage: its own table over the general ones that it declares."""
        own = self.parameters.get(stage.name, {})
        declared = {parameter.name for parameter in stage.parameters}
        stages = {each.name for each in graph.stages}
        general = {name: value for name, value in self.parameters.items() if name not in stages and name in declared}
        return {**general, **own}


def require_known_parameters(environment: Environment, graph: Graph) -> None:
    """Refuse parameters that no stage declares, and tables of stages that do not exist.

    Raises:
        UnknownNameError: with the nearest name.
        EnvironmentFileError: a stage's name has a value that is no table.
    """
    stages = {stage.name: {parameter.name for parameter in stage.parameters} for stage in graph.stages}
    anywhere = set().union(*stages.values()) if stages else set()
    where = f"environments/{environment.name}.toml"
    for name, value in environment.parameters.items():
        if name in stages:
            if not isinstance(value, dict):
                raise EnvironmentFileError(f"{where}, [parameters]: {name!r} is a stage; expected [parameters.{name}]")
            for inner in value:
                if inner not in stages[name]:
                    raise UnknownNameError("parameter", inner, stages[name], f"{where}, [parameters.{name}]")
        elif name not in anywhere:
            raise UnknownNameError("parameter or stage", name, anywhere | set(stages), f"{where}, [parameters]")


def read_environment(folder: Path, name: str) -> Environment:
    """Read `<folder>/<name>.toml`.

    Raises:
        UnknownNameError: there is no such environment; names those that are.
        EnvironmentFileError: TOML that cannot be read, an unknown key, a value of another type.
    """
    path = folder / f"{name}.toml"
    known = list_environments(folder)
    if name not in known:
        raise UnknownNameError("environment", name, known, f"{folder.name}/{name}.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFileError(f"{folder.name}/{name}.toml cannot be read as TOML: {error}") from error
    if "name" in content:
        raise EnvironmentFileError(
            f"{folder.name}/{name}.toml: an environment's name is its file's name; remove 'name'"
        )
    return decode_environment({**content, "name": name}, f"{folder.name}/{name}.toml")


def decode_environment(content: dict[str, Any], where: str) -> Environment:
    """An environment from plain values, as a file or a release holds them.

    Raises:
        EnvironmentFileError: an unknown key or a value of another type; says where.
    """
    _refuse_unknown_keys(content, Environment, where)
    for table, struct in _TABLES.items():
        _refuse_unknown_keys(content.get(table), struct, f"{where}, [{table}]")
    gates = content.get("gates")
    metrics = gates.get("metrics") if isinstance(gates, dict) else None
    for name, limits in metrics.items() if isinstance(metrics, dict) else ():
        _refuse_unknown_keys(limits, MetricLimits, f"{where}, [gates.metrics] {name}")
    secrets = content.get("secrets")
    for name, reference in secrets.items() if isinstance(secrets, dict) else ():
        _refuse_unknown_keys(reference, SecretReference, f"{where}, [secrets] {name}")
    _refuse_other_than_json(content, where)
    try:
        environment = msgspec.convert(content, Environment)
    except msgspec.ValidationError as error:
        raise EnvironmentFileError(f"{where}: {str(error).replace('$.', '')}") from error
    for name, reference in environment.secrets.items():
        if bool(reference.env) == bool(reference.file):
            raise EnvironmentFileError(
                f"{where}, [secrets] {name}: expected a reference, {{ env = … }} or {{ file = … }}"
            )
    return environment


def _refuse_other_than_json(content: dict[str, Any], where: str) -> None:
    """Refuse TOML dates, NaN and infinities, before a NaN limit could read as no limit."""
    for table, values in content.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if not ANY_JSON.accepts(value):
                raise EnvironmentFileError(
                    f"{where}, [{table}] {name}: only finite numbers, texts, booleans, lists and tables are values here, "
                    f"found {value}; write a text"
                )


def _refuse_unknown_keys(table: Any, struct: type[msgspec.Struct], where: str) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(struct)]
    for key in table if isinstance(table, dict) else ():
        if key not in names:
            raise EnvironmentFileError(f"{where}: key {key!r}{suggest(key, names)}")


def list_environments(folder: Path) -> list[str]:
    """Names of all environments, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))
