import shutil

import pytest
from builders import commit_all, git, write_files

from kit.errors import ProjectError
from kit.git import is_repository, list_changes, list_files, read_commit


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
    assert is_repository(repo)
    assert len(read_commit(repo)) == 40
    assert list_changes(repo) == []
    assert list_files(repo, untracked=True) == [".gitignore", "a.py", "größe ü.py", "part/b.py", "part/d.py"]


def test_paths_are_relative_to_the_folder(repo):
    write_files(repo, {"part/b.py": "2", "part/new ö.py": "", "a.py": "2", "part/x.log": ""})
    assert list_changes(repo / "part") == ["b.py", "new ö.py"]
    assert list_files(repo / "part", untracked=False) == ["b.py", "d.py"]
    assert list_files(repo / "part", untracked=True) == ["b.py", "d.py", "new ö.py"]


def test_every_kind_of_change_is_seen(repo):
    write_files(repo, {"größe ü.py": "2", "staged.py": "1", "new.py": "1"})
    git(repo, "add", "staged.py")
    git(repo, "mv", "a.py", "moved.py")
    (repo / "part" / "b.py").unlink()
    (repo / "part" / "d.py").chmod(0o755)
    assert list_changes(repo) == [
        "a.py", "größe ü.py", "moved.py", "new.py", "part/b.py", "part/d.py", "staged.py"
    ]  # fmt: skip
    assert "part/b.py" not in list_files(repo, untracked=True)


def test_before_the_first_commit_there_is_none(tmp_path):
    git(tmp_path, "init", "--quiet")
    assert (is_repository(tmp_path), read_commit(tmp_path), list_changes(tmp_path)) == (True, None, [])


def test_folder_without_git_is_no_repository(tmp_path):
    assert (is_repository(tmp_path), read_commit(tmp_path)) == (False, None)
    with pytest.raises(ProjectError, match=r"git ls-files failed in .*not a git repository"):
        list_files(tmp_path, untracked=True)


def test_missing_git_is_no_repository(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert not is_repository(repo)
    with pytest.raises(ProjectError, match="git is not installed"):
        list_changes(repo)


def test_repository_of_a_surrounding_hook_is_not_mistaken_for_ours(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert list_changes(repo) == []
