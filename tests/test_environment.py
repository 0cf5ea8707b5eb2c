import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.environment import (
    Environment,
    MetricLimits,
    SecretReference,
    decode_environment,
    list_environments,
    read_environment,
    require_known_parameters,
)
from kit.errors import EnvironmentFileError, UnknownNameError
from kit.graph import Stage, make_graph
from kit.notebook.signature import read_parameters

FULL = """
description = "Größe"
[parameters]
seed = 7
[parameters.train]
epochs = 5
[data]
"flights.parquet" = "notebooks/data/flights.parquet"
[secrets]
TOKEN = { env = "WAREHOUSE_TOKEN" }
[settings]
rows = [1, 2]
[gates]
checks = ["features.parquet"]
[gates.metrics]
auc = { min = 0.71, max = 1 }
[release]
from = "train"
[policy]
code = "build"
[limits]
timeout_s = 60
"""


def make_stage(name, parameters):
    return Stage(name, f"notebooks/{name}.ipynb", name, read_parameters(parameters, "cell"), (), (), f"{name}, cell 2")


GRAPH = make_graph([make_stage("prepare", "seed: int = 1\nrows: int = 2"), make_stage("train", "seed = 1\nepochs = 2")])


def read(folder, text):
    (folder / "dev.toml").write_text(text, encoding="utf-8")
    return read_environment(folder, "dev")


def test_environment_is_read_as_its_file_has_it(tmp_path):
    environment = read(tmp_path, FULL)
    assert (environment.name, environment.description, environment.training) == ("dev", "Größe", "train")
    assert environment.secrets == {"TOKEN": SecretReference(env="WAREHOUSE_TOKEN")}
    assert environment.gates.metrics == {"auc": MetricLimits(min=0.71, max=1.0)}
    assert (environment.policy.code, environment.limits.timeout_s) == ("build", 60.0)
    assert decode_environment(environment.configuration, "release dev-1") == environment


def test_empty_file_is_an_environment_with_defaults(tmp_path):
    environment = read(tmp_path, "")
    assert (environment, environment.training) == (Environment(name="dev"), "dev")


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(), min_size=2))
def test_digest_is_that_of_the_effective_configuration(settings):
    backwards = dict(reversed(settings.items()))
    assert Environment(settings=settings).sha256 == Environment(settings=backwards).sha256
    assert Environment(settings=settings).sha256 != Environment(settings={}).sha256


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = ", "environments/dev.toml cannot be read as TOML"),
        ("name = 'dev'", "an environment's name is its file's name; remove 'name'"),
        ("[parameter]", "environments/dev.toml: key 'parameter' does not exist; did you mean 'parameters'?"),
        (
            "[gates]\nmetric = {}",
            "environments/dev.toml, [gates]: key 'metric' does not exist; did you mean 'metrics'?",
        ),
        ("[gates.metrics]\nauc = { mim = 1 }", "[gates.metrics] auc: key 'mim' does not exist; did you mean 'min'?"),
        ("[secrets]\nA = { evn = 'A' }", "[secrets] A: key 'evn' does not exist; did you mean 'env'?"),
        ("[policy]\nsign = true", "[policy]: key 'sign' does not exist; did you mean 'signed'?"),
        ("[limits]\ntimeout = 1", "[limits]: key 'timeout' does not exist; did you mean 'timeout_s'?"),
        ("[release]\nsource = 'train'", "[release]: key 'source' does not exist; there is 'from'"),
        ("release = {}", "missing required field `from`"),
        ("policy = 1", "Expected `object`, got `int`"),
        ("gates = []", "Expected `object`, got `array`"),
        ("secrets = 1", "Expected `object`, got `int`"),
        ("[gates]\nmetrics = 1", "Expected `object`, got `int`"),
        ("[policy]\ncode = 'any'", "Invalid enum value 'any'"),
        ("[policy]\nsigned = 1", "Expected `bool`, got `int`"),
        ("[gates.metrics]\nauc = { min = true }", "Expected `float | null`, got `bool`"),
        ("[gates.metrics]\nauc = { min = nan }", "[gates] metrics: only finite numbers"),
        ("[limits]\ntimeout_s = 0", "Expected `float` > 0"),
        ("[limits]\ntimeout_s = inf", "[limits] timeout_s: only finite numbers"),
        ("[limits]\noutput_bytes = -1", "Expected `int` >= 1"),
        ("[data]\na = 1", "Expected `str`, got `int`"),
        ("[secrets]\nA = 'hunter2'", "Expected `object`, got `str`"),
        ("[secrets]\nA = {}", "[secrets] A: expected a reference, { env = … } or { file = … }"),
        ("[secrets]\nA = { env = 'A', file = 'a' }", "[secrets] A: expected a reference"),
        (
            "[settings]\nday = 2026-03-01",
            "[settings] day: only finite numbers, texts, booleans, lists and tables are values here, found 2026-03-01",
        ),
        ("[settings]\ndeep = [{ x = nan }]", "[settings] deep: only finite numbers"),
        (
            "[parameters]\nat = 09:30:00",
            "[parameters] at: only finite numbers, texts, booleans, lists and tables are values here, found 09:30:00",
        ),
        ("[parameters.train]\nrate = inf", "[parameters] train: only finite numbers"),
    ],
)
def test_file_that_is_not_as_it_must_be_is_refused(tmp_path, text, sentence):
    folder = tmp_path / "environments"
    folder.mkdir()
    with pytest.raises(EnvironmentFileError) as caught:
        read(folder, text)
    assert str(caught.value).startswith("environments/dev.toml")
    assert sentence in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "dev.toml").write_bytes(b"\xff")
    with pytest.raises(EnvironmentFileError, match="cannot be read as TOML"):
        read_environment(tmp_path, "dev")


@pytest.mark.parametrize(("name", "hint"), [("stagin", "did you mean 'staging'"), ("../dev", "did you mean 'dev'")])
def test_unknown_environment_is_refused_with_the_nearest_name(tmp_path, name, hint):
    for known in ("staging", "dev"):
        (tmp_path / f"{known}.toml").touch()
    assert list_environments(tmp_path) == ["dev", "staging"]
    with pytest.raises(UnknownNameError, match=f"environment '{name}' does not exist; {hint}"):
        read_environment(tmp_path, name)


def test_stage_takes_its_own_table_over_general_parameters():
    environment = Environment(name="dev", parameters={"seed": 7, "rows": 9, "train": {"seed": 8, "epochs": 5}})
    require_known_parameters(environment, GRAPH)
    assert environment.parameters_for(GRAPH.stage("train"), GRAPH) == {"seed": 8, "epochs": 5}
    assert environment.parameters_for(GRAPH.stage("prepare"), GRAPH) == {"seed": 7, "rows": 9}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"sed": 1},
            "parameter or stage 'sed' does not exist; did you mean 'seed'?  (environments/dev.toml, [parameters])",
        ),
        ({"trian": {}}, "parameter or stage 'trian' does not exist; did you mean 'train'?"),
        ({"learning-rate": 1}, "parameter or stage 'learning-rate' does not exist; there is "),
        (
            {"train": {"epoch": 1}},
            "parameter 'epoch' does not exist; did you mean 'epochs'?  (environments/dev.toml, [parameters.train])",
        ),
    ],
)
def test_parameter_that_no_stage_declares_is_refused(parameters, sentence):
    with pytest.raises(UnknownNameError) as caught:
        require_known_parameters(Environment(name="dev", parameters=parameters), GRAPH)
    assert str(caught.value).startswith(sentence)


def test_value_for_a_stage_that_is_no_table_is_refused():
    with pytest.raises(EnvironmentFileError, match=r"'train' is a stage; expected \[parameters.train\]"):
        require_known_parameters(Environment(name="dev", parameters={"train": 3}), GRAPH)
