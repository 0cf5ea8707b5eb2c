"""Options of what executes a stage: how, and with which parameters and inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import click

from kit.cli.console import TIMEOUT
from kit.errors import UsageError
from kit.graph import Stage
from kit.parameter import Parameter

WARM = "Fork the kernel from a process that has imported the stage's libraries; the default in dev."
COLD = "Start the kernel in a new interpreter; the default where only a build may execute."


def drift_option() -> click.Option:
    """`--allow-drift`, of what runs a release."""
    help_text = "Run although packages, Python or the environment's file differ, where the release's policy permits it."
    return click.Option(["--allow-drift", "allow_drift"], is_flag=True, help=help_text)


def start_options() -> list[click.Parameter]:
    """`--warm` and `--cold`, of what executes a stage."""
    return [click.Option(["--warm"], is_flag=True, help=WARM), click.Option(["--cold"], is_flag=True, help=COLD)]


def choose_start(*, warm: bool, cold: bool) -> Literal["", "cold", "warm"]:
    """What these two options ask for.

    Raises:
        UsageError: both were given.
    """
    if warm and cold:
        raise UsageError("--warm and --cold contradict each other: give one")
    return "warm" if warm else "cold" if cold else ""


def force_option() -> click.Option:
    """`--force`, of what takes a record that is up to date."""
    return click.Option(["--force", "force"], is_flag=True, help="Execute although a record is up to date.")


def make_timeout_option() -> click.Option:
    """`--timeout`, of what executes a stage."""
    return click.Option(["--timeout", "timeout_s"], **TIMEOUT)


def make_parameter_options(stage: Stage, own: Sequence[click.Parameter]) -> list[click.Parameter]:
    """An option for each parameter of a stage; one that is called like an option of kit itself is `--parameter-<name>`."""
    return [_option_of(parameter, own) for parameter in stage.parameters]


def example_of(stage: Stage, own: Sequence[click.Parameter]) -> str:
    """The first parameter as one would type it; empty without one."""
    if not stage.parameters:
        return ""
    first = stage.parameters[0]
    return f" {_option_names(first, own)[0]} {_as_text(first.default)}"


def _option_of(parameter: Parameter, own: Sequence[click.Parameter]) -> click.Option:
    help_text = f"{parameter.help}  [default: {_as_text(parameter.default) or 'empty'}]".strip()
    names = [*_option_names(parameter, own), f"parameter_{parameter.name}"]
    return click.Option(names, metavar=str(parameter.type), help=help_text)


def _option_names(parameter: Parameter, own: Sequence[click.Parameter]) -> list[str]:
    """`--learning-rate` and `--learning_rate`."""
    taken = {name for option in own for name in option.opts}
    names = list(dict.fromkeys([f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"]))
    return [f"--parameter-{name[2:]}" for name in names] if taken & set(names) else names


def _as_text(value: Any) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def given_parameters(values: dict[str, Any]) -> dict[str, str]:
    """Parameters that were given as options, as texts."""
    texts = {key.removeprefix("parameter_"): value for key, value in values.items() if key.startswith("parameter_")}
    return {name: text for name, text in texts.items() if text is not None}


def split_inputs(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=RECORD` or `NAME=PATH`, each as it was given with --input.

    Raises:
        UsageError: one is neither.
    """
    found = {}
    for text in texts:
        name, equals, location = text.partition("=")
        if not equals or not name or not location:
            raise UsageError(f"--input must be NAME=RECORD or NAME=PATH, found {text!r}")
        found[name] = location
    return found
