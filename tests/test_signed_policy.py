"""`policy.signed`: an environment that demands signatures takes no unsigned work, neither as input nor into a release."""

from pathlib import Path

import msgspec
import pytest
from probes import GOOD

from kit.errors import PolicyError
from kit.execute import Order, Workbench, describe_signature
from kit.execute.sources import bundle_of
from kit.pipeline import execute_stage
from kit.project import Project
from kit.release import bind_now, judge_candidate, plan_release
from kit.signing import SigningKey
from kit.testing import DATA, FakeEngine, make_key, make_project, make_workbench, write_outputs

SIGNED = "[policy]\nsigned = true\n"
ANA, BEN = make_key("ana"), make_key("ben")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    release = DATA + '[release]\nfrom = "dev"\n' + SIGNED
    return make_project(tmp_path, environments={"dev": DATA, "strict": DATA + SIGNED, "staging": release})


def workbench(project: Project, key: SigningKey | None, *trusted: SigningKey) -> Workbench:
    trusting = msgspec.structs.replace(project, trusted_keys=tuple(str(each.public) for each in trusted))
    return make_workbench(trusting, FakeEngine(train=lambda context: {**write_outputs(context), "auc": 0.7}), key=key)


def test_without_a_key_nothing_executes(project: Project) -> None:
    with pytest.raises(PolicyError, match=r"policy\.signed.*kit key new"):
        execute_stage(workbench(project, None), Order("prepare", "strict"))
    assert workbench(project, None).archive.list_ids() == []


def test_with_a_key_work_is_signed(project: Project) -> None:
    bench = workbench(project, ANA)
    record = execute_stage(bench, Order("prepare", "strict")).record
    assert record.succeeded
    assert describe_signature(bench.archive, record.id, [ANA.public]) == f"signed with {ANA.public.id}, your own key"
    assert "if that key is whose it says" in describe_signature(bench.archive, record.id)


def test_unsigned_input_is_refused_and_says_what_it_means(project: Project) -> None:
    unsigned = execute_stage(workbench(project, None), Order("prepare", "dev")).record
    bench = workbench(project, ANA)
    with pytest.raises(PolicyError, match=f"{unsigned.id} is not signed"):
        execute_stage(bench, Order("train", "strict", inputs={"table.csv": unsigned.id}))
    assert "anyone who can write" in describe_signature(bench.archive, unsigned.id, [ANA.public])


def test_input_of_a_colleague_counts_once_the_project_trusts_the_key(project: Project) -> None:
    record = execute_stage(workbench(project, BEN), Order("prepare", "dev")).record
    order = Order("train", "strict", inputs={"table.csv": record.id})
    with pytest.raises(PolicyError, match="not among the trusted keys"):
        execute_stage(workbench(project, ANA), order)
    assert execute_stage(workbench(project, ANA, ANA, BEN), order).record.succeeded


def test_own_key_counts_only_if_the_project_trusts_it(project: Project) -> None:
    with pytest.raises(PolicyError, match=r"your key ana.*not among the trusted keys"):
        execute_stage(workbench(project, ANA, BEN), Order("prepare", "strict"))


def test_path_in_place_of_a_record_is_refused(project: Project) -> None:
    (project.root / "evil.csv").write_text("x\n")
    with pytest.raises(PolicyError, match=r"instead of a record of stage 'prepare'"):
        execute_stage(workbench(project, ANA), Order("train", "strict", inputs={"table.csv": "evil.csv"}))


def test_gate_refuses_a_lineage_in_which_a_path_stood_for_a_record(project: Project) -> None:
    (project.root / "evil.csv").write_text("x\n")
    bench = workbench(project, ANA)
    execute_stage(bench, Order("build", "dev"))
    execute_stage(bench, Order("train", "dev", inputs={"table.csv": "evil.csv"}))
    plan = plan_release(bench, Order("release", "staging"), GOOD)
    assert plan.gate is not None
    assert any("so nobody has signed it" in reason for reason in plan.gate.verdict.reasons)


def test_unsigned_build_vouches_for_no_bundle(project: Project) -> None:
    execute_stage(workbench(project, None), Order("build", "dev"))
    bench = workbench(project, ANA)
    for stage in ("prepare", "train"):
        execute_stage(bench, Order(stage, "dev"))
    evidence = judge_candidate(
        bench.archive,
        project.read_environment("staging"),
        bench.archive.find_record(bench.archive.list_ids()[-1]),
        bundle_of(bench.archive, bench.archive.find_record(bench.archive.list_ids()[-1])),
        bind_now(bench.archive, project.read_environment("staging"), project.root),
        GOOD,
        bench.trusted_keys,
    ).evidence
    assert (evidence[0].kind, evidence[0].finding.value) == ("code", "refuses")


def test_record_changed_after_it_was_signed_is_refused(project: Project) -> None:
    bench = workbench(project, ANA)
    record = execute_stage(bench, Order("prepare", "dev")).record
    path = bench.archive.record_folder(record.id) / "record.json"
    path.chmod(0o644)
    path.write_bytes(msgspec.structs.replace(record, metrics={"rows": 9}).encode())
    with pytest.raises(PolicyError, match="changed after it was signed"):
        execute_stage(bench, Order("train", "strict", inputs={"table.csv": record.id}))


def test_gate_refuses_a_lineage_with_one_unsigned_record(project: Project) -> None:
    signing = workbench(project, ANA)
    execute_stage(signing, Order("build", "dev"))
    execute_stage(workbench(project, None), Order("prepare", "dev"))
    execute_stage(signing, Order("train", "dev"))
    plan = plan_release(signing, Order("release", "staging"), GOOD)
    assert plan.gate is not None
    refusals = [reason for reason in plan.gate.verdict.reasons if reason.startswith("signature")]
    assert len(refusals) == 1
    assert "prepare" in refusals[0]
    for stage in ("prepare", "train"):
        execute_stage(signing, Order(stage, "dev"))
    step = execute_stage(signing, Order("release", "staging"), probes=GOOD)
    assert [reason for reason in step.reasons if reason.startswith("signature")] == []
