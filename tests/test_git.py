import shutil
import subprocess

import pytest
from builders import commit_all, git, write_files

from kit.errors import ProjectError
from kit.git import Checkout, read_checkout, read_committed


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("git") / "repo"
    write_files(folder, {"a.py": "1", "größe ü.py": "1", "part/b.py": "1", "part/d.py": "1", ".gitignore": "*.log\n"})
    commit_all(folder)
    return folder


@pytest.fixture
def repo(committed, tmp_path):
    return shutil.copytree(committed, tmp_path / "repo")


def test_clean_repository_has_a_commit_and_no_changes(repo):
    checkout = read_checkout(repo)
    assert len(checkout.commit) == 40
    tracked = (".gitignore", "a.py", "größe ü.py", "part/b.py", "part/d.py")
    assert checkout == Checkout(checkout.commit, tracked, (), ())


def test_paths_are_relative_to_the_folder(repo):
    write_files(repo, {"part/b.py": "2", "part/new ö.py": "", "a.py": "2", "part/x.log": ""})
    checkout = read_checkout(repo / "part")
    assert checkout == Checkout(checkout.commit, ("b.py", "d.py"), ("new ö.py",), ("b.py", "new ö.py"))


def test_every_kind_of_change_is_seen(repo):
    write_files(repo, {"größe ü.py": "2", "staged.py": "1", "new.py": "1", "meant.py": "1"})
    git(repo, "add", "staged.py")
    git(repo, "add", "--intent-to-add", "meant.py")
    git(repo, "mv", "a.py", "moved.py")
    (repo / "part" / "b.py").unlink()
    (repo / "part" / "d.py").chmod(0o755)
    checkout = read_checkout(repo)
    assert checkout.changed == (
        "a.py", "größe ü.py", "meant.py", "moved.py", "new.py", "part/b.py", "part/d.py", "staged.py"
    )  # fmt: skip
    assert (checkout.new, "part/b.py" in checkout.tracked, "moved.py" in checkout.tracked) == (("new.py",), False, True)


def test_file_taken_out_of_git_and_left_is_new_and_changed(repo):
    git(repo, "rm", "--quiet", "--cached", "a.py")
    checkout = read_checkout(repo)
    assert ("a.py" in checkout.tracked, checkout.new, checkout.changed) == (False, ("a.py",), ("a.py",))


def test_conflict_is_a_change(repo):
    git(repo, "checkout", "--quiet", "-b", "other")
    write_files(repo, {"größe ü.py": "2"})
    commit_all(repo)
    git(repo, "checkout", "--quiet", "-")
    write_files(repo, {"größe ü.py": "3"})
    commit_all(repo)
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "other")
    checkout = read_checkout(repo)
    assert (checkout.changed, checkout.tracked.count("größe ü.py")) == (("größe ü.py",), 1)


@pytest.mark.parametrize("name", ["a\nb.py", " lead.py", "trail ", 'quote".py', "# branch.oid x", "a -> b"])
def test_odd_names_are_read_as_they_are(repo, name):
    write_files(repo, {f"part/{name}": ""})
    assert read_checkout(repo).new == (f"part/{name}",)
    assert read_checkout(repo / "part").new == (name,)
    commit_all(repo)
    write_files(repo, {f"part/{name}": "2"})
    checkout = read_checkout(repo / "part")
    assert (checkout.new, checkout.changed, name in checkout.tracked) == ((), (name,), True)


def test_before_the_first_commit_there_is_none(tmp_path):
    git(tmp_path, "init", "--quiet")
    assert read_checkout(tmp_path) == Checkout(None, (), (), ())


def test_folder_without_git_is_no_checkout(tmp_path):
    assert (read_checkout(tmp_path), read_committed(tmp_path, "a.py")) == (None, None)


def test_missing_git_is_no_checkout(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert read_checkout(repo) is None


def test_damaged_repository_is_an_error_and_not_no_checkout(repo):
    (repo / ".git" / "index").write_bytes(b"damaged")
    with pytest.raises(ProjectError, match=r"git (ls-files|status) failed in .*index"):
        read_checkout(repo)


def test_repository_of_a_surrounding_hook_is_not_mistaken_for_ours(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert read_checkout(repo).changed == ()


def test_committed_bytes_are_those_of_the_commit(repo):
    write_files(repo, {"a.py": "2"})
    assert (read_committed(repo, "a.py"), read_committed(repo / "part", "b.py"), read_committed(repo, "nothing")) == (
        b"1", b"1", None
    )  # fmt: skip
