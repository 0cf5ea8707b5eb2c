"""Why an execution would give something else than a record has: the record's key, taken apart and held against the plan's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from kit.archive import Archive
from kit.bundle import Bundle
from kit.diff.cells import align_cells
from kit.diff.facts import diff_mapping, diff_parameters, only_differing
from kit.diff.lines import diff_lines
from kit.diff.values import Cell, LineKind
from kit.environment import decode_environment
from kit.errors import KitError
from kit.execute import Plan
from kit.execute.key import StageKey, choose_reached, list_code, make_key, read_lock
from kit.execute.sources import bundle_of
from kit.execute.surroundings import surroundings_of
from kit.notebook import read_notebook
from kit.notebook.imports import Reach, find_reach
from kit.record import Record
from kit.status.values import N_DIGITS, Kind, Reason
from kit.tables import flatten_table

MAX_FILES = 10  # that are named, of sources any of which may matter
CONTEXT_LINES = 1
_SIGNS = {LineKind.SAME: " ", LineKind.ADDED: "+", LineKind.REMOVED: "-"}


def explain_change(
    archive: Archive, record: Record, plan: Plan, lock_name: str, installed: Mapping[str, str]
) -> tuple[Reason, ...]:
    """Everything in which the plan's key differs from that of a record, what a person set first; empty if in nothing.

    Args:
        archive: holds the record, its sources and its configuration.
        record: of the same stage and environment.
        plan: what would be executed.
        lock_name: path of the lock in a bundle.
        installed: version by normalised name of what is installed now.
    """
    if record.key == plan.key:
        return ()
    if not record.key:
        return (Reason(Kind.RECORD, record.id, detail="has no key, an older kit made it"),)
    try:
        bundle, key = bundle_of(archive, record), read_key(archive, record, lock_name)
        then = surroundings_of(archive, record).packages
        packages = choose_reached(read_lock(bundle, lock_name), then, _find_reach(bundle, record.code.notebook))
    except (KitError, OSError, msgspec.MsgspecError) as error:
        return (Reason(Kind.RECORD, record.id, detail=f"what it was made of cannot be read: {error}"),)
    assert plan.parts is not None  # it has a key
    now = choose_reached(read_lock(plan.bundle, lock_name), installed, _find_reach(plan.bundle, plan.code.notebook))
    found = tuple(_list_changes(record, plan, bundle, key, plan.parts, (packages, now)))
    return found or (Reason(Kind.RECORD, record.id, detail=_tell_unexplained(plan.parts)),)


def _find_reach(bundle: Bundle, path: str) -> Reach:
    return find_reach(bundle, path, _read_notebook(bundle, path))


def read_key(archive: Archive, record: Record, lock_name: str) -> StageKey:
    """The key of a record again, from what the archive holds; digests of sources outside of its bundle are not known any more.

    Raises:
        KitError: its bundle or its configuration is gone, or is not what it was.
        OSError: its requirements.txt is gone.
    """
    bundle = bundle_of(archive, record)
    content = msgspec.json.decode(archive.objects.read(record.configuration_sha256), type=dict[str, Any])
    environment = decode_environment(content, f"configuration of record {record.id}")
    key, _ = make_key(
        bundle.read_graph().stage(record.stage),
        environment,
        bundle,
        record.parameters,
        {each.artifact.name: each.artifact.sha256 for each in record.inputs},
        surroundings_of(archive, record),
        lock_name,
        {"id": record.release, "configuration": record.configuration_sha256} if record.release else {},
        record.drift,
    )
    return key


def _list_changes(
    record: Record,
    plan: Plan,
    bundle: Bundle,
    old: StageKey,
    new: StageKey,
    packages: tuple[Mapping[str, str], Mapping[str, str]],
) -> Iterator[Reason]:
    yield from _list_parameters(record, plan)
    if old.cells != new.cells:
        yield from list_cells(
            _read_notebook(bundle, record.code.notebook), _read_notebook(plan.bundle, plan.code.notebook)
        )
    yield from _list_sources(Kind.HELPER, old.helpers, new.helpers, bundle, plan.bundle)
    yield from _list_sources(Kind.FILE, old.files, new.files, bundle, plan.bundle)
    if old.bundle != new.bundle:
        yield from _list_bundle(record, plan, bundle)
    yield from _list_origin(old.origin, new.origin)
    yield from _list_inputs(record, plan)
    yield from _list_facts(Kind.SETTING, _flatten(old.settings), _flatten(new.settings))
    yield from _list_facts(Kind.SECRET, _flatten(old.secrets), _flatten(new.secrets))
    if old.lock != new.lock:
        yield Reason(Kind.LOCK, "", old.lock, new.lock)
    if old.packages != new.packages:
        yield from _list_facts(Kind.PACKAGE, *packages)
    yield from _list_facts(Kind.PYTHON, {"": old.python}, {"": new.python})
    yield from _list_facts(Kind.KIT, old.kit, new.kit)
    yield from _list_facts(Kind.VARIABLE, old.variables, new.variables)
    if old.subject.get("configuration") != new.subject.get("configuration") and old.subject:
        yield Reason(Kind.CONFIGURATION, "", old.subject.get("configuration"), new.subject.get("configuration"))
    yield from (Reason(Kind.RELEASE, detail=f"was executed although {each}") for each in old.drift)


def _list_parameters(record: Record, plan: Plan) -> Iterator[Reason]:
    for each in diff_parameters(record.parameters, plan.parameters):
        if each.change.counts:
            yield Reason(Kind.PARAMETER, each.name, each.before, each.after, each.source_after or each.source_before)


def list_cells(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Reason]:
    """Code cells that differ, by their number among all cells of the second notebook, gone ones by that in the first.

    Args:
        before: a notebook.
        after: another state of it.
    """
    old, new = _as_cells(before), _as_cells(after)
    pairs = align_cells(old, new)
    for j, cell in enumerate(new):
        source = old[pairs[j]].source if j in pairs else ""
        if source != cell.source:
            detail = "" if j in pairs else "is new"
            yield Reason(Kind.CELL, str(cell.index + 1), detail=detail, lines=_diff(source, cell.source))
    for i, cell in enumerate(old):
        if i not in pairs.values():
            yield Reason(Kind.CELL, str(cell.index + 1), detail="is gone", lines=_diff(cell.source, ""))
    order = [pairs[j] for j in sorted(pairs)]
    if order != sorted(order):
        yield Reason(Kind.CELL, detail="the cells stand in another order")


def _as_cells(notebook: dict[str, Any]) -> list[Cell]:
    return [
        Cell(index, str(notebook["cells"][index].get("id", "")), "code", "", source, "", None)
        for index, source in list_code(notebook)
    ]


def _read_notebook(bundle: Bundle, path: str) -> dict[str, Any]:
    return read_notebook(bundle.read(path), path)


def _list_sources(
    kind: Kind, old: Mapping[str, str], new: Mapping[str, str], before: Bundle, after: Bundle
) -> Iterator[Reason]:
    for each in only_differing(diff_mapping(old, new)):
        texts = [
            _read_text(bundle, each.name) if side else ""
            for bundle, side in ((before, each.before), (after, each.after))
        ]
        detail = "" if each.before and each.after else "is new" if each.after else "is gone"
        lines = () if None in texts else _diff(texts[0] or "", texts[1] or "")
        yield Reason(kind, each.name, each.before, each.after, detail, lines)


def _read_text(bundle: Bundle, path: str) -> str | None:
    """The file's text; None for what is none, or belongs to no reach on this side."""
    try:
        return bundle.read(path).decode()
    except (KitError, UnicodeDecodeError):
        return None


def _list_bundle(record: Record, plan: Plan, bundle: Bundle) -> Iterator[Reason]:
    """Files of two bundles that differ, where any may matter; of the stage's own notebook the cells were told."""
    old, new = ({name: each.read(name) for name in each.names()} for each in (bundle, plan.bundle))
    names = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    for name in names[:MAX_FILES]:
        detail = "" if name in old and name in new else "is new" if name in new else "is gone"
        yield Reason(Kind.FILE, name, detail=detail or "differs; this stage may read any source")
    if len(names) > MAX_FILES:
        yield Reason(Kind.FILE, detail=f"{len(names) - MAX_FILES} more files differ")


def _list_origin(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Reason]:
    """Of a build."""
    commits = [str(each.get("commit") or "")[:N_DIGITS] or None for each in (old, new)]
    if commits[0] != commits[1]:
        yield Reason(Kind.COMMIT, "", commits[0], commits[1])
    told = ["not committed" if each.get("is_dirty") else "committed" for each in (old, new)]
    if told[0] != told[1]:
        yield Reason(Kind.SOURCES, "", told[0], told[1])


def _list_inputs(record: Record, plan: Plan) -> Iterator[Reason]:
    old = {each.artifact.name: (each.artifact.sha256, each.origin) for each in record.inputs}
    new = {each.artifact.name: (each.artifact.sha256, each.recorded.origin) for each in plan.inputs}
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name, ("", "")), new.get(name, ("", ""))
        if before[0] != after[0]:
            origin = before[1] if before[1] == after[1] else f"{before[1] or 'nothing'} → {after[1] or 'nothing'}"
            yield Reason(Kind.INPUT, name, before[0] or None, after[0] or None, origin)


def _list_facts(kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Reason]:
    for each in only_differing(diff_mapping(old, new)):
        yield Reason(kind, each.name, each.before or None, each.after or None)


def _flatten(table: Mapping[str, Any] | None) -> dict[str, Any]:
    return flatten_table(table) if table else {}


def _diff(before: str, after: str) -> tuple[str, ...]:
    lines = diff_lines(before, after, CONTEXT_LINES)
    return tuple(f"{_SIGNS[line.kind]} {line.text}" for line in lines if line.kind in _SIGNS)


def _tell_unexplained(parts: StageKey) -> str:
    """Of these the archive holds nothing: of variables no value may be kept."""
    unknown = {"sources that are in no bundle": parts.loose, "values of variables": parts.environ}
    told = [f"{what} may be why: {', '.join(names)}" for what, names in unknown.items() if names]
    return f"has another key; {'; '.join(told)}" if told else "has another key, and the archive does not tell why"
