"""The description of an export, held against the profiles that it declares by the profiles' own checker, offline."""

import json
import re
import socket
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crates import MODEL, RAW, TABLE, do_again, export, find, make_history, read_zip, sha256

from kit.execute import Workbench
from kit.testing import make_key
from kit.workspace import Context

outside_deprecations = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, which the checker uses
CONTEXTS = Path(__file__).parents[2] / "shared" / "conformance"  # public specification data, kept beside the project
ADDRESSES = {
    "https://w3id.org/ro/crate/1.1/context": "ro-crate-1.1-context.jsonld",
    "https://w3id.org/ro/terms/workflow-run/context": "workflow-run-context.jsonld",
}
# roc-validator 0.13, upstream issue 51: it targets the class SoftwareApplication itself instead of its members, and so
# demands an absolute address of each notebook in the crate, which the profiles do not.
WAIVER = "process-run-crate-0.5_5.1"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return make_history(tmp_path_factory.mktemp("project"), make_key())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the contexts, on a machine without a network."""
    requests_cache = pytest.importorskip("requests_cache")
    pytest.importorskip("rocrate_validator")
    if missing := [name for name in ADDRESSES.values() if not (CONTEXTS / name).is_file()]:
        pytest.skip(f"the contexts of RO-Crate are not here: {CONTEXTS} has no {', '.join(missing)}")
    path = tmp_path / "http"
    with requests_cache.CachedSession(cache_name=str(path), backend="sqlite", expire_after=-1) as session:
        for address, name in ADDRESSES.items():
            request = requests_cache.CachedRequest(method="GET", url=address, headers={})
            session.cache.save_response(
                requests_cache.CachedResponse(
                    url=address,
                    status_code=200,
                    content=(CONTEXTS / name).read_bytes(),
                    headers={"Content-Type": "application/ld+json"},
                    encoding="utf-8",
                    request=request,
                )
            )
        session.cache.close()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return path


def validate(file: Path, cache: Path) -> tuple[list[str], Counter[str], set[str]]:
    """(profiles that the checker took it for, checks executed by profile, checks that it does not pass)."""
    from rocrate_validator import services
    from rocrate_validator.utils.http import HttpRequester

    settings = {"rocrate_uri": str(file), "offline": True, "cache_path": cache}
    try:
        found = [profile.identifier for profile in services.detect_profiles(settings)]
        settings |= {"profile_identifier": found[0], "requirement_severity": "RECOMMENDED"}
        result = services.validate(settings)
        executed = Counter(check.identifier.rpartition("_")[0] for check in result.executed_checks)
        return found, executed, {issue.check.identifier for issue in result.get_issues()}
    finally:
        HttpRequester().session.close()


@pytest.mark.kernel
@outside_deprecations
def test_record_is_a_workflow_run_crate(history: Workbench, tmp_path: Path, cache: Path) -> None:
    for stage in ("build", "prepare", "train", "release", "run"):
        found, executed, failed = validate(export(history, stage, tmp_path / f"{stage}.zip"), cache)
        assert found == ["workflow-run-crate-0.5"], stage
        assert set(executed) == {
            "ro-crate-1.1",
            "process-run-crate-0.5",
            "workflow-ro-crate-1.0",
            "workflow-run-crate-0.5",
        }
        assert min(executed.values()) > 10
        assert failed == {WAIVER}, stage


@pytest.mark.kernel
@outside_deprecations
def test_release_is_a_provenance_run_crate(history: Workbench, tmp_path: Path, cache: Path) -> None:
    found, executed, failed = validate(export(history, "dev-1", tmp_path / "release.zip"), cache)
    assert found == ["provenance-run-crate-0.5"]
    assert executed["provenance-run-crate-0.5"] > 40
    assert failed == {WAIVER}


@pytest.mark.kernel
@outside_deprecations
def test_failed_execution_is_a_valid_crate_that_says_why(tmp_path: Path, cache: Path) -> None:
    def fail(context: Context) -> None:
        raise ValueError("no data in \u00e4 #1")

    workbench = make_history(tmp_path / "project", train=fail)
    file = export(workbench, "train", tmp_path / "failed.zip")
    found, _, failed = validate(file, cache)
    assert (found, failed) == (["workflow-run-crate-0.5"], {WAIVER})
    action = read_graph(file)[f"#{find(workbench.archive, 'train').id}"]
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "ValueError: no data in \u00e4 #1"
    assert action["result"]["@id"].endswith("/executed.ipynb")


@pytest.mark.kernel
@outside_deprecations
def test_record_that_was_done_again_is_a_valid_crate_with_its_comparison(tmp_path: Path, cache: Path) -> None:
    workbench = make_history(tmp_path / "project", make_key())
    again = do_again(workbench, "train")
    for name, subject in (("first", again.reproduces or ""), ("again", again.id)):
        file = export(workbench, subject, tmp_path / f"{name}.zip")
        found, _, failed = validate(file, cache)
        assert (found, failed) == (["workflow-run-crate-0.5"], {WAIVER})
        assert [each for each in read_graph(file) if each.startswith("proof/comparisons/")]


def test_project_without_network_addresses_or_licence_says_so(history: Workbench, tmp_path: Path) -> None:
    graph = read_graph(export(history, "train", tmp_path / "train.zip"))
    assert graph["./"]["license"] == {"@id": "#licence"}
    assert "no licence" in graph["#licence"]["description"]


def read_graph(file: Path) -> dict[str, dict[str, Any]]:
    entities = json.loads(read_zip(file)["ro-crate-metadata.json"])["@graph"]
    graph = {entity["@id"]: entity for entity in entities}
    assert len(graph) == len(entities), "an id stands twice"
    return graph


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["@id"]] if set(value) == {"@id"} else [each for v in value.values() for each in references(v)]
    elif isinstance(value, list):
        yield from (each for item in value for each in references(item))


def test_comparison_is_described_with_its_digest_and_size(tmp_path: Path) -> None:
    workbench = make_history(tmp_path / "project", make_key())
    file = export(workbench, do_again(workbench, "train").id, tmp_path / "a.zip")
    require_described(file, "proof/comparisons/")


@pytest.mark.parametrize("subject", ["train", "run", "dev-1"])
def test_every_file_is_described_with_its_digest_and_size(history: Workbench, tmp_path: Path, subject: str) -> None:
    require_described(export(history, subject, tmp_path / "a.zip"), "records/")


def require_described(file: Path, start: str) -> None:
    """Every file is in the graph; some of them begin so."""
    assert [name for name in read_zip(file) if name.startswith(start)]
    graph, files = read_graph(file), read_zip(file)
    for name, data in files.items():
        if name == "ro-crate-metadata.json":
            continue
        entity = graph[urllib.parse.quote(name)]
        assert "File" in entity["@type"], name
        if name != "manifest-sha256.txt":
            assert (entity["sha256"], entity["contentSize"]) == (sha256(data), str(len(data)))


@pytest.mark.parametrize("subject", ["train", "dev-1"])
def test_every_reference_leads_to_an_entity(history: Workbench, tmp_path: Path, subject: str) -> None:
    graph = read_graph(export(history, subject, tmp_path / "a.zip"))
    known = {*graph, "https://w3id.org/ro/crate/1.1"}
    dangling = {each for entity in graph.values() for each in references(list(entity.values())) if each not in known}
    assert {each for each in dangling if not each.startswith("https://bioschemas.org/profiles/")} == set()


def test_execution_is_told_with_everything_that_went_in_and_came_out(history: Workbench, tmp_path: Path) -> None:
    record = find(history.archive, "train")
    graph = read_graph(export(history, "train", tmp_path / "train.zip"))
    action = graph[f"#{record.id}"]
    told = {kind: {graph[each]["name"] for each in references(action[kind])} for kind in ("object", "result")}
    assert told["object"] == {
        TABLE, "configuration.json", "epochs", "rate", "names", "nothing", "flag",
    }  # fmt: skip
    assert told["result"] == {MODEL, "golden.json", "auc", "n", "kind", "good", "executed.ipynb"}
    values = {
        name: graph[f"#{record.id}/parameter/{name}/value"]["value"]
        for name in ("epochs", "rate", "names", "nothing", "flag")
    }
    assert values == {"epochs": 2, "rate": 0.1, "names": '["a","b"]', "nothing": "null", "flag": True}
    kinds = [graph[f"#{record.id}/parameter/{name}"]["additionalType"] for name in values]
    assert kinds == ["Integer", "Float", "PropertyValue", "PropertyValue", "Boolean"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", action["startTime"])
    assert graph[action["agent"]["@id"]] == {
        "@id": action["agent"]["@id"],
        "@type": "Person",
        "name": record.machine.user,
    }
    assert action["instrument"] == graph["./"]["mainEntity"]
    assert "error" not in action


def test_release_is_told_step_by_step_with_what_one_took_from_another(history: Workbench, tmp_path: Path) -> None:
    graph = read_graph(export(history, "dev-1", tmp_path / "release.zip"))
    workflow = graph[graph["./"]["mainEntity"]["@id"]]
    steps = [graph[each] for each in references(workflow["step"])]
    assert [(step["position"], step["name"]) for step in sorted(steps, key=lambda step: step["position"])] == [
        ("1", "build"), ("2", "prepare"), ("3", "train"), ("4", "release"),
    ]  # fmt: skip
    links = [entity for entity in graph.values() if entity["@type"] == "ParameterConnection"]
    told = {
        tuple(
            urllib.parse.unquote(link[side]["@id"]).split("-", 1)[-1] for side in ("sourceParameter", "targetParameter")
        )
        for link in links
    }
    ids = {
        stage: find(history.archive, stage).id.split("-", 1)[1] for stage in ("build", "prepare", "train", "release")
    }
    assert (f"{ids['prepare']}/output/{TABLE}", f"{ids['train']}/input/{TABLE}") in told
    assert (f"{ids['train']}/output/{MODEL}", f"{ids['release']}/input/{MODEL}") in told
    assert any(target == f"{ids['prepare']}/input/{RAW}" for _, target in told)
    organize = graph["#pipeline/organize"]
    assert {graph[each]["@type"] for each in references(organize["object"])} == {"ControlAction"}
    assert organize["result"] == {"@id": "#pipeline/run"}
