"""Environments: named parameters, data, secrets, gates and policies, from `environments/<name>.toml`, strictly read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
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


class SliceLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that must be met among the rows of each value of a column.

    Attributes:
        metrics: limits by the metric's name; `min` and `max` only.
        min_rows: a value with fewer evaluation rows is noted, not judged.
    """

    metrics: dict[str, MetricLimits] = {}
    min_rows: Annotated[int, msgspec.Meta(ge=1)] = 100


class EvaluationSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On what a model, and the one that is live, are scored again by the gate.

    Attributes:
        data: the training's output that holds the rows, a Parquet file: the model's inputs, the label, slice columns.
        label: the column with the truth.
        output: the output of the model's signature that is compared with it.
        measure: `module:function` in notebooks/, from (labels, scores), both (n,), to metrics by name; without it kit's
            own (`kit.measures`).
    """

    data: str
    label: str
    output: str
    measure: str = ""


class LiteRTLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second representation of the model, and how far it may be from the SavedModel.

    Attributes:
        model: the training's output that is the LiteRT model.
        encoding: the one that says how raw fields become its input.
        max_difference: largest absolute difference of a score on golden and evaluation rows.
        max_auc_drop: largest loss of AUC on the evaluation rows.
    """

    model: str = "model.tflite"
    encoding: str = "encoding.json"
    max_difference: Annotated[float, msgspec.Meta(ge=0)] = 1e-3
    max_auc_drop: Annotated[float, msgspec.Meta(ge=0)] = 1e-3


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release into this environment needs.

    Attributes:
        checks: artifacts whose checks must have passed; those with a suite in the lineage are always required.
        metrics: limits by the metric's name.
        model: the artifact that is loaded in a fresh process.
        golden: the artifact with the predictions that it must reproduce.
        slices: limits by the name of a column of the evaluation rows.
        evaluation: the rows on which candidate and live release are compared; `max_drop` and slices need it.
        profile: the training's output that describes its data; data that the environment binds is held against it.
        litert: limits of the LiteRT model; without it there is none.
    """

    checks: tuple[str, ...] = ()
    metrics: dict[str, MetricLimits] = {}
    model: str = "saved_model"
    golden: str = "golden.json"
    slices: dict[str, SliceLimits] = {}
    evaluation: EvaluationSource | None = None
    profile: str = "profile.json"
    litert: LiteRTLimits | None = None


class ReleasePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """`from`: the environment whose newest succeeded training a release takes."""

    source: str


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may happen here.

    Attributes:
        code: what may execute, the working tree as it is or only a clean build's bundle.
        signed: refuse unsigned work.
        promoted_from: environments in one of which a model must have been released before.
        allow_drift: `kit run --allow-drift` may execute a release although something differs from it.
    """

    code: Literal["worktree", "build"] = "worktree"
    signed: bool = False
    promoted_from: tuple[str, ...] = ()
    allow_drift: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout_s`: seconds for one stage. `output_bytes`: output kept of one cell."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 4 * 3600.0
    output_bytes: Annotated[int, msgspec.Meta(gt=0)] = 10_000_000


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `kit serve` answers.

    Attributes:
        name: the model's name in addresses; empty for the project's.
        representation: what answers: the SavedModel, or the LiteRT model without TensorFlow.
        max_batch_rows: rows that one call of the model takes at most.
        max_queue_rows: rows that may wait; beyond them a request is answered with 503.
        max_request_bytes: a larger request is answered with 413.
        timeout_s: seconds after which an unanswered request is answered with 504.
        drain_s: seconds that accepted requests have at the end.
        poll_s: seconds between two looks at what is live.
    """

    name: str = ""
    representation: Literal["saved_model", "litert"] = "saved_model"
    max_batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_queue_rows: Annotated[int, msgspec.Meta(ge=1)] = 4096
    max_request_bytes: Annotated[int, msgspec.Meta(ge=1)] = 8_000_000
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    poll_s: Annotated[float, msgspec.Meta(gt=0)] = 2.0


class SecretReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is found: `env`, the name of an environment variable, or `file`, a path. Never its value."""

    env: str = ""
    file: str = ""


_TABLES: dict[str, type[msgspec.Struct]] = {
    "gates": Gates,
    "limits": Limits,
    "policy": Policy,
    "release": ReleasePolicy,
    "serving": Serving,
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
    serving: Serving = Serving()

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
    _refuse_unknown_gate_keys(content.get("gates"), where)
    for name, reference in _items(content, "secrets"):
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


def _refuse_unknown_gate_keys(gates: Any, where: str) -> None:
    for name, limits in _items(gates, "metrics"):
        _refuse_unknown_keys(limits, MetricLimits, f"{where}, [gates.metrics] {name}")
    for column, slices in _items(gates, "slices"):
        _refuse_unknown_keys(slices, SliceLimits, f"{where}, [gates.slices.{column}]")
        for name, limits in _items(slices, "metrics"):
            _refuse_unknown_keys(limits, MetricLimits, f"{where}, [gates.slices.{column}.metrics] {name}")
    for table, struct in (("evaluation", EvaluationSource), ("litert", LiteRTLimits)):
        inner = gates.get(table) if isinstance(gates, dict) else None
        _refuse_unknown_keys(inner, struct, f"{where}, [gates.{table}]")


def _items(table: Any, key: str) -> Iterable[tuple[str, Any]]:
    """The entries of a table in a table; none where either is something else, which is refused later."""
    inner = table.get(key) if isinstance(table, dict) else None
    return inner.items() if isinstance(inner, dict) else ()


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
