"""What a stage notebook calls: `stage = kit.open_stage(inputs=[…], outputs=[…])`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kit.archive.objects import hash_artifact
from kit.check import CheckResult
from kit.errors import GateRefusedError, NotFoundError, StageError, UnknownNameError, UsageError
from kit.execute.stage import read_secret
from kit.gate import Manifest, Verdict
from kit.workspace import CONTEXT_VARIABLE, Context, read_context, write_fact

if TYPE_CHECKING:
    from kit.scraps import Scalar

EXPECTATIONS = "notebooks/expectations"


class Paths(Mapping[str, Path]):
    """Paths of a stage's declared inputs or outputs, by name."""

    def __init__(self, kind: str, paths: Mapping[str, str]) -> None:
        self._kind, self._paths = kind, paths

    def __getitem__(self, name: str) -> Path:
        """The path of a declared name.

        Raises:
            UnknownNameError: it is not declared.
        """
        if name not in self._paths:
            raise UnknownNameError(self._kind, name, self._paths, f"declare it in kit.open_stage({self._kind}s=[…])")
        return Path(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        """The declared names."""
        return iter(self._paths)

    def __len__(self) -> int:
        """How many are declared."""
        return len(self._paths)


class OpenedRelease:
    """The release that a `run` stage executes."""

    def __init__(self, release_id: str, manifest: Manifest, folder: Path) -> None:
        self.id, self.manifest, self._folder = release_id, manifest, folder

    def artifact(self, name: str) -> Path:
        """Path of a released artifact, verified when it was put there.

        Raises:
            UnknownNameError: the release has none of that name.
        """
        if self.manifest.artifact(name) is None:
            raise UnknownNameError("released artifact", name, [each.name for each in self.manifest.artifacts], self.id)
        return self._folder / name

    @property
    def configuration(self) -> dict[str, Any]:
        """The environment's configuration as the release froze it."""
        return self.manifest.configuration


class StageSession:
    """An opened stage: its paths, and what it tells the record."""

    def __init__(self, context: Context, *, recorded: bool, judge: Callable[[], Verdict] | None = None) -> None:
        self._context, self.recorded, self._judge = context, recorded, judge
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
        from kit.expectations import check_artifact

        path = self.inputs[name] if name in self.inputs else self.outputs[name]
        suite = self.root / EXPECTATIONS / f"{Path(name).stem}.json"
        if not path.exists():
            raise NotFoundError(f"check of {name!r}: nothing is there yet; write it to stage.outputs[{name!r}] first")
        if not suite.is_file():
            raise NotFoundError(f"check of {name!r}: there is no suite {EXPECTATIONS}/{suite.name}")
        result = check_artifact(path, name, suite, hash_artifact(name, path))
        write_fact(Path(self._context.facts), f"check-{name}", result)
        if not result.passed:
            raise StageError(f"check of {name!r} failed: {'; '.join(result.problems)}", self._context.record)
        return result

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


def open_stage(*, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> StageSession:
    """Open the stage that this notebook implements.

    Under kit its inputs are verified copies and all it does is recorded. In JupyterLab the inputs are those of
    environment `dev`, outputs go to a scratch folder, and nothing is recorded.

    Args:
        inputs: names of what it reads; literal, because kit reads them without running the notebook.
        outputs: names of what it writes.

    Raises:
        UsageError: the names are not those of the stage that executes here.
    """
    path = os.environ.get(CONTEXT_VARIABLE)
    if not path:
        from kit.interactive import open_interactively

        return open_interactively(list(inputs), list(outputs))
    context = read_context(Path(path))
    if sorted(context.inputs) != sorted(inputs) or sorted(context.outputs) != sorted(outputs):
        raise UsageError(
            f"stage {context.stage!r} executes here, with inputs {sorted(context.inputs)} and outputs "
            f"{sorted(context.outputs)}; this call names {sorted(inputs)} and {sorted(outputs)}. Was another stage's "
            f"notebook run inside it?"
        )
    return StageSession(context, recorded=True)
