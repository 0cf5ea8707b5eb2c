"""Writing exports: deterministic, complete, verified on the way, nothing left behind."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from crates import MANIFEST, MODEL, RAW, export, find, make_history, read_zip, sha256, snapshot

from kit.checkpoint import Checkpoint
from kit.crate import export_crate
from kit.crate.limits import Limits, require_within_limits
from kit.errors import IntegrityError, KitError, NotFoundError, UsageError
from kit.execute import Workbench
from kit.merkle import hash_leaf, root_from_inclusion, tree_root
from kit.names import find_unportable
from kit.record import Status
from kit.testing import make_key, make_record


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Only read."""
    return make_history(tmp_path_factory.mktemp("project"), make_key())


@pytest.fixture
def history(tmp_path: Path) -> Workbench:
    """To be damaged."""
    return make_history(tmp_path / "project", make_key())


@pytest.mark.parametrize("subject", ["train", "dev-1"])
def test_same_archive_gives_the_same_bytes(shared: Workbench, tmp_path: Path, subject: str) -> None:
    first, second = (export(shared, subject, tmp_path / f"{n}.zip").read_bytes() for n in "ab")
    assert first == second


def test_exporting_changes_nothing_in_the_archive(shared: Workbench, tmp_path: Path) -> None:
    before = snapshot(shared.archive.folder)
    export(shared, "dev-1", tmp_path / "a.zip")
    assert snapshot(shared.archive.folder) == before


def test_manifest_names_every_other_file_with_its_digest(shared: Workbench, tmp_path: Path) -> None:
    files = read_zip(export(shared, "dev-1", tmp_path / "a.zip"))
    lines = files.pop(MANIFEST).decode().splitlines()
    assert lines == [f"{sha256(data)}  {name}" for name, data in files.items()]


def test_record_brings_what_it_read_wrote_and_executed(shared: Workbench, tmp_path: Path) -> None:
    record = find(shared.archive, "train")
    files = read_zip(export(shared, "train", tmp_path / "a.zip"))
    held = {sha256(data) for data in files.values()}
    named = {each.sha256 for each in record.outputs} | {each.artifact.sha256 for each in record.inputs}
    tree = shared.archive.objects.read_tree(record.outputs[0])
    named |= {entry.sha256 for entry in tree.files} | {record.code.bundle_sha256, record.configuration_sha256}
    assert named <= held
    for name, data in snapshot(shared.archive.record_folder(record.id)).items():
        assert files[f"records/{record.id}/{name}"] == data
    assert sha256(files[f"workflow/{record.id}/train.ipynb"]) == record.code.notebook_sha256


def test_run_brings_the_model_that_its_release_pins(shared: Workbench, tmp_path: Path) -> None:
    names = read_zip(export(shared, "run", tmp_path / "a.zip"))
    assert [name for name in names if f"/{MODEL}/" in name]


def test_release_brings_its_whole_lineage_and_nothing_else(shared: Workbench, tmp_path: Path) -> None:
    release = shared.archive.find_release("dev-1")
    assert release is not None
    done = export_crate(shared.archive, release, tmp_path / "a.zip", "example", shared.trusted_keys)
    stages = ("build", "prepare", "train", "release")
    assert done.records == tuple(find(shared.archive, stage).id for stage in stages)
    assert (done.release, done.unsigned, len(done.signers)) == ("dev-1", (), 1)
    names = list(read_zip(tmp_path / "a.zip"))
    assert len([name for name in names if name.endswith("/bundle.zip")]) == 1, "one content, one place"
    assert [name for name in names if name.endswith(f"/{RAW}")]


def test_unsigned_work_is_exported_and_named_as_such(tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project")
    record = find(workbench.archive, "train")
    done = export_crate(workbench.archive, record, tmp_path / "a.zip", "example")
    assert (done.signers, done.unsigned) == ((), (record.id,))
    assert not [name for name in read_zip(tmp_path / "a.zip") if name.endswith((".sig", ".pem"))]


def test_proof_leads_from_each_entry_to_the_checkpoint(shared: Workbench, tmp_path: Path) -> None:
    files = read_zip(export(shared, "dev-1", tmp_path / "a.zip"))
    entries = sorted(name for name in files if name.startswith("proof/entries/"))
    size = int(files["proof/checkpoint/note"].split(b"\n")[1])
    assert (len(entries), size) == (9, shared.archive.ledger.size())  # a start and an end for each, and the release
    for name in entries:
        number = name[-14:-5]
        path = [data for key, data in sorted(files.items()) if key.startswith(f"proof/paths/{number}/")]
        root = root_from_inclusion(hash_leaf(files[name]), int(number) - 1, size, path)
        assert root == files["proof/checkpoint/root.bin"]


def test_checkpoint_that_the_archive_holds_is_the_one_that_is_shown(history: Workbench, tmp_path: Path) -> None:
    ledger, held = history.archive.ledger, make_key("held@ci")
    leaves = [hash_leaf(ledger.path(seq).read_bytes()) for seq in range(1, 8)]
    note = held.sign_checkpoint(Checkpoint(history.archive.origin, 7, tree_root(leaves))).encode()
    ledger.checkpoints.mkdir(exist_ok=True)
    (ledger.checkpoints / "7").write_bytes(note)
    assert read_zip(export(history, "train", tmp_path / "a.zip"))["proof/checkpoint/note"] == note
    later = read_zip(export(history, "run", tmp_path / "b.zip"))["proof/checkpoint/note"]
    assert later.split(b"\n")[1] == str(ledger.size()).encode(), "the held one does not cover the run"


def test_large_files_are_not_read_into_memory(tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", data="0" * (64 << 20))
    tracemalloc.start()
    try:
        export(workbench, "prepare", tmp_path / "a.zip")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a.zip").stat().st_size > 64 << 20
    assert peak_bytes < 16 << 20


def edit(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")


def edit_output(history: Workbench) -> None:
    edit(history.archive.objects.path(find(history.archive, "train").outputs[1].sha256))


def remove_output(history: Workbench) -> None:
    history.archive.objects.path(find(history.archive, "train").outputs[1].sha256).unlink()


def edit_notebook(history: Workbench) -> None:
    edit(history.archive.record_folder(find(history.archive, "train").id) / "executed.ipynb")


def add_file(history: Workbench) -> None:
    (history.archive.record_folder(find(history.archive, "train").id) / "notes.txt").write_bytes(b"")


def add_link(history: Workbench) -> None:
    (history.archive.record_folder(find(history.archive, "train").id) / "log.txt").symlink_to("/etc/hostname")


def remove_statement(history: Workbench) -> None:
    (history.archive.record_folder(find(history.archive, "train").id) / "statement.dsse.json").unlink()


def replace_statement(history: Workbench) -> None:
    """A good statement, that the ledger does not know."""
    archive = history.archive
    path = archive.record_folder(find(archive, "train").id) / "statement.dsse.json"
    statement = archive.read_envelope(find(archive, "train").id).read_statement("here")
    path.chmod(0o644)
    path.write_bytes(make_key("eve").sign_statement(statement).encode())


def forge_checkpoint(history: Workbench) -> None:
    ledger = history.archive.ledger
    ledger.checkpoints.mkdir(exist_ok=True)
    (ledger.checkpoints / "9").write_bytes(Checkpoint(history.archive.origin, 9, bytes(32)).encode())


@pytest.mark.parametrize(
    ("damage", "kind", "sentence"),
    [
        (edit_output, IntegrityError, "golden.json was changed in the archive"),
        (remove_output, NotFoundError, "golden.json: object .* is not in the archive"),
        (edit_notebook, IntegrityError, "executed.ipynb is not what its statement names"),
        (add_file, IntegrityError, "notes.txt is there, but its statement does not name it"),
        (add_link, IntegrityError, "log.txt', which is no regular file"),
        (remove_statement, IntegrityError, "has no statement.dsse.json"),
        (replace_statement, IntegrityError, "the ledger has another statement for its end"),
        (forge_checkpoint, IntegrityError, "checkpoints/9 is not about this ledger"),
    ],
)
def test_damaged_record_is_not_exported(
    history: Workbench, tmp_path: Path, damage: Callable[[Workbench], None], kind: type[KitError], sentence: str
) -> None:
    damage(history)
    with pytest.raises(kind, match=sentence):
        export(history, "train", tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == [tmp_path / "project"], "something was left behind"


def test_open_record_is_not_exported(history: Workbench, tmp_path: Path) -> None:
    started = make_record(status=Status.STARTED, ended=None)
    history.archive.open_record(started, {})
    with pytest.raises(UsageError, match="was never closed"):
        export_crate(history.archive, history.archive.read_record(started.id), tmp_path / "a.zip", "example")


def test_file_that_is_there_is_not_replaced(shared: Workbench, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"precious")
    with pytest.raises(UsageError, match="is there already"):
        export(shared, "train", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"precious"
    with pytest.raises(UsageError, match="there is no folder"):
        export(shared, "train", tmp_path / "none/a.zip")


def test_what_nobody_could_read_is_not_written() -> None:
    limits = Limits(n_files=3, size_bytes=100)
    require_within_limits(3, 100, limits)
    with pytest.raises(UsageError, match="4 files, more than the 3"):
        require_within_limits(4, 1, limits)
    with pytest.raises(UsageError, match="101 B, more than the 100 B"):
        require_within_limits(1, 101, limits)


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/passwd"], ["../a"], ["a/../b"], ["a/./b"], ["a//b"], ["a/"], [""], ["a\\b"], ["a\nb"], ["a\0b"], ["\ud800"],
        ["a", "a"], ["a", "A"], ["a/x", "A/y"], ["é", "e\u0301"], ["a", "a/b"], ["a/b", "a"], ["x" * 256], ["é" * 128],
        ["/".join(["x" * 200] * 6)],
    ],
)  # fmt: skip
def test_names_that_some_system_cannot_hold_are_found(paths: list[str]) -> None:
    assert find_unportable(paths)


def test_other_names_are_fine() -> None:
    assert find_unportable(["a", "b/a", "b/c d#%20ä.txt", "B2/…", "x" * 255, ".hidden/…", "a b/ c"]) == ""
