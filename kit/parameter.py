"""Parameters as values: declared types, strict validation, and where each value came from.

Nothing is cast silently. From code and TOML a value must already have the declared type (an `int` is accepted for a
`float`); from the command line text is parsed *by* the declared type, so `007` for a `str` stays `007`.
"""

from __future__ import annotations

import enum
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kit.errors import ParameterError, UnknownNameError


class Source(enum.StrEnum):
    """Where a value came from; later ones win."""

    NOTEBOOK = "notebook"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


class ParameterType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A parameter's declared type.

    Attributes:
        name: `int`, `float`, `str`, `bool`, `list`, `dict`, `union`, `none` or `literal`.
        arguments: element types of a list or dict (key, value), members of a union.
        choices: the values of a literal.
    """

    name: str
    arguments: tuple[ParameterType, ...] = ()
    choices: tuple[str | int | bool, ...] = ()

    def __str__(self) -> str:
        """As the notebook would write it."""
        match self.name:
            case "union":
                return " | ".join(str(member) for member in self.arguments)
            case "literal":
                return f"Literal[{', '.join(repr(choice) for choice in self.choices)}]"
            case "none":
                return "None"
        inner = ", ".join(str(argument) for argument in self.arguments)
        return f"{self.name}[{inner}]" if inner else self.name

    def accepts(self, value: Any) -> bool:
        """True if the value has this type; `True` is no int, NaN and infinities are no JSON values."""
        match self.name:
            case "none":
                return value is None
            case "bool":
                return isinstance(value, bool)
            case "int":
                return isinstance(value, int) and not isinstance(value, bool)
            case "float":
                return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT
            case "str":
                return isinstance(value, str) and _is_unicode(value)
            case "literal":
                return any(value == choice and type(value) is type(choice) for choice in self.choices)
            case "union":
                return any(member.accepts(value) for member in self.arguments)
            case "list":
                return isinstance(value, list) and all(self._element(0).accepts(item) for item in value)
            case "dict":
                return isinstance(value, dict) and all(
                    isinstance(key, str) and _is_unicode(key) and self._element(1).accepts(item)
                    for key, item in value.items()
                )
        return False

    def parse(self, text: str) -> Any:
        """Read command-line text as this type.

        Raises:
            ValueError: the text is no value of this type.
        """
        match self.name:
            case "str":
                return text
            case "none" if text.lower() in ("none", "null"):
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float" if math.isfinite(value := float(text)):
                return value
            case "literal" if matching := [choice for choice in self.choices if str(choice) == text]:
                return matching[0]
            case "union":
                return self._parse_union(text)
            case "list" | "dict":
                return json.loads(text) if text.lstrip().startswith(("[", "{")) else self._parse_commas(text)
        raise ValueError(text)

    def _element(self, index: int) -> ParameterType:
        return self.arguments[index] if len(self.arguments) > index else ANY_JSON

    def _parse_union(self, text: str) -> Any:
        has_text = any(member.name == "str" for member in self.arguments)
        for member in sorted(self.arguments, key=lambda member: _UNION_ORDER.index(member.name)):
            if has_text and member.name in ("int", "float") and not _PLAIN_NUMBER.fullmatch(text):
                continue  # beside a text, `007` is no number
            try:
                value = member.parse(text)
            except (ValueError, TypeError):
                continue
            if member.accepts(value):
                return value
        raise ValueError(text)

    def _parse_commas(self, text: str) -> list[Any]:
        if self.name != "list":
            raise ValueError(text)
        element = self.arguments[0] if self.arguments else _ANY_SCALAR
        return [element.parse(part) for part in text.split(",")] if text else []


_MAX_FLOAT = sys.float_info.max
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # RFC 8259, section 6


def _is_unicode(text: str) -> bool:
    """False for half a surrogate pair, which an argument that is no UTF-8 becomes, and which JSON has no form for."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


# A union reads text as the most exact member that accepts it: None, bool, int, float, …, str last.
_UNION_ORDER = ("none", "bool", "int", "float", "literal", "list", "dict", "union", "str")
_ANY_SCALAR = ParameterType("union", tuple(ParameterType(name) for name in ("none", "bool", "int", "float", "str")))
ANY_JSON = ParameterType(
    "union", tuple(ParameterType(name) for name in ("none", "bool", "int", "float", "str", "list", "dict"))
)


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A parameter as its notebook declares it.

    Attributes:
        name: an identifier.
        type: the annotation, or the default's own type where there is none.
        default: a JSON value.
        help: the comment behind it.
        line: line in the parameters cell, from 1.
    """

    name: str
    type: ParameterType
    default: Any
    help: str = ""
    line: int = 0


class ResolvedParameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value that an execution used, and where it came from."""

    name: str
    value: Any
    source: Source
    type: str


def require_value(parameter: Parameter, value: Any, source: str) -> None:
    """Refuse a value that is not of the declared type.

    Raises:
        ParameterError: names the parameter, what was expected, what was found and who said so.
    """
    if not parameter.type.accepts(value):
        raise ParameterError(
            f"parameter {parameter.name!r} must be {parameter.type}, found {value!r} "
            f"({type(value).__name__}) from the {source}"
        )


def parse_text(parameter: Parameter, text: str) -> Any:
    """Read a command-line text by the parameter's declared type.

    Raises:
        ParameterError: the text is no such value.
    """
    try:
        value = parameter.type.parse(text)
    except (ValueError, TypeError):
        raise ParameterError(
            f"parameter {parameter.name!r} must be {parameter.type}, found {text!r} on the command line"
        ) from None
    require_value(parameter, value, Source.COMMAND_LINE)
    return value


def resolve_parameters(
    declared: Iterable[Parameter],
    environment: Mapping[str, Any],
    command_line: Mapping[str, Any],
    where: str,
) -> tuple[ResolvedParameter, ...]:
    """Merge notebook < environment < command line, strictly typed, in the notebook's order.

    Args:
        declared: the notebook's parameters.
        environment: values for this stage; names must be declared.
        command_line: values for this stage; names must be declared.
        where: stage, file and cell, for messages.

    Raises:
        UnknownNameError: a name that is not declared, with the nearest one.
        ParameterError: a value of another type than declared.
    """
    parameters = {parameter.name: parameter for parameter in declared}
    for name in [*environment, *command_line]:
        if name not in parameters:
            raise UnknownNameError("parameter", name, parameters, where)
    resolved = []
    for name, parameter in parameters.items():
        value, source = parameter.default, Source.NOTEBOOK
        if name in environment:
            value, source = environment[name], Source.ENVIRONMENT
        if name in command_line:
            value, source = command_line[name], Source.COMMAND_LINE
        require_value(parameter, value, source)
        resolved.append(ResolvedParameter(name, value, source, str(parameter.type)))
    return tuple(resolved)
