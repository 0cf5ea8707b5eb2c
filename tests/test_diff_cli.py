"""`kit diff` and `kit why`: exit codes, JSON, text for a terminal; nothing here executes a notebook."""

import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import Kit

from kit.artifact import Artifact
from kit.cli.difference import describe_record_diff
from kit.cli.terminal import count, printable
from kit.diff import Side, diff_named, diff_records, read_side
from kit.files import canonical_json, sha256_bytes
from kit.gate import Evidence, Finding, Release, Verdict
from kit.parameter import ResolvedParameter, Source
from kit.project import Project
from kit.record import Code, Failure, Record, Status
from kit.testing import (
    encode_notebook,
    make_manifest,
    make_notebook,
    make_project,
    make_record,
    read_from,
    seal_record,
    seal_release,
)


class TwoTrainings(Kit):
    """`kit` in a project's folder, with two trainings that differ in a parameter, its cell, its text and a metric."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(project, capsys)
        self.before, self.after = self.train(2), self.train(3)

    def train(self, epochs: int, **facts: Any) -> Record:
        notebook = make_notebook(f"fit(epochs={epochs})")
        notebook["cells"][0]["outputs"] = [
            {"output_type": "stream", "name": "stdout", "text": f"loss {1 / epochs:.3f}\n"}
        ]
        common = {
            "parameters": (ResolvedParameter("epochs", epochs, Source.COMMAND_LINE, "int"),),
            "metrics": {"auc": 0.7 + epochs / 100},
            "code": Code(self.bundle(f"EPOCHS = {epochs}\n"), "notebooks/train.ipynb", "0" * 64, None, dirty=True),
            "configuration_sha256": self.archive.objects.put_bytes(canonical_json({"limits": {"timeout_s": epochs}})),
        }
        record = make_record(**{**common, **facts})
        files = {"executed.ipynb": encode_notebook(notebook), "requirements.txt": b""}
        return seal_record(self.archive, record, files)

    def bundle(self, helper: str) -> str:
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("notebooks/helper.py", helper)
        return self.archive.objects.put_bytes(buffer.getvalue())

    def release(self, **changes: Any) -> Release:
        verdict = Verdict("dev", "c" * 64, {}, (Evidence("code", "bundle.zip", Finding.HOLDS, "fine"),))
        manifest = make_manifest(verdict, **{"training_record": self.before.id, **changes})
        self.archive.objects.put_bytes(manifest.encode())
        return seal_release(self.archive, manifest)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> TwoTrainings:
    project = make_project(tmp_path)
    monkeypatch.chdir(project.root / "notebooks")
    return TwoTrainings(project, capsys)


@pytest.mark.parametrize("command", ["diff", "why"])
def test_help_begins_with_an_example(kit: TwoTrainings, command: str) -> None:
    help_ = kit(command, "--help")
    assert help_.code == 0
    assert help_.out.startswith(f"Example: kit {command} ")


def test_two_records_beside_each_other_on_a_terminal(kit: TwoTrainings) -> None:
    called = kit("diff", kit.before.id[-6:], kit.after.id[-6:])
    assert (called.code, called.err) == (0, "")
    assert called.out.splitlines()[:2] == [
        f"{side}  {record.id}  train in dev  succeeded  2026-03-01 09:30:00 UTC  5.0 s"
        for side, record in (("A", kit.before), ("B", kit.after))
    ]
    digests = [sha256_bytes(text) for text in (b"EPOCHS = 2\n", b"EPOCHS = 3\n")]
    assert called.out.split("\n", 3)[3] == (
        f"""what differs around them
  parameter 'epochs' was 2, is 3
  cell 'cell-0' was changed: line 1 was 'fit(epochs=2)', is 'fit(epochs=3)'
  code 'notebooks/helper.py' was {digests[0][:12]}…, is {digests[1][:12]}…
  configuration 'settings' was {kit.before.configuration_sha256[:12]}…, is {kit.after.configuration_sha256[:12]}…

parameters
  ~  epochs  2 → 3  from the command line

metrics
  ~  auc  0.72 → 0.73  +0.01  +1.39 %

cells
  ~ cell 1
      -fit(epochs=2)
      +fit(epochs=3)

what the cells put out
  ~ cell 1, output 1: text
      -loss 0.500
      +loss 0.333

code
  ~  bundle_sha256  {kit.before.code.bundle_sha256[:12]} → {kit.after.code.bundle_sha256[:12]}

files
  ~ notebooks/helper.py
      -EPOCHS = 2
      +EPOCHS = 3

configuration
  ~  limits.timeout_s  2.0 s → 3.0 s
"""
    )


def test_record_beside_itself_has_no_difference_and_counts_what_is_the_same(kit: TwoTrainings) -> None:
    called = kit("diff", kit.before.id, kit.before.id, "--exit-code")
    assert called.code == 0
    assert called.out.split("\n", 2)[2] == "\nno difference\n\nthe same: 1 parameter, 1 metric, 1 cell\n"
    assert kit("diff", kit.before.id, kit.after.id, "--exit-code").code == 1


def test_json_is_one_value_and_names_the_page(kit: TwoTrainings) -> None:
    called = kit("diff", kit.before.id, kit.after.id, "--json", "--html")
    value = called.json
    assert (called.code, value["differs"], value["format"]) == (0, True, 1)
    assert value["before"]["started"] == "2026-03-01T09:30:00.000Z"
    assert value["metrics"][0]["relative"] == pytest.approx(0.01 / 0.72)
    assert value["parameters"][0] == {
        "name": "epochs", "change": "changed", "before": 2, "after": 3,
        "source_before": "command line", "source_after": "command line",
    }  # fmt: skip
    page = Path(value["page"])
    assert page.parent == kit.project.reports / "diffs"
    assert "fit(epochs=" in page.read_text("utf-8")


def test_failed_record_tells_status_and_failure(kit: TwoTrainings) -> None:
    failed = kit.train(2, status=Status.FAILED, failure=Failure("ValueError", "no\x1b[2J rows", 0))
    called = kit("diff", kit.before.id, failed.id)
    assert "  ~  status       succeeded → failed\n" in called.out
    assert "  +  failure      ValueError: no\\x1b[2J rows\n" in called.out
    assert "\x1b" not in called.out


def test_two_releases_beside_each_other(kit: TwoTrainings) -> None:
    first = kit.release(metrics={"auc": 0.7})
    second = kit.release(
        metrics={"auc": 0.8},
        configuration={"limits": {"timeout_s": 9}},
        configuration_sha256=sha256_bytes(canonical_json({"limits": {"timeout_s": 9}})),
        training_record=kit.after.id,
    )
    for names in ((first.id, second.id), ("dev-1", "v-2")):
        called = kit("diff", *names, "--html")
        assert called.code == 0
        assert called.out.startswith("A  dev-1  cut 2026-03-01")
        assert re.search(r"  ~  limits.timeout_s +14400.0 s → 9.0 s\n", called.out)
        assert re.search(rf"=  training_record +{kit.before.id} → {kit.after.id}\n", called.out)
        assert "  ~  auc  0.7 → 0.8  +0.1  +14.3 %" in called.out
        assert f"their trainings, cell by cell: kit diff {kit.before.id} {kit.after.id}\n" in called.out
        assert f"page: {kit.project.reports}/diffs/dev-1--dev-2.html" in called.out
    assert kit("diff", "dev-1", "dev-2", "--json").json["metrics"][0]["difference"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("names", "code", "sentence"),
    [
        (("abcdef", "20260301"), 2, "no record or release is named 'abcdef'"),
        (("20260301", "20260301"), 2, "names 2 records"),
        (("BEFORE", "dev-1"), 2, "compare two of a kind"),
        (("BEFORE",), 2, "B"),
    ],
)
def test_wrong_call_is_one_sentence_also_as_json(
    kit: TwoTrainings, names: tuple[str, ...], code: int, sentence: str
) -> None:
    kit.release()
    arguments = ["diff", *(kit.before.id if name == "BEFORE" else name for name in names)]
    seen = [each for each in kit.archive.list_ids() if "-release-" not in each]
    assert len(seen) == 2
    if names[0] == "20260301":
        sentence = "names 3 records"
    called = kit(*arguments)
    assert (called.code, called.out) == (code, "")
    assert sentence in called.err
    as_json = kit(*arguments, "--json")
    assert (as_json.code, sentence in as_json.json["error"]["message"]) == (code, True)


def remove_notebook(kit: TwoTrainings) -> None:
    (kit.archive.record_folder(kit.after.id) / "executed.ipynb").unlink()


def spoil_notebook(kit: TwoTrainings) -> None:
    path = kit.archive.record_folder(kit.after.id) / "executed.ipynb"
    path.chmod(0o644)
    path.write_bytes(b"{")


def spoil_packages(kit: TwoTrainings) -> None:
    path = kit.archive.record_folder(kit.after.id) / "requirements.txt"
    path.chmod(0o644)
    path.write_bytes(b"no version\n\xff")


def remove_bundle(kit: TwoTrainings) -> None:
    kit.archive.objects.path(kit.after.code.bundle_sha256).unlink()


def spoil_configuration(kit: TwoTrainings) -> None:
    path = kit.archive.objects.path(kit.after.configuration_sha256)
    path.chmod(0o644)
    path.write_bytes(b"[1]")


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (remove_notebook, None),
        (spoil_notebook, "cells and outputs are not compared"),
        (spoil_packages, "packages are not compared"),
        (remove_bundle, "files of the source bundle are not compared"),
        (spoil_configuration, "the configuration is not compared key by key"),
    ],
)
def test_what_is_gone_or_spoilt_is_noted_and_the_rest_compared(
    kit: TwoTrainings, spoil: Callable[[Kit], None], note: str | None
) -> None:
    spoil(kit)
    called = kit("diff", kit.before.id, kit.after.id)
    assert (called.code, called.err) == (0, "")
    assert "  ~  epochs  2 → 3" in called.out
    assert note is None or f"note: {kit.after.id}: {note}" in called.out
    assert str(kit.project.root) not in called.out


def test_packages_that_are_not_those_of_the_record_are_noted(kit: TwoTrainings) -> None:
    path = kit.archive.record_folder(kit.after.id) / "requirements.txt"
    path.chmod(0o644)
    path.write_bytes(b"numpy==2.0\n")
    called = kit("diff", kit.before.id, kit.after.id)
    assert "its requirements.txt is not the one that the record names" in called.out
    assert "  +  numpy  2.0" in called.out


def test_open_record_is_compared_up_to_where_it_stands(kit: TwoTrainings) -> None:
    started = msgspec.structs.replace(kit.after, id=kit.after.id[:-6] + "ffffff", status=Status.STARTED, ended=None)
    kit.archive.open_record(started, {"source.ipynb": encode_notebook(make_notebook("fit(epochs=3)"))})
    called = kit("diff", kit.before.id, started.id)
    assert called.code == 0
    assert "never closed" in called.out


def test_colours_are_there_only_if_wanted(kit: TwoTrainings) -> None:
    difference = diff_named(kit.archive, kit.before.id, kit.after.id)
    plain, coloured = (describe_record_diff(difference, in_colour=each) for each in (False, True))  # type: ignore[arg-type]
    assert "\x1b" not in plain
    assert "\x1b[31m      -fit(epochs=2)\x1b[0m" in coloured
    assert "\x1b[32m      +fit(epochs=3)\x1b[0m" in coloured


def test_long_difference_is_cut_and_says_where_the_rest_is(kit: TwoTrainings) -> None:
    sides = [
        Side(record=make_record(), notebook=make_notebook("\n".join(f"{name}{n}" for n in range(100)))) for name in "ab"
    ]
    text = describe_record_diff(diff_records(*sides))
    assert "      … 170 more lines; --html and --json have them all" in text


def test_long_line_is_shown_from_where_it_differs() -> None:
    sides = [Side(record=make_record(), notebook=make_notebook(f"{'x' * 5000} = {name}")) for name in "ab"]
    lines = describe_record_diff(diff_records(*sides)).splitlines()
    assert f"      -…{'x' * 37} = a" in lines
    assert f"      +…{'x' * 37} = b" in lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext é 中 🙂", "plain\ttext é 中 🙂"),
        ("\x1b[31m\r\n\x00", "\\x1b[31m\\r\\n\\x00"),
        ("a\u202eb\u2028\x9b", "a\\u202eb\\u2028\\x9b"),
        ("\ud800", "\\ud800"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)
def test_nothing_that_acts_reaches_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_side_of_a_record_holds_all_that_is_left_of_it(kit: TwoTrainings) -> None:
    side = read_side(kit.archive, kit.before)
    assert side.notes == {}
    assert (side.packages, side.configuration) == ({}, {"limits": {"timeout_s": 2}})
    assert list(side.sources or {}) == ["notebooks/helper.py"]


@pytest.mark.parametrize(("n", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1024, "1,024 rows")])
def test_things_are_counted_in_words(n: int, text: str) -> None:
    assert count(n, "row") == text


def test_cell_that_failed_is_counted_as_everywhere_else(kit: TwoTrainings) -> None:
    failed = seal_record(kit.archive, make_record(status=Status.FAILED, failure=Failure("ValueError", "no", 14)))
    assert re.search(r"failed_cell +cell 15$", kit("diff", kit.before.id, failed.id).out, re.MULTILINE)
    assert "cell 15 of executed.ipynb" in kit("show", failed.id).out


def test_one_record_one_package_one_artifact_are_counted_as_one(kit: TwoTrainings) -> None:
    software = msgspec.structs.replace(make_record().software, n_packages=1)
    table = Artifact("one.csv", kit.archive.objects.put_bytes(b"1"), 1, "text/csv")
    prepared = seal_record(kit.archive, make_record(stage="prepare", outputs=(table,), software=software))
    reader = seal_record(kit.archive, make_record(inputs=(read_from(prepared, table),)))
    why = kit("why", table.sha256).out
    assert (", read by 1 record\n" in why, ", 1 package, " in why) == (True, True), why
    assert ", not in git" in kit("show", reader.id).out


# --- why


def test_why_draws_the_tree_and_gives_it_as_json(kit: TwoTrainings) -> None:
    table = Artifact("table.csv", kit.archive.objects.put_bytes(b"1"), 1, "text/csv")
    prepared = seal_record(kit.archive, make_record(stage="prepare", outputs=(table,)))
    reader = seal_record(kit.archive, make_record(inputs=(read_from(prepared, table),)))
    called = kit("why", reader.id)
    assert (called.code, called.err) == (0, "")
    bundle = f"bundle {reader.code.bundle_sha256[:12]}, not in the archive, not in git"
    machine = f"configuration {reader.configuration_sha256[:12]}, kit 0.1.0, CPython 3.12, 0 packages, Linux"
    assert called.out == (
        f"record {reader.id}  train in dev, succeeded, 2026-03-01 09:30:00 UTC\n"
        f"├─ code notebooks/train.ipynb, {bundle}\n"
        f"├─ environment dev, {machine}\n"
        f"└─ table.csv  sha256 {table.sha256[:12]}, 1 B\n"
        f"   └─ record {prepared.id}  prepare in dev, succeeded, 2026-03-01 09:30:00 UTC\n"
        f"      ├─ code notebooks/prepare.ipynb, {bundle}\n"
        f"      └─ environment dev, {machine}\n"
    )
    value = kit("why", "table.csv", "--json").json
    assert list(value) == sorted(["kind", "name", "facts", "finding", "detail", "repeated", "children"])
    assert (value["kind"], value["children"][0]["name"]) == ("artifact", prepared.id)


def test_why_ends_with_1_for_a_contradiction_and_3_for_what_is_missing(kit: TwoTrainings) -> None:
    table = Artifact("table.csv", "1" * 64, 1, "text/csv")
    denied = seal_record(kit.archive, make_record(inputs=(read_from(kit.before, table),)))
    missing = seal_record(kit.archive, make_record(inputs=(read_from(make_record(stage="prepare"), table),)))
    called = kit("why", denied.id)
    assert (called.code, "CONTRADICTION: did not write table.csv" in called.out) == (1, True)
    called = kit("why", missing.id, "--json")
    assert (called.code, called.json["children"][-1]["children"][0]["finding"]) == (3, "undecided")


def test_why_names_records_that_it_could_not_look_at(kit: TwoTrainings) -> None:
    broken = kit.archive.record_folder(kit.after.id) / "record.json"
    broken.chmod(0o644)
    broken.write_bytes(b"{")
    called = kit("why", "nothing")
    assert called.code == 3
    assert "not everything can be read" in called.err


def test_why_of_nothing_known_ends_with_1(kit: TwoTrainings) -> None:
    called = kit("why", "nothing", "--json")
    assert (called.code, called.json["error"]["kind"]) == (1, "NotFoundError")
