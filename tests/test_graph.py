import xml.etree.ElementTree as ET

import pytest

from kit.errors import GraphError, UnknownNameError
from kit.graph import Stage, make_graph, require_bound


def make_stage(name, inputs=(), outputs=()):
    path = f"notebooks/{name}.ipynb"
    return Stage(name, path, name, (), tuple(inputs), tuple(outputs), f"{path}, cell 2")


PREPARE = make_stage("prepare", ["raw.csv"], ["features.parquet"])
TRAIN = make_stage("train", ["features.parquet"], ["model.keras"])
BUILD = make_stage("build", [], ["bundle.zip"])
APPLY = make_stage("apply", ["model.keras", "features.parquet", "extra.csv"])


def test_stages_stand_in_execution_order_with_build_first():
    graph = make_graph([APPLY, TRAIN, BUILD, PREPARE])
    assert [stage.name for stage in graph.stages] == ["build", "prepare", "train", "apply"]
    assert graph.data_sources == ("extra.csv", "raw.csv")
    assert graph.edges == (
        ("prepare", "features.parquet", "train"),
        ("train", "model.keras", "apply"),
        ("prepare", "features.parquet", "apply"),
    )


def test_order_does_not_depend_on_the_order_given():
    stages = [APPLY, TRAIN, BUILD, PREPARE]
    assert make_graph(stages) == make_graph(reversed(stages))


def test_producer_of_a_data_source_is_nobody():
    graph = make_graph([PREPARE, TRAIN])
    assert (graph.producer_of("raw.csv"), graph.producer_of("model.keras")) == (None, TRAIN)


def test_two_producers_are_refused_with_both_cells():
    with pytest.raises(
        GraphError, match=r"'model.keras' has two producers: .*again.ipynb, cell 2 and .*train.ipynb, cell 2"
    ):
        make_graph([TRAIN, make_stage("again", [], ["model.keras"])])


@pytest.mark.parametrize(
    "stages",
    [
        [make_stage("a", ["x"], ["y"]), make_stage("b", ["y"], ["x"])],
        [make_stage("a", ["x"], ["x"])],
        [make_stage("build", ["z"], ["y"]), make_stage("c", ["y"], ["z"]), make_stage("d")],
    ],
)
def test_cycle_is_refused_with_its_cells(stages):
    with pytest.raises(GraphError, match=r"the stages form a cycle: notebooks/.*, cell 2 needs the output of"):
        make_graph(stages)


def test_unknown_stage_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"stage 'trian' does not exist; did you mean 'train'\?"):
        make_graph([TRAIN]).stage("trian")


def test_unbound_input_is_refused_with_cell_and_remedy():
    graph = make_graph([PREPARE, TRAIN, APPLY])
    require_bound(APPLY, graph, ["extra.csv"], "dev")
    with pytest.raises(GraphError) as caught:
        require_bound(PREPARE, graph, ["extra.csv"], "dev")
    assert str(caught.value) == (
        "input 'raw.csv' of stage 'prepare' (notebooks/prepare.ipynb, cell 2) is unbound: no stage writes it and "
        'environments/dev.toml does not bind it; add "raw.csv" = "path/to/it" under [data]'
    )


def test_drawing_is_well_formed_and_escaped():
    root = ET.fromstring(make_graph([make_stage("a<b", [], ["x&y"]), make_stage("c", ["x&y"])]).to_svg())
    assert "a<b gives x&y to c" in "".join(root.itertext())
    assert ET.fromstring(make_graph([]).to_svg()).tag.endswith("svg")
