"""Signatures: ed25519 keys, DSSE envelopes, signed checkpoints. Whom to trust is the verifier's choice, never decided here.

A public key reads `<name>+<8 hex digits>+<base64>`, the verifier key of a C2SP signed note; the same key signs
envelopes (DSSE v1, in-toto's payload type) and checkpoints. A private key is a PEM file (PKCS 8), which openssl reads too.
"""

from __future__ import annotations

import base64
import binascii
import enum
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.checkpoint import Checkpoint, NoteSignature, hash_key
from kit.errors import IntegrityError, UsageError
from kit.files import canonical_json, create_exclusive

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
KEY_VARIABLE = "KIT_SIGNING_KEY"
KEY_FILE = "signing-key.pem"
_ED25519 = b"\x01"
_PEM = re.compile(rb"-----BEGIN PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*")
_ED25519_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, section 7: what stands before the key
_SEED_BYTES = 32
_NAME = re.compile(r"name: ([^\s+\x00-\x1f\x7f-\x9f\ud800-\udfff]+)")


class PublicKey(msgspec.Struct, frozen=True):
    """A key that signatures are checked with.

    Attributes:
        name: who signs with it; no white space, no `+`.
        data: 32 bytes, ed25519.
    """

    name: str
    data: bytes

    @property
    def id(self) -> str:
        """`<name>+<8 hex digits>`: what an envelope's `keyid` is."""
        return f"{self.name}+{hash_key(self.name, self.data).hex()}"

    def __str__(self) -> str:
        """In full, as `--keys` and `trusted_keys` have it."""
        return f"{self.id}+{base64.b64encode(_ED25519 + self.data).decode()}"

    @property
    def pem(self) -> bytes:
        """As openssl reads it."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        key = Ed25519PublicKey.from_public_bytes(self.data)
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """True if this key made the signature over exactly these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.data).verify(signature, data)
        except InvalidSignature:
            return False
        return True


class Envelope(msgspec.Struct, frozen=True):
    """A DSSE envelope.

    Attributes:
        payload: the exact bytes that are signed.
        payload_type: what they are.
        signatures: (key id, signature); empty for unsigned work, which no DSSE verifier accepts.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        """The pre-authentication encoding (DSSE protocol, section "Signature Definition")."""
        from securesystemslib.dsse import Envelope as Dsse

        return Dsse(self.payload, self.payload_type, {}).pae()

    def encode(self) -> bytes:
        """Canonical JSON, the bytes of `statement.dsse.json`."""
        signatures = [{"keyid": name, "sig": base64.b64encode(data).decode()} for name, data in self.signatures]
        payload = base64.b64encode(self.payload).decode()
        return canonical_json({"payload": payload, "payloadType": self.payload_type, "signatures": signatures})

    def read_statement(self, where: str) -> dict[str, Any]:
        """The in-toto statement in it.

        Raises:
            IntegrityError: it holds something else.
        """
        try:
            statement = msgspec.json.decode(self.payload, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise IntegrityError(f"{where}: its payload is no statement: {error}") from error
        if self.payload_type != PAYLOAD_TYPE or statement.get("_type") != "https://in-toto.io/Statement/v1":
            raise IntegrityError(f"{where}: expected an in-toto Statement v1, found {self.payload_type!r}")
        return statement


class Standing(enum.StrEnum):
    """How signatures stand to the keys that are trusted."""

    TRUSTED = "trusted"
    UNKNOWN_KEY = "unknown key"
    BAD = "bad"
    UNSIGNED = "unsigned"


class SigningKey:
    """A private key and its name.

    Args:
        private: the key, or what gives it when it is first used: most commands sign nothing.
        name: of the key; by default from its digits.
    """

    def __init__(self, private: Ed25519PrivateKey | Callable[[], Ed25519PrivateKey], name: str = "") -> None:
        self._given, self._name = private, name

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return self._given() if callable(self._given) else self._given

    @cached_property
    def public(self) -> PublicKey:
        """What its signatures are checked with."""
        data = self._private.public_key().public_bytes_raw()
        return PublicKey(self._name or f"kit-{data.hex()[:8]}", data)

    def sign_statement(self, statement: Mapping[str, Any]) -> Envelope:
        """An in-toto statement in a signed envelope."""
        from securesystemslib.dsse import Envelope as Dsse
        from securesystemslib.signer import CryptoSigner, SSlibKey

        key = SSlibKey.from_crypto(self._private.public_key(), self.public.id)
        envelope = Dsse(canonical_json(dict(statement)), PAYLOAD_TYPE, {})
        signature = envelope.sign(CryptoSigner(self._private, key))
        return Envelope(envelope.payload, PAYLOAD_TYPE, ((signature.keyid, bytes.fromhex(signature.signature)),))

    def sign_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with this key's signature added."""
        name, data = self.public.name, self.public.data
        signature = NoteSignature(name, hash_key(name, data), self._private.sign(checkpoint.text))
        return msgspec.structs.replace(checkpoint, signatures=(*checkpoint.signatures, signature))


def make_envelope(statement: Mapping[str, Any], key: SigningKey | None) -> Envelope:
    """A statement in an envelope, signed if there is a key."""
    return key.sign_statement(statement) if key else Envelope(canonical_json(dict(statement)), PAYLOAD_TYPE)


class _SignatureText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _EnvelopeText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    payloadType: str  # noqa: N815 - the specification's name
    signatures: tuple[_SignatureText, ...]


def decode_envelope(data: bytes, where: str) -> Envelope:
    """Read an envelope.

    Raises:
        IntegrityError: it is none, or not in its canonical form.
    """
    try:
        text = msgspec.json.decode(data, type=_EnvelopeText)
        signatures = tuple((each.keyid, base64.b64decode(each.sig, validate=True)) for each in text.signatures)
        envelope = Envelope(base64.b64decode(text.payload, validate=True), text.payloadType, signatures)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: not a readable DSSE envelope: {error}") from error
    if envelope.encode() != data:
        raise IntegrityError(f"{where}: the envelope is not in canonical form")
    return envelope


def judge_envelope(envelope: Envelope, keys: Iterable[PublicKey]) -> tuple[Standing, str]:
    """How an envelope's signatures stand to trusted keys, and the key id that says so (of the first, if none is trusted)."""
    if not envelope.signatures:  # then nobody needs to know what would be signed
        return Standing.UNSIGNED, ""
    data = envelope.signed_bytes
    return _judge([(name, signature, data) for name, signature in envelope.signatures], list(keys))


def judge_checkpoint(checkpoint: Checkpoint, keys: Iterable[PublicKey]) -> tuple[Standing, str]:
    """The same for a checkpoint."""
    signed = [(f"{each.name}+{each.key_hash.hex()}", each.signature, checkpoint.text) for each in checkpoint.signatures]
    return _judge(signed, list(keys))


def _judge(signed: Sequence[tuple[str, bytes, bytes]], keys: list[PublicKey]) -> tuple[Standing, str]:
    if not signed:
        return Standing.UNSIGNED, ""
    trusted = {key.id: key for key in keys}
    for name, signature, data in signed:
        if name in trusted:
            good = trusted[name].has_signed(data, signature)
            return (Standing.TRUSTED if good else Standing.BAD), name
    return Standing.UNKNOWN_KEY, signed[0][0]


def parse_public_key(text: str) -> PublicKey:
    """Read `<name>+<8 hex digits>+<base64>`.

    Raises:
        UsageError: it is none, or its parts do not belong together.
    """
    try:
        name, key_hash, encoded = text.strip().split("+", 2)
        data = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        pem = " (a PEM file? `kit key show` without --pem prints what is needed)" if "BEGIN" in text else ""
        raise UsageError(f"{text.strip()!r} is no public key; expected <name>+<8 hex digits>+<base64>{pem}") from error
    key = PublicKey(name, data[1:])
    if data[:1] != _ED25519 or len(data) != 33 or not _NAME.fullmatch(f"name: {name}"):
        raise UsageError(f"public key {name!r}: expected an ed25519 key of 32 bytes")
    if key.id != f"{name}+{key_hash}":
        raise UsageError(f"public key {name!r}: its digits {key_hash!r} do not belong to it; was it cut or edited?")
    return key


def read_public_keys(file: Path) -> list[PublicKey]:
    """Public keys of a file, one a line; empty lines and those with `#` in front are passed over.

    Raises:
        UsageError: a line is no key, or there is none.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"keys file {file} cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                keys.append(parse_public_key(line))
            except UsageError as error:
                raise UsageError(f"keys file {file}, line {number}: {error}") from error
    if not keys:
        raise UsageError(f"keys file {file} has no key in it; expected lines as `kit key show` prints them")
    return keys


def key_path() -> Path:
    """Where the user's own key lies."""
    import platformdirs

    return platformdirs.user_config_path("kit") / KEY_FILE


def find_signing_key(environ: Mapping[str, str] | None = None) -> SigningKey | None:
    """The key to sign with: `KIT_SIGNING_KEY` (a path, or the PEM text itself), else the user's own; None without one.

    Raises:
        UsageError: it cannot be read, is no ed25519 key, or other users may read it.
    """
    value = (os.environ if environ is None else environ).get(KEY_VARIABLE, "")
    if "-----BEGIN" in value:
        return _decode_private(value.encode(), KEY_VARIABLE)
    path = Path(value) if value else key_path()
    if not value and not path.is_file():
        return None
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise UsageError(f"signing key {path} cannot be read: {error.strerror}; see `kit key new`") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"signing key {path} may be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
    return _decode_private(data, str(path))


def create_signing_key(path: Path, name: str) -> SigningKey:
    """Make a key and keep it under a path that is free, for its owner only.

    Raises:
        UsageError: there is a file already, or the name cannot name a key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not _NAME.fullmatch(f"name: {name}"):
        raise UsageError(f"{name!r} cannot name a key: no white space, no '+'; expected such as ana@example.org")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not create_exclusive(path, f"name: {name}\n".encode() + pem, mode=0o600):
        raise UsageError(f"{path} is there already; a key is never replaced: move it away first, and keep it")
    return SigningKey(private, name)


def _decode_private(data: bytes, where: str) -> SigningKey:
    head, begin, rest = data.partition(b"-----BEGIN")
    match = _NAME.search(head.decode("utf-8", "replace"))
    name = match[1] if match else ""
    if seed := _find_seed(begin + rest):
        return SigningKey(lambda: _make_private(seed), name)
    return SigningKey(_load_private(begin + rest, where), name)


def _find_seed(pem: bytes) -> bytes:
    """The 32 bytes of a key as `create_signing_key` writes it; empty for what the library must read, or refuse."""
    match = _PEM.fullmatch(pem)
    try:
        data = binascii.a2b_base64(match[1]) if match else b""
    except binascii.Error:
        return b""
    begin, seed = data[: len(_ED25519_PRIVATE)], data[len(_ED25519_PRIVATE) :]
    return seed if begin == _ED25519_PRIVATE and len(seed) == _SEED_BYTES else b""


def _make_private(seed: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


def _load_private(pem: bytes, where: str) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where} is no unencrypted private key in PEM form: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{where} is no ed25519 key; make one with `kit key new`")
    return private
