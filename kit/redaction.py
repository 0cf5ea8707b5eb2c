"""Secrets out of everything that is written: a value, and the forms in which it hides, become `[secret NAME]`.

Found are the value itself and its `repr`, JSON, HTML, URL and base64 forms (base64 at each of its three alignments, so
also inside `user:password`), and each longer line of a secret of several lines. Forms other than the value itself need
four characters, so that a short secret does not blank half a page.
"""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

SHORTEST_FORM = 4
SHORTEST_LINE = 8


class Redactor:
    """Replaces secrets in texts and JSON values; doing it twice changes nothing more.

    Args:
        secrets: name -> value; an empty value hides nothing.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms: dict[str, str] = {}
        for name, value in sorted(secrets.items()):
            marker = f"[secret {name}]"
            for form in _forms(value):
                self._forms.setdefault(form, marker)
        # Markers stand for themselves, so that a secret called or valued "secret" does not nest them.
        self._forms.update({marker: marker for marker in set(self._forms.values())})
        self._ordered = sorted(self._forms, key=lambda form: (-len(form), form))
        self._firsts = {form[0] for form in self._ordered}
        self._longest = max(map(len, self._ordered), default=0)
        self._pattern = re.compile("|".join(map(re.escape, self._ordered)) or r"(?!)")

    def __bool__(self) -> bool:
        """True if there is anything to hide."""
        return bool(self._forms)

    def text(self, text: str) -> str:
        """The text without secrets, longest first where they overlap."""
        if not any(form in text for form in self._ordered):
            return text
        return self._pattern.sub(lambda match: self._forms[match.group()], text)

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, keys included; a number that *is* a secret becomes its marker."""
        if not self:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return self._mapping(value)
            case list() | tuple():
                return [self.value(item) for item in value]
            case bool() | None:
                return value
            case int() | float() if len(str(value)) >= SHORTEST_FORM:
                return self._forms.get(str(value), value)
        return value

    def stream(self) -> StreamRedactor:
        """For a text that arrives in pieces."""
        return StreamRedactor(self)

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        for key, item in value.items():
            name = self.text(key) if isinstance(key, str) else key
            while name in redacted:  # two keys that differ only in their secret
                name += "'"
            redacted[name] = self.value(item)
        return redacted

    def split_safely(self, text: str) -> tuple[str, str]:
        """(what can be written now, redacted; the raw tail that may be the beginning of a secret)."""
        if not self:
            return text, ""
        present = any(form in text for form in self._ordered)
        matches = [match.span() for match in self._pattern.finditer(text)] if present else []
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start] in self._firsts and not any(begin < start < end for begin, end in matches):
                tail = text[start:]
                if any(len(form) > len(tail) and form.startswith(tail) for form in self._ordered):
                    return self.text(text[:start]), tail
        return self.text(text), ""


class StreamRedactor:
    """Redacts a text in pieces exactly as it would be in one; holds back only a tail that may begin a secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._held = redactor, ""

    def feed(self, text: str) -> str:
        """What can be written after this piece has come."""
        ready, self._held = self._redactor.split_safely(self._held + text)
        return ready

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return self._redactor.text(held)


def _forms(value: str) -> Iterator[str]:
    if not value:
        return
    yield value
    for part in [value, *_long_lines(value)]:
        for form in _encoded(part):
            if len(form) >= SHORTEST_FORM:
                yield form


def _long_lines(value: str) -> list[str]:
    lines = [line.strip() for line in value.splitlines()]
    return [line for line in lines if len(line) >= SHORTEST_LINE] if len(lines) > 1 else []


def _encoded(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogatepass")
    yield value
    yield repr(value)[1:-1]
    yield repr(data)[2:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield html.escape(value)
    yield html.escape(value).replace("&#x27;", "&#39;")
    yield html.escape(value, quote=False)
    for quoted in (urllib.parse.quote(data), urllib.parse.quote(data, safe=""), urllib.parse.quote_plus(data)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), quoted)
    yield from _base64_forms(data)


def _base64_forms(data: bytes) -> Iterator[str]:
    """The characters that depend on the secret alone, at each alignment, in both alphabets (RFC 4648)."""
    for offset in range(3):
        first, end = -(-8 * offset // 6), 8 * (offset + len(data)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(offset) + data).decode()[first:end]
