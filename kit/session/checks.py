"""The check of an artifact while its stage executes: on the bytes that are there now, its result recorded."""

from __future__ import annotations

from pathlib import Path

from kit.archive.objects import hash_artifact
from kit.check import CheckResult
from kit.environment import Gates, decode_environment
from kit.errors import NotFoundError, StageError
from kit.workspace import Context, write_fact

EXPECTATIONS = "notebooks/expectations"


def check_now(context: Context, name: str, path: Path) -> CheckResult:
    """Apply an artifact's expectation suite; what it finds is written down for the record.

    Args:
        context: of the stage.
        name: the artifact's.
        path: where it lies.

    Raises:
        NotFoundError: the artifact was not written yet, or has no suite.
        StageError: a critical expectation is not met, or the check cannot be trusted.
    """
    from kit.expectations import check_artifact

    suite = Path(context.root) / EXPECTATIONS / f"{Path(name).stem}.json"
    if not path.exists():
        raise NotFoundError(f"check of {name!r}: nothing is there yet; write it to stage.outputs[{name!r}] first")
    if not suite.is_file():
        raise NotFoundError(f"check of {name!r}: there is no suite {EXPECTATIONS}/{suite.name}")
    result = check_artifact(path, name, suite, hash_artifact(name, path), find_profile(context))
    write_fact(Path(context.facts), f"check-{name}", result)
    if not result.passed:
        raise StageError(f"check of {name!r} failed: {'; '.join(result.problems)}", context.record)
    return result


def find_profile(context: Context) -> Path | None:
    """The reference profile: the release's, else this stage's own input or output of that name; None if there is none."""
    opened = context.release
    if opened is not None:
        environment = decode_environment(opened.manifest.configuration, f"release {opened.id}")
        path = Path(opened.folder) / environment.gates.profile
    else:
        path = Path({**context.inputs, **context.outputs}.get(Gates().profile, ""))
    return path if path.is_file() else None
