import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kit

HEAVY = {
    "papermill",
    "nbformat",
    "nbclient",
    "nbconvert",
    "great_expectations",
    "pandas",
    "tensorflow",
    "dask",
    "scrapbook",
}
PROBE = """
import json, resource, sys
{work}
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([usage.ru_utime + usage.ru_stime, sorted(name.partition(".")[0] for name in sys.modules)]))
"""
HELP = """
import kit
from kit.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""


def test_help_loads_nothing_heavy_and_takes_under_half_a_second():
    root = Path(__file__).parents[1]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-W", "error", "-c", PROBE.format(work=HELP)]
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=True)
    cpu_s, modules = json.loads(done.stdout.splitlines()[-1])
    assert "Usage: kit [OPTIONS] COMMAND" in done.stdout
    assert HEAVY & set(modules) == set()
    assert cpu_s < 0.5


def test_public_names_are_sorted_and_resolve():
    assert kit.__all__ == sorted(kit.__all__) == dir(kit)
    for name in kit.__all__:
        home = importlib.import_module(kit._HOMES[name])
        assert getattr(kit, name) is getattr(home, name)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kit' has no attribute 'open_stag'"):
        _ = kit.open_stag
