"""Builders of notebooks and projects for tests; nothing here starts anything."""

import json
import os
import subprocess
from pathlib import Path

from kit.artifact import Artifact, InputArtifact
from kit.files import parse_time
from kit.parameter import ResolvedParameter, Source
from kit.record import CellOutcome, CellStatus, Code, Machine, Process, Record, Software, Status, Usage

TITLE = "# A stage"
DIGEST = "a" * 64


def code(source, *tags, **more):
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None, **more}


def markdown(source, **more):
    return {"cell_type": "markdown", "source": source, "metadata": {}, **more}


def make_notebook(*cells, minor=5, **more):
    numbered = [{**({"id": f"cell-{index}"} if minor >= 5 else {}), **cell} for index, cell in enumerate(cells)]
    content = {"cells": numbered, "metadata": {}, "nbformat": 4, "nbformat_minor": minor, **more}
    return json.dumps(content).encode()


def make_stage(inputs=(), outputs=(), parameters="", title=TITLE):
    call = f"import kit\nstage = kit.open_stage(inputs={list(inputs)!r}, outputs={list(outputs)!r})"
    return make_notebook(markdown(title), code(parameters, "parameters"), code(call))


def make_project(root, stages=None, settings="", environments=None):
    """Files of a project; `stages`: notebook bytes by stage name."""
    files = {"pyproject.toml": f"[tool.kit]\n{settings}"}
    files |= {f"notebooks/{name}.ipynb": data for name, data in (stages or {}).items()}
    files |= {f"environments/{name}.toml": text for name, text in (environments or {}).items()}
    write_files(root, files)
    return root


def write_files(root, files):
    for name, content in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def git(folder, *arguments):
    """Run git as a fixed person, untouched by this machine's settings."""
    person = {f"GIT_{role}_{fact}": "tester@example" for role in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}
    variables = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **person}
    subprocess.run(["git", *arguments], cwd=folder, env=variables, check=True, capture_output=True)


def commit_all(folder):
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "a commit")


def make_record(**more):
    started = parse_time("2026-03-01T09:30:00.250Z")
    facts = {
        "id": "20260301T093000Z-train-4f09c1",
        "stage": "train",
        "environment": "dev",
        "configuration_sha256": DIGEST,
        "status": Status.SUCCEEDED,
        "started": started,
        "ended": parse_time("2026-03-01T09:30:02.750Z"),
        "process": Process(12, "3400", "boot"),
        "parameters": (ResolvedParameter("epochs", 3, Source.NOTEBOOK, "int"),),
        "code": Code(DIGEST, "notebooks/train.ipynb", DIGEST, None, True),
        "inputs": (InputArtifact(Artifact("größe.parquet", DIGEST, 5, "text/csv"), source="data/größe.parquet"),),
        "outputs": (Artifact("model.keras", DIGEST, 7, "application/vnd.keras+zip"),),
        "metrics": {"auc": 0.72, "n": 3, "good": True, "kind": "small"},
        "cells": (CellOutcome(1, "cell-1", CellStatus.SUCCEEDED, 1, 0.5),),
        "machine": Machine("CPython 3.11", "Linux", "cpu", DIGEST, 2, "host", "user", {}),
        "software": Software(DIGEST, 3, None, "0.1.0"),
        "usage": Usage(2.5),
    }
    return Record(**{**facts, **more})
