"""What differs around two executions and may be why their results do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from types import MappingProxyType
from typing import Any

import msgspec

from kit.errors import IntegrityError
from kit.files import canonical_json
from kit.record import Record

NOTHING: Mapping[str, str] = MappingProxyType({})
_DIGEST_KINDS = ("code", "input", "configuration")
_SEEDS = ("seed", "python_hash_seed")  # as `stage.make_deterministic` records them
_THREADS = ("intra_op_threads", "inter_op_threads")


class Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is not the same around two executions.

    Attributes:
        kind: `parameter`, `cell`, `code`, `input`, `package`, `python`, `platform`, `processor`, `threads`, `seed`,
            `determinism`, `configuration` or `kit`.
        subject: which one: a name, a cell's id, a path in the bundle.
        before: its value, version, source or digest; None where it does not exist.
        after: the same, on the other side.
    """

    kind: str
    subject: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """`parameter 'epochs' was 3, is 5`."""
        name = f"{self.kind} {self.subject!r}"
        if self.before is None:
            return f"{name} is new" + ("" if self.kind == "cell" else f": {self._tell(self.after)}")
        if self.after is None:
            return f"{name} is gone" + ("" if self.kind == "cell" else f", was {self._tell(self.before)}")
        if self.kind == "cell":
            return f"{name} was changed{_first_changed_line(self.before, self.after)}"
        return f"{name} was {self._tell(self.before)}, is {self._tell(self.after)}"

    def _tell(self, value: Any) -> str:
        if isinstance(value, str) and len(value) == 64 and (self.kind in _DIGEST_KINDS or "sha256" in self.subject):
            return f"{value[:12]}…"
        if isinstance(value, str) and self.kind != "parameter":
            return value
        text = repr(value)
        return text if len(text) <= 120 else f"{text[:119]}…"


def find_causes(
    before: Record,
    after: Record,
    packages_before: Mapping[str, str],
    packages_after: Mapping[str, str],
    cells_before: Mapping[str, str] = NOTHING,
    cells_after: Mapping[str, str] = NOTHING,
    *,
    sources_before: Mapping[str, str] = NOTHING,
    sources_after: Mapping[str, str] = NOTHING,
) -> tuple[Cause, ...]:
    """Everything recorded that is not the same around two executions of one stage, what a person set first.

    Args:
        before: one execution.
        after: the other.
        packages_before: version by normalised name, see `read_packages`.
        packages_after: the same.
        cells_before: source of each code cell by its id, in the notebook's order; empty if not known.
        cells_after: the same.
        sources_before: digest of each file of the bundle by its path; with both sides, `code` names the files.
        sources_after: the same.
    """
    found = chain(
        _differ("parameter", *({each.name: each.value for each in record.parameters} for record in (before, after))),
        _differ("cell", cells_before, cells_after),
        _differing_code(before, after, sources_before, sources_after, has_cells=bool(cells_before or cells_after)),
        _differ("input", *({each.artifact.name: each.artifact.sha256 for each in r.inputs} for r in (before, after))),
        _differ("seed", *(_pick(record.determinism, _SEEDS) for record in (before, after))),
        _differ("configuration", *map(_describe_configuration, (before, after))),
        _differ("package", packages_before, packages_after),
        _differ("python", {"version": before.machine.python}, {"version": after.machine.python}),
        _differ("platform", {"system": before.machine.platform}, {"system": after.machine.platform}),
        _differ("processor", *map(_describe_processor, (before, after))),
        _differ("threads", *map(_describe_threads, (before, after))),
        _differ("determinism", *(_describe_determinism(r, packages_before, packages_after) for r in (before, after))),
        _differ("kit", *map(_describe_kit, (before, after))),
    )
    return tuple(found)


def read_packages(requirements_txt: bytes) -> dict[str, str]:
    """Version by package name, from a record's requirements.txt.

    Raises:
        IntegrityError: a line is no `name==version`.
    """
    packages = {}
    for number, line in enumerate(requirements_txt.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, version = (part.strip() for part in line.partition("=="))
        if not (name and equals and version):
            raise IntegrityError(f"requirements.txt, line {number}: expected name==version, found {line[:80]!r}")
        packages[name] = version
    return packages


def _differ(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Cause]:
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after or not _is_same(before[name], after[name]):
            yield Cause(kind, name, before.get(name), after.get(name))


def _is_same(before: Any, after: Any) -> bool:
    return canonical_json(before) == canonical_json(after)  # unlike ==, tells 1 from 1.0 and from True


def _differing_code(
    before: Record, after: Record, files_before: Mapping[str, str], files_after: Mapping[str, str], has_cells: bool
) -> Iterator[Cause]:
    if before.code.bundle_sha256 == after.code.bundle_sha256 and before.code.notebook == after.code.notebook:
        return
    notebooks = {before.code.notebook, after.code.notebook}
    if files_before and files_after:
        told = notebooks if has_cells else set()
        sides = (
            {name: digest for name, digest in files.items() if name not in told}
            for files in (files_before, files_after)
        )
        yield from _differ("code", *sides)
        return
    if not has_cells:
        yield from _differ("code", *({r.code.notebook: r.code.notebook_sha256} for r in (before, after)))
    # The bundle's digest covers the notebook too: without the files it is all that can be said of the others.
    yield from _differ("code", *({"bundle": record.code.bundle_sha256} for record in (before, after)))


def _describe_configuration(record: Record) -> dict[str, Any]:
    return {"environment": record.environment, "settings": record.configuration_sha256}


def _describe_processor(record: Record) -> dict[str, Any]:
    return {"model": record.machine.cpu_model, "flags_sha256": record.machine.cpu_flags_sha256}


def _describe_threads(record: Record) -> dict[str, Any]:
    settings = {"n_cpus": record.machine.n_cpus, **record.machine.thread_settings}
    return settings | _pick(record.determinism, _THREADS)


def _describe_determinism(record: Record, *packages: Mapping[str, str]) -> dict[str, Any]:
    """What was pinned, without what another kind tells: seeds, threads, versions of packages."""
    told = {*_SEEDS, *_THREADS}.union(*packages)
    return {name: value for name, value in record.determinism.items() if name not in told}


def _describe_kit(record: Record) -> dict[str, Any]:
    sources = record.software.kit_sources_sha256
    return {"version": record.software.kit_version} | ({"sources_sha256": sources} if sources else {})


def _pick(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _first_changed_line(before: str, after: str) -> str:
    pairs = zip_longest(str(before).splitlines(), str(after).splitlines(), fillvalue="")
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            return f": line {number} was {old.strip()[:80]!r}, is {new.strip()[:80]!r}"
    return ""
