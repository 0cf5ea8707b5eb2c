"""The worked example as its README tells it: the same commands, on the real data, in a fresh copy of the sources."""

from __future__ import annotations

import datetime
import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import running

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BATCH = ("batch.parquet", "weather.parquet", "planes.parquet")


def read_commands() -> list[tuple[list[str], str]]:
    """Each `kit …` of the README's indented blocks, in order, with what it shows of its output.

    Left out are comments, what opens a window, and `kit serve`, which has a test of its own.
    """
    text = re.sub(r" \\\n\s+", " ", README)
    found = re.findall(
        r"^ {4}(?:\$ )?(kit .+?)(?:\s+#.*)?\n((?: {4}(?!\$ |kit ).*\n|\n(?= {4}(?!\$ |kit )))*)", text, re.MULTILINE
    )
    commands = [(shlex.split(line)[1:], output) for line, output in found]
    return [each for each in commands if each[0][0] not in ("lab", "open", "serve")]


def read_requests() -> list[tuple[list[str], str]]:
    """Each `curl …` of the README and the line that it answers."""
    found = re.findall(r"^ {4}\$ (curl .+)\n {4}(\{.+)$", README, re.MULTILINE)
    return [(shlex.split(line), answer) for line, answer in found]


def mask(text: str) -> str:
    """A text without its numbers, which another machine or another day changes."""
    return re.sub(r"-?\d+(\.\d+)?(e[+-]\d+)?", "#", text)


def later(argument: str) -> str:
    """A day that README names, as one that is ahead whenever this runs; anything else as it is."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", argument):
        return argument
    return str(datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30))


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


def run_kit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["XDG_CONFIG_HOME"] = str(folder.parent / "settings")  # `kit key new` is for this copy only
    command = [sys.executable, "-m", "kit.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def go_elsewhere(project: Path, file: str) -> Path:
    """A folder that holds nothing but a release file and the data that it scores."""
    folder = project.parent / "elsewhere"
    folder.mkdir()
    shutil.copy(project / ".kit" / file, folder)
    for name in BATCH:
        shutil.copy(project / "notebooks" / "data" / name, folder)
    return folder


def read_records(folder: Path, **wanted: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_bytes()) for path in sorted((folder / "archive" / "records").glob("*/record.json"))]
    return [record for record in found if all(record[key] == value for key, value in wanted.items())]


def digest_of(record: dict[str, Any], name: str) -> str:
    return next(str(output["sha256"]) for output in record["outputs"] if output["name"] == name)


def read_releases(folder: Path) -> list[str]:
    return [release["id"] for release in json.loads(run_kit(folder, "releases", "--json").stdout)]


@pytest.fixture(scope="module")
def after_readme(copy: Path) -> Path:
    """The copy after every command of the README has done what it says."""
    for arguments, output in read_commands():
        is_file = arguments[0] == "run" and arguments[1].endswith(".kit")
        folder = go_elsewhere(copy, arguments[1]) if is_file else copy
        done = run_kit(folder, *map(later, arguments))
        expected = int("refused:" in output)
        assert done.returncode == expected, f"kit {shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
        told = [line.strip() for line in output.splitlines() if arguments[0] in ("waive", "rollback") or expected]
        missing = {mask(line) for line in told if line != "…"} - {*map(mask, (done.stdout + done.stderr).splitlines())}
        assert not missing
    return copy


def test_readme_commands_end_with_releases_and_scored_batches(after_readme: Path) -> None:
    assert set(read_releases(after_readme)) == {"dev-1", "staging-1", "staging-2", "production-1", "production-2"}
    for environment in ("dev", "production"):
        (record,) = read_records(after_readme, stage="run", environment=environment)
        metrics = record["metrics"]
        assert record["release"] == f"{environment}-1"
        assert metrics["rows_in"] == metrics["rows_out"] + metrics["rows_rejected"] > 0


def test_session_and_sweep_of_the_readme_have_the_numbers_of_the_example(after_readme: Path) -> None:
    trainings = read_records(after_readme, stage="train", environment="dev")
    (session,) = re.findall(r"^ {4}train +succeeded .* auc ([\d.]+)$", README, re.MULTILINE)
    (first,) = [each["metrics"]["auc"] for each in trainings if "sweep" not in each and not each["reproduces"]]
    assert first == pytest.approx(float(session), abs=1e-3)  # processors differ in digits
    (rate, units, best) = re.findall(r"^ {4}([\d.]+) +(\d+) +([\d.]+)  succeeded  ", README, re.MULTILINE)[0]
    points = [record for record in trainings if "sweep" in record]
    found = max(points, key=lambda record: record["metrics"]["auc"])
    values = {parameter["name"]: parameter["value"] for parameter in found["parameters"]}
    assert (values["learning_rate"], values["units"]) == (float(rate), int(units))
    assert len(points) == 3  # the fourth was there
    assert found["metrics"]["auc"] == pytest.approx(float(best), abs=1e-3)


def test_history_is_what_the_readme_tells(after_readme: Path) -> None:
    told = json.loads(run_kit(after_readme, "history", "production", "--json").stdout)
    lines = [line for line in README.splitlines() if re.match(r" {4}production-\d+  \d{4}-", line)]
    turns = [(each["release"], each["why"]) for each in told["intervals"]]
    assert len(lines) == len(turns)
    assert all(release in line and why in line for line, (release, why) in zip(lines, turns, strict=True))
    assert [each["n_waived"] for each in told["intervals"]] == [0, 1, 0]
    assert [given["waiver"]["evidence"] for given in told["waivers"]] == ["metric:auc_gain"]


def test_release_file_scores_elsewhere_as_the_project_does(after_readme: Path) -> None:
    (here,) = read_records(after_readme, stage="run", environment="production")
    (there,) = read_records(after_readme.parent / "elsewhere")
    assert (there["release"], there.get("drift", [])) == ("production-1", [])
    assert digest_of(there, "predictions.parquet") == digest_of(here, "predictions.parquet")


def test_served_answers_are_those_of_the_readme(after_readme: Path) -> None:
    requests = read_requests()
    assert len(requests) == 2
    with running(after_readme, "--env", "production", XDG_CONFIG_HOME=str(after_readme.parent / "settings")) as server:
        for command, expected in requests:
            address = next(word for word in command if word.startswith("localhost:8501"))
            body = (after_readme / command[command.index("-d") + 1].removeprefix("@")).read_bytes()
            answer = httpx.post(address.replace("localhost:8501", server.address), content=body)
            assert (answer.status_code, answer.headers["x-kit-release"]) == (200, "production-1")
            assert flatten(answer.json()) == {
                place: pytest.approx(value, abs=0.02)
                if isinstance(value, float)
                else value  # processors differ in digits
                for place, value in flatten(json.loads(expected)).items()
            }
        assert server.end(signal.SIGTERM) == 0


def flatten(value: Any, place: str = "") -> dict[str, Any]:
    """Scalars of a JSON value by their place in it."""
    if not isinstance(value, dict | list):
        return {place: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {where: scalar for key, part in parts for where, scalar in flatten(part, f"{place}/{key}").items()}


def test_full_data_beats_the_logistic_baseline_honestly(after_readme: Path) -> None:
    metrics = read_records(after_readme, stage="train", environment="train")[0]["metrics"]
    assert 0.80 > metrics["auc"] >= max(0.71, metrics["baseline_auc"])


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_warm_execution_gives_the_same_bytes_as_a_cold_one(after_readme: Path, stage: str) -> None:
    done = run_kit(after_readme, stage, "--env", "train", "--force", "--warm")
    assert done.returncode == 0, done.stderr
    first, *_, second = read_records(after_readme, stage=stage, environment="train")
    assert (first["start"], second["start"]) == ("cold", "warm")
    assert second["outputs"] == first["outputs"]
    assert second["metrics"] == first["metrics"]


def test_leaky_model_is_refused_in_staging_with_the_reason(after_readme: Path) -> None:
    done = run_kit(after_readme, "train", "--env", "train", "--features", "leaky")
    assert done.returncode == 0, done.stderr
    leaky = read_records(after_readme, stage="train", environment="train")[-1]
    refused = run_kit(after_readme, "release", "--env", "staging", "--from", leaky["id"])
    assert refused.returncode == 1
    assert "above the limit" in refused.stderr
    assert read_records(after_readme, stage="release", environment="staging")[-1]["status"] == "failed"
    assert "staging-3" not in read_releases(after_readme)


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
