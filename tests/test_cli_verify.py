"""`kit verify`, `kit audit`, `kit key` and `kit checkpoint` as commands."""

import subprocess
from pathlib import Path

import pytest
from commands import Kit

from kit.archive import Archive, read_origin
from kit.cli.main import main
from kit.execute import Order
from kit.files import remove_tree
from kit.gate import Verdict
from kit.pipeline import execute_stage
from kit.signing import KEY_VARIABLE
from kit.testing import commit_all, make_manifest, make_project, make_workbench, seal_release


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """A project with one unsigned record; the user's settings are of this test only."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project.root)
    execute_stage(make_workbench(project), Order("prepare", "dev"))
    return Kit(project, capsys)


def test_unsigned_archive_verifies_and_says_what_that_means(kit: Kit) -> None:
    called = kit("verify")
    assert called.code == 0
    assert "UNSIGNED     checkpoints: no checkpoint; whoever can write here could have rewritten" in called.out
    assert "nothing here is attributed to a person" in called.out
    assert "the claim holds" in called.out


def test_new_key_signs_from_then_on_and_the_checkpoint_binds_what_was_before(kit: Kit, tmp_path: Path) -> None:
    made = kit("key", "new", "--name", "ana@example.org")
    assert made.out.startswith("ana@example.org+")
    assert kit("key", "show").out == made.out
    assert kit("key", "show", "--pem").out.startswith("-----BEGIN PUBLIC KEY-----")
    note = kit("checkpoint").out
    (tmp_path / "ci.log").write_text(f"12:00 some line\n{kit('checkpoint', '--json').json['line']}\n")
    (tmp_path / "note").write_text(note)
    (tmp_path / "team.keys").write_text(made.out)
    keys = ("--keys", str(tmp_path / "team.keys"))
    for file in ("ci.log", "note"):
        report = kit("verify", *keys, "--checkpoint", str(tmp_path / file), "--json").json
        assert report["exit_code"] == 0
        assert report["report"]["ledger_signers"] == ["+".join(made.out.split("+")[:2])]
        assert {each["code"] for each in report["report"]["findings"]} == {"UNSIGNED"}  # the record of before


def test_one_record_is_verified_by_any_unique_end_of_its_id(kit: Kit) -> None:
    (record_id,) = kit.archive.list_ids()
    called = kit("verify", record_id[-6:])
    assert (called.code, called.out.count(f"{record_id}: 1 record,")) == (0, 1)
    path = kit.archive.record_folder(record_id) / "requirements.txt"
    path.chmod(0o644)
    path.write_bytes(b"")
    called = kit("verify", record_id)
    assert called.code == 1
    assert called.out.startswith(f"EDITED       records/{record_id}/requirements.txt: expected sha256 ")


def test_audit_remembers_what_it_saw(kit: Kit, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    first = kit("audit", str(kit.archive.folder), "--state", state)
    assert (first.code, "this is the first audit" in first.out) == (0, True)
    execute_stage(make_workbench(kit.project), Order("prepare", "dev"))
    second = kit("audit", str(kit.archive.folder), "--state", state)
    assert (second.code, "the last audit saw 2 entries" in second.out) == (0, True)
    kit.archive.ledger.path(4).unlink()
    third = kit("audit", str(kit.archive.folder), "--state", state)
    assert third.code == 1
    assert "TRUNCATED" in third.out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["verify", "nothing"], 2, "no record is named 'nothing'"),
        (["verify", "notebooks"], 2, "is no archive"),
        (["verify", "--keys", "pyproject.toml"], 2, "is no public key"),
        (["verify", "--checkpoint", "pyproject.toml"], 2, "expected a note, or a log that holds its line"),
        (["audit", "archive", "--state", "archive/state"], 2, "lies in the archive itself"),
        (["audit", "archive", "--state", "pyproject.toml"], 2, "is a file; expected a folder"),
        (["audit", "archive"], 2, "--state"),
        (["key", "show"], 1, "kit key new"),
        (["key", "new", "--name", "a b"], 2, "cannot name a key"),
        (["checkpoint", "--git"], 2, "git"),
    ],
)
def test_wrong_use_is_told_with_what_to_do(kit: Kit, arguments: list[str], code: int, complaint: str) -> None:
    called = kit(*arguments)
    assert (called.code, complaint in called.err) == (code, True), called.err


def test_checkpoint_of_another_archive_is_wrong_use(kit: Kit, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    execute_stage(make_workbench(other), Order("prepare", "dev"))
    (tmp_path / "line").write_text("checkpoint kit/other/1 3 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    called = kit("verify", "--checkpoint", str(tmp_path / "line"))
    assert (called.code, "holds checkpoints of kit/other/1 only" in called.err) == (2, True)


def test_commands_of_the_auditors_page_do_what_it_says(kit: Kit, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "auditing.md").read_text(encoding="utf-8")
    commands = [line.strip().split()[1:] for line in page.splitlines() if line.startswith("    kit ")]
    assert [command[0] for command in commands] == ["verify", "audit"]
    Path("team.keys").write_text(kit("key", "new").out)
    Path("ci.log").write_text(kit("checkpoint", "--json").json["line"])
    for command in commands:
        assert kit(*command).code == 0


def test_release_is_verified_by_its_name_and_a_removed_record_by_any_end_of_its_id(kit: Kit) -> None:
    manifest = make_manifest(Verdict("dev", "0" * 64, {}, ()))
    kit.archive.objects.put_bytes(manifest.encode())
    released = seal_release(kit.archive, manifest)
    for name in ("dev-1", "release:dev-1"):
        assert f"{released.record}: 1 record," in kit("verify", name).out
    (record_id, *_) = kit.archive.list_ids()
    remove_tree(kit.archive.record_folder(record_id))
    called = kit("verify", record_id[-6:])
    assert (called.code, called.out.startswith(f"MISSING      records/{record_id}")) == (1, True)


def test_archive_that_took_the_place_of_another_is_rewritten_not_wrong_use(kit: Kit, tmp_path: Path) -> None:
    line = kit("checkpoint", "--json").json["line"]
    (tmp_path / "log").write_text(line.replace(read_origin(kit.archive.folder)[-4:], "0000", 1))
    called = kit("verify", "--checkpoint", str(tmp_path / "log"))
    assert (called.code, "REWRITTEN" in called.out) == (1, True)


def test_key_that_is_not_used_says_so(kit: Kit, tmp_path: Path) -> None:
    assert f"set {KEY_VARIABLE}=" in kit("key", "new", "--file", str(tmp_path / "k.pem")).err
    assert "it is not used yet" not in kit("key", "new").err


def test_looking_makes_no_archive_and_needs_no_usable_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "new")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "nowhere"))
    for arguments in (["records"], ["releases"], ["why", "x"], ["show", "x"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert not project.archive.exists()
    with pytest.raises(SystemExit) as stopped:
        main(["prepare"])
    assert stopped.value.code == 2
    assert "cannot be read" in capsys.readouterr().err


def test_command_that_only_looks_makes_no_checkpoint_of_what_others_append_meanwhile(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit("key", "new")

    def append_meanwhile(archive: Archive) -> str:
        execute_stage(make_workbench(kit.project), Order("prepare", "dev"))
        return "told"

    monkeypatch.setattr("kit.archive.describe_coverage", append_meanwhile)
    called = kit("records")
    assert ("told" in called.err, "checkpoint kit/" in called.err) == (True, False)
    assert not kit.archive.ledger.checkpoints.exists()


def test_checkpoint_in_git_is_a_commit_beside_all_branches(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_all(kit.project)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, check=True, text=True).stdout

    before = git("status", "--porcelain"), git("rev-parse", "HEAD")
    ref = kit("checkpoint", "--git", "--json").json["ref"]
    execute_stage(make_workbench(kit.project), Order("prepare", "dev"))
    note = kit("checkpoint", "--git").out
    assert "has it already" in kit("checkpoint", "--git").err
    assert git("show", f"{ref}:checkpoint") == note
    assert git("rev-list", "--count", ref) == "2\n"
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD")) == before
