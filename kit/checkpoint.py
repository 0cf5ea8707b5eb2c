"""Checkpoints: a log's size and root as a signed note, in its full form and on one line.

    kit/flights/8d2f…      origin: which log
    42                     size: how many entries
    CsUYap…=               root: base64 of the RFC 6962 root over them

    — ana@laptop Az3grl…=  signatures: key name, base64 of (key hash, signature)

Source: C2SP tlog-checkpoint and signed-note (c2sp.org). This module reads and writes the text; `signing` signs it.
"""

from __future__ import annotations

import base64
import hashlib
import re

import msgspec

from kit.errors import IntegrityError

MAX_SIZE = (1 << 63) - 1  # what readers in other languages hold a size in
_ED25519 = b"\x01"  # signature type, C2SP signed-note
_HASH_BYTES = 32
_DASH = "— "
_ONE_LINE = re.compile(
    rf"checkpoint (\S+) ([0-9]+) ([A-Za-z0-9+/]{{43}}=)((?: {_DASH}[^\s+]+ [A-Za-z0-9+/]+={{0,2}})*)[ \t\r]*$",
    re.MULTILINE,
)
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours, which the log of a CI job keeps
_NO_NAME = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")  # white space and control characters


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line.

    Attributes:
        name: of the key.
        key_hash: 4 bytes that tell keys of one name apart, see `hash_key`.
        signature: 64 bytes for ed25519.
    """

    name: str
    key_hash: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line, without its end."""
        return f"{_DASH}{self.name} {_encode(self.key_hash + self.signature)}"


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log was at one moment.

    Attributes:
        origin: names the log; no white space.
        size: how many entries it had.
        root: 32 bytes.
        signatures: may be empty; such a checkpoint says nothing about who made it.
    """

    origin: str
    size: int
    root: bytes
    signatures: tuple[NoteSignature, ...] = ()

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n".encode()

    def encode(self) -> bytes:
        """The note, as a file holds it."""
        return self.text + b"\n" + "".join(f"{each}\n" for each in self.signatures).encode()

    @property
    def line(self) -> str:
        """All of it on one line, so that a log of continuous integration holds it."""
        parts = [f"checkpoint {self.origin} {self.size} {_encode(self.root)}", *map(str, self.signatures)]
        return " ".join(parts)


def hash_key(name: str, public: bytes) -> bytes:
    """The four bytes that a signature line names its key by.

    Args:
        name: of the key.
        public: 32 bytes, ed25519.
    """
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def decode_checkpoint(data: bytes, where: str) -> Checkpoint:
    """Read a note.

    Args:
        data: its bytes.
        where: names them in an error.

    Raises:
        IntegrityError: it is none, or not in the one form that it can be written in.
    """
    try:
        checkpoint = _decode(data.decode("utf-8"))
        if checkpoint.encode() != data:
            raise ValueError("it is not in the form that it must be written in")
    except ValueError as error:
        raise IntegrityError(f"{where}: not a readable checkpoint: {error}") from error
    return checkpoint


def find_checkpoints(data: bytes, where: str) -> list[Checkpoint]:
    """Checkpoints in a file that is either a note or a log which holds one-line forms among other things.

    Raises:
        IntegrityError: there is none in it, or a line has the form of one and is none.
    """
    text = _TERMINAL_CODE.sub("", data.decode("utf-8", "replace"))
    text = text.replace(" \ufffd ", f" {_DASH}")  # the dash as a Windows code page has it: one byte, no UTF-8
    found = []
    for match in _ONE_LINE.finditer(text):
        origin, size, root, signed = match.groups()
        lines = [origin, size, root, *signed.replace(f" {_DASH}", f"\n{_DASH}").split("\n"), ""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(decode_checkpoint("\n".join(lines).encode(), f"{where}, line {line}"))
    if found:
        return found
    try:
        return [decode_checkpoint(data, where)]
    except IntegrityError as error:
        raise IntegrityError(f"{error}; nor has it a line 'checkpoint ORIGIN SIZE ROOT', as a log would") from error


def _decode(note: str) -> Checkpoint:
    text, _, signed = note.partition("\n\n")
    lines = text.split("\n")
    if len(lines) != 3:
        raise ValueError(f"expected 3 lines (origin, size, root) before the first empty one, found {len(lines)}")
    origin, size, root = lines
    if not origin or _NO_NAME.search(origin):
        raise ValueError(f"origin {origin[:80]!r} is empty or has white space or a control character in it")
    signatures = signed.removesuffix("\n").split("\n") if signed else []
    return Checkpoint(origin, _decode_size(size), _decode_root(root), tuple(map(_decode_signature, signatures)))


def _decode_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or "+" in name or _NO_NAME.search(name):
        raise ValueError(
            f"{line[:80]!r} is no signature line, expected '{_DASH}NAME BASE64' with neither '+' nor space in NAME"
        )
    data = _decode_base64(encoded, f"signature of {name[:80]!r}")
    if len(data) <= 4:
        raise ValueError(f"signature of {name[:80]!r} has {len(data)} bytes, expected 4 that name the key and more")
    return NoteSignature(name, data[:4], data[4:])


def _decode_size(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text) or int(text) > MAX_SIZE:
        raise ValueError(
            f"size {text[:40]!r} is no number of entries: decimal digits, no leading zero, at most {MAX_SIZE}"
        )
    return int(text)


def _decode_root(text: str) -> bytes:
    root = _decode_base64(text, "root")
    if len(root) != _HASH_BYTES:
        raise ValueError(f"root has {len(root)} bytes, expected {_HASH_BYTES}")
    return root


def _decode_base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{what} is no base64: {error}") from error
    if _encode(data) != text:
        raise ValueError(f"{what} is no base64 in its one form: found {text[:80]!r}, expected {_encode(data)[:80]!r}")
    return data


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
