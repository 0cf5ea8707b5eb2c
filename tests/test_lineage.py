"""Where things come from: trees that hold, trees that do not, and archives that someone tampered with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.archive import Archive
from kit.artifact import Artifact, InputArtifact
from kit.cli.tree import draw_tree
from kit.errors import IntegrityError, NotFoundError, UndecidableError, UsageError
from kit.gate import Evidence, Verdict
from kit.gate import Finding as GateFinding
from kit.lineage import Finding, Kind, Node, explain_origin, find_subject, read_lineage, trace_record
from kit.lineage.walk import MAX_DEPTH
from kit.parameter import ResolvedParameter, Source
from kit.record import Record
from kit.testing import (
    START,
    make_manifest,
    make_project,
    make_record,
    make_workbench,
    read_from,
    seal_record,
    seal_release,
)


class Case:
    """raw.csv → prepare → table.csv → train → model.bin, in an archive."""

    def __init__(self, folder: Path) -> None:
        self.archive: Archive = make_workbench(make_project(folder)).archive
        self.raw = self.put("raw.csv", b"x\n1\n")
        self.table = self.put("table.csv", b"x,y\n1,2\n")
        self.model = self.put("model.bin", b"weights")
        source = InputArtifact(self.raw, source="data/raw.csv", sha256_after=self.raw.sha256)
        self.prepared = self.seal(stage="prepare", inputs=(source,), outputs=(self.table,))
        self.trained = self.seal(
            inputs=(read_from(self.prepared, self.table),),
            outputs=(self.model,),
            metrics={"auc": 0.7},
            parameters=(
                ResolvedParameter("epochs", 5, Source.COMMAND_LINE, "int"),
                ResolvedParameter("rate", 0.1, Source.NOTEBOOK, "float"),
            ),
        )

    def put(self, name: str, data: bytes) -> Artifact:
        return Artifact(name, self.archive.objects.put_bytes(data), len(data), "application/octet-stream")

    def seal(self, **facts: Any) -> Record:
        return seal_record(self.archive, make_record(**facts))

    def file(self, record: Record) -> Path:
        return self.archive.record_folder(record.id) / "record.json"

    def rewrite(self, record: Record, data: bytes) -> None:
        self.file(record).chmod(0o644)
        self.file(record).write_bytes(data)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def outline(node: Node) -> Any:
    """A tree without code and environments."""
    children = [outline(each) for each in node.children if each.kind not in (Kind.CODE, Kind.ENVIRONMENT)]
    return (node.name, children) if children else node.name


def find(node: Node, kind: Kind, name: str = "") -> Node:
    return next(each for each in node.walk() if each.kind is kind and name in each.name)


# --- trees that hold


def test_artifact_leads_back_to_raw_data_code_and_environment(case: Case) -> None:
    node = explain_origin(case.archive, "model.bin")
    assert node.worst is Finding.HOLDS
    assert outline(node) == (
        "model.bin",
        [(case.trained.id, [("table.csv", [(case.prepared.id, [("raw.csv", ["data/raw.csv"])])])])],
    )
    record = find(node, Kind.RECORD)
    assert record.facts["parameters"] == [{"name": "epochs", "value": 5, "source": "command line"}]
    assert record.facts["n_default_parameters"] == 1
    assert find(node, Kind.CODE).name == case.trained.code.bundle_sha256
    assert find(node, Kind.ENVIRONMENT).facts["kit_version"] == "0.1.0"
    assert node.facts == {
        "sha256": case.model.sha256, "size_bytes": 7, "media_type": "application/octet-stream", "in_archive": True,
    }  # fmt: skip


def test_record_release_metric_and_artifact_of_a_record_are_found_by_their_names(case: Case, tmp_path: Path) -> None:
    end = case.trained.id[-6:]
    for target, kind, name in (
        (case.trained.id, Kind.RECORD, case.trained.id),
        (end, Kind.RECORD, case.trained.id),
        (f"{end}/model.bin", Kind.ARTIFACT, "model.bin"),
        (f"{end}/table.csv", Kind.ARTIFACT, "table.csv"),
        (f"{end}#auc", Kind.METRIC, "auc"),
        (case.model.sha256, Kind.ARTIFACT, "model.bin"),
        (f"sha256:{case.model.sha256[:8].upper()}", Kind.ARTIFACT, "model.bin"),
        ("raw.csv", Kind.ARTIFACT, "raw.csv"),
    ):
        node = explain_origin(case.archive, target)
        assert (node.kind, node.name, node.worst) == (kind, name, Finding.HOLDS), target


def test_name_stands_for_the_newest_record_that_wrote_it(case: Case) -> None:
    later = START.replace(hour=11)
    newer = case.seal(stage="train", started=later, outputs=(case.put("model.bin", b"other"),))
    assert find(explain_origin(case.archive, "model.bin"), Kind.RECORD).name == newer.id


def test_bytes_of_a_file_lead_to_all_records_that_wrote_or_read_them(case: Case, tmp_path: Path) -> None:
    again = case.seal(stage="prepare", started=START.replace(hour=11), outputs=(case.table,))
    file = tmp_path / "ünïcode copy.csv"
    file.write_bytes(b"x,y\n1,2\n")
    node = explain_origin(case.archive, str(file))
    assert [child.name for child in node.children] == [again.id, case.prepared.id]
    assert [child.repeated for child in node.children] == [False, True]
    assert node.facts["read_by"] == [case.trained.id]


def test_file_that_was_only_read_leads_to_its_location(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "copy.csv"
    file.write_bytes(b"x\n1\n")
    assert outline(explain_origin(case.archive, str(file))) == ("raw.csv", ["data/raw.csv"])


def test_folder_is_found_by_its_content(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables/a").write_bytes(b"1")
    artifact = case.archive.objects.put_artifact("saved_model", folder)
    written = case.seal(started=START.replace(hour=12), outputs=(artifact,))
    assert find(explain_origin(case.archive, str(folder)), Kind.RECORD).name == written.id


def test_record_that_two_inputs_came_from_is_told_once(case: Case) -> None:
    other = case.put("other.csv", b"o")
    both = case.seal(stage="prepare", outputs=(case.table, other))
    reader = case.seal(inputs=(read_from(both, case.table), read_from(both, other)))
    told = [each.repeated for each in trace_record(case.archive, reader).walk() if each.name == both.id]
    assert told == [False, True]


def make_release(case: Case, **changes: Any) -> Any:
    verdict = Verdict("dev", "c" * 64, {}, (Evidence("code", "bundle.zip", GateFinding.HOLDS, "fine"),))
    facts = {
        "training_record": case.trained.id,
        "artifacts": (case.model,),
        "bundle_sha256": case.trained.code.bundle_sha256,
    }
    manifest = make_manifest(verdict, **{**facts, **changes})
    case.archive.objects.put_bytes(manifest.encode())
    return seal_release(case.archive, manifest)


def test_release_leads_to_its_training(case: Case) -> None:
    release = make_release(case)
    node = explain_origin(case.archive, release.id)
    training = node.children[0]
    assert (training.name, training.finding) == (case.trained.id, Finding.HOLDS)
    assert node.facts["artifacts"] == {"model.bin": case.model.sha256}
    assert node.children[1].name == release.record


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"artifacts": (Artifact("model.bin", "f" * 64, 1, "x"),)}, "did not write model.bin ffffffffffff"),
        ({"bundle_sha256": "f" * 64}, "released is ffffffffffff"),
    ],
)
def test_release_of_what_its_training_did_not_make_is_a_contradiction(
    case: Case, changes: dict[str, Any], sentence: str
) -> None:
    node = explain_origin(case.archive, make_release(case, **changes).id)
    assert node.children[0].finding is Finding.CONTRADICTS
    assert sentence in node.children[0].detail
    assert node.worst is Finding.CONTRADICTS


def test_build_that_did_not_make_the_bundle_is_a_contradiction(case: Case) -> None:
    build = case.seal(stage="build", outputs=(Artifact("bundle.zip", "f" * 64, 1, "application/zip"),))
    code = msgspec.structs.replace(case.trained.code, build=build.id)
    assert trace_record(case.archive, case.seal(code=code)).worst is Finding.CONTRADICTS
    made = case.seal(
        stage="build", outputs=(Artifact("bundle.zip", case.trained.code.bundle_sha256, 1, "application/zip"),)
    )
    code = msgspec.structs.replace(case.trained.code, build=made.id)
    node = trace_record(case.archive, case.seal(code=code))
    assert (node.worst, find(node, Kind.CODE).children[0].name) == (Finding.HOLDS, made.id)


# --- trees that do not hold


def remove(case: Case) -> None:
    case.file(case.prepared).unlink()


def corrupt(case: Case) -> None:
    case.rewrite(case.prepared, b"{")


def make_unreadable(case: Case) -> None:
    case.rewrite(case.prepared, b'{"format": 99}')


@pytest.mark.parametrize("spoil", [remove, corrupt, make_unreadable])
def test_producer_that_cannot_be_read_is_shown_and_undecided(case: Case, spoil: Callable[[Case], None]) -> None:
    spoil(case)
    node = explain_origin(case.archive, case.trained.id)
    producer = find(node, Kind.RECORD, case.prepared.id)
    assert (producer.finding, node.worst) == (Finding.UNDECIDED, Finding.UNDECIDED)
    assert "its producer cannot be read" in producer.detail
    assert "CANNOT BE DECIDED: its producer cannot be read" in draw_tree(node)


def test_producer_that_wrote_other_bytes_is_a_contradiction_and_outweighs_what_is_undecided(case: Case) -> None:
    other = Artifact("table.csv", "f" * 64, 3, "text/csv")
    gone = InputArtifact(Artifact("gone.csv", "e" * 64, 1, "x"), record="20260301T093000Z-prepare-000000")
    reader = case.seal(inputs=(gone, read_from(case.prepared, other)))
    node = trace_record(case.archive, reader)
    producer = find(node, Kind.RECORD, case.prepared.id)
    assert producer.finding is Finding.CONTRADICTS
    assert f"did not write table.csv ffffffffffff: it wrote {case.table.sha256[:12]}" in producer.detail
    assert node.worst is Finding.CONTRADICTS
    with pytest.raises(IntegrityError, match=r"did not write the 'table\.csv'"):
        read_lineage(case.archive, case.seal(inputs=(read_from(case.prepared, other),)))


@pytest.mark.parametrize("record_id", ["../../../etc", "a\0b", "x" * 5000, "", "\ud800"])
def test_producer_with_a_name_that_is_no_id_is_undecided_or_a_source(case: Case, record_id: str) -> None:
    reader = make_record(inputs=(InputArtifact(case.table, record=record_id),))
    node = trace_record(case.archive, reader)
    assert node.worst is (Finding.UNDECIDED if record_id else Finding.HOLDS)
    assert "\0" not in draw_tree(node)


def test_records_that_claim_to_come_from_each_other_end_the_walk(case: Case) -> None:
    made = {"stage": "prepare", "inputs": (read_from(case.trained, case.model),), "outputs": (case.table,)}
    case.rewrite(case.prepared, msgspec.structs.replace(case.prepared, **made).encode())
    node = trace_record(case.archive, case.trained)
    assert node.worst is Finding.CONTRADICTS
    assert "is an origin of itself" in draw_tree(node)


def test_endless_chain_of_records_is_followed_to_a_limit(case: Case) -> None:
    last = case.prepared
    for n in range(MAX_DEPTH + 20):
        last = case.seal(
            stage="prepare",
            started=START.replace(second=n % 60),
            inputs=(read_from(last, case.table),),
            outputs=(case.table,),
        )
    node = trace_record(case.archive, last)
    assert node.worst is Finding.UNDECIDED
    assert f"more than {MAX_DEPTH} records" in draw_tree(node)
    msgspec.json.encode(node)


def test_input_that_changed_while_it_was_read_is_pointed_out(case: Case) -> None:
    changed = msgspec.structs.replace(read_from(case.prepared, case.table), sha256_after="f" * 64)
    assert "changed while it was read" in draw_tree(trace_record(case.archive, case.seal(inputs=(changed,))))


def test_artifact_that_is_not_in_the_archive_is_said_to_be_gone(case: Case) -> None:
    case.archive.objects.path(case.model.sha256).unlink()
    node = explain_origin(case.archive, "model.bin")
    assert (node.facts["in_archive"], node.worst) == (False, Finding.HOLDS)
    assert "not in the archive" in draw_tree(node).splitlines()[0]


# --- names that lead nowhere, or to several


@pytest.mark.parametrize("target", ["", "nothing", "abcdef0123", "#", "#auc", "gone/path.csv", "ü", "x" * 300])
def test_unknown_name_says_what_could_have_been_meant(case: Case, target: str) -> None:
    with pytest.raises(NotFoundError, match="nothing is called"):
        explain_origin(case.archive, target)


def test_record_without_that_artifact_or_metric_names_those_it_has(case: Case) -> None:
    with pytest.raises(NotFoundError, match=r"neither wrote nor read 'x'; it has model\.bin, table\.csv"):
        explain_origin(case.archive, f"{case.trained.id}/x")
    with pytest.raises(NotFoundError, match="has no metric 'x'; it has auc"):
        explain_origin(case.archive, f"{case.trained.id}#x")


def test_bytes_that_no_record_knows_are_not_found(case: Case, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(NotFoundError, match="no record wrote or read these bytes"):
        explain_origin(case.archive, str(tmp_path / "other"))


def test_name_that_a_newer_unreadable_record_may_have_is_undecided(case: Case) -> None:
    newer = case.seal(started=START.replace(hour=11))
    case.rewrite(newer, b"{")
    node = explain_origin(case.archive, "model.bin")
    assert (node.worst, newer.id in node.detail) == (Finding.UNDECIDED, True)
    with pytest.raises(UndecidableError, match="not everything can be read"):
        explain_origin(case.archive, "nothing")


def test_older_unreadable_record_leaves_the_newest_undoubted(case: Case) -> None:
    older = case.seal(started=START.replace(hour=7))
    case.rewrite(older, b"{")
    assert explain_origin(case.archive, "model.bin").worst is Finding.HOLDS


def test_ambiguous_names_are_refused_with_what_they_could_mean(case: Case) -> None:
    with pytest.raises(UsageError, match="names 2 records"):
        explain_origin(case.archive, "20260301")
    with pytest.raises(UsageError, match="names 2 records"):
        find_subject(case.archive, "20260301")


def test_release_is_found_whole_before_any_beginning(case: Case) -> None:
    releases = [make_release(case) for _ in range(11)]
    assert find_subject(case.archive, "dev-1") == releases[0]
    assert find_subject(case.archive, "v-11") == releases[10]
    with pytest.raises(UsageError, match="names 11 releases"):
        find_subject(case.archive, "dev")
    for name in ("", "prod", "dev-12"):
        with pytest.raises(NotFoundError):
            find_subject(case.archive, name)


def test_tree_is_drawn_with_branches_and_without_what_could_act_on_a_terminal(case: Case) -> None:
    evil = case.seal(
        inputs=(InputArtifact(Artifact("raw.csv", "1" * 64, 1, "x"), source="\x1b[2Jdata\u202e/evil\n"),),
        parameters=(ResolvedParameter("name", "\x1b[31m", Source.COMMAND_LINE, "str"),),
    )
    text = draw_tree(trace_record(case.archive, evil))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.splitlines()[-2:] == [
        "└─ raw.csv  sha256 111111111111, 1 B, not in the archive",
        "   └─ data source \\x1b[2Jdata\\u202e/evil\\n",
    ]
