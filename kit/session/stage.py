"""An opened stage: its paths, what it asks for, and what it tells the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.check import CheckResult
from kit.errors import GateRefusedError, NotFoundError, StageError, UnknownNameError, UsageError
from kit.execute.stage import read_secret
from kit.gate import Verdict
from kit.scoring import (
    RELEASE_KEY,
    ProgressLine,
    Scored,
    add_counts,
    count_rows,
    find_lost_rows,
    score_parquet,
    write_table,
)
from kit.session.checks import check_now
from kit.session.paths import Paths
from kit.session.released import OpenedRelease
from kit.workspace import Context, write_fact

if TYPE_CHECKING:
    from kit.model.servable import Servable
    from kit.scoring.layout import Derive
    from kit.scraps import Scalar


class StageSession:
    """An opened stage: its paths, and what it tells the record."""

    def __init__(
        self,
        context: Context,
        *,
        recorded: bool,
        judge: Callable[[], Verdict] | None = None,
        open_model: Callable[[OpenedRelease], Servable] = OpenedRelease.open_model,
    ) -> None:
        self._context, self.recorded, self._judge, self._open_model = context, recorded, judge, open_model
        self._model: Servable | None = None
        self._scored: dict[Path, Scored] = {}
        self._is_counted = False
        self.inputs, self.outputs = Paths("input", context.inputs), Paths("output", context.outputs)
        self.root, self.scratch = Path(context.root), Path(context.scratch)

    def __repr__(self) -> str:
        """Stage, environment, record or "interactive: not recorded"."""
        what = self._context.record if self.recorded else "interactive: not recorded"
        return f"<stage {self._context.stage} in {self._context.environment}, {what}>"

    @property
    def config(self) -> Mapping[str, Any]:
        """The environment's `[settings]`."""
        return self._context.settings

    @property
    def bundle(self) -> Path:
        """The zip of the sources that this stage executes in.

        Raises:
            NotFoundError: interactive, in a stage other than `build`.
        """
        if not self._context.bundle:
            raise NotFoundError("in JupyterLab only the stage 'build' has a bundle; others execute in the working tree")
        return Path(self._context.bundle)

    def metric(self, name: str, value: Any) -> Scalar:
        """Record a scalar; numpy's and TensorFlow's are converted. Gives the plain value that is recorded.

        Raises:
            UsageError: it is no scalar.
        """
        from kit.scraps import glue

        return glue(name, value)

    def check(self, name: str) -> CheckResult:
        """Apply the artifact's expectation suite to the bytes that are there now.

        Raises:
            NotFoundError: the artifact was not written yet, or has no suite.
            StageError: a critical expectation is not met, or the check cannot be trusted; the result is recorded first.
        """
        path = self.inputs[name] if name in self.inputs else self.outputs[name]
        return check_now(self._context, name, path)

    def secret(self, name: str) -> str:
        """A secret's value, from the environment's reference; never written anywhere by kit.

        Raises:
            UnknownNameError: the environment has no reference of that name.
            NotFoundError: the reference leads to nothing here.
        """
        reference = self._context.secrets.get(name)
        if reference is None:
            where = f"environments/{self._context.environment}.toml, [secrets]"
            raise UnknownNameError("secret", name, self._context.secrets, where)
        value = read_secret(reference)
        if value is None:
            place = f"environment variable {reference.env}" if reference.env else f"file {reference.file}"
            raise NotFoundError(f"secret {name!r}: {place} is not there; set it for the process that runs kit")
        return value

    def make_deterministic(self, seed: int, threads: int = 1) -> dict[str, Any]:
        """Seed Python, numpy and TensorFlow, pin threads and deterministic ops; call it before TensorFlow does anything."""
        from kit.model import pin_determinism

        pinned = pin_determinism(seed, threads)
        write_fact(Path(self._context.facts), "determinism", pinned)
        return pinned

    @property
    def gate(self) -> Verdict:
        """The gate's verdict on the release at hand; reached before this notebook started, from the archive alone.

        Raises:
            UsageError: this is no release stage.
        """
        if self._context.gate is not None:
            return self._context.gate.verdict
        if self._judge is None:
            raise UsageError(f"stage {self._context.stage!r} has no gate; only the stage 'release' has")
        return self._judge()

    def cut_release(self) -> None:
        """Write release.json if the gate admits it; kit numbers the release when the stage has succeeded.

        Raises:
            GateRefusedError: with every reason.
        """
        verdict = self.gate
        if not verdict.passed:
            raise GateRefusedError(verdict.environment, verdict.reasons)
        manifest = self._context.gate and self._context.gate.manifest
        data = manifest.encode() if manifest else msgspec.json.encode(verdict)
        self.outputs["release.json"].write_bytes(data)

    @property
    def release(self) -> OpenedRelease:
        """The release that this stage runs.

        Raises:
            UsageError: this is no run stage.
        """
        opened = self._context.release
        if opened is None:
            raise UsageError(f"stage {self._context.stage!r} runs no release; only the stage 'run' does")
        return OpenedRelease(opened.id, opened.manifest, Path(opened.folder))

    def score(
        self,
        source: Path | str,
        target: str,
        *,
        keep: Sequence[str] = (),
        require: Sequence[str] = (),
        outputs: Sequence[str] | None = None,
        derive: Derive | None = None,
        constants: Mapping[str, Any] | None = None,
        rejects: str | None = None,
        allow_empty: bool = False,
    ) -> Scored:
        """Score a Parquet file with the model of the release that runs, streamed in bounded memory; see `score_parquet`.

        Records `rows_in`, `rows_out`, `rows_rejected` and `rejected_<reason>`, over all files that were scored. A notebook
        that rejects rows itself says the numbers of the whole batch afterwards, with `count_rows`.

        Args:
            source: a declared input's name, or the path of a Parquet file or folder.
            target: a declared output's name.
            keep: columns of the source that the target has beside the answers.
            require: columns that must have a value.
            outputs: those of the model's outputs that are wanted; None for all.
            derive: from the answers, arrays by name, to further columns by name.
            constants: further columns with one value.
            rejects: a declared output's name, for the position and reason of each rejected row.
            allow_empty: score a source that has no rows.

        Raises:
            UsageError: this is no run stage, a column does not fit the model, or `count_rows` was called before.
            IntegrityError: the model does not load or does not answer as its signature says, or the source is not readable.
        """
        if self._is_counted and self.recorded:
            raise UsageError("score all files before stage.count_rows(…): what it says holds for the whole batch")
        self._model = self._model or self._open_model(self.release)
        path = self.outputs[target]
        self._scored[path] = score_parquet(
            self._model, source if isinstance(source, Path) else self.inputs[source], path, release=self.release.id,
            keep=keep, require=require, outputs=outputs, derive=derive, constants=constants,
            rejects=self.outputs[rejects] if rejects else None, allow_empty=allow_empty, progress=ProgressLine(sys.stderr),
        )  # fmt: skip
        for name, value in add_counts(self._scored.values()).metrics.items():
            self.metric(name, value)
        return self._scored[path]

    def count_rows(self, *, rows_in: int, rows_out: int, rows_rejected: int | Mapping[str, int]) -> None:
        """Record what became of all rows of the batch; what `score` recorded before is replaced.

        Args:
            rows_in: rows of the batch as it came.
            rows_out: rows with an answer.
            rows_rejected: the others; by reason, these become metrics `rejected_<reason>`.

        Raises:
            StageError: rows in are not rows out and rows rejected.
        """
        metrics = count_rows(rows_in, rows_out, rows_rejected).metrics
        problem = find_lost_rows(metrics)
        if problem:
            raise StageError(problem, self._context.record)
        self._is_counted = True
        before = dict.fromkeys(add_counts(self._scored.values()).metrics, 0)  # a reason that no longer has any rows
        for name, value in (before | metrics).items():
            self.metric(name, value)

    def write_table(self, table: Any, name: str) -> None:
        """Write a pandas or Arrow table as the Parquet output of that name; in a run, with the release's id in its footer.

        Raises:
            UnknownNameError: the output is not declared.
        """
        release = self._context.release
        write_table(table, self.outputs[name], {RELEASE_KEY: release.id} if release else {})
