"""Ours against the examples of C2SP and Go, and against sigstore's reader of checkpoints."""

import base64
import hashlib

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from kit.checkpoint import MAX_SIZE, Checkpoint, NoteSignature, decode_checkpoint, find_checkpoints, hash_key
from kit.errors import IntegrityError
from kit.signing import SigningKey

ROOT = hashlib.sha256(b"root").digest()
ROOT_TEXT = base64.b64encode(ROOT).decode()
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()

# C2SP tlog-cosignature: a log's signature and, of another length, a witness's.
EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""

words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)
key_names = words.filter(lambda name: "+" not in name)
signatures = st.builds(NoteSignature, key_names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
checkpoints = st.builds(
    Checkpoint,
    words,
    st.integers(0, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(signatures, max_size=3).map(tuple),
)


def make_checkpoint(name="ana@laptop", **changes):
    """Signed by the one key that these tests have."""
    checkpoint = Checkpoint(**{"origin": "kit/flights/8d2f", "size": 42, "root": ROOT, **changes})
    signature = NoteSignature(name, hash_key(name, PUBLIC), PRIVATE.sign(checkpoint.text))
    return msgspec.structs.replace(checkpoint, signatures=(signature,))


def make_note(origin="kit/flights/8d2f", size="42", root=ROOT_TEXT, *signatures):
    return "\n".join([origin, size, root, "", *signatures, ""]).encode()


def test_example_of_the_specification_reads_and_writes_as_it_is():
    checkpoint = decode_checkpoint(EXAMPLE.encode(), "example")
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    log, witness = checkpoint.signatures
    assert (log.name, log.key_hash.hex(), len(log.signature)) == ("example.com/behind-the-sofa", "033de0ae", 64)
    assert (witness.name, witness.key_hash.hex(), len(witness.signature)) == ("witness.example.com/w1", "8d66cf3f", 72)
    assert checkpoint.text.decode() == EXAMPLE[: EXAMPLE.index("\n—")]
    assert checkpoint.encode() == EXAMPLE.encode()


def test_key_and_signature_of_go_s_documentation_check():
    """golang.org/x/mod/sumdb/note, the package's example."""
    name, key_hash, encoded = "PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    public = base64.b64decode(encoded)[1:]
    (signature,) = decode_checkpoint(make_note("o", "1", ROOT_TEXT, line), "note").signatures
    assert (signature.name, str(signature)) == (name, line)
    assert signature.key_hash.hex() == key_hash == hash_key(name, public).hex()
    Ed25519PublicKey.from_public_bytes(public).verify(signature.signature, text)


def test_unsigned_note_ends_in_an_empty_line():
    assert Checkpoint("o", 0, ROOT).encode() == f"o\n0\n{ROOT_TEXT}\n\n".encode()


@given(checkpoints)
def test_what_is_written_reads_back(checkpoint):
    assert decode_checkpoint(checkpoint.encode(), "note") == checkpoint
    assert find_checkpoints(checkpoint.encode(), "note") == [checkpoint]
    assert find_checkpoints(checkpoint.line.encode(), "log") == [checkpoint]


@given(st.lists(checkpoints, min_size=1, max_size=4), st.lists(st.text(max_size=20), min_size=1))
def test_one_line_forms_are_found_in_any_log(made, noise):
    lines = [f"{noise[number % len(noise)]}\n{each.line}\r" for number, each in enumerate(made)]
    assert find_checkpoints("\n".join([*lines, *noise]).encode("utf-8", "replace"), "log") == made


@given(checkpoints.filter(lambda each: each.signatures), st.data())
def test_no_two_byte_strings_read_as_the_same_checkpoint(checkpoint, draw):
    data = bytearray(checkpoint.encode())
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] = draw.draw(st.integers(0, 255).filter(lambda byte: byte != data[place]))
    try:
        other = decode_checkpoint(bytes(data), "note")
    except IntegrityError:
        return
    assert other != checkpoint


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_noise_is_refused_and_breaks_nothing(data):
    for read in (decode_checkpoint, find_checkpoints):
        with pytest.raises(IntegrityError, match=r"^noise: not a readable checkpoint"):
            read(data, "noise")


GOOD_LINE = str(make_checkpoint().signatures[0])
HOSTILE = {
    "nothing": (b"", "expected 3 lines .origin, size, root. before .*, found 1"),
    "one line": (b"o\n", "found 2"),
    "no root": (b"o\n1\n\n", "found 2"),
    "no size": (f"o\n{ROOT_TEXT}\n\n".encode(), "found 2"),
    "no origin": (make_note(origin=""), "origin '' is empty"),
    "a line more": (f"o\n1\n{ROOT_TEXT}\nextension\n\n".encode(), "found 4"),
    "an empty line more": (make_note() + b"\n", "'' is no signature line"),
    "an empty line first": (b"\n" + make_note(), "found 4"),
    "no empty line": (f"o\n1\n{ROOT_TEXT}\n{GOOD_LINE}\n".encode(), "found 5"),
    "no line end": (make_note()[:-1], "found 4"),
    "no last line end": (make_note("o", "1", ROOT_TEXT, GOOD_LINE)[:-1], "the form that it must be written in"),
    "line ends of Windows": (make_note().replace(b"\n", b"\r\n"), "found 5"),
    "one carriage return": (make_note(size="42\r"), r"size '42\\r'"),
    "carriage return in a signature": (make_note("o", "1", ROOT_TEXT, GOOD_LINE + "\r"), "no base64"),
    "space in origin": (make_note(origin="a b"), "origin 'a b'"),
    "tab in origin": (make_note(origin="a\tb"), "white space"),
    "no-break space in origin": (make_note(origin="a\xa0b"), "white space"),
    "line separator in origin": (make_note(origin="a\u2028b"), "white space"),
    "escape in origin": (make_note(origin="a\x1b[31mb"), "control character"),
    "nul in origin": (make_note(origin="a\0"), "control character"),
    "endless origin": (make_note(origin="a " * 10_000_000), "white space"),
    "size with leading zero": (make_note(size="042"), "size '042' is no number"),
    "size 00": (make_note(size="00"), "size '00'"),
    "negative size": (make_note(size="-1"), "size '-1'"),
    "negative zero": (make_note(size="-0"), "size '-0'"),
    "signed size": (make_note(size="+1"), "size"),
    "size with underscore": (make_note(size="1_0"), "size"),
    "size in other digits": (make_note(size="٤٢"), "size"),
    "size in words": (make_note(size="many"), "size"),
    "no number": (make_note(size=""), "found 1"),
    "space before size": (make_note(size=" 1"), "size"),
    "size over 63 bits": (make_note(size=str(MAX_SIZE + 1)), f"at most {MAX_SIZE}"),
    "endless size": (make_note(size="9" * 10_000_000), "size '9999999999999999999999999999999999999999'"),
    "short root": (make_note(root=base64.b64encode(ROOT[1:]).decode()), "root has 31 bytes, expected 32"),
    "long root": (make_note(root=base64.b64encode(ROOT + b"x").decode()), "root has 33 bytes"),
    "empty root": (make_note(root=""), "found 2"),
    "root in hexadecimal": (make_note(root=ROOT.hex()), "root has 48 bytes"),
    "root in URL's base64": (make_note(root="_" * 43 + "="), "root is no base64"),
    "root without padding": (make_note(root=ROOT_TEXT[:-1]), "root is no base64"),
    "root with bits after its end": (make_note(root="A" * 42 + "B="), "one form: found 'A+B=', expected 'A+='"),
    "root with space after it": (make_note(root=ROOT_TEXT + " "), "root is no base64"),
    "root in other letters": (make_note(root="ä" * 44), "root is no base64"),
    "no dash": (make_note("o", "1", ROOT_TEXT, GOOD_LINE[2:]), "no signature line"),
    "hyphen": (make_note("o", "1", ROOT_TEXT, "-" + GOOD_LINE[1:]), "no signature line"),
    "two spaces": (make_note("o", "1", ROOT_TEXT, GOOD_LINE.replace("— ", "—  ")), "no signature line"),
    "no name": (make_note("o", "1", ROOT_TEXT, "— AAAAAAA="), "has 0 bytes"),
    "empty name": (make_note("o", "1", ROOT_TEXT, "—  AAAAAAA="), "no signature line"),
    "plus in a name": (make_note("o", "1", ROOT_TEXT, "— a+b AAAAAAA="), "'— a.b AAAAAAA=' is no signature line"),
    "tab in a name": (make_note("o", "1", ROOT_TEXT, "— a\tb AAAAAAA="), "no signature line"),
    "bell in a name": (make_note("o", "1", ROOT_TEXT, "— a\x07 AAAAAAA="), "no signature line"),
    "a third word": (make_note("o", "1", ROOT_TEXT, GOOD_LINE + " x"), "signature of 'ana@laptop' is no base64"),
    "no signature": (make_note("o", "1", ROOT_TEXT, "— a "), "signature of 'a' has 0 bytes"),
    "key hash and no signature": (make_note("o", "1", ROOT_TEXT, "— a AAAAAA=="), "signature of 'a' has 4 bytes"),
    "cut signature": (make_note("o", "1", ROOT_TEXT, GOOD_LINE[:-2]), "no base64"),
    "bits after a signature": (make_note("o", "1", ROOT_TEXT, "— a AAAAAAB="), "one form"),
    "second signature bad": (make_note("o", "1", ROOT_TEXT, GOOD_LINE, "x"), "'x' is no signature line"),
    "invalid UTF-8": (b"\xff" + make_note(), "can't decode byte 0xff in position 0"),
    "half a surrogate pair": (make_note(origin="a").replace(b"a", b"\xed\xa0\x80", 1), "can't decode byte 0xed"),
    "UTF-16": (make_note().decode().encode("utf-16"), "can't decode"),
    "JSON": (b'{"origin": "o", "size": 1}', "found 1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_note_is_refused_and_named(name):
    data, reason = HOSTILE[name]
    for read in (decode_checkpoint, find_checkpoints):
        with pytest.raises(IntegrityError, match=f"^checkpoints/42: not a readable checkpoint: .*{reason}") as caught:
            read(data, "checkpoints/42")
        assert len(str(caught.value)) < 500


def test_one_line_forms_are_found_between_times_and_colours():
    first, second, unsigned = make_checkpoint(), make_checkpoint(size=43), Checkpoint("kit/größe/8d2f", 44, ROOT)
    log = f"""\
2026-03-01T09:30:00.1234567Z ##[group]Run kit train
2026-03-01T09:30:01.1234567Z saving checkpoint 3 to model.keras
\x1b[36;1mcheckpoint\x1b[0m of epoch 3 is 44 letters: {"x" * 44}
2026-03-01T09:30:02.1234567Z \x1b[32m{first.line}\x1b[0m\r
[train] 09:30 | {second.line}
\x1b[1mcheckpoint \x1b[22m{unsigned.line.removeprefix("checkpoint ")}   \r
checkpoint {first.origin} 45 {ROOT_TEXT} — ana@laptop
checkpoint {first.origin} 46 {ROOT_TEXT[:-9]}
done \xff"""
    assert find_checkpoints(log.encode() + b"\xff\xfe", "log") == [first, second, unsigned]


def test_one_line_form_is_found_in_a_log_of_windows():
    made = make_checkpoint()
    assert find_checkpoints(f"größe\r\n{made.line}\r\n".encode("cp1252"), "log") == [made]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"checkpoint o 007 {ROOT_TEXT}", "size '007'"),
        (f"checkpoint o {MAX_SIZE + 1} {ROOT_TEXT}", "at most"),
        (f"checkpoint o {'9' * 5000} {ROOT_TEXT}", "size '999"),
        (f"checkpoint o\x07 1 {ROOT_TEXT}", "control character"),
        (f"checkpoint o 1 {'A' * 42}B=", "root is no base64"),
        (f"checkpoint o 1 {ROOT_TEXT} — a AAAA", "signature of 'a' has 3 bytes"),
        (f"checkpoint o 1 {ROOT_TEXT} — a AAAAA", "signature of 'a' is no base64"),
        (f"checkpoint o 1 {ROOT_TEXT} {GOOD_LINE} — a AAAAAAB=", "one form"),
    ],
)
def test_line_that_looks_like_a_checkpoint_and_is_none_is_refused_with_its_number(line, reason):
    log = f"ok\n{make_checkpoint().line}\n{line}\n"
    with pytest.raises(IntegrityError, match=f"^ci.log, line 3: not a readable checkpoint: .*{reason}"):
        find_checkpoints(log.encode(), "ci.log")


@pytest.mark.parametrize("log", ["", "all went well\n", f"checkpoint o 1 {ROOT_TEXT[:-1]}\n", "checkpoint saved\n"])
def test_log_without_a_checkpoint_is_refused(log):
    with pytest.raises(IntegrityError, match=r"^ci\.log: .* nor has it a line 'checkpoint ORIGIN SIZE ROOT'"):
        find_checkpoints(log.encode(), "ci.log")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["checkpoint ", "checkpoint o 1", " ", "\n", "— ", f"checkpoint o 1 {ROOT_TEXT}  x", "\x1b["]
)
def test_huge_logs_are_read_in_linear_time(text):
    with pytest.raises(IntegrityError, match="nor has it a line"):
        find_checkpoints((text * (4_000_000 // len(text)) + "x").encode(), "log")


# sigstore's reader and its keys, which know ed25519


def read_with_sigstore(data):
    from sigstore._internal.rekor.checkpoint import SignedCheckpoint

    return SignedCheckpoint.from_text(data.decode())


@given(checkpoints.filter(lambda each: each.signatures))
def test_sigstore_reads_the_same_parts(checkpoint):
    theirs = read_with_sigstore(checkpoint.encode())
    parts = theirs.checkpoint
    assert (parts.origin, parts.log_size, parts.log_hash) == (checkpoint.origin, checkpoint.size, checkpoint.root.hex())
    assert (parts.other_content, theirs.signed_note.note.encode()) == ([], checkpoint.text)
    ours = [(each.name, each.key_hash, base64.b64encode(each.signature)) for each in checkpoint.signatures]
    assert [(each.name, each.sig_hash, each.signature) for each in theirs.signed_note.signatures] == ours


def test_sigstore_reads_the_specification_s_example_as_we_do():
    theirs, ours = read_with_sigstore(EXAMPLE.encode()), decode_checkpoint(EXAMPLE.encode(), "example")
    assert (theirs.checkpoint.log_size, theirs.checkpoint.log_hash) == (ours.size, ours.root.hex())
    assert [each.sig_hash for each in theirs.signed_note.signatures] == [each.key_hash for each in ours.signatures]


def verify_with_sigstore(data, public, key_hash):
    from sigstore._internal.trust import Keyring
    from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

    der, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    raw = base64.b64encode(public.public_bytes(der, form))
    key = PublicKey(raw_bytes=raw, key_details=PublicKeyDetails.PKIX_ED25519)
    read_with_sigstore(data).signed_note.verify(Keyring([key]), key_hash)


def test_sigstore_verifies_our_signature():
    verify_with_sigstore(make_checkpoint().encode(), PRIVATE.public_key(), hash_key("ana@laptop", PUBLIC))


def test_sigstore_verifies_what_kit_s_own_key_signed():
    key = SigningKey(PRIVATE, "größe@laptop")
    signed = key.sign_checkpoint(key.sign_checkpoint(Checkpoint("kit/flights/8d2f", 42, ROOT)))
    verify_with_sigstore(signed.encode(), PRIVATE.public_key(), bytes.fromhex(key.public.id.rpartition("+")[2]))


def test_sigstore_refuses_our_signature_over_anything_else():
    from sigstore.errors import VerificationError

    signed, key_hash = make_checkpoint(), hash_key("ana@laptop", PUBLIC)
    for changes in ({"size": 43}, {"origin": "kit/flights/8d2e"}, {"root": ROOT[::-1]}):
        other = msgspec.structs.replace(signed, **changes)
        with pytest.raises(VerificationError, match="invalid signature"):
            verify_with_sigstore(other.encode(), PRIVATE.public_key(), key_hash)
        with pytest.raises(InvalidSignature):
            PRIVATE.public_key().verify(other.signatures[0].signature, other.text)
    with pytest.raises(VerificationError, match="invalid signature"):
        verify_with_sigstore(signed.encode(), Ed25519PrivateKey.generate().public_key(), key_hash)
    with pytest.raises(VerificationError, match="Signature not found"):
        verify_with_sigstore(signed.encode(), PRIVATE.public_key(), hash_key("eve", PUBLIC))
