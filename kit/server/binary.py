"""Tensors as raw bytes: little-endian, row-major, a text behind its length of 4 bytes.

Source: triton-inference-server, protocol/extension_binary_data.md.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from kit.model.servable import STRING
from kit.server.answer import RequestError

_LENGTH = struct.Struct("<I")


def decode_tensor(data: memoryview, dtype: str, n_values: int, where: str) -> np.ndarray[Any, Any]:
    """(n_values,) array of a dtype.

    Raises:
        RequestError: the bytes are not so many values.
    """
    if dtype == STRING:
        return _decode_texts(data, n_values, where)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(data) != n_values * kind.itemsize:
        expected = f"{n_values} values of {kind.itemsize} bytes"
        raise RequestError(400, f"{where}: expected {expected}, found {len(data)} bytes")
    if dtype == "bool":
        return np.frombuffer(data, np.uint8).astype(bool)
    return np.frombuffer(data, kind).astype(dtype, copy=False)


def encode_tensor(array: np.ndarray[Any, Any]) -> bytes:
    """The inverse."""
    if array.dtype.kind in "OSU":
        texts = (value if isinstance(value, bytes) else str(value).encode() for value in array.reshape(-1).tolist())
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _decode_texts(data: memoryview, n_values: int, where: str) -> np.ndarray[Any, Any]:
    texts: list[bytes] = []
    start = 0
    while start < len(data) and len(texts) < n_values:
        if start + _LENGTH.size > len(data):
            break
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size + size
        if start > len(data):
            break
        texts.append(bytes(data[start - size : start]))
    if len(texts) != n_values or start != len(data):
        raise RequestError(400, f"{where}: expected {n_values} texts, each behind its length, in {len(data)} bytes")
    array = np.empty(n_values, object)
    array[:] = texts
    return array
