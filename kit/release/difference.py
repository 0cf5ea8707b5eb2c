"""What is not as it was released, as a value, and the decision on it: damage never runs, drift only where policy permits."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from kit.environment import decode_environment
from kit.errors import IntegrityError, NewerFormatError, NotFoundError, PolicyError
from kit.files import canonical_json
from kit.gate import Manifest, Release

MAX_LISTED = 10
MAX_CHARACTERS = 80  # of a value


class Kind(enum.StrEnum):
    """What differs. The first four are damage, which nothing allows; the others may be allowed by the release's policy."""

    BUNDLE = "bundle"
    ARTIFACT = "artifact"
    VERDICT = "verdict"
    CONFIGURATION = "configuration"
    ENVIRONMENT = "environment"
    PACKAGES = "packages"
    PYTHON = "python"

    @property
    def is_damage(self) -> bool:
        """True where bytes are not the bytes that were released."""
        match self:
            case Kind.BUNDLE | Kind.ARTIFACT | Kind.VERDICT | Kind.CONFIGURATION:
                return True
            case Kind.ENVIRONMENT | Kind.PACKAGES | Kind.PYTHON:
                return False
        assert_never(self)


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as it was released.

    Attributes:
        kind: what it is.
        fact: one sentence with what was expected and found; a record that allows it keeps this.
        advice: what to do.
    """

    kind: Kind
    fact: str
    advice: str

    def __str__(self) -> str:
        """Fact and advice."""
        return f"{self.fact}; {self.advice}"


def require_no_drift(
    release: Release, manifest: Manifest, differences: Sequence[Difference], *, allow: bool
) -> tuple[str, ...]:
    """Refuse a release that something differs from, with everything that does.

    Args:
        release: to be run.
        manifest: its release.json, whose frozen policy decides whether drift may be allowed.
        differences: all that were found.
        allow: a person wants to execute it all the same.

    Returns:
        The facts that are allowed to differ, for the record; empty if nothing differs.

    Raises:
        IntegrityError: bytes are not those that were released; nothing allows that.
        PolicyError: something else differs, and nobody allowed it, or nobody may.
    """
    if any(each.kind.is_damage for each in differences):
        raise IntegrityError(_list(release, differences))
    permits = decode_environment(manifest.configuration, f"release {release.id}").policy.allow_drift
    if allow and not permits:
        raise PolicyError(
            f"--allow-drift: release {release.id} was frozen without policy.allow_drift, so nothing may differ from it; set "
            f"allow_drift = true in [policy] of environments/{release.environment}.toml and cut a new release"
            + (f"\n{_list(release, differences)}" if differences else "")
        )
    if differences and not allow:
        way_out = (
            "\nor run it with --allow-drift, which this release permits: the record will say so" if permits else ""
        )
        raise PolicyError(_list(release, differences) + way_out)
    return tuple(each.fact for each in differences)


def _list(release: Release, differences: Sequence[Difference]) -> str:
    n = len(differences)
    lines = "".join(f"\n  - {each}" for each in differences)
    return f"release {release.id} is not run: {n} {'thing differs' if n == 1 else 'things differ'} from what was released{lines}"


def advise_on_damage(environment: str) -> str:
    """What to do where bytes in an archive are not those of a release."""
    return f"put it back from a copy of the archive (`kit verify` says what else is damaged), or {advise_to_cut(environment)}"


def advise_to_cut(environment: str) -> str:
    """The command that makes what is there now a release."""
    return f"cut a new release with `kit release --env {environment}`"


@contextlib.contextmanager
def readable_release(environment: str) -> Iterator[None]:
    """Around reading a verdict or a release.json: one that is damaged or missing is said with what to do.

    Nothing else of the release can be judged then, because they name all the rest.
    """
    try:
        yield
    except NewerFormatError:
        raise
    except (IntegrityError, NotFoundError) as error:
        raise IntegrityError(f"{error}; {advise_on_damage(environment)}") from error


def list_some(texts: Sequence[str]) -> str:
    """The first ten of some texts, and how many more there are."""
    more = len(texts) - MAX_LISTED
    return "; ".join(texts[:MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")


def describe_changes(frozen: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Values by dotted name that differ: `parameters.train.epochs: 2 -> 3; …`."""
    changes = [
        f"{name}: {_show(frozen, name)} -> {_show(now, name)}"
        for name in sorted(frozen.keys() | now.keys())
        if _show(frozen, name, None) != _show(now, name, None)
    ]
    return list_some(changes)


def _show(values: Mapping[str, Any], name: str, characters: int | None = MAX_CHARACTERS) -> str:
    text = canonical_json(values[name]).decode() if name in values else "nothing"
    return f"{text[:characters]}…" if characters and len(text) > characters else text
