"""What a request asks and what it gets: values between the transport and the protocols."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
NAME_CHARS = 100  # of a name that a client sent, where an error says it again


class Request(msgspec.Struct, frozen=True):
    """A request whose body has been read.

    Attributes:
        body: all of it.
        json_size: bytes of the JSON part, where the binary tensor extension says that others follow; None without.
    """

    body: bytes = b""
    json_size: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """Status, body, and what the access log says of it: rows, never values."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: Headers = ()
    n_rows: int = 0


class RequestError(Exception):
    """A request that is not answered as it was asked.

    Attributes:
        status: HTTP status.
        sentence: what is wrong, where, what was expected; names of columns, never their values.
        headers: such as Retry-After.
    """

    def __init__(self, status: int, sentence: str, headers: Headers = ()) -> None:
        self.status, self.sentence, self.headers = status, sentence, headers
        super().__init__(sentence)


def show_name(name: object) -> str:
    """A name that a client sent, quoted and cut, for an error's sentence."""
    text = str(name)
    return repr(text if len(text) <= NAME_CHARS else f"{text[:NAME_CHARS]}…")


def show_names(names: Sequence[str]) -> str:
    """Several names, the first ten of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(show_name, names[:10])) + more
