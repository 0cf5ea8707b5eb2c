"""What an execution gives is decided by its key: what code cannot tell apart has the same one, what it can tell has not."""

from pathlib import Path

import pytest

from kit.execute import Order, plan_stage
from kit.execute.loose import digest_loose
from kit.execute.surroundings import choose_packages, look_around
from kit.testing import DATA, make_notebook, make_project, make_workbench


def key_of(
    folder: Path,
    cell: str = "1",
    parameters: str = "n: int = 1",
    files: dict[str, str] | None = None,
    environment: str = DATA,
) -> str:
    """The key of a stage `prepare` in a new project."""
    stage = make_notebook(cell, title="P", parameters=parameters, inputs=["raw.csv"], outputs=["t.csv"])
    project = make_project(folder, {"prepare": stage}, {"dev": environment}, files)
    return plan_stage(make_workbench(project), Order("prepare", "dev"), keep=False).key


DIFFERENT: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "order of a mapping, which is executed as the notebook has it": (
        {"parameters": "c: dict[str, int] = {'b': 1, 'a': 2}"},
        {"parameters": "c: dict[str, int] = {'a': 2, 'b': 1}"},
    ),
    "order of a mapping in a list": (
        {"parameters": "c: list[dict[str, int]] = [{'b': 1, 'a': 2}]"},
        {"parameters": "c: list[dict[str, int]] = [{'a': 2, 'b': 1}]"},
    ),
    "import in the cell of parameters": (
        {"parameters": "from typing import Literal as Choice\nn: int = 1"},
        {"parameters": "from typing import Final as Choice\nn: int = 1"},
    ),
    "text in a folder beside the notebook": (
        {"files": {"notebooks/corpus/a.md": "1"}},
        {"files": {"notebooks/corpus/a.md": "2"}},
    ),
}
SAME: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "text beside the notebook": ({"files": {"notebooks/notes.md": "1"}}, {"files": {"notebooks/notes.md": "2"}}),
    "comment in the cell of parameters": (
        {"parameters": "from typing import Literal\nn: int = 1  # few"},
        {"parameters": "from typing import Literal\nn: int = 1  # many"},
    ),
    "default that the environment replaces": (
        {"parameters": "n: int = 1", "environment": f"{DATA}[parameters]\nn = 5\n"},
        {"parameters": "n: int = 2", "environment": f"{DATA}[parameters]\nn = 5\n"},
    ),
    "order of a mapping from the environment, which is sorted on its way": (
        {"parameters": "c: dict[str, int] = {}", "environment": f"{DATA}[parameters]\nc = {{ b = 1, a = 2 }}\n"},
        {"parameters": "c: dict[str, int] = {}", "environment": f"{DATA}[parameters]\nc = {{ a = 2, b = 1 }}\n"},
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_code_can_tell_is_another_key(tmp_path: Path, what: str) -> None:
    before, after = DIFFERENT[what]
    assert key_of(tmp_path / "a", **before) != key_of(tmp_path / "b", **after)


@pytest.mark.parametrize("what", SAME)
def test_what_code_cannot_tell_is_the_same_key(tmp_path: Path, what: str) -> None:
    before, after = SAME[what]
    assert key_of(tmp_path / "a", **before) == key_of(tmp_path / "b", **after)


def test_variable_that_the_code_reads_counts_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os\nlimit = os.environ['LIMIT']"
    monkeypatch.setenv("LIMIT", "1")
    keys = [key_of(tmp_path / "a", code), key_of(tmp_path / "b")]
    monkeypatch.setenv("LIMIT", "2")
    again = [key_of(tmp_path / "c", code), key_of(tmp_path / "d")]
    assert [old == new for old, new in zip(keys, again, strict=True)] == [False, True]


def test_variable_is_in_the_key_as_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD_OF_IT", "hunter2")
    stage = make_notebook("import os\nos.environ['PASSWORD_OF_IT']", title="P", inputs=["raw.csv"], outputs=["t.csv"])
    project = make_project(tmp_path, {"prepare": stage})
    parts = plan_stage(make_workbench(project), Order("prepare", "dev"), keep=False).parts
    assert parts
    assert list(parts.environ) == ["PASSWORD_OF_IT"]
    assert "hunter2" not in repr(parts)


def test_zone_in_which_times_are_told_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(tmp_path / "a")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert key_of(tmp_path / "b") != before


def test_package_counts_if_the_lock_names_it_or_the_code_imports_it() -> None:
    installed = {"numpy": "1", "scikit-learn": "2", "requests": "3"}
    assert choose_packages(b"numpy==1\n", installed, ["requests.adapters", "nowhere"]) == {
        "numpy": "1",
        "requests": "3",
    }


def test_code_that_lists_packages_depends_on_all(tmp_path: Path) -> None:
    from kit.execute.key import choose_reached
    from kit.notebook.imports import Reach

    installed = {"numpy": "1", "requests": "3"}
    assert choose_reached(b"numpy==1\n", installed, Reach()) == {"numpy": "1"}
    assert choose_reached(b"numpy==1\n", installed, Reach(attributes=frozenset(["list_packages"]))) == installed


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages on the path of modules, of which one imports the other."""
    for name, code in {"loose_a": "import loose_b", "loose_b": "x = 1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, encoding="utf-8")
    (tmp_path / "loose_a/conf.yaml").write_text("a: 1", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def loose() -> dict[str, str]:
    found = digest_loose(["loose_a.part"])
    return {name: sha256 for name, sha256 in found.items() if not name.endswith("customize")}


def test_what_a_loose_package_imports_is_followed(library: Path) -> None:
    before = loose()
    assert list(before) == ["loose_a", "loose_b"]
    (library / "loose_b/__init__.py").write_text("x = 2", encoding="utf-8")
    assert [name for name, sha256 in loose().items() if before[name] != sha256] == ["loose_b"]


@pytest.mark.parametrize("name", ["conf.yaml", "more.json", "below/module.py"])
def test_what_lies_in_a_loose_package_counts(library: Path, name: str) -> None:
    before = loose()
    path = library / "loose_a" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a: 2", encoding="utf-8")
    assert loose() != before


def test_file_of_a_loose_package_that_moves_counts(library: Path) -> None:
    before = loose()
    (library / "loose_a/below").mkdir()
    (library / "loose_a/conf.yaml").rename(library / "loose_a/below/conf.yaml")
    assert loose() != before


def test_byte_code_of_a_loose_package_does_not_count(library: Path) -> None:
    before = loose()
    (library / "loose_a/__pycache__").mkdir()
    (library / "loose_a/__pycache__/x.cpython-311.pyc").write_bytes(b"x")
    assert loose() == before


@pytest.mark.parametrize("place", ["usr/src/app", "lib/python3/site-packages"])
def test_version_pins_only_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    module = tmp_path / place / "somewhere_else.py"
    module.parent.mkdir(parents=True)
    module.write_text("x = 1", encoding="utf-8")
    monkeypatch.syspath_prepend(module.parent)
    assert ("somewhere_else" in digest_loose(["somewhere_else"])) is ("site-packages" not in place)


def test_what_each_interpreter_executes_at_its_start_counts_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site-packages/usercustomize.py"
    module.parent.mkdir()
    monkeypatch.syspath_prepend(module.parent)
    before = digest_loose([])
    module.write_text("x = 1", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # so that folders are listed again
    assert digest_loose([]) == before | {"usercustomize": digest_loose([]).get("usercustomize")}
    assert "usercustomize" in digest_loose([])


def test_surroundings_know_all_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_OTHER", "1")
    assert look_around().environ["ANY_OTHER"] == "1"
