"""Checkpoints: a log's size and root as a signed note, in its full form and on one line.

    kit/flights/8d2f…      origin: which log
    42                     size: how many entries
    CsUYap…=               root: base64 of the RFC 6962 root over them

    — ana@laptop Az3grl…=  signatures: key name, base64 of (key hash, signature)

Source: C2SP tlog-checkpoint and signed-note (c2sp.org). This module reads and writes the text; `signing` signs it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

import msgspec

from kit.errors import IntegrityError

_ED25519 = b"\x01"  # signature type, C2SP signed-note
_DASH = "— "
ONE_LINE = re.compile(r"checkpoint (\S+) (\d+) ([A-Za-z0-9+/]{43}=)((?: — [^\s+]+ [A-Za-z0-9+/]+={0,2})*)\s*$", re.MULTILINE)


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
        return self.text + "".join(f"\n{line}" for line in ["", *map(str, self.signatures)]).encode()[1:] + b"\n"

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

    Raises:
        IntegrityError: it is none.
    """
    try:
        text, _, signed = data.decode("utf-8").partition("\n\n")
        origin, size, root = text.split("\n")
        lines = signed.removesuffix("\n").split("\n") if signed else []
        checkpoint = Checkpoint(origin, _size(size), _root(root), tuple(map(_decode_signature, lines)))
    except (ValueError, UnicodeDecodeError, binascii.Error) as error:
        raise IntegrityError(f"{where}: not a readable checkpoint: {error}") from error
    if not origin or re.search(r"\s", origin) or checkpoint.encode() != data:
        raise IntegrityError(f"{where}: not a readable checkpoint: it is not in the form that it must be written in")
    return checkpoint


def find_checkpoints(data: bytes, where: str) -> list[Checkpoint]:
    """Checkpoints in a file that is either a note or a log which holds one-line forms among other things.

    Raises:
        IntegrityError: there is none in it.
    """
    text = data.decode("utf-8", "replace")
    found = []
    for origin, size, root, signed in ONE_LINE.findall(text):
        signatures = tuple(_decode_signature(f"{_DASH}{each}") for each in signed.split(f" {_DASH}")[1:])
        found.append(Checkpoint(origin, int(size), _root(root), signatures))
    return found or [decode_checkpoint(data, where)]


def _decode_signature(line: str) -> NoteSignature:
    dash, name, encoded = line[: len(_DASH)], *line[len(_DASH) :].split(" ")
    data = base64.b64decode(encoded, validate=True)
    if dash != _DASH or not name or "+" in name or len(data) <= 4:
        raise ValueError(f"{line!r} is no signature line")
    return NoteSignature(name, data[:4], data[4:])


def _size(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]*", text):
        raise ValueError(f"size {text!r} is no number")
    return int(text)


def _root(text: str) -> bytes:
    root = base64.b64decode(text, validate=True)
    if len(root) != hashlib.sha256().digest_size:
        raise ValueError(f"root has {len(root)} bytes, expected 32")
    return root


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
