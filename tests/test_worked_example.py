"""The worked example as its README tells it: the same commands, on the real data, in a fresh copy of the sources."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read_commands() -> list[str]:
    """Every `kit …` line of the README's indented blocks, in order, without comments and without what opens a window."""
    lines = re.findall(r"^ {4}(?:\$ )?(kit .+?)(?:\s+#.*)?$", README, re.MULTILINE)
    return [line for line in lines if not line.startswith(("kit open", "kit lab"))]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed copy of the sources, as a fresh clone would be."""
    target = tmp_path_factory.mktemp("clone") / "flights"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "sources"]):
        subprocess.run(["git", *arguments], cwd=target, check=True)
    return target


def run_kit(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["XDG_CONFIG_HOME"] = str(folder.parent / "settings")  # `kit key new` is for this copy only
    arguments = [sys.executable, "-m", "kit.cli", *command.split()[1:]]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def read_records(folder: Path, **wanted: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_bytes()) for path in sorted((folder / "archive" / "records").glob("*/record.json"))]
    return [record for record in found if all(record[key] == value for key, value in wanted.items())]


def digest_of(record: dict[str, Any], name: str) -> str:
    return next(str(output["sha256"]) for output in record["outputs"] if output["name"] == name)


def read_releases(folder: Path) -> list[str]:
    return [release["id"] for release in json.loads(run_kit(folder, "kit releases --json").stdout)]


@pytest.fixture(scope="module")
def after_readme(copy: Path) -> Path:
    """The copy after every command of the README has done what it says."""
    for command in read_commands():
        done = run_kit(copy, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return copy


def test_readme_commands_end_with_a_dev_and_a_staging_release_and_scored_batches(after_readme: Path) -> None:
    for release in ("dev-1", "staging-1"):
        assert release in read_releases(after_readme)
    for environment in ("dev", "staging"):
        (record,) = read_records(after_readme, stage="run", environment=environment)
        metrics = record["metrics"]
        assert record["release"] == f"{environment}-1"
        assert metrics["rows_in"] == metrics["rows_out"] + metrics["rows_rejected"] > 0


def test_full_data_beats_the_logistic_baseline_honestly(after_readme: Path) -> None:
    metrics = read_records(after_readme, stage="train", environment="train")[0]["metrics"]
    assert 0.80 > metrics["auc"] >= max(0.71, metrics["baseline_auc"])


def test_second_training_gives_the_same_model_bytes(after_readme: Path) -> None:
    done = run_kit(after_readme, "kit train --env train")
    assert done.returncode == 0, done.stderr
    first, second = read_records(after_readme, stage="train", environment="train")[:2]
    for name in ("model.keras", "saved_model"):
        assert digest_of(first, name) == digest_of(second, name)


def test_leaky_model_is_refused_in_staging_with_the_reason(after_readme: Path) -> None:
    done = run_kit(after_readme, "kit train --env train --features leaky")
    assert done.returncode == 0, done.stderr
    leaky = read_records(after_readme, stage="train", environment="train")[-1]
    refused = run_kit(after_readme, f"kit release --env staging --input model.keras={leaky['id']}")
    assert refused.returncode == 1
    assert "above the limit" in refused.stderr
    assert read_records(after_readme, stage="release", environment="staging")[-1]["status"] == "failed"
    assert "staging-2" not in read_releases(after_readme)


def test_report_pages_ask_nothing_of_the_network_and_carry_no_script(after_readme: Path) -> None:
    pages = list((after_readme / "reports" / "records").glob("*.html"))
    assert pages
    for page in pages:
        text = html.unescape(page.read_text(encoding="utf-8"))
        assert "<script" not in text
        assert "default-src 'none'" in text
        assert not re.search(r"""(src|href)=["']https?://(?!127)""", re.sub(r"<a [^>]*>", "", text))


@pytest.mark.parametrize("name", ["build", "prepare", "train", "release", "run"])
@pytest.mark.filterwarnings("ignore")  # of nbclient and its kernel, not of ours
def test_notebook_runs_cell_by_cell_outside_of_kit_and_leaves_the_archive_alone(after_readme: Path, name: str) -> None:
    import nbformat
    from nbclient import NotebookClient

    before = sorted((after_readme / "archive").rglob("*"))
    notebook = nbformat.read(after_readme / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(after_readme / "notebooks")}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert sorted((after_readme / "archive").rglob("*")) == before
