"""A release as one file: the same bytes, refused wherever a byte of it is another, run without project and without git."""

import json
import shutil
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from release_files import SIGNED, STAGING, export, find_released, make_released

from kit.errors import IntegrityError, KitError, NewerFormatError, PolicyError, UnknownNameError, UsageError
from kit.execute import Workbench
from kit.files import canonical_json, sha256_bytes, sha256_file
from kit.release import members as members_module
from kit.release.export import export_release
from kit.release.file import ReleasedFile, open_release_file
from kit.release.members import open_members
from kit.signing import SigningKey
from kit.testing import (
    make_key,
)

ANA, BEN = make_key("ana"), make_key("ben")
EPOCH = (1980, 1, 1, 0, 0, 0)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    lock = {"requirements.lock": f"click=={version('click')}\n"}
    return make_released(tmp_path_factory.mktemp("project"), files=lock)


@pytest.fixture(scope="module")
def file(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(workbench, tmp_path_factory.mktemp("file") / "staging-1.kit")


def read_members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], *, sums: bool = True) -> Path:
    """A zip of such files; with a SHA256SUMS that is right."""
    if sums:
        lines = [f"{sha256_bytes(data)}  {name}\n" for name, data in members.items() if name != "SHA256SUMS"]
        members = {**members, "SHA256SUMS": "".join(lines).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return path


def refuse(path: Path, error: type[KitError] = IntegrityError, keys: tuple[SigningKey, ...] = ()) -> str:
    """What opening it says; nothing may be left."""
    folder = path.parent / "unpacked"
    with pytest.raises(error) as refused:
        open_release_file(path, folder, [key.public for key in keys])
    assert not folder.exists()
    return str(refused.value)


def change(file: Path, target: Path, **changed: Any) -> Path:
    """A release file with other members, by name (`.` as `__`); a function gets the bytes that were."""
    members = read_members(file)
    for key, value in changed.items():
        name = key.replace("__", ".").replace("_S_", "/").replace("_H_", "-")
        members[name] = value(members[name]) if callable(value) else value
    return write_members(target, members)


def test_file_holds_everything_that_runs_and_what_vouches_for_it(workbench: Workbench, file: Path) -> None:
    members = read_members(file)
    archive = workbench.archive
    release = find_released(archive)
    manifest = archive.read_manifest(release)
    records = [
        f"records/{record}/{name}"
        for record in sorted((release.record, manifest.training_record))
        for name in ("record.json", "statement.dsse.json")
    ]
    assert list(members) == [
        "kit-release.json",
        "SHA256SUMS",
        "README.txt",
        "artifacts/golden.json",
        "artifacts/saved_model/graph.pb",
        "artifacts/saved_model/variables/weights",
        "bundle.zip",
        *records,
        "release.json",
        "requirements.lock",
        "verdict.dsse.json",
    ]
    assert json.loads(members["kit-release.json"]) == {
        "format": 1,
        "project": "example",
        "source": archive.origin,
        "release": json.loads(release.encode()),
    }
    assert members["release.json"] == manifest.encode()
    assert sha256_bytes(members["bundle.zip"]) == manifest.bundle_sha256
    assert members["requirements.lock"].decode() == f"click=={version('click')}\n"


def test_readme_says_how_to_run_serve_and_check(file: Path) -> None:
    text = read_members(file)["README.txt"].decode()
    assert text.splitlines()[0] == "staging-1: a release of example, as one file"
    assert "    unzip -p staging-1.kit requirements.lock > requirements.lock\n" in text
    assert "    kit run staging-1.kit --input raw.csv=data/raw.csv\n" in text
    assert "    kit serve --file staging-1.kit\n" in text
    assert "    sha256sum --check SHA256SUMS\n" in text


def test_list_of_digests_is_one_that_sha256sum_reads(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_same_release_gives_the_same_bytes_stored_with_fixed_times(
    workbench: Workbench, file: Path, tmp_path: Path
) -> None:
    again = tmp_path / "another-name.kit"
    exported = export_release(workbench.archive, find_released(workbench.archive), again, "example")
    assert again.read_bytes() == file.read_bytes()
    assert (exported.sha256, exported.size_bytes) == (sha256_file(file), file.stat().st_size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    assert {(entry.compress_type, entry.date_time, entry.external_attr >> 16) for entry in entries} == {
        (zipfile.ZIP_STORED, EPOCH, stat.S_IFREG | 0o644)
    }


def test_file_that_is_there_is_replaced_only_by_force(workbench: Workbench, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "taken.kit"
    target.write_text("precious")
    release = find_released(workbench.archive)
    with pytest.raises(UsageError, match="is there already: choose another name, or give --force"):
        export_release(workbench.archive, release, target, "example")
    assert target.read_text() == "precious"
    export_release(workbench.archive, release, target, "example", force=True)
    assert target.read_bytes() == file.read_bytes()
    with pytest.raises(UsageError, match="there is no folder"):
        export_release(workbench.archive, release, tmp_path / "none" / "a.kit", "example")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.kit"]


@pytest.mark.parametrize("which", ["model", "bundle", "verdict", "gone"])
def test_damaged_release_is_not_exported_and_leaves_no_file(tmp_path: Path, which: str) -> None:
    workbench = make_released(tmp_path / "project")
    archive, release = workbench.archive, find_released(workbench.archive)
    manifest = archive.read_manifest(release)
    weights = archive.objects.path(sha256_bytes(b"0.5" * 100))
    path = {
        "model": weights,
        "gone": weights,
        "bundle": archive.objects.path(manifest.bundle_sha256),
        "verdict": archive.record_folder(release.record) / "verdict.dsse.json",
    }[which]
    path.chmod(0o644)
    path.unlink() if which == "gone" else path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(IntegrityError, match="put it back from a copy of the archive"):
        export_release(archive, release, tmp_path / "a.kit", "example")
    assert [each.name for each in tmp_path.iterdir()] == ["project"]


def test_opened_file_is_the_release(workbench: Workbench, file: Path, tmp_path: Path) -> None:
    archive = workbench.archive
    release = find_released(archive)
    manifest = archive.read_manifest(release)
    released = open_release_file(file, tmp_path / "unpacked")
    assert released == ReleasedFile(
        release=release,
        manifest=manifest,
        folder=tmp_path / "unpacked",
        source=archive.origin,
        project="example",
        path=file,
        training=archive.read_record(manifest.training_record),
    )
    assert sorted(path.name for path in released.folder.iterdir()) == ["artifacts", "bundle.zip"]
    assert (released.artifact("saved_model") / "variables" / "weights").read_text() == "0.5" * 100
    assert sha256_file(released.bundle) == manifest.bundle_sha256
    with pytest.raises(UnknownNameError, match="released artifact 'model'"):
        released.artifact("model")
    with pytest.raises(UsageError, match="is not empty"):
        open_release_file(file, tmp_path / "unpacked")
    with pytest.raises(UsageError, match="there is no file"):
        open_release_file(tmp_path / "nothing.kit", tmp_path / "other")


def test_every_flipped_byte_is_refused_or_harmless(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    good = open_release_file(file, tmp_path / "good")
    digest = read_tree(good.folder)
    n_refused = 0
    for offset in range(0, len(data), 31):
        flipped = tmp_path / "staging-1.kit"
        flipped.write_bytes(data[:offset] + bytes([data[offset] ^ 0x20]) + data[offset + 1 :])
        folder = tmp_path / "flipped"
        try:
            opened = open_release_file(flipped, folder)
        except IntegrityError:
            assert not folder.exists()
            n_refused += 1
            continue
        assert msgspec.structs.replace(opened, folder=good.folder, path=file) == good
        assert read_tree(folder) == digest
        shutil.rmtree(folder)
    assert n_refused > len(data) // 31 * 0.8


def read_tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_file_that_was_cut_short_is_refused(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for size_bytes in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.kit").write_bytes(data[:size_bytes])
        assert "cut.kit is refused: " in refuse(tmp_path / "cut.kit")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bundle__zip": lambda data: data + b"x"}, "bundle.zip: expected "),
        ({"artifacts_S_golden__json": b"{}"}, "artifact 'golden.json': expected "),
        ({"artifacts_S_golden__json": b"[1]"}, "bytes of artifact 'golden.json': expected 2, found 3"),
        ({"artifacts_S_saved_model_S_graph__pb": b"\1" * 50}, "artifact 'saved_model': expected "),
        ({"requirements__lock": b"click==9\n"}, "requirements.lock: expected "),
        ({"release__json": lambda data: data.replace(b'"batch":10', b'"batch":11')}, "release.json: expected "),
        ({"verdict__dsse__json": b"{}"}, "verdict.dsse.json: not a readable DSSE envelope"),
        ({"extra__txt": b""}, "'extra.txt' belongs to no release file"),
        ({"artifacts_S_extra": b""}, "'artifacts/extra' belongs to no release file"),
        ({"kit_H_release__json": b"{}"}, "kit-release.json cannot be read"),
        ({"kit_H_release__json": b"[]"}, "kit-release.json cannot be read"),
        ({"kit_H_release__json": b"{" * 9999}, "kit-release.json cannot be read"),
    ],
)
def test_other_content_is_refused_even_with_its_own_digests(
    file: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    told = refuse(change(file, tmp_path / "forged.kit", **changes))
    assert sentence in told
    assert told.startswith("forged.kit is refused: ")
    assert told.endswith("; fetch or export it again")


def edit_marker(**changed: Any) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        marker = json.loads(data)
        return canonical_json({**marker, "release": {**marker["release"], **changed}})

    return edit


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"number": 2}, "kit-release.json, id: expected staging-2, found staging-1"),
        ({"environment": "dev", "id": "dev-1"}, "environment of release.json: expected dev, found staging"),
        ({"environment": "../x", "id": "../x-1"}, "expected format 1 and a numbered release"),
        ({"record": "another"}, "records/another/statement.dsse.json is missing"),
        ({"manifest_sha256": "0" * 64}, "release.json: expected 000000000000…, found "),
    ],
)
def test_marker_that_contradicts_the_release_is_refused(
    file: Path, tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    assert sentence in refuse(change(file, tmp_path / "forged.kit", kit_H_release__json=edit_marker(**changed)))


@pytest.mark.parametrize(
    "name", ["kit-release.json", "SHA256SUMS", "README.txt", "bundle.zip", "artifacts/golden.json"]
)
def test_missing_member_is_refused(file: Path, tmp_path: Path, name: str) -> None:
    members = read_members(file)
    del members[name]
    told = refuse(write_members(tmp_path / "forged.kit", members, sums=name != "SHA256SUMS"))
    assert name.removeprefix("artifacts/") in told


def test_newer_format_cannot_be_decided_here(file: Path, tmp_path: Path) -> None:
    def newer(data: bytes) -> bytes:
        return canonical_json({**json.loads(data), "format": 2, "more": 1})

    path = change(file, tmp_path / "newer.kit", kit_H_release__json=newer)
    told = refuse(path, NewerFormatError)
    assert told == "newer.kit: format 2 of release files is newer than this kit reads (1); update kit"
    assert NewerFormatError.exit_code == 3


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("../evil", 0),
        ("/evil", 0),
        ("a/../../evil", 0),
        ("a\\evil", 0),
        ("a//evil", 0),
        ("evil\x1b", 0),
        ("evil", stat.S_IFLNK | 0o777),
        ("folder/", stat.S_IFDIR),
        ("n" * 256, 0),
    ],
)
def test_entry_that_leads_elsewhere_or_is_no_regular_file_is_refused(
    file: Path, tmp_path: Path, name: str, attributes: int
) -> None:
    path = tmp_path / "evil.kit"
    shutil.copyfile(file, path)
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo(name, EPOCH)
        entry.external_attr = attributes << 16
        archive.writestr(entry, b"/etc/passwd")
    assert "evil.kit is refused: " in refuse(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["evil.kit"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["release.json", "RELEASE.json", "release.json/x"])
def test_name_that_stands_twice_also_in_another_case_or_as_a_folder_is_refused(
    file: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "twice.kit"
    shutil.copyfile(file, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name, EPOCH), b"{}")
    told = refuse(path)
    assert "stands twice" in told or "differ only in case" in told or "is a file and also a folder" in told


def test_packed_entry_is_refused_so_that_no_bomb_is_ever_unpacked(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.kit"
    shutil.copyfile(file, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("artifacts/saved_model/zeros", b"\0" * 10_000_000)
    assert "is packed, encrypted, a link" in refuse(path)


def test_entries_that_claim_more_bytes_than_the_file_has_are_refused(file: Path, tmp_path: Path) -> None:
    data = bytearray(file.read_bytes())
    central = data.rfind(b"PK\x01\x02", 0, data.rfind(b"artifacts/golden.json"))
    data[central + 20 : central + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    (tmp_path / "large.kit").write_bytes(data)
    assert "together they are larger than the zip" in refuse(tmp_path / "large.kit")


def test_too_many_members_or_too_long_a_list_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members_module, "MAX_MEMBERS", 10)
    assert "it holds 14 files, more than 10" in refuse(shutil.copyfile(file, tmp_path / "a.kit"))
    monkeypatch.setattr(members_module, "MAX_LIST_BYTES", 200)
    assert "its list of files is larger than 200 B" in refuse(tmp_path / "a.kit")


def test_full_disk_leaves_nothing(file: Path, tmp_path: Path) -> None:
    with (
        open_members(file) as members,
        pytest.raises(OSError, match="No space left"),
        Path("/dev/full").open("wb") as full,
    ):
        members.copy("bundle.zip", full)


def test_key_is_needed_where_the_frozen_policy_demands_signed_work(tmp_path: Path) -> None:
    workbench = make_released(tmp_path / "project", STAGING + SIGNED, ANA)
    path = export(workbench, tmp_path / "a.kit")
    told = refuse(path, PolicyError)
    assert told == (
        "release staging-1 was frozen with policy.signed: give --keys FILE with the public keys that you trust, as `kit key "
        "show` prints them"
    )
    told = refuse(path, PolicyError, keys=(BEN,))
    assert told == (
        f"release staging-1: expected the verdict signed by one of the keys given, found unknown key ({ANA.public.id})"
    )
    assert open_release_file(path, tmp_path / "good", [BEN.public, ANA.public]).release.id == "staging-1"


def test_given_keys_are_asked_even_where_the_policy_does_not_demand_it(file: Path, tmp_path: Path) -> None:
    path = shutil.copyfile(file, tmp_path / "a.kit")
    assert "expected the verdict signed by one of the keys given, found unsigned" in refuse(path, PolicyError, (ANA,))


def test_training_that_nobody_trusted_signed_is_refused(tmp_path: Path) -> None:
    workbench = make_released(tmp_path / "project", STAGING, ANA)
    path = export(workbench, tmp_path / "a.kit")
    record = workbench.archive.read_manifest(find_released(workbench.archive)).training_record
    name = f"records/{record}/statement.dsse.json"
    members = read_members(path)
    envelope = json.loads(members[name])
    members[name] = canonical_json({**envelope, "signatures": []})
    told = refuse(write_members(tmp_path / "b.kit", members), PolicyError, (ANA,))
    assert f"expected record {record} signed by one of the keys given, found unsigned" in told
