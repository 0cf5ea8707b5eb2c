"""pyproject.toml, requirements.lock and environment.yml say the same."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [*PROJECT["dependencies"], *EXTRAS["example"], *EXTRAS["dev"]]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
BLOCKS = [block for block in re.split(r"\n(?=\S)", LOCK.strip()) if not block.startswith("#")]
LOCKED = [Requirement(block.split("\n")[0].split("--hash")[0].rstrip(" \\")) for block in BLOCKS]


@pytest.mark.parametrize("declared", DECLARED)
def test_each_dependency_is_locked_at_a_version_that_it_allows(declared):
    wanted = Requirement(declared)
    found = [line for line in LOCKED if canonicalize_name(line.name) == canonicalize_name(wanted.name)]
    assert found, f"{wanted.name} is not in requirements.lock: make lock"
    for line in found:
        (specifier,) = line.specifier
        assert specifier.operator == "=="
        assert wanted.specifier.contains(specifier.version)


def test_each_locked_package_is_pinned_by_hash_and_has_no_address():
    assert all("--hash=sha256:" in block for block in BLOCKS)
    assert [block for block in BLOCKS if "://" in block or "@" in block] == []
    assert not re.search(r"(?m)^\s*--(index-url|extra-index-url|find-links|trusted-host)", LOCK)


def test_conda_users_get_the_same_python_and_the_same_lock():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert f"python{PROJECT['requires-python']}" in content["dependencies"]
    assert "pip" in content["dependencies"]
    (pip,) = [each["pip"] for each in content["dependencies"] if isinstance(each, dict)]
    # Where a lock has hashes, pip takes no editable project from the same file.
    assert pip == ["-r requirements.lock"]
    assert "pip install --no-deps -e ." in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_everything_that_kit_imports_is_declared():
    names = importlib.metadata.packages_distributions()
    declared = {Requirement(text).name.lower().replace("_", "-") for text in PROJECT["dependencies"]}
    found = set()
    for path in (ROOT / "kit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            found |= {module.partition(".")[0] for module in modules}
    third_party = found - set(sys.stdlib_module_names) - {"kit"}
    assert third_party
    undeclared = {
        module
        for module in third_party
        if not {name.lower().replace("_", "-") for name in names.get(module, [module])} & declared
    }
    assert undeclared == set()


def test_wheel_has_every_file_of_the_package_and_what_others_find_it_by(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("kit/")}
        (entries,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    there = (each for each in (ROOT / "kit").rglob("*") if each.is_file() and "__pycache__" not in each.parts)
    assert found == {each.relative_to(ROOT).as_posix() for each in there}
    assert {"kit/py.typed", "kit/warm/server.py", "kit/engine/launch.py"} <= found  # the last two are executed by path
    for group in ("console_scripts", *PROJECT["entry-points"]):
        declared = PROJECT["scripts"] if group == "console_scripts" else PROJECT["entry-points"][group]
        assert f"[{group}]\n" in entries
        for name, value in declared.items():
            assert f"{name} = {value}\n" in entries
            assert importlib.metadata.EntryPoint(name, value, group).load()
