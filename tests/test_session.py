"""What a stage notebook calls, in the process that kit would start for it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kit.environment import SecretReference
from kit.errors import GateRefusedError, IntegrityError, NotFoundError, UnknownNameError, UsageError
from kit.gate import Evidence, Finding, Verdict
from kit.session import StageSession, open_stage
from kit.testing import make_manifest
from kit.workspace import CONTEXT_VARIABLE, Context, GateContext, ReleaseContext, create_workspace

HOLDS = Evidence("metric", "auc", Finding.HOLDS, "fine")
REFUSES = Evidence("metric", "auc", Finding.REFUSES, "too low")


def make_context(folder: Path, **changes: Any) -> Context:
    workspace = create_workspace(folder)
    facts: dict[str, Any] = {
        "stage": "train",
        "environment": "dev",
        "record": "20260301T093000Z-train-4f09c1",
        "root": str(workspace.source),
        "inputs": {"table.csv": str(workspace.inputs / "table.csv")},
        "outputs": {"model": str(workspace.outputs / "model"), "release.json": str(workspace.outputs / "release.json")},
        "facts": str(workspace.facts),
        "scratch": str(folder / "scratch"),
        "bundle": str(workspace.bundle),
        "settings": {"batch": 10},
    }
    return Context(**{**facts, **changes})


def make_session(folder: Path, **changes: Any) -> StageSession:
    return StageSession(make_context(folder / "workspace", **changes), recorded=True)


def test_stage_opens_by_its_context_with_declared_paths_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path / "workspace")
    (tmp_path / "context.json").write_bytes(msgspec.json.encode(context))
    monkeypatch.setenv(CONTEXT_VARIABLE, str(tmp_path / "context.json"))
    stage = open_stage(inputs=["table.csv"], outputs=["release.json", "model"])
    assert stage.inputs["table.csv"] == Path(context.inputs["table.csv"])
    assert list(stage.outputs) == ["model", "release.json"]
    assert stage.config == {"batch": 10}
    assert stage.root == Path(context.root)
    assert "20260301T093000Z-train-4f09c1" in repr(stage)
    with pytest.raises(UnknownNameError, match=r"output 'modle' does not exist; did you mean 'model'"):
        stage.outputs["modle"]
    with pytest.raises(UsageError, match="stage 'train' executes here"):
        open_stage(inputs=[], outputs=["model"])
    (tmp_path / "context.json").write_text("{}")
    with pytest.raises(IntegrityError, match="is kit the same"):
        open_stage(inputs=["table.csv"], outputs=["model", "release.json"])


def test_secret_is_read_from_its_reference_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    references = {
        "A": SecretReference(env="KIT_TEST_A"),
        "B": SecretReference(file=str(tmp_path / "token")),
        "C": SecretReference(file=str(tmp_path / "gone")),
    }
    monkeypatch.setenv("KIT_TEST_A", "from-the-environment")
    stage = make_session(tmp_path, secrets=references)
    assert (stage.secret("A"), stage.secret("B")) == ("from-the-environment", "from-a-file")
    with pytest.raises(NotFoundError, match=r"secret 'C': file .*gone is not there"):
        stage.secret("C")
    with pytest.raises(UnknownNameError, match=r"secret 'D'.*dev\.toml, \[secrets\]"):
        stage.secret("D")


def test_check_of_what_is_not_there_or_has_no_suite_says_so(tmp_path: Path) -> None:
    stage = make_session(tmp_path)
    with pytest.raises(NotFoundError, match="nothing is there yet"):
        stage.check("model")
    stage.outputs["model"].write_text("x")
    with pytest.raises(NotFoundError, match=r"no suite notebooks/expectations/model\.json"):
        stage.check("model")
    with pytest.raises(UnknownNameError, match="output 'mdel'"):
        stage.check("mdel")


def test_bundle_is_only_there_under_kit(tmp_path: Path) -> None:
    assert make_session(tmp_path).bundle.name == "bundle.zip"
    with pytest.raises(NotFoundError, match=r"only the stage .build. has a bundle"):
        _ = make_session(tmp_path / "other", bundle="").bundle


def test_release_is_cut_only_if_the_gate_admits_it(tmp_path: Path) -> None:
    verdict = Verdict("dev", "0" * 64, {}, (HOLDS,))
    stage = make_session(tmp_path, gate=GateContext(verdict, make_manifest(verdict)))
    stage.cut_release()
    assert stage.gate == verdict
    assert stage.outputs["release.json"].read_bytes() == make_manifest(verdict).encode()
    refused = make_session(tmp_path / "refused", gate=GateContext(Verdict("dev", "0" * 64, {}, (REFUSES,)), None))
    with pytest.raises(GateRefusedError, match="metric auc: too low"):
        refused.cut_release()
    assert not refused.outputs["release.json"].exists()


def test_gate_and_release_belong_to_their_stages(tmp_path: Path) -> None:
    stage = make_session(tmp_path)
    with pytest.raises(UsageError, match="'train' has no gate"):
        _ = stage.gate
    with pytest.raises(UsageError, match="'train' runs no release"):
        _ = stage.release
    manifest = make_manifest(Verdict("dev", "0" * 64, {}, ()), configuration={"name": "dev"})
    running = make_session(tmp_path / "run", release=ReleaseContext("dev-3", manifest, str(tmp_path)))
    assert (running.release.id, running.release.configuration) == ("dev-3", {"name": "dev"})
    with pytest.raises(UnknownNameError, match="released artifact 'model'"):
        running.release.artifact("model")
