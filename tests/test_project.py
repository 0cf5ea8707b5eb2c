import pytest
from builders import code, make_notebook, make_project, make_stage, write_files

from kit.cli.group import _COMMANDS
from kit.errors import GraphError, NotebookError, ProjectError, UnknownNameError
from kit.project import RESERVED_NAMES, find_project, lint_notebooks, stage_graph

STAGES = {
    "prepare": make_stage(["raw.csv"], ["features.parquet"]),
    "train": make_stage(["features.parquet"], ["model.keras"], "epochs: int = 3"),
    "notes": make_notebook(code("x = 1")),
}


def test_project_is_found_from_a_folder_in_it(tmp_path):
    make_project(tmp_path, STAGES, 'name = "flights"\narchive = "store"\nexclude = ["*.csv"]')
    project = find_project(tmp_path / "notebooks")
    assert (project.root, project.name, project.archive) == (tmp_path, "flights", tmp_path / "store")
    assert (project.reports, project.lock, project.exclude) == (tmp_path / "reports", "requirements.lock", ("*.csv",))
    assert (project.scratch, project.environments) == (tmp_path / ".kit", tmp_path / "environments")
    assert [stage.name for stage in project.read_graph().stages] == ["prepare", "train"]


def test_inner_pyproject_without_the_table_is_passed_over(tmp_path):
    make_project(tmp_path)
    (tmp_path / "inner").mkdir()
    for text in ("[project]\n", "tool = 1", "[tool]\nkit = 1"):
        (tmp_path / "inner" / "pyproject.toml").write_text(text)
        assert find_project(tmp_path / "inner").root == tmp_path
    assert find_project(tmp_path).name == tmp_path.name


def test_folder_outside_of_any_project_is_refused(tmp_path):
    with pytest.raises(ProjectError, match=r"lies in no kit project: no pyproject.toml with a \[tool.kit\] table"):
        find_project(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("archiv = 'a'", r"\[tool.kit\]: key 'archiv' does not exist; did you mean 'archive'\?"),
        ("name = 1", r"\[tool.kit\]: Expected `str`, got `int`"),
        ("exclude = 'a'", r"\[tool.kit\]: Expected `array`, got `str`"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, sentence):
    with pytest.raises(ProjectError, match=sentence):
        find_project(make_project(tmp_path, settings=settings))


def test_project_without_a_stage_is_refused(tmp_path):
    with pytest.raises(ProjectError, match=r"no stage found: none of notebooks/\*.ipynb calls kit.open_stage"):
        stage_graph(make_project(tmp_path, {"notes": STAGES["notes"]}))


@pytest.mark.parametrize("name", ["1st", "a b", "a.b"])
def test_stage_name_that_is_no_word_is_refused(tmp_path, name):
    with pytest.raises(ProjectError, match=rf"notebooks/{name}.ipynb: a stage's name must be letters"):
        stage_graph(make_project(tmp_path, {name: make_stage()}))


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_stage_cannot_hide_behind_a_command(tmp_path, name):
    with pytest.raises(ProjectError, match=f"`kit {name}` is a command of kit itself: rename the file"):
        stage_graph(make_project(tmp_path, {name: make_stage()}))


def test_reserved_names_are_the_commands():
    assert sorted(_COMMANDS) == list(RESERVED_NAMES)


def test_wrong_stage_is_refused_with_its_file(tmp_path):
    with pytest.raises(NotebookError, match=r"notebooks/bad.ipynb, cell 2, line 1"):
        stage_graph(make_project(tmp_path, {**STAGES, "bad": make_stage(parameters="x = y")}))
    (tmp_path / "notebooks" / "bad.ipynb").write_bytes(make_stage([], ["model.keras"]))
    with pytest.raises(
        GraphError, match=r"two producers: notebooks/bad.ipynb, cell 3 and notebooks/train.ipynb, cell 3"
    ):
        stage_graph(tmp_path)


def test_environment_is_checked_against_the_stages(tmp_path):
    environments = {"dev": "[parameters.train]\nepochs = 5", "ci": "[parameters]\nepoch = 5"}
    project = find_project(make_project(tmp_path, STAGES, environments=environments))
    assert project.read_environment("dev").parameters == {"train": {"epochs": 5}}
    with pytest.raises(UnknownNameError, match=r"'epoch' does not exist; did you mean 'epochs'.*environments/ci.toml"):
        project.read_environment("ci")


def test_lint_reads_all_notebooks(tmp_path):
    make_project(tmp_path, {**STAGES, "größe": make_notebook(code("x = ("))})
    (problem,) = lint_notebooks(tmp_path)
    assert str(problem) == "notebooks/größe.ipynb, cell 1: line 1: '(' was never closed"


def test_lint_looks_at_expectation_suites_too(tmp_path):
    root = make_project(tmp_path)
    write_files(root, {"notebooks/expectations/table.json": '{"name": "table", "expectations": []}'})
    problems = [str(problem) for problem in lint_notebooks(root) if "expectations" in problem.notebook]
    assert len(problems) == 1
    assert problems[0].startswith("notebooks/expectations/table.json")
