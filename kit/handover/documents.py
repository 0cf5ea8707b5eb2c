"""YAML, written: one value, one text. What is written here every YAML 1.1 and 1.2 reader reads as the same value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*")
_READ_OTHERWISE = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}  # by readers of YAML 1.1
_LITERAL = re.compile(r"[!-~][ -~]*(\n+[!-~][ -~]*)*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

Document = dict[str, Any]


def encode_yaml(document: Document) -> bytes:
    """A document of mappings, lists, texts, numbers and booleans, keys in the order in which they come.

    Raises:
        TypeError: another value is in it.
    """
    return "".join(f"{line}\n" for line in _mapping(document)).encode("ascii")


def _mapping(mapping: Document) -> Iterator[str]:
    for key, value in mapping.items():
        yield from _entry(f"{_text(key)}:", value)


def _list(values: list[Any] | tuple[Any, ...]) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict) and value:
            first, *rest = _mapping(value)
            yield f"- {first}"
            yield from (f"  {line}" if line else line for line in rest)
        else:
            yield from _entry("-", value)


def _entry(head: str, value: Any) -> Iterator[str]:
    match value:
        case dict() if value:
            yield head
            yield from (f"  {line}" if line else line for line in _mapping(value))
        case list() | tuple() if value:
            yield head
            yield from (f"  {line}" if line else line for line in _list(value))
        case str() if '"' in value and _LITERAL.fullmatch(value):
            yield f"{head} |-"
            yield from (f"  {line}" if line else line for line in value.split("\n"))
        case _:
            yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _text(value)
        case dict() | list() | tuple() if not value:
            return "{}" if isinstance(value, dict) else "[]"
        case _:
            raise TypeError(f"a {type(value).__name__} has no place in a document for a cluster")


def _text(text: str) -> str:
    """Plain if no reader can take it for something else, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _READ_OTHERWISE:
        return text
    return f'"{"".join(_escape(character) for character in text)}"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
