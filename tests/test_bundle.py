import io
import json
import os
import pickle
import stat
import warnings
import zipfile

import msgspec
import pytest
from builders import code, commit_all, git, make_notebook, make_project, make_stage, write_files
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.bundle import make_bundle, unpack_bundle
from kit.errors import IntegrityError, NotFoundError, ProjectError
from kit.files import sha256_bytes
from kit.git import read_checkout
from kit.notebook import strip_notebook
from kit.project import find_project

STAGES = {"train": make_stage(["raw.csv"], ["model.keras"])}
SETTINGS = 'archive = "store"\nreports = "pages"\nexclude = ["notebooks/data/*"]'
SOURCES = {"README.md": "ö", "notebooks/helper.py": "x = 1\n", "notebooks/größe ü.txt": "1", "tool.sh": "#!/bin/sh\n"}
NOT_SOURCES = {
    "store/objects/a": "1",
    "pages/index.html": "1",
    "notebooks/data/raw.csv": "1",
    "notebooks/__pycache__/helper.pyc": "1",
    "notebooks/.ipynb_checkpoints/train.ipynb": "{",
    ".kit/workspaces/a": "1",
    ".venv/bin/python": "1",
    "node_modules/a.js": "1",
}
NAMES = sorted(["pyproject.toml", "notebooks/train.ipynb", *SOURCES])


@pytest.fixture
def project(tmp_path):
    root = make_project(tmp_path / "project", STAGES, SETTINGS, {"dev": ""})
    write_files(root, {**SOURCES, **NOT_SOURCES})
    (root / "tool.sh").chmod(0o700)
    return find_project(root)


def make_zip(*entries, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, compression
            archive.writestr(entry, b"data" * 100)
    return buffer.getvalue()


@pytest.mark.parametrize("with_git", [False, True])
def test_bundle_holds_the_sources_and_never_what_is_none(project, with_git):
    if with_git:
        commit_all(project.root)
    bundle = make_bundle(project, tracked_only=with_git)
    assert bundle.names() == NAMES
    assert bundle.read("notebooks/größe ü.txt") == b"1"
    assert bundle.read("notebooks/train.ipynb") == strip_notebook(STAGES["train"], "train")
    assert bundle.sha256 == sha256_bytes(bundle.data)
    assert [stage.name for stage in bundle.read_graph().stages] == ["train"]
    assert bundle.is_dirty is not with_git


def test_same_sources_give_the_same_bytes(project, tmp_path):
    copy = make_project(tmp_path / "elsewhere", STAGES, SETTINGS)
    for name, content in reversed(SOURCES.items()):
        write_files(copy, {name: content})
        os.utime(copy / name, (1, 1))
    (copy / "tool.sh").chmod(0o755)
    commit_all(copy)
    first = make_bundle(project, tracked_only=False)
    assert first.data == make_bundle(find_project(copy), tracked_only=True).data
    (copy / "tool.sh").chmod(0o644)
    assert first.data != make_bundle(find_project(copy), tracked_only=True).data


FILE_NAMES = st.text(st.characters(categories=["L", "N"], max_codepoint=0x2FF), min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.dictionaries(FILE_NAMES.map("f{}".format), st.binary(max_size=50), max_size=4))
def test_bundle_unpacks_to_the_sources_and_packs_to_the_same_bytes(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("bundle")
    project = find_project(make_project(folder / "a", STAGES))
    write_files(project.root, files)
    bundle = make_bundle(project, tracked_only=False)
    unpack_bundle(bundle.data, folder / "b")
    assert {name: (folder / "b" / name).read_bytes() for name in files} == files
    assert make_bundle(find_project(folder / "b"), tracked_only=False).data == bundle.data


def test_outputs_of_a_notebook_are_not_in_the_bundle(project):
    path = project.root / "notebooks" / "train.ipynb"
    output = {"output_type": "stream", "name": "stdout", "text": "hunter2"}
    path.write_bytes(
        make_notebook(code("", "parameters"), code("kit.open_stage()", outputs=[output], execution_count=3))
    )
    data = make_bundle(project, tracked_only=False).data
    path.write_bytes(make_notebook(code("", "parameters"), code("kit.open_stage()")))
    assert data == make_bundle(project, tracked_only=False).data
    assert b"hunter2" not in data


def test_unpacked_files_keep_their_executable_bit_alone(project, tmp_path):
    unpack_bundle(make_bundle(project, tracked_only=False).data, tmp_path / "out")
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in NAMES}
    assert {name for name, mode in modes.items() if mode == 0o755} == {"tool.sh"}
    assert set(modes.values()) == {0o755, 0o644}


def test_bundle_is_dirty_by_its_sources_alone(project):
    commit_all(project.root)
    write_files(project.root, {"environments/dev.toml": "# other", "store/new": "", "notebooks/data/raw.csv": "2"})
    assert not make_bundle(project, tracked_only=True).is_dirty
    write_files(project.root, {"notebooks/new.py": ""})
    bundle = make_bundle(project, tracked_only=True)
    assert (bundle.is_dirty, bundle.names()) == (False, NAMES)
    bundle = make_bundle(project, tracked_only=False)
    assert (bundle.changes, bundle.names()) == (("notebooks/new.py",), sorted([*NAMES, "notebooks/new.py"]))
    git(project.root, "add", "notebooks/new.py")
    assert make_bundle(project, tracked_only=True).changes == ("notebooks/new.py",)


def test_notebook_executed_in_jupyterlab_is_not_dirty_and_one_with_another_cell_is(project):
    commit_all(project.root)
    path = project.root / "notebooks" / "train.ipynb"
    notebook = json.loads(path.read_bytes())
    notebook["cells"][-1] |= {
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}],
    }
    path.write_text(json.dumps(notebook))
    assert not make_bundle(project, tracked_only=True).is_dirty
    notebook["cells"][-1]["source"] += "\nx = 1"
    path.write_text(json.dumps(notebook))
    assert make_bundle(project, tracked_only=True).changes == ("notebooks/train.ipynb",)


def test_changed_and_deleted_sources_make_a_bundle_dirty(project):
    commit_all(project.root)
    write_files(project.root, {"README.md": "changed"})
    (project.root / "notebooks" / "helper.py").unlink()
    bundle = make_bundle(project, tracked_only=True)
    assert bundle.changes == ("README.md", "notebooks/helper.py")
    assert (bundle.is_dirty, len(bundle.commit)) == (True, 40)
    assert "notebooks/helper.py" not in bundle.names()


def test_source_that_is_saved_after_git_has_looked_at_it_is_not_called_the_commits(project, monkeypatch):
    commit_all(project.root)
    look, saved = read_checkout, []

    def look_and_save(root):
        checkout = look(root)
        if not saved:
            saved.append(write_files(root, {"notebooks/helper.py": "x = 2\n"}))
        return checkout

    monkeypatch.setattr("kit.git.read_checkout", look_and_save)
    bundle = make_bundle(project, tracked_only=True)
    assert (bundle.read("notebooks/helper.py"), bundle.changes) == (b"x = 2\n", ("notebooks/helper.py",))


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_source_that_git_was_told_not_to_look_at_is_compared_all_the_same(project, flag):
    commit_all(project.root)
    git(project.root, "update-index", flag, "notebooks/helper.py")
    assert make_bundle(project, tracked_only=True).changes == ()
    write_files(project.root, {"notebooks/helper.py": "x = 2\n"})
    assert make_bundle(project, tracked_only=True).changes == ("notebooks/helper.py",)
    (project.root / "notebooks/helper.py").unlink()
    assert make_bundle(project, tracked_only=True).changes == ("notebooks/helper.py",)


def test_bundle_before_the_first_commit_is_dirty(project):
    git(project.root, "init", "--quiet")
    bundle = make_bundle(project, tracked_only=False)
    assert (bundle.commit, bundle.is_dirty) == (None, True)
    assert set(bundle.changes) == set(NAMES)


def test_without_git_all_sources_count_as_changed(project):
    bundle = make_bundle(project, tracked_only=True)
    assert (bundle.commit, bundle.changes, bundle.is_dirty) == (None, tuple(NAMES), True)


@pytest.mark.parametrize("with_git", [False, True])
@pytest.mark.parametrize("target", ["README.md", "notebooks", "nowhere"])
def test_symbolic_link_is_refused(project, target, with_git):
    (project.root / "link").symlink_to(target)
    if with_git:
        commit_all(project.root)
    with pytest.raises(ProjectError, match=r"source link is a symbolic link; .* add it to \[tool.kit\] exclude"):
        make_bundle(project, tracked_only=False)


@pytest.mark.parametrize("name", [b"a\\b.py", b"a\nb.py", b"\xff.py"])
def test_name_that_not_every_system_can_hold_is_refused(project, name):
    with open(os.fsencode(project.root) + b"/" + name, "wb"):  # noqa: PTH123 - pathlib takes no bytes
        pass
    with pytest.raises(ProjectError, match="has a name that not every system can hold: rename it"):
        make_bundle(project, tracked_only=False)


def test_missing_file_of_a_bundle_is_not_found(project):
    with pytest.raises(NotFoundError, match="the bundle has no file 'nothing'"):
        make_bundle(project, tracked_only=False).read("nothing")


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    "data",
    [
        *(make_zip((name, FILE)) for name in ("/etc/x", "../x", "a/../../x", "a\\b", "a/", "./a", "a//b", ".", "..")),
        make_zip(("a", LINK)),
        make_zip(("a", stat.S_IFIFO | 0o644)),
        make_zip(("a", FILE), ("a", FILE)),
        make_zip(("a", FILE), ("a/b", FILE)),
        make_zip(("a", FILE), compression=zipfile.ZIP_DEFLATED),
        make_zip(("a", FILE)).replace(b"datadata", b"DATAdata", 1),
        make_zip(("a", FILE))[:-30],
        b"",
    ],
)
def test_unsafe_or_broken_bundle_writes_nothing_outside(tmp_path, data):
    with pytest.raises(IntegrityError, match="the bundle "):
        unpack_bundle(data, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_entry_without_a_mode_becomes_a_plain_file(tmp_path):
    unpack_bundle(make_zip(("a", stat.S_IFREG), ("b", stat.S_IFREG | 0o6755)), tmp_path)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o644, 0o755]


@pytest.mark.parametrize("kind", ["", "RSA ", "OPENSSH ", "EC2"])
def test_private_key_is_never_bundled(project, kind):
    text = f"name: ana\n-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n-----END {kind}PRIVATE KEY-----\n"
    write_files(project.root, {"notebooks/k.txt": text})
    with pytest.raises(ProjectError, match=r"notebooks/k\.txt holds a private key"):
        make_bundle(project, tracked_only=False)


def test_source_that_speaks_of_keys_is_bundled(project):
    write_files(project.root, {"notebooks/k.py": 'HEAD = "-----BEGIN PRIVATE KEY-----"\n'})
    assert "notebooks/k.py" in make_bundle(project, tracked_only=False).names()


def test_what_was_read_of_a_bundle_belongs_to_its_bytes_alone(project):
    bundle = make_bundle(project, tracked_only=False)
    assert (bundle.read_graph() is bundle.read_graph(), len(bundle.sha256)) == (True, 64)
    other = msgspec.structs.replace(bundle, data=make_zip(("a", FILE)))
    assert (other.names(), other.sha256) == (["a"], sha256_bytes(other.data))
    copy = pickle.loads(pickle.dumps(bundle))
    assert (copy, copy.names(), copy.read_graph()) == (bundle, bundle.names(), bundle.read_graph())


def test_file_in_a_folder_of_a_name_that_only_begins_like_an_environment_is_a_source(project):
    write_files(project.root, {"environments-old/a": "", "storehouse/a": "", "environments/deep/a": ""})
    names = make_bundle(project, tracked_only=False).names()
    assert [name for name in names if name not in NAMES] == ["environments-old/a", "storehouse/a"]


def test_project_that_is_its_own_archive_has_no_sources(tmp_path):
    project = find_project(make_project(tmp_path / "project", STAGES, 'archive = "."'))
    assert make_bundle(project, tracked_only=False).names() == []


def test_notebook_is_stripped_again_when_it_has_changed(project):
    first = make_bundle(project, tracked_only=False)
    write_files(project.root, {"notebooks/train.ipynb": make_stage(["raw.csv"], ["other.keras"])})
    assert make_bundle(project, tracked_only=False).read_graph() != first.read_graph()
