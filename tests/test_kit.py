import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kit
from kit.testing import make_project, make_record, make_workbench, seal_record

# What a command that only looks needs beside the standard library; colorama is click's on Windows.
LIGHT = {"kit", "click", "msgspec", "platformdirs", "typing_extensions", "colorama"}
PROBE = """
import json, resource, sys
before = set(sys.modules)
import kit
if sys.argv[1:]:
    from kit.cli import main
    try:
        main(sys.argv[1:])
    except SystemExit as end:
        assert end.code == 0
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([usage.ru_utime + usage.ru_stime, sorted({*sys.modules} - before)]))
"""


def probe(folder: Path, *arguments: str) -> tuple[str, float, set[str]]:
    """(stdout, seconds of CPU, modules not of the standard library) of a call of `kit`, or its import, in a new interpreter."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-W", "error", "-c", PROBE, *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True)
    out, _, last = done.stdout.rstrip().rpartition("\n")
    cpu_s, modules = json.loads(last)
    names = {name.partition(".")[0] for name in modules if not name.startswith("_sysconfigdata")}
    return out, cpu_s, names - sys.stdlib_module_names


def test_help_loads_nothing_heavy_and_takes_under_half_a_second() -> None:
    out, cpu_s, modules = probe(Path(__file__).parents[1], "--help")
    assert "Usage: kit [OPTIONS] COMMAND" in out
    assert modules - LIGHT == set()
    assert cpu_s < 0.5


def test_import_loads_nothing_of_others(tmp_path: Path) -> None:
    assert probe(tmp_path)[2] == {"kit"}


@pytest.mark.parametrize("command", ["status", "records", "show", "releases", "kernels"])
def test_command_that_only_looks_loads_nothing_heavy(tmp_path: Path, command: str) -> None:
    project = make_project(tmp_path)
    record = seal_record(make_workbench(project).archive, make_record())
    arguments = [command, record.id] if command == "show" else [command]
    assert probe(project.root, *arguments)[2] - LIGHT == set()


def test_public_names_are_sorted_and_resolve():
    assert kit.__all__ == sorted(kit.__all__) == dir(kit)
    for name in kit.__all__:
        home = importlib.import_module(kit._HOMES[name])
        assert getattr(kit, name) is getattr(home, name)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kit' has no attribute 'open_stag'"):
        _ = kit.open_stag
