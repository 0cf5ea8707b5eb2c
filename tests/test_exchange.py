"""`kit export` and `kit import` as they are called."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from crates import do_again, export, find, make_history, read_zip, write_zip

from kit.cli.main import main
from kit.crate import export_crate
from kit.execute import Workbench
from kit.testing import make_key, make_project


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """The project that is called in."""
    monkeypatch.setenv("KIT_SIGNING_KEY", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    workbench = make_history(tmp_path / "project", make_key())
    monkeypatch.chdir(tmp_path / "project")
    return workbench


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Another project, whose archive is empty."""
    return make_project(tmp_path / "elsewhere").root


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_record_goes_out_and_comes_in(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, file = find(history.archive, "train"), tmp_path / "train.zip"
    code, out, err = call(capsys, "export", record.id[-6:], "-o", file)
    assert (code, out) == (0, f"{file}\n")
    assert err.startswith("1 record, ")
    os.chdir(elsewhere)
    code, out, err = call(capsys, "import", file)
    assert code == 0
    assert out.startswith(f"{record.id}  imported, signed by ana@laptop+")
    assert out.endswith(", whom this project does not trust\n")
    origin = history.archive.origin
    assert err.startswith(f"ledger {origin} tells of this in 2 of 11 entries; its checkpoint is not signed\n")
    assert "\ncheckpoint " in err, "a command that appends to the ledger prints its checkpoint"
    code, out, err = call(capsys, "import", file)
    assert (code, err.count("\n")) == (0, 1)
    assert out.startswith(f"{record.id}  already there, ")


def test_release_goes_out_with_its_lineage(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "export", "dev-1", "-o", tmp_path / "a.zip", "--json")
    value = json.loads(out)
    assert code == 0
    assert list(value) == ["n_files", "path", "records", "release", "signers", "size_bytes", "unsigned"]
    assert (len(value["records"]), value["release"], value["unsigned"]) == (4, "dev-1", [])
    os.chdir(elsewhere)
    code, out, _ = call(capsys, "import", tmp_path / "a.zip", "--json")
    records: list[dict[str, Any]] = json.loads(out)["records"]
    assert code == 0
    assert [each["record"] for each in records] == value["records"]
    assert {(each["outcome"], each["standing"]) for each in records} == {("imported", "unknown key")}


def test_unsigned_work_is_said_to_be_so(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("KIT_SIGNING_KEY", raising=False)
    make_history(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    _, _, err = call(capsys, "export", "dev-1", "-o", tmp_path / "a.zip")
    assert "nothing in the export says who executed that" in err
    os.chdir(elsewhere)
    _, out, _ = call(capsys, "import", tmp_path / "a.zip")
    assert out.count("not signed: nothing says who did it") == 4


def test_import_tells_what_came_in_one_value(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = do_again(history, "train")
    file = export(history, again.id, tmp_path / "a.zip")
    os.chdir(elsewhere)
    value = json.loads(call(capsys, "import", file, "--json")[1])
    assert list(value) == ["comparisons", "proof", "records"]
    assert list(value["proof"]) == ["key", "missing", "n_entries", "origin", "size", "standing"]
    (compared,) = value["comparisons"]
    assert compared["comparison"]["again"] == value["records"][0]["record"] == again.id
    code, out, _ = call(capsys, "import", file)
    assert (code, len(out.splitlines())) == (0, 2)
    assert f"{again.id}  did {again.reproduces} again: a comparison, signed by ana@laptop+" in out


def test_import_says_that_the_proof_is_missing(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = read_zip(export(history, "train", tmp_path / "good.zip"))
    kept = {name: data for name, data in files.items() if not name.startswith("proof/")}
    os.chdir(elsewhere)
    code, out, err = call(capsys, "import", write_zip(tmp_path / "bare.zip", kept))
    assert (code, "  imported, " in out) == (0, True)
    assert re.match(
        r"the ledger's proof is missing: proof/statements/.*/statement.json did not come .*, and 3 more\n", err
    )


def test_stranger_is_refused_until_their_key_is_accepted(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export(history, "train", tmp_path / "a.zip")
    (key,) = export_signers(history, tmp_path)
    project = elsewhere / "pyproject.toml"
    project.write_text(
        project.read_text(encoding="utf-8").replace(
            "[tool.kit]", f'[tool.kit]\ntrusted_keys = ["{make_key("eve").public}"]'
        ),
        encoding="utf-8",
    )
    os.chdir(elsewhere)
    code, out, err = call(capsys, "import", file)
    assert (code, out) == (1, "")
    assert f"is signed with {key}, which this project does not trust; nothing was taken in" in err
    assert f"trusted_keys in [tool.kit], or take the record in without trusting it: --accept-key {key}" in err
    code, out, _ = call(capsys, "import", file, "--accept-key", key)
    assert code == 0
    assert out.endswith(f"signed by {key}, whom this project does not trust; taken in because of --accept-key\n")


def export_signers(history: Workbench, folder: Path) -> tuple[str, ...]:
    record = find(history.archive, "train")
    return export_crate(history.archive, record, folder / "signers.zip", "example", history.trusted_keys).signers


def test_nothing_is_taken_into_a_ledger_that_went_back(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [export(history, stage, tmp_path / f"{stage}.zip") for stage in ("prepare", "train")]
    os.chdir(elsewhere)
    assert call(capsys, "import", files[0])[0] == 0
    (entry,) = elsewhere.rglob("ledger/000000001.json")
    entry.unlink()
    code, _, err = call(capsys, "import", files[1])
    assert (code, "is not a continuation of what this project saw of it" in err) == (1, True)
    assert not list(entry.parent.iterdir())


def test_release_is_named_with_or_without_what_it_is(
    history: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, name in enumerate(["dev-1", "release:dev-1", "release:-1"]):
        code, out, _ = call(capsys, "export", name, "-o", tmp_path / f"{n}.zip", "--json")
        assert (code, json.loads(out)["release"]) == (0, "dev-1"), name
    record = find(history.archive, "train").id
    code, _, err = call(capsys, "export", f"release:{record}", "-o", tmp_path / "none.zip")
    assert (code, f"no release is named 'release:{record}'" in err) == (2, True)


def test_bad_file_is_refused_with_a_sentence(
    history: Workbench, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = read_zip(export(history, "train", tmp_path / "good.zip"))
    bad = write_zip(tmp_path / "bad.zip", {**files, "../evil": b"evil"})
    os.chdir(elsewhere)
    code, out, err = call(capsys, "import", bad, "--json")
    assert code == 1
    assert json.loads(out)["error"]["kind"] == "IntegrityError"
    assert "'../evil' is no name that every system can hold" in err
    assert call(capsys, "records", "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("export", "train-zzz", "-o", "a.zip"), 2, "no record or release is named 'train-zzz'"),
        (("export", "release:train", "-o", "a.zip"), 2, "is named 'train'"),
        (("export", "release:", "-o", "a.zip"), 2, "is named ''"),
        (("import", "a.zip", "--accept-key", "ana"), 2, "'ana' is no id of a key; expected <name>+<8 hex digits>"),
        (("export", "dev-1"), 2, "Missing option"),
        (("export", "dev-1", "-o", "pyproject.toml"), 2, "is there already"),
        (("export", "dev-1", "-o", "none/a.zip"), 2, "there is no folder none"),
        (("import", "none.zip"), 2, "none.zip is no file"),
        (("import",), 2, "Missing argument"),
        (("import", "pyproject.toml"), 1, "cannot be read as a zip"),
    ],
)
def test_wrong_use_is_told_from_a_wrong_file(
    history: Workbench, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    found, _, err = call(capsys, *arguments)
    assert (found, sentence in err) == (code, True), err


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_begins_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    _, out, _ = call(capsys, command, "--help")
    assert out.startswith(f"Example: kit {command} ")
