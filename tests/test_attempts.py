"""Further attempts after transient failures: how many, when, and what each record says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kit.environment import StageSettings, decode_environment
from kit.errors import EnvironmentFileError, UnknownNameError
from kit.execute import Order, execute_with_retries, plan_stage, read_attempts
from kit.execute.attempts import LONGEST_PAUSE_S, choose_pause, is_transient
from kit.execute.plan import Plan
from kit.record import Failure, Record, Status
from kit.testing import (
    DATA,
    FakeEngine,
    fake_outcome,
    make_project,
    make_record,
    make_workbench,
    seal_record,
    write_outputs,
)
from kit.verify import verify_archive
from kit.workspace import Context

SETTINGS = StageSettings(retries=2, transient=("ConnectionError", "KernelDied"))
RETRIED = f"""{DATA}
[stages.prepare]
retries = 2
transient = ["ConnectionError", "KernelDied"]
backoff_s = 0.5
"""


class Flaky:
    """A project whose stage `prepare` ends as the list says, one after the other, and then succeeds."""

    def __init__(self, folder: Path, *ends: Any, environment: str = RETRIED) -> None:
        self.ends, self.pauses, self.told = list(ends), list[float](), list[str]()
        bench = make_workbench(make_project(folder, environments={"dev": environment}), FakeEngine(prepare=self.act))
        self.bench = dataclasses.replace(bench, notify=self.told.append)

    def act(self, context: Context) -> Any:
        if not self.ends:
            return write_outputs(context)
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end

    def plan(self) -> Plan:
        return plan_stage(self.bench, Order("prepare", "dev"))

    def execute(self) -> list[Record]:
        """All records, oldest first; the last is the one that was returned."""
        record = execute_with_retries(self.bench, self.plan(), self.pauses.append, lambda: 0.5)
        records = sorted(self.bench.archive.records(), key=lambda each: each.id)
        assert records[-1] == record
        return records


def test_transient_failure_is_followed_by_another_attempt_which_names_it(tmp_path: Path) -> None:
    died = fake_outcome(None, Status.KERNEL_DIED, failure=Failure("KernelDied", "killed by SIGKILL", 0))
    flaky = Flaky(tmp_path, ConnectionError("no answer"), died)
    first, second, third = flaky.execute()
    assert [each.status for each in (first, second, third)] == [
        Status.FAILED, Status.KERNEL_DIED, Status.SUCCEEDED,
    ]  # fmt: skip
    assert (first.attempts, second.attempts, third.attempts) == ((), (first.id,), (first.id, second.id))
    assert flaky.pauses == [0.5625, 1.125]
    assert flaky.told == [
        "prepare: ConnectionError, which [stages.prepare] calls transient; attempt 2 of 3 in 0.6 s",
        "prepare: KernelDied, which [stages.prepare] calls transient; attempt 3 of 3 in 1.1 s",
    ]
    assert read_attempts(flaky.bench.archive, third) == [first, second]
    assert verify_archive(flaky.bench.archive.folder).exit_code == 0


def test_attempts_end_with_the_last_one_that_is_allowed(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path, *[ConnectionError("no answer")] * 9)
    assert [each.status for each in flaky.execute()] == [Status.FAILED] * 3


@pytest.mark.parametrize(
    "end",
    [
        ValueError("a defect"),
        BrokenPipeError("is a ConnectionError, but the kernel tells the name of the class alone"),
        fake_outcome(None, Status.TIMED_OUT, failure=Failure("TimedOut", "too long", 0)),
        fake_outcome(None, Status.INTERRUPTED, failure=Failure("ConnectionError", "Ctrl-C in a handler", 0)),
        KeyboardInterrupt(),
    ],
    ids=lambda end: type(end).__name__,
)
def test_other_failures_are_final(tmp_path: Path, end: Any) -> None:
    flaky = Flaky(tmp_path, end)
    (record,) = flaky.execute()
    assert (record.succeeded, flaky.pauses) == (False, [])


def test_missing_output_is_retried_only_if_it_is_named(tmp_path: Path) -> None:
    nothing = fake_outcome(None, Status.SUCCEEDED)
    assert len(Flaky(tmp_path / "a", nothing).execute()) == 1
    named = RETRIED.replace("KernelDied", "OutputMissing")
    assert [each.succeeded for each in Flaky(tmp_path / "b", nothing, environment=named).execute()] == [False, True]


def test_environment_without_a_word_retries_nothing(tmp_path: Path) -> None:
    assert len(Flaky(tmp_path, ConnectionError("no answer"), environment=DATA).execute()) == 1


def test_interrupt_while_waiting_begins_no_further_attempt(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path, ConnectionError("no answer"))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_with_retries(flaky.bench, flaky.plan(), interrupt)
    (record,) = flaky.bench.archive.records()
    assert record.status is Status.FAILED


def test_later_command_goes_on_with_the_scratch_folder_of_retried_attempts(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path)

    def leave(context: Context) -> None:
        (Path(context.scratch) / "checkpoint").touch()
        raise ConnectionError("no answer")

    flaky.bench.engine.acts["prepare"] = leave  # type: ignore[attr-defined]
    failed = flaky.execute()
    flaky.bench.engine.acts["prepare"] = write_outputs  # type: ignore[attr-defined]
    *_, done = flaky.execute()
    assert done.attempts == tuple(each.id for each in failed)


def test_work_that_is_done_again_and_releases_are_never_retried(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path, ConnectionError("no answer"))
    plan = dataclasses.replace(flaky.plan(), reproduces="20260301T093000Z-prepare-000000")
    assert execute_with_retries(flaky.bench, plan, flaky.pauses.append).status is Status.FAILED
    assert flaky.pauses == []
    failure = Failure("ConnectionError", "no answer", 0)
    records = {stage: make_record(stage=stage, status=Status.FAILED, failure=failure) for stage in ("run", "release")}
    assert {stage: is_transient(record, SETTINGS) for stage, record in records.items()} == {
        "run": True, "release": False,
    }  # fmt: skip


def test_pause_doubles_is_a_little_longer_by_chance_and_ends_at_an_hour() -> None:
    assert [choose_pause(1.0, n_failed, 0.0) for n_failed in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert choose_pause(2.0, 1, 0.999) < 2.5
    assert choose_pause(0.0, 20, 0.5) == 0.0
    assert choose_pause(3600.0, 20, 0.5) == LONGEST_PAUSE_S


def test_attempt_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    archive = make_workbench(make_project(tmp_path)).archive
    failed = seal_record(archive, make_record(status=Status.FAILED))
    record = make_record(attempts=("20260301T093000Z-train-000000", failed.id))
    assert read_attempts(archive, record) == [failed]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"retries": 2}, 'retries = 2 without transient retries nothing; name the failures .*"ConnectionError"'),
        ({"retrys": 2}, "key 'retrys' does not exist; did you mean 'retries'"),
        ({"retries": -1, "transient": ["E"]}, "Expected `int` >= 0"),
        ({"retries": 1, "transient": ["requests.exceptions.Timeout"]}, "write 'Timeout', a kernel does not tell"),
        ({"retries": 1, "transient": [""]}, "'' is no name of an exception's class; expected a name"),
        ({"retries": 1, "transient": ["KeyboardInterrupt"]}, "an interruption is never retried"),
        ({"retries": 1, "transient": ["E"], "backoff_s": -1.0}, "Expected `float` >= 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EnvironmentFileError, match=f"environments/dev.toml.*{sentence}"):
        decode_environment({"name": "dev", "stages": {"train": table}}, "environments/dev.toml")


def test_retries_of_a_release_are_refused_and_those_of_a_run_are_not() -> None:
    table = {"retries": 1, "transient": ["ConnectionError"]}
    with pytest.raises(EnvironmentFileError, match="a release is not retried"):
        decode_environment({"name": "dev", "stages": {"release": table}}, "environments/dev.toml")
    environment = decode_environment({"name": "dev", "stages": {"run": table}}, "environments/dev.toml")
    assert environment.stages == {"run": StageSettings(retries=1, transient=("ConnectionError",))}


def test_settings_of_a_stage_that_does_not_exist_are_refused(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path, environment=RETRIED.replace("[stages.prepare]", "[stages.prepares]"))
    with pytest.raises(UnknownNameError) as caught:
        flaky.plan()
    assert str(caught.value).startswith("stage 'prepares' does not exist; did you mean 'prepare'?")
    assert "environments/dev.toml, [stages.prepares]" in str(caught.value)
