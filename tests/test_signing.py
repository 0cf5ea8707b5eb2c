"""Keys, envelopes and signed checkpoints; and openssl, which must agree."""

import base64
import shutil
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from kit.checkpoint import Checkpoint
from kit.errors import IntegrityError, UsageError
from kit.files import canonical_json
from kit.signing import (
    KEY_VARIABLE,
    PAYLOAD_TYPE,
    Envelope,
    Standing,
    create_signing_key,
    decode_envelope,
    find_signing_key,
    judge_checkpoint,
    judge_envelope,
    make_envelope,
    parse_public_key,
    read_public_keys,
)
from kit.testing import make_key

STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x", "predicate": {"ü": 1}}
ANA, BEN = make_key("ana@laptop"), make_key("ben")


def test_key_is_kept_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "settings/kit/key.pem"
    made = create_signing_key(path, "ana@example.org")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for value in (str(path), path.read_text()):
        found = find_signing_key({KEY_VARIABLE: value})
        assert found is not None
        assert found.public == made.public
    assert parse_public_key(str(made.public)) == made.public


def test_key_is_never_replaced(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "key", "ana")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(UsageError, match="there already"):
        create_signing_key(tmp_path / "key", "ana")
    assert (tmp_path / "key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "ana maria", "a+b", "a\nb", "tab\there"])
def test_name_that_no_signature_line_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a key"):
        create_signing_key(tmp_path / "key", name)
    assert not (tmp_path / "key").exists()


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "key", "ana")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UsageError, match=r"mode 0640.*chmod 600"):
        find_signing_key({KEY_VARIABLE: str(tmp_path / "key")})


def test_key_that_was_asked_for_and_is_not_there_is_an_error_not_unsigned_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        find_signing_key({KEY_VARIABLE: str(tmp_path / "nowhere")})


def test_other_kinds_of_key_are_refused(tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    texts = {
        "no ed25519 key": other.private_bytes(*form, serialization.NoEncryption()),
        "no unencrypted": ed25519.Ed25519PrivateKey.generate().private_bytes(
            *form, serialization.BestAvailableEncryption(b"secret")
        ),
        "no unencrypted private": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    }
    for complaint, text in texts.items():
        with pytest.raises(UsageError, match=complaint):
            find_signing_key({KEY_VARIABLE: text.decode()})


def test_envelope_stands_as_its_signature_does() -> None:
    signed, unsigned = ANA.sign_statement(STATEMENT), make_envelope(STATEMENT, None)
    changed = msgspec.structs.replace(signed, payload=signed.payload + b" ")
    assert judge_envelope(signed, [BEN.public, ANA.public]) == (Standing.TRUSTED, ANA.public.id)
    assert judge_envelope(signed, [BEN.public])[0] is Standing.UNKNOWN_KEY
    assert judge_envelope(changed, [ANA.public])[0] is Standing.BAD
    assert judge_envelope(unsigned, [ANA.public])[0] is Standing.UNSIGNED
    assert signed.payload == unsigned.payload == canonical_json(STATEMENT)


def test_signature_of_one_payload_type_is_none_of_another() -> None:
    signed = ANA.sign_statement(STATEMENT)
    other = msgspec.structs.replace(signed, payload_type="text/plain")
    assert judge_envelope(other, [ANA.public])[0] is Standing.BAD
    with pytest.raises(IntegrityError, match="expected an in-toto Statement"):
        other.read_statement("x")


def test_name_of_a_trusted_key_with_another_keys_signature_is_bad() -> None:
    mallory = make_key("ana@laptop")
    ((_, signature),) = mallory.sign_statement(STATEMENT).signatures
    forged = Envelope(canonical_json(STATEMENT), PAYLOAD_TYPE, ((ANA.public.id, signature),))
    assert judge_envelope(forged, [ANA.public]) == (Standing.BAD, ANA.public.id)


@given(st.binary(max_size=200), st.text(max_size=30), st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=70))))
def test_envelope_is_read_as_it_was_written(payload: bytes, kind: str, signatures: list[tuple[str, bytes]]) -> None:
    kind = kind.encode("utf-8", "replace").decode()
    named = tuple((name.encode("utf-8", "replace").decode(), data) for name, data in signatures)
    envelope = Envelope(payload, kind, named)
    assert decode_envelope(envelope.encode(), "x") == envelope


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload":"!","payloadType":"x","signatures":[]}',
        b'{"payload":"","payloadType":"x","signatures":[{"keyid":"a","sig":"?"}]}',
        b'{"payload":"","payloadType":"x","signatures":[],"more":1}',
        b'{"payload": "","payloadType":"x","signatures":[]}',
        b'{"payloadType":"x","payload":"","signatures":[]}',
    ],
)
def test_what_is_no_canonical_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"here\.json"):
        decode_envelope(data, "here.json")


def test_checkpoint_is_judged_by_its_signatures() -> None:
    checkpoint = Checkpoint("kit/x/1", 3, bytes(32))
    signed = BEN.sign_checkpoint(ANA.sign_checkpoint(checkpoint))
    assert judge_checkpoint(signed, [BEN.public]) == (Standing.TRUSTED, BEN.public.id)
    assert judge_checkpoint(msgspec.structs.replace(signed, size=4), [ANA.public])[0] is Standing.BAD
    assert judge_checkpoint(signed, [])[0] is Standing.UNKNOWN_KEY
    assert judge_checkpoint(checkpoint, [ANA.public])[0] is Standing.UNSIGNED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ana",
        "ana+00000000+AAAA",
        pytest.param(f"ben{str(ANA.public)[3:]}", id="another name"),
        pytest.param(f"{ANA.public}A", id="a character more"),
        pytest.param(str(ANA.public).replace("+", " ", 1), id="white space"),
    ],
)
def test_text_that_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="public key"):
        parse_public_key(text)


def test_keys_file_holds_a_key_a_line_and_at_least_one(tmp_path: Path) -> None:
    file = tmp_path / "team.keys"
    file.write_text(f"# the team\n\n{ANA.public}\n  {BEN.public}  \n")
    assert read_public_keys(file) == [ANA.public, BEN.public]
    file.write_text("# nobody\n")
    with pytest.raises(UsageError, match="no key in it"):
        read_public_keys(file)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees_on_the_signature(tmp_path: Path) -> None:
    signed = ANA.sign_statement(STATEMENT)
    ((_, signature),) = signed.signatures
    files = {
        "key.pem": ANA.public.pem,
        "pae": signed.signed_bytes,
        "sig": signature,
        "other": signed.signed_bytes + b"x",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def verify(name: str) -> bool:
        command = [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "key.pem",
            "-rawin",
            "-in",
            name,
            "-sigfile",
            "sig",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert (verify("pae"), verify("other")) == (True, False)
    assert signed.signed_bytes.startswith(b"DSSEv1 28 application/vnd.in-toto+json ")
    assert base64.b64encode(signed.payload) in signed.encode()
