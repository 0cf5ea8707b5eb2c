import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.archive.objects import Objects, hash_artifact, walk_folder
from kit.artifact import Artifact, Tree, TreeEntry
from kit.digests import Digests, stamp_of
from kit.errors import IntegrityError, NotFoundError, UsageError
from kit.files import canonical_json, sha256_bytes

A, B = sha256_bytes(b"a"), sha256_bytes(b"b")


@pytest.fixture
def objects(tmp_path):
    return Objects(tmp_path / "objects")


@pytest.fixture
def digests(tmp_path):
    return Digests(tmp_path / ".kit" / "digests.sqlite", lambda: (1 << 63) - 1)  # by that clock every file is old


@pytest.fixture
def file(tmp_path):
    (tmp_path / "raw.csv").write_bytes(b"a")
    return tmp_path / "raw.csv"


@pytest.fixture
def folder(tmp_path):
    for name, data in {"part/a": b"a", "part/b": b"b", ".hidden": b"a", "part-b": b"c"}.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(data)
    return tmp_path / "raw"


def claim(digests, subject, names_and_digests):
    """Have files known by digests that are not theirs: who gives those has not read them."""
    with digests.notes(subject) as notes:
        for name, sha256 in names_and_digests.items():
            with (subject / name if name else subject).open("rb") as file:
                notes.add(name, sha256, notes.watch(file.fileno()))


def test_unchanged_file_whose_object_is_there_is_not_read(objects, digests, file):
    objects.put_bytes(b"b")
    claim(digests, file, {"": B})
    assert objects.put_artifact("raw.csv", file, digests) == Artifact("raw.csv", B, 1, "text/csv")


def test_changed_file_is_kept_as_it_is_now(objects, digests, file):
    assert objects.put_artifact("raw.csv", file, digests).sha256 == A
    file.write_bytes(b"bb")
    artifact = objects.put_artifact("raw.csv", file, digests)
    assert (artifact.sha256, objects.read(artifact.sha256)) == (sha256_bytes(b"bb"), b"bb")


def test_unchanged_folder_is_the_same_artifact_with_and_without_what_is_known(objects, digests, folder):
    without = objects.put_artifact("raw", folder)
    assert [objects.put_artifact("raw", folder, digests) for _ in range(3)] == [without] * 3
    claim(digests, folder, {"part/a": B})
    tree = objects.read_tree(objects.put_artifact("raw", folder, digests))
    assert [entry.sha256 for entry in tree.files if entry.path == "part/a"] == [B]


def test_of_a_folder_only_the_changed_file_is_read(objects, digests, folder):
    objects.put_artifact("raw", folder, digests)
    claim(digests, folder, {"part/a": B})
    (folder / "part" / "b").write_bytes(b"new")
    (folder / "part" / "d").write_bytes(b"d")
    (folder / ".hidden").unlink()
    tree = objects.read_tree(objects.put_artifact("raw", folder, digests))
    assert tree == Tree(
        (
            TreeEntry("part-b", sha256_bytes(b"c"), 1),
            TreeEntry("part/a", B, 1),
            TreeEntry("part/b", sha256_bytes(b"new"), 3),
            TreeEntry("part/d", sha256_bytes(b"d"), 1),
        )
    )
    assert objects.read(sha256_bytes(b"new")) == b"new"


@pytest.mark.parametrize("name", ["part/a", ""])
def test_known_file_whose_object_is_gone_is_copied_again(objects, digests, folder, name):
    source = folder / name if name else folder
    artifact = objects.put_artifact("raw", source, digests)
    objects.path(A).unlink()
    assert objects.put_artifact("raw", source, digests) == artifact
    assert objects.read(A) == b"a"


def test_gone_list_of_a_known_folder_is_written_again(objects, digests, folder):
    artifact = objects.put_artifact("raw", folder, digests)
    objects.path(artifact.sha256).unlink()
    assert objects.put_artifact("raw", folder, digests) == artifact
    assert len(objects.read_tree(artifact).files) == 4


@pytest.mark.parametrize("kind", ["other bytes", "link", "folder", "nothing"])
def test_known_file_whose_object_is_not_what_its_name_says_is_read(objects, digests, file, kind):
    path = objects.path(objects.put_bytes(b"b"))
    claim(digests, file, {"": B})
    path.unlink()
    if kind == "other bytes":
        path.write_bytes(b"x")
    elif kind == "link":
        path.symlink_to(file)
    elif kind == "folder":
        path.mkdir()
    assert objects.put_artifact("raw.csv", file, digests).sha256 == A


def test_damaged_object_is_still_refused_when_it_is_copied(objects, digests, file, tmp_path):
    artifact = objects.put_artifact("raw.csv", file, digests)
    objects.put_artifact("raw.csv", file, digests)
    objects.path(A).chmod(0o644)
    objects.path(A).write_bytes(b"x")
    with pytest.raises(IntegrityError, match="was changed in the archive"):
        objects.copy_artifact(artifact, tmp_path / "copy")


@pytest.mark.parametrize("damage", [b"x", b"", b"ab"])
@pytest.mark.parametrize("keep", ["bytes", "file", "known file"])
def test_damaged_object_is_replaced_by_who_keeps_its_bytes_again(objects, digests, file, keep, damage):
    objects.put_file(file)
    objects.path(A).chmod(0o644)
    objects.path(A).write_bytes(damage)
    if keep == "bytes":
        objects.put_bytes(b"a")
    else:
        objects.put_artifact("raw.csv", file, digests if keep == "known file" else None)
    assert objects.read(A) == b"a"
    assert [path.name for path in objects.path(A).parent.iterdir()] == [A[2:]]


def test_link_in_the_place_of_an_object_is_replaced_and_what_it_leads_to_is_left(objects, file, tmp_path):
    objects.put_file(file)
    objects.path(A).rename(tmp_path / "moved")
    objects.path(A).symlink_to(tmp_path / "moved")
    objects.put_bytes(b"a")
    assert (objects.path(A).is_symlink(), (tmp_path / "moved").read_bytes(), objects.read(A)) == (False, b"a", b"a")


def test_copy_of_a_folder_is_the_same_artifact(objects, folder, tmp_path):
    artifact = objects.put_artifact("raw", folder)
    objects.copy_artifact(artifact, tmp_path / "copy")
    assert (list(walk_folder(tmp_path / "copy", "raw")), hash_artifact("raw", tmp_path / "copy")) == (
        [".hidden", "part-b", "part/a", "part/b"],
        artifact.sha256,
    )
    objects.path(B).unlink()
    with pytest.raises(NotFoundError, match=r"raw/part/b: object .* is not in the archive"):
        objects.copy_artifact(artifact, tmp_path / "again")


def test_large_file_is_copied_whole(objects, tmp_path):
    data = os.urandom((1 << 20) + 7) * 2
    (tmp_path / "large").write_bytes(data)
    artifact = objects.put_artifact("large", tmp_path / "large")
    objects.copy_artifact(artifact, tmp_path / "copy")
    assert (artifact.sha256, artifact.size_bytes) == (sha256_bytes(data), len(data))
    assert (tmp_path / "copy").read_bytes() == data


def test_what_cannot_be_kept_leaves_nothing(objects, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        objects.put_file(tmp_path / "pipe")
    assert [path for path in objects.folder.rglob("*") if path.is_file()] == []


def test_copies_that_killed_processes_left_are_removed_after_a_week(objects, file):
    old, new = (objects.folder / "tmp" / name for name in ("old", "new"))
    for left in (old, new):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
    os.utime(old, (0.0, 0.0))
    objects.put_file(file)
    assert list(old.parent.iterdir()) == [new]


def test_folder_lists_what_lies_in_it_sorted_by_the_whole_path(folder):
    found = walk_folder(folder, "raw")
    assert list(found) == [".hidden", "part-b", "part/a", "part/b"]
    assert found["part/a"] == stamp_of((folder / "part" / "a").stat())


@pytest.mark.parametrize("kind", ["link", "pipe", "link to a folder"])
def test_folder_with_what_is_no_file_is_refused(objects, folder, kind):
    path = folder / "part" / "odd"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(folder if kind == "link to a folder" else folder / ".hidden")
    with pytest.raises(UsageError, match="artifact 'raw' holds 'odd', which is no regular file"):
        objects.put_artifact("raw", folder)


def test_folder_with_a_name_that_is_no_unicode_is_refused(objects, folder):
    (folder / os.fsdecode(b"b\xff")).write_bytes(b"")
    with pytest.raises(UsageError, match="a name that is no Unicode: rename it"):
        objects.put_artifact("raw", folder)


def test_empty_folder_is_refused(objects, tmp_path):
    (tmp_path / "raw" / "empty").mkdir(parents=True)
    with pytest.raises(UsageError, match="artifact 'raw' is an empty folder"):
        objects.put_artifact("raw", tmp_path / "raw")


NAMES = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.builds(TreeEntry, NAMES, st.just(A), st.integers(0, 1 << 62))))
def test_list_of_a_folder_is_canonical_json(entries):
    tree = Tree(tuple(entries))
    assert tree.encode() == canonical_json(msgspec.to_builtins(tree))
