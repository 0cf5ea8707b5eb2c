"""What a command need not import, it does not: half of a short command's time is imports."""

import os
import subprocess
import sys

import pytest
from builders import make_project, make_stage

from kit.signing import KEY_VARIABLE, create_signing_key

HEAVY = ("kit.release", "kit.scoring", "kit.model", "kit.expectations", "cryptography", "importlib.metadata", "logging")
SCRIPT = """
import sys
{}
print(*(name for name in {!r} if name in sys.modules))
"""


def run_and_list_modules(code, folder, **variables):
    command = [sys.executable, "-c", SCRIPT.format(code, HEAVY)]
    environ = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout.split()


def test_stage_is_planned_without_what_only_executing_and_releasing_need(tmp_path):
    create_signing_key(tmp_path / "key", "ana")
    project = make_project(tmp_path / "project", {"prepare": make_stage([], ["a.txt"])}, environments={"dev": ""})
    code = (
        "from pathlib import Path; import kit.cli.stages; from kit.archive import open_archive; "
        "from kit.execute import Order, Workbench, plan_stage; from kit.project import find_project; "
        "from kit.signing import find_signing_key; project = find_project(Path.cwd()); "
        "archive = open_archive(project.archive, project.name, find_signing_key()); "
        "assert plan_stage(Workbench(project, archive, None), Order('prepare', 'dev')).key"
    )
    assert run_and_list_modules(code, project, **{KEY_VARIABLE: str(tmp_path / "key")}) == []


@pytest.mark.parametrize("command", ["--help", "records", "all --help"])
def test_short_command_imports_little(tmp_path, command):
    project = make_project(tmp_path, {"prepare": make_stage([], ["a.txt"])}, environments={"dev": ""})
    code = (
        "import contextlib, io, kit.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    kit.cli.main({command.split()!r})"
    )
    assert run_and_list_modules(code, project) == []
