"""The pages on the loop, on environments and on notebooks say what the program does, and every command in the docs is one."""

import re
import shutil
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from builders import code
from builders import make_notebook as notebook_of
from commands import Kit
from pages import PAGES, ROOT, block_after, first_column, list_commands, section_of

import kit as package
from benchmarks.loop.__main__ import CASES
from kit.cli.console import LEDGER_MEMORY
from kit.cli.group import group
from kit.cli.kernels import kernels_command
from kit.cli.memo.recall import FOLDER as MEMOS
from kit.cli.records import records_command
from kit.cli.sweep import make_sweep_command
from kit.environment import (
    Environment,
    EvaluationSource,
    Gates,
    Limits,
    LiteRTLimits,
    MetricLimits,
    Policy,
    ReleasePolicy,
    SecretReference,
    Serving,
    SliceLimits,
    StageSettings,
    decode_environment,
)
from kit.execute.stage import SCRATCH, WORKSPACES
from kit.notebook import read_notebook, read_stage
from kit.parameter import ResolvedParameter, Source
from kit.pipeline import execute_all
from kit.project import Project, stage_graph
from kit.provenance import ARITHMETIC_VARIABLES
from kit.record import Record
from kit.session import StageSession
from kit.status.values import Kind, State
from kit.sweep.definition import Definition
from kit.sweep.points import make_points, parse_axes
from kit.testing import (
    FakeEngine,
    encode_notebook,
    make_notebook,
    make_project,
    make_record,
    make_workbench,
    seal_record,
)
from kit.warm.folder import FOLDER_VARIABLE
from kit.warm.servers import MOST_SERVERS
from kit.warm.starting import IDLE_S, IDLE_VARIABLE

VALUES = {"units": 64, "learning_rate": 1e-3}
COMMANDS = [(page, words) for page in sorted(PAGES) for words in list_commands(page)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project without its data, and the files that commands of the pages name."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "environments", folder / "environments")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("data", "__pycache__"))
    (folder / "archive").mkdir()
    for name in ("team.keys", "ci.log"):
        (folder / name).touch()
    return folder


def parse(words: list[str]) -> click.Context:
    """What the command line makes of some words, without doing anything; raises for what it would refuse."""
    name, command = "kit", group
    context = group.make_context(name, [], resilient_parsing=True)
    while isinstance(command, click.Group) and not words[0].startswith("-"):
        found, inner, words = command.resolve_command(context, words)
        assert inner is not None
        name, command = found or "", inner
        if not words:
            break
    return command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize(
    ("page", "words"), [(page, words) for page, words in COMMANDS if not words[1:2] or not words[1].endswith(".kit")]
)
def test_every_command_of_the_pages_is_one(
    copy: Path, page: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    assert parse(words).command.callback, f"{page}: kit {words}"


def test_every_grid_of_the_pages_gives_points() -> None:
    stages = {stage.name: stage for stage in stage_graph(ROOT).stages}
    sweeps = [words for _, words in COMMANDS if words[0] == "sweep"]
    sizes = []
    for words in sweeps:
        grid = [words[n + 1] for n, word in enumerate(words) if word == "--grid"]
        n_random = int(words[words.index("--random") + 1]) if "--random" in words else None
        sizes.append(len(make_points(parse_axes(stages[words[1]], grid, {}), n_random)))
    assert sizes == [4, 9, 20, 3]


def test_page_on_the_loop_has_every_state_and_every_reason() -> None:
    states = re.findall(r"^\| ([a-z ]+) \|", section_of("loop.md", "Why something is executed"), re.MULTILINE)
    assert states == ["state", *(state.value for state in State)]
    reasons = first_column(section_of("loop.md", "What the key is made of"))
    assert sorted(reasons) == sorted(kind.value for kind in Kind)


def test_page_on_the_loop_has_every_variable_of_the_key() -> None:
    section = section_of("loop.md", "Variables")
    assert re.findall(r"`([A-Z_0-9]+)`", section.partition(". How")[0]) == sorted(ARITHMETIC_VARIABLES)


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def test_page_on_many_records_has_every_option_of_kit_records() -> None:
    told = first_column(section_of("records.md", "Many records"))
    assert {name for name in told if name.startswith("--")} == options_of(records_command)


def test_page_on_sweeps_has_every_option_of_kit_sweep() -> None:
    train = next(stage for stage in stage_graph(ROOT).stages if stage.name == "train")
    own = {
        f"--{prefix}{name}"
        for each in train.parameters
        for name in {each.name, each.name.replace("_", "-")}
        for prefix in ("", "parameter-")
    }
    told = set(re.findall(r"`(--[a-z]+)\b", PAGES["sweeps.md"]))
    assert told == (options_of(make_sweep_command(train)) - own) | {"--seed"}


def test_page_on_warm_kernels_has_every_option_and_setting() -> None:
    told = first_column(section_of("warm-kernels.md", "The processes"))
    assert told == [IDLE_VARIABLE, FOLDER_VARIABLE]
    assert "kit kernels --stop" in PAGES["warm-kernels.md"]
    assert options_of(kernels_command) == {"--stop", "--json"}
    assert f"{IDLE_S:g} without it" in PAGES["warm-kernels.md"]
    assert f"At most {MOST_SERVERS} are kept" in PAGES["warm-kernels.md"]


# of what `kit status` says that the page shows: numbers, and the ids of records
_NUMBERS = re.compile(r"\d{8}T\d{6}Z-([a-z]+)-[0-9a-f]{6}|-?\d+(\.\d+)?")


def mask(text: str) -> str:
    return _NUMBERS.sub(r"#\1", text)


@pytest.fixture
def edited(tmp_path: Path) -> Project:
    """A project like the example, executed, then edited as the page says."""
    edges = 'bins = pd.cut(table["mean_delay"], [-60, {}0, 5, 10, 20, 40, 2000])\n'
    edges += 'late = table.groupby(bins, observed=True)["is_late"].mean()'
    stages = {
        "build": make_notebook(title="Build", outputs=["bundle.zip"]),
        "prepare": make_notebook(
            edges.format("-4, "), title="Prepare", inputs=["flights.parquet"], outputs=["features.parquet"]
        ),
        "train": make_notebook(
            title="Train", parameters="epochs: int = 3", inputs=["features.parquet"], outputs=["model.keras"]
        ),
    }
    environment = '[parameters.train]\nepochs = {}\n[data]\n"flights.parquet" = "data/raw.csv"\n'
    project = make_project(tmp_path, stages, {"dev": environment.format(2)})
    assert all(step.record.succeeded for step in execute_all(make_workbench(project, FakeEngine()), "dev", n_workers=1))
    prepare = make_notebook(edges.format(""), title="Prepare", inputs=["flights.parquet"], outputs=["features.parquet"])
    (project.root / "notebooks" / "prepare.ipynb").write_bytes(encode_notebook(prepare))
    (project.environments / "dev.toml").write_text(environment.format(3))
    return project


def test_status_of_the_page_is_what_kit_says_after_these_edits(
    edited: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(edited.root)
    said = Kit(edited, capsys)("status")
    assert said.code == 0, said.err
    lines = iter(mask(said.out).splitlines())
    for line in mask(block_after("loop.md", "$ kit status")).splitlines():
        assert line == "…" or line in lines, f"{line}\n{said.out}"  # in this order


STRUCTS: dict[str, type[msgspec.Struct]] = {
    "Tables": Environment,
    "secrets": SecretReference,
    "stages": StageSettings,
    "limits": Limits,
    "policy": Policy,
    "release": ReleasePolicy,
    "serving": Serving,
    "gates": Gates,
    "gates.metrics, gates.slices.COLUMN.metrics": MetricLimits,
    "gates.slices.COLUMN": SliceLimits,
    "gates.evaluation": EvaluationSource,
    "gates.litert": LiteRTLimits,
}


@pytest.mark.parametrize("heading", STRUCTS)
def test_page_on_environments_has_every_key(heading: str) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(STRUCTS[heading])]
    section = section_of("environments.md", heading).split("\n### ")[0]
    assert sorted(first_column(section)) == sorted(name for name in names if name != "name" or heading != "Tables")


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """As TOML has it; None where there is none to write."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return (
        list(field.default)
        if isinstance(field.default, tuple)
        else None
        if field.default is msgspec.NODEFAULT
        else field.default
    )


@pytest.mark.parametrize("heading", [heading for heading in STRUCTS if heading not in ("Tables", "secrets")])
def test_page_on_environments_has_the_default_of_each_key(heading: str) -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (\S+) \|", section_of("environments.md", heading).split("\n### ")[0], re.MULTILINE)
    )
    fields = msgspec.structs.fields(STRUCTS[heading])
    defaults = {field.encode_name: default_of(field) for field in fields}
    assert {name: tomllib.loads(f"x = {text}")["x"] for name, text in rows.items()} == {
        name: default for name, default in defaults.items() if default is not None
    }


def test_environment_of_the_page_is_read() -> None:
    block = re.search(
        r"(?:^(?:    .*)?\n)+",
        PAGES["environments.md"].split("# Environment files")[1][1:].split("\n\n", 1)[1],
        re.MULTILINE,
    )
    assert block is not None
    environment = decode_environment(tomllib.loads(textwrap.dedent(block[0])), "docs/environments.md")
    assert environment.stages == {"train": StageSettings(2, ("ConnectionError", "KernelDied"), 1.0)}


def names_of(section: str, prefix: str) -> list[str]:
    return [name.removeprefix(prefix).partition("(")[0] for name in first_column(section) if name.startswith(prefix)]


def test_page_on_notebooks_has_every_name_of_a_stage() -> None:
    public = {name for name in dir(StageSession) if not name.startswith("_")} | {
        "inputs",
        "outputs",
        "root",
        "scratch",
        "recorded",
    }
    assert sorted(names_of(section_of("notebooks.md", "The opened stage"), "stage.")) == sorted(public)


def test_page_on_notebooks_has_every_name_of_the_package() -> None:
    assert sorted(names_of(section_of("notebooks.md", "The package"), "kit.")) == sorted(package.__all__)


def python_blocks(page: str) -> list[str]:
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGES[page], re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if re.search(r"^ {4}import ", block, re.MULTILINE)]


def test_notebook_of_the_page_is_a_stage() -> None:
    (block,) = python_blocks("notebooks.md")
    parameters, opening, work = re.split(r"^# (?:the next code cell|then the work)\n", block, flags=re.MULTILINE)
    cells = [code(parameters, "parameters"), code(opening), code(work)]
    stage = read_stage(read_notebook(notebook_of(*cells), "train.ipynb"), "notebooks/train.ipynb")
    assert stage is not None
    assert (stage.inputs, stage.outputs) == (("features.parquet",), ("model.keras",))
    assert [(each.name, each.default) for each in stage.parameters] == [("epochs", 3), ("features", "honest")]


def test_table_of_the_page_on_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path)
    parameters = tuple(ResolvedParameter(name, value, Source.NOTEBOOK, "int") for name, value in VALUES.items())
    archive = make_workbench(project).archive
    seal_record(archive, make_record(stage="train", parameters=parameters, metrics={"auc": 0.5}))
    found = seal_record(archive, make_record(stage="train", parameters=parameters, metrics={"auc": 0.7}))
    monkeypatch.chdir(project.root)
    (block,) = python_blocks("records.md")
    *statements, last = block.strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(statements), names)
    assert eval(last, names).to_numpy().tolist() == [[found.id, 0.7, 1e-3]]


def test_page_on_formats_has_every_key_of_a_sweep_and_those_that_came_to_records_later() -> None:
    assert sorted(first_column(section_of("formats.md", "Sweeps"))) == sorted(Definition.__struct_fields__)
    later = set(first_column(section_of("formats.md", "record.json")))
    assert later >= {"drift", "key", "start", "preloaded", "sweep", "attempts"}
    assert later - {"profile_sha256"} <= set(Record.__struct_fields__)


def test_page_on_formats_has_every_cache(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    databases = [path.name.split("@")[0] + "@<host>.sqlite" for path in (project.digests, project.index, project.pages)]
    folders = [f"{name}/" for name in (Path(MEMOS).name, SCRATCH, WORKSPACES, "interactive", "serving", "environments")]
    told = first_column(section_of("formats.md", ".kit/"))
    assert sorted(told) == sorted([*databases, *folders, LEDGER_MEMORY])


def test_page_on_speed_has_every_case_of_the_benchmark() -> None:
    assert sorted(first_column(section_of("speed.md", "How it is measured"))) == sorted(CASES)


def test_picture_of_a_sweep_is_small_and_wide_enough() -> None:
    data = (ROOT / "docs" / "sweep-page.png").read_bytes()
    assert (int.from_bytes(data[16:20], "big"), len(data) < 200_000) == (1280, True)
