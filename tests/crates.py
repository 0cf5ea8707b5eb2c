"""Archives to export from, and exports as files that can be taken apart and put together again."""

import hashlib
import io
import stat
import zipfile
from pathlib import Path
from typing import Any

from probes import GOOD

from kit.archive import Archive, open_archive
from kit.crate import export_crate
from kit.execute import Workbench
from kit.gate import Release
from kit.pipeline import execute_all
from kit.record import Record
from kit.reproduce.stage import reproduce_record
from kit.signing import SigningKey
from kit.testing import FakeEngine, example_stages, make_notebook, make_project, make_workbench, write_outputs
from kit.workspace import Context

MANIFEST = "manifest-sha256.txt"
RAW, TABLE, MODEL = "größe #1 100%.csv", "ta ble#%41.csv", "saved model ü#%"
ENVIRONMENT = f"""
[parameters.train]
epochs = 2
[data]
"{RAW}" = "data/raw.csv"
[gates]
model = "{MODEL}"
metrics.auc = {{ min = 0.6, max = 0.8 }}
[release]
from = "dev"
"""
PARAMETERS = """
epochs: int = 3  # passes over the data
rate: float = 0.1  # step, (0, 1]
names: list[str] = ["a", "b"]  # columns
nothing: str | None = None  # unset
flag: bool = True  # a switch
"""


def _train(context: Context) -> dict[str, Any]:
    write_outputs(context)
    folder = Path(context.outputs[MODEL])
    folder.unlink()
    for name in ("a b#%20ä.txt", "variables/weights.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return {"auc": 0.7, "n": 3, "kind": "small", "good": True}


def make_history(
    folder: Path, key: SigningKey | None = None, train: Any = _train, table: str = TABLE, data: str = "x\n1\n2\n"
) -> Workbench:
    """A project with awkward names in which `kit all` was called once: build, prepare, train, release, run."""
    stages = example_stages() | {
        "prepare": make_notebook(title="Prepare", inputs=[RAW], outputs=[table]),
        "train": make_notebook(title="Train", parameters=PARAMETERS, inputs=[table], outputs=[MODEL, "golden.json"]),
        "release": make_notebook(
            title="Release", inputs=["bundle.zip", MODEL, "golden.json"], outputs=["release.json"]
        ),
        "run": make_notebook(title="Run", inputs=["release.json", RAW], outputs=["answers.csv"]),
    }
    project = make_project(folder, stages, {"dev": ENVIRONMENT}, {"data/raw.csv": data})
    workbench = make_workbench(project, FakeEngine(train=train), key=key)
    for _ in execute_all(workbench, "dev", GOOD):
        pass
    return workbench


def find(archive: Archive, stage: str) -> Record:
    """The record of a stage."""
    record = archive.newest(lambda each: each.stage == stage)
    assert record is not None
    return record


def do_again(workbench: Workbench, stage: str) -> Record:
    """Do the record of a stage again; gives the record that did it."""
    record = find(workbench.archive, stage)
    done = reproduce_record(workbench, record, probes=GOOD)
    return workbench.archive.read_record(done.again)


def export(workbench: Workbench, subject: str, target: Path) -> Path:
    """Export the record of a stage, a record by its id, or a release."""
    archive = workbench.archive
    is_id = subject in archive.list_ids()
    what: Record | Release = archive.find_release(subject) or (
        archive.read_record(subject) if is_id else find(archive, subject)
    )
    export_crate(archive, what, target, workbench.project.name, workbench.trusted_keys)
    return target


def open_other(folder: Path) -> Archive:
    """An empty archive."""
    return open_archive(folder, "other")


def read_zip(file: Path) -> dict[str, bytes]:
    """The files of a zip by path, without its folders."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def write_zip(target: Path, files: dict[str, bytes], *, with_manifest: bool = True, **settings: Any) -> Path:
    """Put files into a zip; with a new manifest that names exactly them, as someone who cheats would."""
    files = {name: data for name, data in files.items() if name != MANIFEST or not with_manifest}
    if with_manifest:
        files[MANIFEST] = "".join(f"{sha256(data)}  {name}\n" for name, data in files.items()).encode()
    with zipfile.ZipFile(target, "w", **settings) as archive:
        for name, data in files.items():
            archive.writestr(make_entry(name), data, settings.get("compression", zipfile.ZIP_STORED))
    return target


def make_entry(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    """An entry of a zip, by default a regular file."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, (kind | 0o644) << 16
    return entry


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zip_of(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    """A zip of exactly these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return buffer.getvalue()
