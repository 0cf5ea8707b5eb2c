"""Environments from their files, strictly: an unknown key, or a value of another type, is an error that names it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from kit.environment.gates import EvaluationSource, Gates, LiteRTLimits, MetricLimits, SliceLimits
from kit.environment.values import Environment, Limits, Policy, ReleasePolicy, SecretReference, Serving, StageSettings
from kit.errors import EnvironmentFileError, UnknownNameError, suggest
from kit.graph import RELEASE, Graph
from kit.parameter import ANY_JSON

_TABLES: dict[str, type[msgspec.Struct]] = {
    "gates": Gates,
    "limits": Limits,
    "policy": Policy,
    "release": ReleasePolicy,
    "serving": Serving,
}


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
    return _read_bytes(path.read_bytes(), name, f"{folder.name}/{name}.toml")


@lru_cache(16)
def _read_bytes(data: bytes, name: str, where: str) -> Environment:
    """The environment that a file's bytes are; one command asks for the same bytes again and again."""
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFileError(f"{where} cannot be read as TOML: {error}") from error
    if "name" in content:
        raise EnvironmentFileError(f"{where}: an environment's name is its file's name; remove 'name'")
    return decode_environment({**content, "name": name}, where)


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
    for name, settings in _items(content, "stages"):
        _refuse_unknown_keys(settings, StageSettings, f"{where}, [stages.{name}]")
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
    for name, settings in environment.stages.items():
        _refuse_useless_retries(settings, name, f"{where}, [stages.{name}]")
    return environment


def _refuse_useless_retries(settings: StageSettings, stage: str, where: str) -> None:
    """Refuse what would never lead to another attempt."""
    if settings.retries and not settings.transient:
        raise EnvironmentFileError(
            f"{where}: retries = {settings.retries} without transient retries nothing; name the failures that may pass by "
            f'themselves, as in transient = ["ConnectionError", "KernelDied"]'
        )
    if settings.retries and stage == RELEASE:
        raise EnvironmentFileError(
            f"{where}: a release is not retried, its gate has decided before its notebook starts; remove retries"
        )
    for kind in settings.transient:
        if not kind.isidentifier():
            name = kind.rpartition(".")[2]
            advice = f"write {name!r}, a kernel does not tell the module" if name.isidentifier() else "expected a name"
            raise EnvironmentFileError(f"{where}, transient: {kind!r} is no name of an exception's class; {advice}")
        if kind == KeyboardInterrupt.__name__:
            raise EnvironmentFileError(f"{where}, transient: an interruption is never retried; remove {kind!r}")


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
    for name in environment.stages:
        if name not in stages:
            raise UnknownNameError("stage", name, stages, f"{where}, [stages.{name}]")


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
    for key in table if isinstance(table, dict) else ():
        if key not in (names := _list_keys(struct)):
            raise EnvironmentFileError(f"{where}: key {key!r}{suggest(key, names)}")


@lru_cache
def _list_keys(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(struct))


def list_environments(folder: Path) -> list[str]:
    """Names of all environments, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))
