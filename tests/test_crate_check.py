"""docs/check-an-export.md: its blocks, run by sh on real exports, let a good one pass and stop at what is wrong."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from crates import MODEL, TABLE, do_again, export, find, make_entry, make_history, read_zip, sha256, write_zip, zip_of
from probes import GOOD

from kit.crate.contents import list_lineage
from kit.execute import Order, Workbench
from kit.pipeline import execute_stage
from kit.signing import SigningKey
from kit.testing import make_key

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/check-an-export.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
TOOLS = [tool for tool in ("sh", "unzip", "sha256sum", "openssl") if shutil.which(tool) is None]
needs_tools = pytest.mark.skipif(bool(TOOLS), reason=f"the page needs {', '.join(TOOLS)}, not installed here")

UNPACK, MANIFEST, SIGNATURE, FILES, LEDGER, ROOT_SIGNATURE, DONE = range(1, 8)
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return make_key()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Workbench:
    return make_history(tmp_path_factory.mktemp("project"), key)


@pytest.fixture
def good(history: Workbench, tmp_path: Path) -> Files:
    return read_zip(export(history, "train", tmp_path / "good.zip"))


def check(folder: Path, file: Path, key: SigningKey) -> int:
    """The number of the step that an auditor does not get past; DONE if all hold."""
    return audit(folder, file, key)[0]


def audit(folder: Path, file: Path, key: SigningKey) -> tuple[int, list[str]]:
    """The same, and what is said to be not signed."""
    (folder / "audit").mkdir()
    (folder / "trusted.pem").write_bytes(key.public.pem)
    script = "".join(f"echo step {n}\n{block}" for n, block in enumerate(BLOCKS, 1)) + f"echo step {DONE}\n"
    environment = {
        "PATH": os.environ["PATH"],
        "EXPORT": str(file),
        "KEY": str(folder / "trusted.pem"),
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        ["sh", "-c", script], cwd=folder / "audit", env=environment, capture_output=True, text=True, check=False
    )
    last = int(re.findall(r"step (\d)", done.stdout)[-1])
    assert (done.returncode == 0) == (last == DONE), done.stderr
    return last, [line for line in done.stdout.splitlines() if "NOT SIGNED" in line]


def test_page_and_what_exports_bring_along_are_the_same() -> None:
    assert PAGE.read_bytes() == (ROOT / "kit/crate/check-an-export.md").read_bytes()
    assert len(BLOCKS) == DONE - 1


@needs_tools
@pytest.mark.parametrize("subject", ["build", "prepare", "train", "release", "run", "dev-1"])
def test_good_export_passes_every_step(history: Workbench, key: SigningKey, tmp_path: Path, subject: str) -> None:
    assert check(tmp_path, export(history, subject, tmp_path / "a.zip"), key) == DONE


@needs_tools
def test_names_that_mean_something_to_a_shell_pass(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", key, table="""-n "a" [b]*? {c}, $(d) 'e' & ^f. ´g`.csv""")
    assert check(tmp_path, export(workbench, "dev-1", tmp_path / "a.zip"), key) == DONE


@needs_tools
def test_wrong_key_is_refused(history: Workbench, tmp_path: Path) -> None:
    assert check(tmp_path, export(history, "train", tmp_path / "a.zip"), make_key()) == SIGNATURE


@needs_tools
def test_unsigned_export_passes_and_is_said_to_be_unsigned(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project")
    records = [find(workbench.archive, stage).id for stage in ("build", "prepare", "release", "train")]
    step, unsigned = audit(tmp_path, export(workbench, "dev-1", tmp_path / "a.zip"), key)
    assert step == DONE
    said = [f"{record}: NOT SIGNED (statement)" for record in records] + [f"{records[2]}: NOT SIGNED (verdict)"]
    assert sorted(unsigned) == sorted([*said, "proof/checkpoint/note: NOT SIGNED"])


@needs_tools
def test_mixed_export_names_the_record_that_is_not_signed(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", key)
    workbench.archive.key = None
    unsigned = execute_stage(workbench, Order("train", "dev")).record
    workbench.archive.key = key
    execute_stage(workbench, Order("release", "dev"), probes=GOOD)
    release = workbench.archive.list_releases()[-1]
    assert unsigned.id in {record.id for record in list_lineage(workbench.archive, release)}
    step, said = audit(tmp_path, export(workbench, release.id, tmp_path / "a.zip"), key)
    assert (step, said) == (DONE, [f"{unsigned.id}: NOT SIGNED (statement)"])


@needs_tools
def test_signature_that_was_removed_is_seen(good: Files, key: SigningKey, tmp_path: Path) -> None:
    record = one(good, "records/.*/record.json").split("/")[1]
    for name in ("statements/.*/statement.sig", "checkpoint/signed.sig"):
        remove(f"proof/{name}")(good)
    step, said = audit(tmp_path, write_zip(tmp_path / "bad.zip", good), key)
    assert (step, said) == (DONE, [f"{record}: NOT SIGNED (statement)", "proof/checkpoint/note: NOT SIGNED"])


@needs_tools
def test_comparison_is_checked_with_the_records(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", key)
    again = do_again(workbench, "train")
    for name, subject in (("again", again.id), ("first", again.reproduces or "")):
        (tmp_path / name).mkdir()
        file = export(workbench, subject, tmp_path / f"{name}.zip")
        assert audit(tmp_path / name, file, key) == (DONE, [])
    files = read_zip(tmp_path / "first.zip")
    damage(r"proof/comparisons/[0-9a-f]*\.dsse\.json")(files)
    (tmp_path / "bad").mkdir()
    assert check(tmp_path / "bad", write_zip(tmp_path / "bad.zip", files), key) == LEDGER


@needs_tools
def test_comparison_by_another_key_is_named_and_stops_nobody(key: SigningKey, tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", key)
    workbench.archive.key = make_key("bob@desk")
    again = do_again(workbench, "train")
    workbench.archive.key = key
    step, said = audit(tmp_path, export(workbench, again.reproduces or "", tmp_path / "a.zip"), key)
    assert (step, len(said)) == (DONE, 1)
    assert said[0].endswith(".dsse.json: NOT SIGNED BY THIS KEY")


def one(files: Files, pattern: str) -> str:
    return next(name for name in files if re.fullmatch(pattern, name))


def damage(pattern: str) -> Callable[[Files], None]:
    def act(files: Files) -> None:
        files[one(files, pattern)] += b" "

    return act


def remove(pattern: str) -> Callable[[Files], None]:
    def act(files: Files) -> None:
        del files[one(files, pattern)]

    return act


def add_to_record(files: Files) -> None:
    files[one(files, "records/.*/record.json").replace("record.json", "notes.txt")] = b"nothing to see"


def swap_in_folder(files: Files) -> None:
    first, second = (name for name in files if name.startswith("folders/") and not name.endswith(".tree.json"))
    files[first], files[second] = files[second], files[first]


def edit_statement(files: Files) -> None:
    """Everywhere that it stands, the signature left as it was."""
    name = one(files, "proof/statements/.*/statement.json")
    files[name] = files[name].replace(b'"epochs":2', b'"epochs":3')
    head = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(files[name])
    files[name.replace(".json", ".pae")] = head + files[name]
    envelope = one(files, "records/.*/statement.dsse.json")
    content = json.loads(files[envelope])
    payload = b64decode(content["payload"]).replace(b'"epochs":2', b'"epochs":3')
    files[envelope] = json.dumps({**content, "payload": b64encode(payload).decode()}, separators=(",", ":")).encode()


def edit_entry(files: Files) -> None:
    name = one(files, "proof/entries/.*.json")
    files[name] = files[name].replace(b'"kind":"start"', b'"kind":"end"')


def replace_ledger(files: Files) -> None:
    """A ledger of one's own, whole in itself: only its signature is missing."""
    import hashlib

    for name in [name for name in files if name.startswith(("proof/paths/", "proof/entries/"))]:
        if name.startswith("proof/paths/") or b'"kind":"start"' in files[name]:
            del files[name]
    root = hashlib.sha256(b"\0" + files[one(files, "proof/entries/.*")]).digest()
    sibling = bytes(32)
    files[f"proof/paths/{Path(one(files, 'proof/entries/.*')).stem}/000-right.bin"] = sibling
    root = hashlib.sha256(b"\1" + root + sibling).digest()
    lines = files["proof/checkpoint/note"].split(b"\n")
    lines[1:3] = [b"2", b64encode(root)]
    files["proof/checkpoint/note"] = b"\n".join(lines)
    files["proof/checkpoint/signed.txt"] = b"\n".join(lines[:3]) + b"\n"
    files["proof/checkpoint/root.bin"] = root


def rename_record(files: Files) -> None:
    record = one(files, "records/.*/record.json").split("/")[1]
    for name in [name for name in files if record in name]:
        files[name.replace(record, record.replace("train", "trial"))] = files.pop(name)


CHEATS = {
    "output edited": (damage(r"artifacts/.*/golden\.json"), FILES),
    "output removed": (remove(r"artifacts/.*/golden\.json"), FILES),
    "input edited": (damage(rf"artifacts/.*/{re.escape(TABLE)}"), FILES),
    "bundle edited": (damage(r"artifacts/.*/bundle\.zip"), FILES),
    "configuration edited": (damage(r"artifacts/.*/configuration\.json"), FILES),
    "notebook edited": (damage(r"workflow/.*\.ipynb"), FILES),
    "file of a folder edited": (damage(rf"folders/.*/{re.escape(MODEL)}/.*\.bin"), FILES),
    "file of a folder removed": (remove(rf"folders/.*/{re.escape(MODEL)}/.*\.bin"), FILES),
    "list of a folder edited": (damage(r"folders/.*\.tree\.json"), FILES),
    "files of a folder swapped": (swap_in_folder, FILES),
    "record edited": (damage(r"records/.*/record\.json"), FILES),
    "executed notebook edited": (damage(r"records/.*/executed\.ipynb"), FILES),
    "file added to the record": (add_to_record, FILES),
    "statement edited": (edit_statement, SIGNATURE),
    "envelope edited": (damage(r"records/.*/statement\.dsse\.json"), LEDGER),
    "signed bytes edited": (damage(r"proof/statements/.*\.pae"), SIGNATURE),
    "signature edited": (damage(r"proof/statements/.*\.sig"), SIGNATURE),
    "record renamed": (rename_record, SIGNATURE),
    "entry edited": (edit_entry, LEDGER),
    "end removed": (replace_ledger, ROOT_SIGNATURE),
    "path edited": (damage(r"proof/paths/.*/000-.*"), LEDGER),
    "root edited": (damage(r"proof/checkpoint/root\.bin"), LEDGER),
    "signed root edited": (damage(r"proof/checkpoint/signed\.txt"), ROOT_SIGNATURE),
}  # fmt: skip


@needs_tools
@pytest.mark.parametrize("cheat", CHEATS)
def test_edit_is_stopped_though_the_manifest_was_written_anew(
    good: Files, key: SigningKey, tmp_path: Path, cheat: str
) -> None:
    act, expected = CHEATS[cheat]
    act(good)
    assert check(tmp_path, write_zip(tmp_path / "bad.zip", good), key) == expected


@needs_tools
def test_damage_on_the_way_is_found_by_the_manifest(good: Files, key: SigningKey, tmp_path: Path) -> None:
    damage(r"artifacts/.*/golden\.json")(good)
    assert check(tmp_path, write_zip(tmp_path / "bad.zip", good, with_manifest=False), key) == MANIFEST


@needs_tools
def test_file_that_the_manifest_does_not_name_is_found(good: Files, key: SigningKey, tmp_path: Path) -> None:
    good["more.txt"] = b"more"
    assert check(tmp_path, write_zip(tmp_path / "bad.zip", good, with_manifest=False), key) == MANIFEST


@needs_tools
def test_link_is_not_unpacked_unnoticed(good: Files, key: SigningKey, tmp_path: Path) -> None:
    entries = [(make_entry(name), data) for name, data in good.items()]
    (tmp_path / "bad.zip").write_bytes(zip_of([*entries, (make_entry("link", 0o120000), b"/etc/passwd")]))
    assert check(tmp_path, tmp_path / "bad.zip", key) == UNPACK


@needs_tools
def test_manifest_is_one_that_sha256sum_reads(history: Workbench, tmp_path: Path) -> None:
    with zipfile.ZipFile(export(history, "dev-1", tmp_path / "a.zip")) as archive:
        archive.extractall(tmp_path / "a")
    command = ["sha256sum", "--strict", "--quiet", "-c", "manifest-sha256.txt"]
    done = subprocess.run(command, cwd=tmp_path / "a", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_proof_names_the_entries_of_the_record(history: Workbench, good: Files) -> None:
    proof = json.loads(good["proof/proof.json"])
    record = find(history.archive, "train")
    assert [each["entry"]["kind"] for each in proof["entries"]] == ["start", "end"]
    assert {each["entry"]["record"] for each in proof["entries"]} == {record.id}
    assert proof["entries"][1]["entry"]["sha256"] == sha256(good[f"records/{record.id}/statement.dsse.json"])
