"""JSON as the protocols take and give it: strict, but for the tokens NaN and Infinity of TF Serving."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from kit.server.answer import RequestError

_OUT_OF_RANGE = "Number out of range"
_TOO_LONG = "Integer value out of range"  # more digits than Python reads, sys.get_int_max_str_digits
_TOKENS = (b"NaN", b"Infinity")


def decode_json(data: bytes, decode: Callable[[bytes], Any] = msgspec.json.decode) -> Any:
    """A JSON value; the bare tokens `NaN`, `Infinity` and `-Infinity` are numbers.

    Args:
        data: its bytes.
        decode: msgspec's decoder, of any JSON or of a type. What has such tokens comes as plain values all the same.

    Raises:
        ValidationError: msgspec's, the value is not of the decoder's type.
        RequestError: it is no JSON, not UTF-8, nested too deep, or holds a number that no double is near to.
    """
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and not str(error).startswith((_OUT_OF_RANGE, _TOO_LONG)):
            raise
        if any(token in data for token in _TOKENS):
            return _decode_with_tokens(data)
        _refuse(error)


def encode_json(value: Any) -> bytes:
    """JSON of plain values, not a finite number as TF Serving writes it: the tokens `NaN`, `Infinity`, `-Infinity`."""
    data = msgspec.json.encode(value)
    # msgspec writes null for them, which no answer of ours has anywhere else
    return data if b"null" not in data else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_with_tokens(data: bytes) -> Any:
    try:
        value = json.loads(data, parse_float=_parse_float)
        msgspec.json.encode(value)  # halves of surrogate pairs, which the standard library lets pass, are no text
    except (ValueError, RecursionError) as error:
        _refuse(error)
    return value


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(_OUT_OF_RANGE)
    return number


def _refuse(error: BaseException) -> NoReturn:
    reason = "nested too deep" if isinstance(error, RecursionError) else str(error).partition(":")[0]
    raise RequestError(400, f"the body is not readable as JSON: {reason}") from None
