"""Taking exports in: the same bytes or nothing, whatever the file holds and wherever a kill falls."""

import itertools
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crates import (
    MODEL,
    do_again,
    export,
    find,
    make_entry,
    make_history,
    open_other,
    read_zip,
    sha256,
    snapshot,
    write_zip,
    zip_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.archive import Archive
from kit.artifact import Tree, TreeEntry
from kit.checkpoint import decode_checkpoint
from kit.crate import Import, Imported, Outcome, export_crate, import_crate
from kit.crate.evidence import Proof
from kit.crate.limits import Limits
from kit.crate.proof import make_proof
from kit.errors import IntegrityError, KitError, NotFoundError, PolicyError, UsageError
from kit.execute import Workbench
from kit.ledger import Kind
from kit.record import Record, Status
from kit.signing import SigningKey, Standing, decode_envelope, make_envelope
from kit.statement import describe_execution
from kit.testing import START, make_key
from kit.verify import Weight, verify_archive
from kit.verify.names import is_leftover

WHO = "bob@desk"
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return make_key()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Workbench:
    return make_history(tmp_path_factory.mktemp("project"), key)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, history: Workbench) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: export(history, name, folder / f"{name}.zip") for name in ("prepare", "train", "run", "dev-1")}


@pytest.fixture
def good(exports: dict[str, Path]) -> Files:
    return read_zip(exports["train"])


@pytest.fixture
def other(tmp_path: Path) -> Archive:
    return open_other(tmp_path / "other")


def take(
    archive: Archive, file: Path, key: SigningKey | None = None, limits: Limits | None = None
) -> tuple[Imported, ...]:
    return import_crate(archive, file, WHO, START, [key.public] if key else [], limits or Limits()).records


def refuse(
    archive: Archive, file: Path, sentence: str, limits: Limits | None = None, keys: SigningKey | None = None
) -> None:
    """The file is refused with such a sentence, and nothing has changed, inside the archive and beside it."""
    before = snapshot(archive.folder.parent)
    with pytest.raises(IntegrityError, match=sentence):
        take(archive, file, keys, limits)
    assert snapshot(archive.folder.parent) == before
    assert not [path for path in archive.folder.iterdir() if path.name.startswith(".")]


def test_imported_record_is_the_one_that_was_exported(
    history: Workbench, exports: dict[str, Path], other: Archive, key: SigningKey
) -> None:
    record = find(history.archive, "train")
    assert take(other, exports["train"], key) == (
        Imported(record.id, Outcome.IMPORTED, Standing.TRUSTED, key.public.id),
    )
    assert other.read_record(record.id) == record
    assert snapshot(other.record_folder(record.id)) == snapshot(history.archive.record_folder(record.id))
    for artifact in (*record.outputs, *(each.artifact for each in record.inputs)):
        other.objects.copy_artifact(artifact, other.folder.parent / artifact.name)
    (entry,) = other.ledger.read_entries()
    statement = (other.record_folder(record.id) / "statement.dsse.json").read_bytes()
    assert (entry.kind, entry.record, entry.sha256, entry.who) == (Kind.IMPORT, record.id, sha256(statement), WHO)


@pytest.mark.parametrize("name", ["train", "run", "dev-1"])
def test_archive_verifies_after_an_import(exports: dict[str, Path], other: Archive, key: SigningKey, name: str) -> None:
    imported = take(other, exports[name], key)
    report = verify_archive(other.folder)
    assert [each for each in report.findings if each.weight is not Weight.NOTED] == []
    assert report.n_records == len(imported)


def test_imported_record_can_be_exported_again(exports: dict[str, Path], other: Archive, tmp_path: Path) -> None:
    take(other, exports["train"])
    export_crate(other, find(other, "train"), tmp_path / "again.zip", "other")
    third = open_other(tmp_path / "third")
    (imported,) = take(third, tmp_path / "again.zip")
    assert imported.outcome is Outcome.IMPORTED


def test_importing_twice_says_that_it_is_there(exports: dict[str, Path], other: Archive) -> None:
    take(other, exports["train"])
    before = snapshot(other.folder)
    (imported,) = take(other, exports["train"])
    assert imported.outcome is Outcome.PRESENT
    assert snapshot(other.folder) == before


def test_release_brings_the_records_that_are_missing(exports: dict[str, Path], other: Archive) -> None:
    take(other, exports["train"])
    outcomes = {each.record.split("-")[1]: each.outcome for each in take(other, exports["dev-1"])}
    assert outcomes == dict.fromkeys(("build", "prepare", "release"), Outcome.IMPORTED) | {"train": Outcome.PRESENT}
    assert other.list_releases() == [], "a release is a fact of the archive that it was cut in"


def test_archive_that_exported_a_record_has_it_already(history: Workbench, exports: dict[str, Path]) -> None:
    before = snapshot(history.archive.folder)
    assert [each.outcome for each in take(history.archive, exports["dev-1"])] == [Outcome.PRESENT] * 4
    assert snapshot(history.archive.folder) == before


def test_record_that_is_there_with_other_bytes_is_refused(exports: dict[str, Path], other: Archive) -> None:
    (imported,) = take(other, exports["train"])
    log = other.record_folder(imported.record) / "executed.ipynb"
    log.chmod(0o644)
    log.write_bytes(b"{}")
    refuse(other, exports["train"], "is in this archive already, and its executed.ipynb differs")


def test_record_that_is_being_written_is_not_replaced(exports: dict[str, Path], other: Archive, good: Files) -> None:
    record = name_of_record(good)
    (other.records_folder / f"{record}.open").mkdir(parents=True)
    refuse(other, exports["train"], "is being written in this archive")


def test_signature_of_a_stranger_is_named_as_such(exports: dict[str, Path], other: Archive, key: SigningKey) -> None:
    (imported,) = take(other, exports["train"])
    assert (imported.standing, imported.key) == (Standing.UNKNOWN_KEY, key.public.id)


def test_unsigned_record_is_named_as_such(other: Archive, tmp_path: Path) -> None:
    (imported,) = take(other, export(make_history(tmp_path / "project"), "train", tmp_path / "a.zip"))
    assert (imported.standing, imported.key) == (Standing.UNSIGNED, "")


def test_zip_that_was_packed_anew_is_taken(good: Files, other: Archive, tmp_path: Path) -> None:
    file = write_zip(tmp_path / "packed.zip", good, compression=zipfile.ZIP_DEFLATED)
    assert [each.outcome for each in take(other, file)] == [Outcome.IMPORTED]


# What a zip may not be.


def name_of_record(files: Files) -> str:
    return next(name.split("/")[1] for name in files if name.startswith("records/"))


def with_entries(good: Files, *more: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    return zip_of([*((make_entry(name), data) for name, data in good.items()), *more])


@pytest.mark.parametrize(
    "name",
    ["/etc/evil", "../evil", "records/../../evil", "a/./b", "a//b", "a\\b", "C:\\evil", "a\x01b", "a\nb", "./a"],
)
def test_name_that_leads_elsewhere_is_refused(good: Files, other: Archive, tmp_path: Path, name: str) -> None:
    refuse(other, write_zip(tmp_path / "bad.zip", {**good, name: b"evil"}), "can hold")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("x/a", "x/A"), "differ only in case"),
        (("x/\u00e9", "x/e\u0301"), "differ only in case or accents"),
        (("x/a", "X/b"), "differ only in case"),
        (("x", "x/a"), "is a file and also a folder"),
    ],
)
def test_names_that_fall_together_are_refused(
    good: Files, other: Archive, tmp_path: Path, names: tuple[str, ...], sentence: str
) -> None:
    refuse(other, write_zip(tmp_path / "bad.zip", {**good, **dict.fromkeys(names, b"")}), sentence)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_stands_twice_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(with_entries(good, (make_entry("README.md"), b"another")))
    refuse(other, tmp_path / "bad.zip", "'README.md' stands twice")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["records/", "nowhere/"])
def test_folder_that_is_none_is_refused(good: Files, other: Archive, tmp_path: Path, name: str) -> None:
    folder = (make_entry(name, stat.S_IFDIR), b"")
    (tmp_path / "bad.zip").write_bytes(with_entries(good, folder, folder))
    refuse(other, tmp_path / "bad.zip", "is a folder of no file, or stands twice")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR])
def test_link_or_device_is_refused(good: Files, other: Archive, tmp_path: Path, kind: int) -> None:
    (tmp_path / "bad.zip").write_bytes(with_entries(good, (make_entry("link", kind), b"/etc/passwd")))
    refuse(other, tmp_path / "bad.zip", "'link' is a link or another special file")


def test_file_that_the_manifest_does_not_name_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    file = write_zip(tmp_path / "bad.zip", {**good, "more.txt": b""}, with_manifest=False)
    refuse(other, file, "'more.txt' is not named by the manifest")


def test_file_that_the_manifest_names_and_is_missing_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    del good["README.md"]
    file = write_zip(tmp_path / "bad.zip", good, with_manifest=False)
    refuse(other, file, "'README.md' is named by the manifest and missing")


def test_wrong_digest_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    file = write_zip(tmp_path / "bad.zip", {**good, "README.md": b"read me"}, with_manifest=False)
    refuse(other, file, "README.md: expected the digest .*, found")


@pytest.mark.parametrize(
    "line", ["", "abc  a", f"{'a' * 64} a", f"{'A' * 64}  a", f"{'a' * 64}  a\r", "\\" + "a" * 64 + "  b"]
)
def test_manifest_of_another_form_is_refused(good: Files, other: Archive, tmp_path: Path, line: str) -> None:
    good["manifest-sha256.txt"] += f"{line}\n".encode()
    file = write_zip(tmp_path / "bad.zip", good, with_manifest=False)
    refuse(other, file, r"manifest-sha256.txt, line \d+: expected a digest|is named by the manifest and missing")


def test_what_is_no_zip_is_refused(good: Files, other: Archive, exports: dict[str, Path], tmp_path: Path) -> None:
    whole = exports["train"].read_bytes()
    for data in (b"", b"PK", b"PK\5\6" + bytes(18), b"no zip" * 99, whole[: len(whole) // 2], whole[1000:], whole[:-1]):
        (tmp_path / "bad.zip").write_bytes(data)
        refuse(other, tmp_path / "bad.zip", "cannot be read as a zip|has no manifest")
    refuse(other, write_zip(tmp_path / "empty.zip", {}, with_manifest=False), "has no manifest")
    refuse(other, write_zip(tmp_path / "bare.zip", {"a": b""}), "it holds no record")
    with pytest.raises(UsageError, match="is no file"):
        take(other, tmp_path)


def change_header(data: bytes, name: str, offset: int, value: int) -> bytes:
    """A zip with a 16-bit field of an entry's line in the list of files set; offsets as in APPNOTE 4.3.12."""
    at = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    return data[: at + offset] + struct.pack("<H", value) + data[at + offset + 2 :]


@pytest.mark.parametrize(
    ("offset", "value", "sentence"),
    [
        (8, 0x1, "is encrypted"),
        (8, 0x41, "is encrypted"),
        (10, 12, "packed by method 12"),
        (10, 99, "packed by method 99"),
    ],
)
def test_encrypted_or_oddly_packed_entry_is_refused(
    exports: dict[str, Path], other: Archive, tmp_path: Path, offset: int, value: int, sentence: str
) -> None:
    (tmp_path / "bad.zip").write_bytes(change_header(exports["train"].read_bytes(), "README.md", offset, value))
    refuse(other, tmp_path / "bad.zip", sentence)


# Bombs: what unpacks to more than anyone would send.


def test_too_many_files_are_refused(exports: dict[str, Path], other: Archive) -> None:
    refuse(other, exports["train"], "files and .* entries, more than 10", Limits(n_files=10))


def test_too_many_bytes_are_refused(exports: dict[str, Path], other: Archive) -> None:
    refuse(other, exports["train"], "unpacks to more than 9.0 kB", Limits(size_bytes=9000))


def test_list_of_files_is_not_read_whatever_its_size(exports: dict[str, Path], other: Archive) -> None:
    refuse(other, exports["train"], "its list of files is larger than 1.0 kB", Limits(list_bytes=1000))


def test_file_that_is_nearly_nothing_packed_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    bomb = {**good, "more.txt": bytes(3 << 20)}
    file = write_zip(tmp_path / "bad.zip", bomb, compression=zipfile.ZIP_DEFLATED)
    refuse(other, file, "more.txt unpacks to more than 200 times its size")


def test_sizes_in_the_list_of_files_are_not_believed(good: Files, other: Archive, tmp_path: Path) -> None:
    """The list says that 3 MB of zeros are 5 bytes."""
    bomb = {**good, "more.txt": bytes(3 << 20)}
    data = bytearray(write_zip(tmp_path / "bad.zip", bomb, compression=zipfile.ZIP_DEFLATED).read_bytes())
    at = data.rindex(b"PK\1\2", 0, data.rindex(b"more.txt"))
    data[at + 24 : at + 28] = struct.pack("<I", 5)
    (tmp_path / "bad.zip").write_bytes(bytes(data))
    refuse(other, tmp_path / "bad.zip", "more.txt")


def test_entries_that_share_their_bytes_are_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    """As in the zip bombs of D. Fifield (2019): one body, many entries."""
    body = zip_of([(make_entry("a"), os.urandom(4096))])
    start, (size, offset) = body.rindex(b"PK\1\2"), struct.unpack("<II", body[-10:-2])
    line = body[start : start + size]
    lines = b"".join(line[:-1] + bytes([letter]) for letter in range(97, 123))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 26, 26, len(lines), offset, 0)
    (tmp_path / "bad.zip").write_bytes(body[:start] + lines + end)
    refuse(other, tmp_path / "bad.zip", "its entries lie over each other")


# What a record may not be, though manifest, statement and signature agree.


def reseal(files: Files, edit: Callable[[Record], Record], key: SigningKey | None = None, **more: bytes) -> Files:
    """The export of a record that someone wrote who knows kit and means harm."""
    record_id = name_of_record(files)
    folder = f"records/{record_id}/"
    record = edit(msgspec.json.decode(files[f"{folder}record.json"], type=Record))
    inner = {name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)}
    inner |= {"record.json": record.encode()} | {name.replace("__", "/"): data for name, data in more.items()}
    digests = {name: sha256(data) for name, data in inner.items() if name != "statement.dsse.json"}
    inner["statement.dsse.json"] = make_envelope(describe_execution(record, digests, "kit/x/1"), key).encode()
    rest = {name: data for name, data in files.items() if not name.startswith(folder)}
    return {**rest, **{f"records/{record.id}/{name}": data for name, data in inner.items()}}


def test_record_that_was_sealed_anew_is_taken_as_another_one(good: Files, other: Archive, tmp_path: Path) -> None:
    edited = reseal(good, lambda record: msgspec.structs.replace(record, metrics={"auc": 0.99}))
    edited = {name: data for name, data in edited.items() if not name.startswith("proof/")}
    (imported,) = take(other, write_zip(tmp_path / "other.zip", edited))
    assert imported.standing is Standing.UNSIGNED


def rename_output(name: str) -> Callable[[Record], Record]:
    def edit(record: Record) -> Record:
        first, *rest = record.outputs
        return msgspec.structs.replace(record, outputs=(msgspec.structs.replace(first, name=name), *rest))

    return edit


def set_facts(**facts: object) -> Callable[[Record], Record]:
    return lambda record: msgspec.structs.replace(record, **facts)


def set_code(**facts: object) -> Callable[[Record], Record]:
    return lambda record: msgspec.structs.replace(record, code=msgspec.structs.replace(record.code, **facts))


def set_input(**facts: object) -> Callable[[Record], Record]:
    return lambda record: msgspec.structs.replace(
        record, inputs=tuple(msgspec.structs.replace(each, **facts) for each in record.inputs)
    )


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (rename_output("../../evil"), "may lead elsewhere"),
        (rename_output("/etc/evil"), "may lead elsewhere"),
        (rename_output(".."), "may lead elsewhere"),
        (rename_output(""), "may lead elsewhere"),
        (set_input(record="../../../etc"), "may lead elsewhere"),
        (set_facts(environment="../evil"), "may lead elsewhere"),
        (set_facts(stage="../evil"), "may lead elsewhere"),
        (set_facts(release="../evil"), "may lead elsewhere"),
        (set_facts(release="dev-1"), "ran dev-1 and names no release.json"),
        (set_facts(reproduces="../evil"), "may lead elsewhere"),
        (set_code(build="../evil"), "may lead elsewhere"),
        (set_code(notebook="../../evil.ipynb"), "may lie elsewhere"),
        (set_code(bundle_sha256="0" * 64), "names bundle.zip .*, which did not come with it"),
        (set_code(notebook="notebooks/none.ipynb"), "notebooks/none.ipynb in its bundle is missing"),
        (set_code(notebook_sha256="0" * 64), "is not the notebook that the record names"),
        (set_facts(configuration_sha256="0" * 64), "names configuration .*, which did not come with it"),
        (set_facts(status=Status.STARTED), "was never closed"),
        (set_facts(id="20260301T093000Z-../../x-abcdef"), "stands twice|can hold|may lead|cannot be the id"),
        (set_facts(id="train"), "cannot be the id of a record"),
        (set_facts(outputs=()), "artifact that none of its records names"),
        (set_facts(format=2), "newer than this kit reads"),
        (set_facts(format=0), "there is no record format 0"),
    ],
)
def test_record_that_means_harm_is_refused(
    good: Files, other: Archive, tmp_path: Path, edit: Callable[[Record], Record], sentence: str
) -> None:
    refuse(other, write_zip(tmp_path / "bad.zip", reseal(good, edit)), sentence)


@pytest.mark.parametrize("path", ["../../evil", "/evil", "a/../../evil", "a\\b", ""])
def test_folder_artifact_that_leads_elsewhere_is_refused(
    good: Files, other: Archive, tmp_path: Path, path: str
) -> None:
    tree = Tree((TreeEntry(path, sha256(b"evil"), 4),))
    record = msgspec.json.decode(good[f"records/{name_of_record(good)}/record.json"], type=Record)
    (old,) = [artifact for artifact in record.outputs if artifact.name == MODEL]
    new = msgspec.structs.replace(old, sha256=tree.sha256)
    edited = reseal(
        good, lambda record: msgspec.structs.replace(record, outputs=(new, *(a for a in record.outputs if a != old)))
    )
    kept = {name: data for name, data in edited.items() if not name.startswith("folders/")}
    kept |= {"folders/x.tree.json": tree.encode(), "folders/x/m/evil": b"evil"}
    refuse(other, write_zip(tmp_path / "bad.zip", kept), "can hold")


def test_file_that_passes_for_an_output_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    """A statement names outputs as `outputs/<name>`; a file of the record under that name would be held against nothing."""
    good[f"records/{name_of_record(good)}/outputs/golden.json"] = b"evil"
    refuse(
        other, write_zip(tmp_path / "bad.zip", good), "outputs/golden.json is there, but its statement does not name it"
    )


def test_statement_that_the_trusted_key_did_not_sign_is_refused(
    good: Files, other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    forged = reseal(good, set_facts(metrics={"auc": 0.99}), key)
    name = f"records/{name_of_record(good)}/statement.dsse.json"
    content = json.loads(forged[name])
    content["signatures"] = json.loads(good[name])["signatures"]
    forged[name] = msgspec.json.encode(content, order="sorted")
    refuse(other, write_zip(tmp_path / "bad.zip", forged), "its signature is not one of", keys=key)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("record.json", "has no record.json"),
        ("statement.dsse.json", "has no statement.dsse.json"),
        ("executed.ipynb", "its statement names executed.ipynb, which is not there"),
        ("golden.json", "names golden.json .*, which did not come with it"),
        ("weights.bin", "weights.bin .*, which did not come with it"),
        ("bundle.zip", "names bundle.zip .*, which did not come with it"),
    ],
)
def test_record_that_is_not_whole_is_refused(
    good: Files, other: Archive, tmp_path: Path, pattern: str, sentence: str
) -> None:
    kept = {name: data for name, data in good.items() if not name.endswith(f"/{pattern}") or name.startswith("proof/")}
    refuse(other, write_zip(tmp_path / "bad.zip", kept), sentence)


@pytest.mark.parametrize("data", [b"", b"no zip", zip_of([]), zip_of([(make_entry("notebooks/train.ipynb"), b"{}")])])
def test_bundle_that_does_not_hold_the_notebook_is_refused(
    good: Files, other: Archive, tmp_path: Path, data: bytes
) -> None:
    edited = reseal(good, set_code(bundle_sha256=sha256(data)))
    kept = {name: content for name, content in edited.items() if not name.endswith("/bundle.zip")}
    file = write_zip(tmp_path / "bad.zip", {**kept, "artifacts/x/bundle.zip": data})
    refuse(other, file, "cannot be read as a zip|in its bundle is")


# Random damage, and kills.


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> "itertools.count[int]":
    return itertools.count()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_random_damage_is_refused_or_changes_nothing_that_counts(
    exports: dict[str, Path], history: Workbench, tmp_path: Path, arena: "itertools.count[int]", data: st.DataObject
) -> None:
    """Bytes of headers that nobody reads may change; what comes in is exactly what was exported."""
    damaged = bytearray(exports["prepare"].read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "list"]))
    tail = damaged.index(b"PK\1\2")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(tail if kind == "list" else 0, len(damaged) - 1))
        if kind in ("flip", "list"):
            damaged[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 64))]
        else:
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=64))
    folder = tmp_path / str(next(arena))
    folder.mkdir()
    file, archive = folder / "a.zip", open_other(folder / "other")
    file.write_bytes(bytes(damaged))
    before = snapshot(archive.folder)
    try:
        take(archive, file)
    except KitError:
        assert snapshot(archive.folder) == before
    else:
        record = find(history.archive, "prepare")
        assert archive.list_ids() == [record.id]
        assert snapshot(archive.record_folder(record.id)) == snapshot(history.archive.record_folder(record.id))
        for path in (archive.folder / "objects").rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (history.archive.folder / path.relative_to(archive.folder)).read_bytes()


KILLED = """
import itertools, os, sys
from pathlib import Path
from kit.archive import open_archive
from kit.crate import import_crate
from kit.testing import START

def hook(event, arguments):
    global left
    if event in ("os.link", "os.rename", "os.mkdir"):
        left -= 1
        if left < 0:
            os._exit(9)

for n in itertools.count():
    archive, left = open_archive(Path(sys.argv[1], str(n)), "other"), n
    if not (child := os.fork()):
        sys.addaudithook(hook)
        import_crate(archive, Path(sys.argv[2]), "bob@desk", START)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code)
    if code != 9:
        break
"""


def test_kill_at_any_moment_leaves_nothing_that_counts(exports: dict[str, Path], tmp_path: Path) -> None:
    (record,) = {name.split("/")[1] for name in read_zip(exports["prepare"]) if name.startswith("records/")}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(exports["prepare"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *killed, last = done.stdout.split()
    assert ({*killed}, last) == ({"9"}, "0"), done.stderr
    assert len(killed) > 8, "every step of the import was a moment to be killed at"
    for n in range(len(killed)):
        archive = open_other(tmp_path / str(n))
        assert archive.list_ids() == []
        hidden = [path.name for path in archive.folder.iterdir() if path.name.startswith(".")]
        assert all(is_leftover(name) for name in hidden)
        (imported,) = take(archive, exports["prepare"])
        assert (imported.record, imported.outcome) == (record, Outcome.IMPORTED)
        assert [entry.kind for entry in archive.ledger.read_entries()] == [Kind.IMPORT]


# Whose signature counts.


def test_record_of_a_key_that_is_not_trusted_is_refused(
    exports: dict[str, Path], other: Archive, key: SigningKey
) -> None:
    before = snapshot(other.folder)
    with pytest.raises(PolicyError, match=f"signed with {re.escape(key.public.id)}, which .* --accept-key") as refused:
        take(other, exports["train"], make_key("eve@home"))
    assert refused.value.exit_code == 1
    assert snapshot(other.folder) == before


def test_key_that_is_accepted_by_its_id_lets_the_record_in(
    exports: dict[str, Path], other: Archive, key: SigningKey
) -> None:
    trusted = [make_key("eve@home").public]
    (imported,) = import_crate(other, exports["train"], WHO, START, trusted, accepted=[key.public.id]).records
    assert (imported.outcome, imported.standing) == (Outcome.IMPORTED, Standing.UNKNOWN_KEY)
    (again,) = import_crate(other, exports["train"], WHO, START, trusted).records
    assert again.outcome is Outcome.PRESENT, "what is there needs to be accepted no more"


def test_unsigned_record_is_taken_where_keys_are_trusted(other: Archive, key: SigningKey, tmp_path: Path) -> None:
    (imported,) = take(other, export(make_history(tmp_path / "project"), "train", tmp_path / "a.zip"), key)
    assert (imported.outcome, imported.standing) == (Outcome.IMPORTED, Standing.UNSIGNED)


# What the ledger's proof may not be.


def take_all(archive: Archive, file: Path, key: SigningKey | None = None) -> Import:
    return import_crate(archive, file, WHO, START, [key.public] if key else [])


def test_proof_is_verified_and_told(
    history: Workbench, exports: dict[str, Path], other: Archive, key: SigningKey
) -> None:
    proof = take_all(other, exports["train"], key).proof
    assert proof == Proof(history.archive.origin, 11, 2, Standing.TRUSTED, key.public.id, ())


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [
        (r"proof/.*", "proof/statements/.*/statement.json"),
        (r"proof/checkpoint/note", "proof/checkpoint/note"),
        (r"proof/checkpoint/root\.bin", "proof/checkpoint/root.bin"),
        (r"proof/entries/.*", "the entry for the end of .*-train-.*"),
        (r"proof/entries/000000005\.json", "the entry for the start of .*-train-.*"),
        (r"proof/paths/.*/002-.*", "proof/paths/.*/002-left.bin|proof/paths/.*/002-right.bin"),
        (r"proof/statements/.*/statement\.sig", "proof/statements/.*/statement.sig"),
    ],
)
def test_proof_that_is_not_whole_is_named_and_the_record_taken(
    good: Files, other: Archive, tmp_path: Path, pattern: str, missing: str
) -> None:
    kept = {name: data for name, data in good.items() if not re.fullmatch(pattern, name)}
    assert len(kept) < len(good)
    done = take_all(other, write_zip(tmp_path / "a.zip", kept))
    assert [each.outcome for each in done.records] == [Outcome.IMPORTED]
    assert [each for each in done.proof.missing if re.fullmatch(missing, each)], done.proof.missing


def test_every_file_of_the_proof_but_its_descriptions_counts(
    good: Files, other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    """A byte more, and the first byte another, in each."""
    counted = [name for name in good if name.startswith("proof/") and not name.endswith(("/proof.json", "/key.pem"))]
    assert len(counted) > 10
    for name in counted:
        for data in (good[name] + b" ", bytes([good[name][0] ^ 1]) + good[name][1:], b""):
            refuse(other, write_zip(tmp_path / "bad.zip", {**good, name: data}), "proof/|started.json", keys=key)


@pytest.mark.parametrize(
    "files",
    [
        {"proof/checkpoint": b"garbage"},
        {"proof/checkpoint/note": os.urandom(200)},
        {"proof/checkpoint/note": b"kit/x/1\n11\nAAAA\n\n"},
        {"proof": b"garbage"},
        {"proof/more.txt": b""},
        {"proof/entries/000000099.json": b"{}"},
        {"proof/comparisons/" + "0" * 64 + ".dsse.json": b"{}"},
    ],
)
def test_garbage_in_the_proof_is_refused(good: Files, other: Archive, tmp_path: Path, files: Files) -> None:
    (name,) = files
    kept = {each: data for each, data in good.items() if not each.startswith(f"{name}/")}
    refuse(other, write_zip(tmp_path / "bad.zip", {**kept, **files}), "proof")


def test_entry_of_another_ledger_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    foreign = make_history(tmp_path / "foreign")
    theirs = read_zip(export(foreign, "train", tmp_path / "theirs.zip"))
    for part in ("entries", "paths", "checkpoint"):
        mixed = {name: data for name, data in good.items() if not name.startswith(f"proof/{part}/")}
        mixed |= {name: data for name, data in theirs.items() if name.startswith(f"proof/{part}/")}
        refuse(other, write_zip(tmp_path / "bad.zip", mixed), "leads to another root|to no root over")


def test_statement_that_the_entry_does_not_name_is_refused(good: Files, other: Archive, tmp_path: Path) -> None:
    edited = reseal(good, set_facts(metrics={"auc": 0.99}))
    edited = {name: data for name, data in edited.items() if not name.startswith("proof/statements/")}
    refuse(
        other,
        write_zip(tmp_path / "bad.zip", edited),
        "statement.dsse.json is not the one that proof/entries/000000006",
    )


def test_record_of_another_archive_cannot_be_told_by_this_ledger(
    history: Workbench, good: Files, other: Archive, tmp_path: Path
) -> None:
    """A whole ledger of one's own around a record that was executed for somebody else."""
    record = find(history.archive, "train")
    other.ledger.append(Kind.START, record.id, sha256(good[f"records/{record.id}/started.json"]), WHO, START)
    other.ledger.append(Kind.END, record.id, sha256(good[f"records/{record.id}/statement.dsse.json"]), WHO, START)
    proof = {file.path: file.source for file in make_proof(with_record(other, history, record), [record], [])}
    kept = {name: data for name, data in good.items() if not name.startswith("proof/")}
    third = open_other(tmp_path / "third/archive")
    refuse(third, write_zip(tmp_path / "bad.zip", {**kept, **proof}), "was executed for archive kit/example/")


def with_record(archive: Archive, history: Workbench, record: Record) -> Archive:
    shutil.copytree(history.archive.record_folder(record.id), archive.records_folder / record.id)
    return archive


def test_checkpoint_that_the_trusted_key_did_not_sign_is_refused(
    good: Files, other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    note = decode_checkpoint(good["proof/checkpoint/note"], "note")
    forged = msgspec.structs.replace(note.signatures[0], signature=bytes(64))
    note = msgspec.structs.replace(note, signatures=(forged,))
    files = {**good, "proof/checkpoint/note": note.encode(), "proof/checkpoint/signed.sig": bytes(64)}
    refuse(other, write_zip(tmp_path / "bad.zip", files), "note: its signature is not one of", keys=key)


# Comparisons.


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> tuple[Workbench, Record]:
    """A history whose training was done again, and the record that did it."""
    workbench = make_history(tmp_path_factory.mktemp("repeated"), key)
    return workbench, do_again(workbench, "train")


def list_kinds(archive: Archive) -> list[tuple[Kind, str]]:
    return [(entry.kind, entry.record) for entry in archive.ledger.read_entries()]


def requires_sound(archive: Archive, key: SigningKey) -> None:
    findings = verify_archive(archive.folder, [key.public]).findings
    assert [each for each in findings if each.weight is not Weight.NOTED and each.path != "checkpoints"] == []


def test_reproduction_comes_in_with_its_comparison_once(
    repeated: tuple[Workbench, Record], other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    workbench, again = repeated
    file = export(workbench, again.id, tmp_path / "a.zip")
    (compared,) = take_all(other, file, key).comparisons
    assert (compared.comparison.record, compared.comparison.again) == (again.reproduces, again.id)
    assert list_kinds(other) == [(Kind.IMPORT, again.id), (Kind.REPRODUCTION, again.id)]
    sha256 = compared.comparison.sha256
    assert other.objects.read(sha256) == workbench.archive.objects.read(sha256)
    requires_sound(other, key)
    before = snapshot(other.folder)
    take_all(other, file, key)
    assert snapshot(other.folder) == before


def test_original_brings_the_comparison_but_not_the_record_that_did_it_again(
    repeated: tuple[Workbench, Record], other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    workbench, again = repeated
    done = take_all(other, export(workbench, again.reproduces or "", tmp_path / "a.zip"), key)
    assert [each.record for each in done.records] == [again.reproduces]
    assert done.proof.missing == ()
    assert list_kinds(other) == [(Kind.IMPORT, again.reproduces)]
    assert other.objects.has(done.comparisons[0].comparison.sha256)
    requires_sound(other, key)
    take_all(other, export(workbench, again.id, tmp_path / "b.zip"), key)
    assert list_kinds(other)[1:] == [(Kind.IMPORT, again.id), (Kind.REPRODUCTION, again.id)]
    requires_sound(other, key)


def test_import_that_was_killed_before_the_comparison_is_completed(
    repeated: tuple[Workbench, Record], other: Archive, tmp_path: Path
) -> None:
    workbench, again = repeated
    files = read_zip(export(workbench, again.id, tmp_path / "a.zip"))
    take_all(other, write_zip(tmp_path / "b.zip", {n: d for n, d in files.items() if not n.startswith("proof/")}))
    done = take_all(other, tmp_path / "a.zip")
    assert [each.outcome for each in done.records] == [Outcome.PRESENT]
    assert list_kinds(other) == [(Kind.IMPORT, again.id), (Kind.REPRODUCTION, again.id)]


def test_imported_reproduction_can_be_exported_again(
    repeated: tuple[Workbench, Record], other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    workbench, again = repeated
    take_all(other, export(workbench, again.id, tmp_path / "a.zip"), key)
    export_crate(other, again, tmp_path / "b.zip", "other")
    third = open_other(tmp_path / "third")
    done = take_all(third, tmp_path / "b.zip", key)
    assert (len(done.comparisons), done.proof.missing) == (1, ())
    assert list_kinds(third) == [(Kind.IMPORT, again.id), (Kind.REPRODUCTION, again.id)]


def test_export_without_comparisons_is_as_before(exports: dict[str, Path]) -> None:
    assert not [name for name in read_zip(exports["train"]) if "comparison" in name]


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [
        (r"proof/comparisons/.*\.dsse\.json", r"proof/comparisons/[0-9a-f]{64}\.dsse\.json"),
        (r"proof/entries/000000014\.json", r"the entry for proof/comparisons/[0-9a-f]{64}\.dsse\.json"),
        (r"proof/checkpoint/note", "proof/checkpoint/note"),
    ],
)
def test_comparison_that_the_ledger_is_not_shown_to_tell_of_stays_out(
    repeated: tuple[Workbench, Record], other: Archive, tmp_path: Path, pattern: str, missing: str
) -> None:
    workbench, again = repeated
    files = read_zip(export(workbench, again.id, tmp_path / "a.zip"))
    kept = {name: data for name, data in files.items() if not re.fullmatch(pattern, name)}
    done = take_all(other, write_zip(tmp_path / "b.zip", kept))
    assert done.comparisons == ()
    assert [each for each in done.proof.missing if re.fullmatch(missing, each)], done.proof.missing
    assert list_kinds(other) == [(Kind.IMPORT, again.id)]


def swap_comparison(files: Files, edit: Callable[[dict[str, Any]], None], key: SigningKey | None) -> Files:
    """The comparison of an export replaced by another one."""
    (path,) = (name for name in files if name.endswith(".dsse.json") and "comparisons" in name)
    statement = decode_envelope(files[path], path).read_statement(path)
    edit(statement["predicate"]["kit"])
    data = make_envelope(statement, key).encode()
    kept = {name: content for name, content in files.items() if "comparisons" not in name}
    return {**kept, f"proof/comparisons/{sha256(data)}.dsse.json": data}


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda details: details.update(again="x"), "compares records that did not come|says that"),
        (lambda details: details["comparison"].update(record="x"), "says that .* did x again; its record does not"),
        (lambda details: details.update(again=None), "expected a comparison of two records"),
        (lambda details: details.update(comparison=[]), "expected a comparison of two records"),
    ],
)
def test_comparison_of_other_records_is_refused(
    repeated: tuple[Workbench, Record],
    other: Archive,
    key: SigningKey,
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], None],
    sentence: str,
) -> None:
    workbench, again = repeated
    files = read_zip(export(workbench, again.id, tmp_path / "a.zip"))
    refuse(other, write_zip(tmp_path / "bad.zip", swap_comparison(files, edit, key)), sentence)


def test_comparison_that_lost_its_signature_is_refused(
    repeated: tuple[Workbench, Record], other: Archive, tmp_path: Path
) -> None:
    workbench, again = repeated
    files = read_zip(export(workbench, again.id, tmp_path / "a.zip"))
    bare = swap_comparison(files, lambda details: None, None)
    refuse(other, write_zip(tmp_path / "bad.zip", bare), "is not signed, though the record .* that did it is")


def test_archive_tells_itself_of_what_was_executed_in_it(key: SigningKey, tmp_path: Path) -> None:
    """Somebody else's ledger around a record from here, and a comparison that was made up."""
    workbench = make_history(tmp_path / "project")
    again, archive = do_again(workbench, "train"), workbench.archive
    forger = open_other(tmp_path / "forger")
    take_all(forger, export(workbench, again.id, tmp_path / "a.zip"))
    (entry,) = (entry for entry in forger.ledger.read_entries() if entry.kind is Kind.REPRODUCTION)
    statement = decode_envelope(forger.objects.read(entry.sha256), "it").read_statement("it")
    statement["predicate"]["result"] = "FAILED"
    forged = forger.objects.put_bytes(make_envelope(statement, None).encode())
    forger.ledger.append(Kind.REPRODUCTION, again.id, forged, WHO, START)
    export_crate(forger, again, tmp_path / "forged.zip", "other")
    before = list_kinds(archive)
    take_all(archive, tmp_path / "forged.zip")
    assert list_kinds(archive) == before


def test_comparison_of_a_stranger_is_refused_with_the_record_that_it_would_be_entered_for(
    other: Archive, key: SigningKey, tmp_path: Path
) -> None:
    workbench = make_history(tmp_path / "project", key)
    workbench.archive.key = eve = make_key("eve@home")
    again = do_again(workbench, "train")
    first = export(workbench, again.reproduces or "", tmp_path / "first.zip")
    (compared,) = take_all(other, first, key).comparisons
    assert (compared.standing, compared.key) == (Standing.UNKNOWN_KEY, eve.public.id), "only an object, said to be so"
    with pytest.raises(PolicyError, match="eve@home"):
        take_all(other, export(workbench, again.id, tmp_path / "again.zip"), key)


def test_comparison_that_was_lost_is_named_by_the_export(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", key)
    again = do_again(workbench, "train")
    (entry,) = (entry for entry in workbench.archive.ledger.read_entries() if entry.kind is Kind.REPRODUCTION)
    workbench.archive.objects.path(entry.sha256).unlink()
    export(workbench, "prepare", tmp_path / "a.zip")
    for subject in (again.id, again.reproduces or ""):
        with pytest.raises(NotFoundError, match=f"object {entry.sha256[:12]}"):
            export(workbench, subject, tmp_path / "b.zip")
