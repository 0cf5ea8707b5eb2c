"""Origins as a tree for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kit.cli.terminal import count, paint, printable
from kit.files import canonical_json, format_bytes
from kit.lineage import Finding, Kind, Node

_COLOURS = {Finding.UNDECIDED: "yellow", Finding.CONTRADICTS: "red"}
_WORDS = {Finding.UNDECIDED: "CANNOT BE DECIDED", Finding.CONTRADICTS: "CONTRADICTION"}


def draw_tree(node: Node, *, in_colour: bool = False) -> str:
    """One line for each node, two for one that does not hold."""
    return "\n".join(_draw(node, "", "", in_colour))


def _draw(node: Node, first: str, rest: str, in_colour: bool) -> Iterator[str]:
    head, *more = _describe(node)
    yield f"{first}{head}"
    below = "│  " if node.children else "   "
    for text in more:
        yield f"{rest}{below}{text}"
    if node.finding is not Finding.HOLDS:
        sentence = f"{_WORDS[node.finding]}: {printable(node.detail, None)}"
        yield f"{rest}{below}{paint(sentence, _COLOURS[node.finding], in_colour=in_colour)}"
    for index, child in enumerate(node.children):
        is_last = index == len(node.children) - 1
        branch, stem = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _draw(child, f"{rest}{branch}", f"{rest}{stem}", in_colour)


def _describe(node: Node) -> list[str]:
    facts, name = node.facts, printable(node.name)
    note = f", {printable(node.detail)}" if node.detail and node.finding is Finding.HOLDS else ""
    repeated = " (told elsewhere in this tree)" if node.repeated and node.finding is Finding.HOLDS else ""
    match node.kind:
        case Kind.ARTIFACT:
            return [f"{name}  {_artifact(facts)}{note}"]
        case Kind.METRIC:
            return [f"{name} = {canonical_json(facts['value']).decode()}"]
        case Kind.SOURCE:
            return [f"data source {name}"]
        case Kind.CODE:
            return [f"code {_code(facts)}"]
        case Kind.ENVIRONMENT:
            return [f"environment {name}{_environment(facts)}"]
        case Kind.RELEASE:
            return [f"release {name}{repeated}", *_release(facts)]
        case Kind.RECORD if not facts:
            return [f"record {name}"]
    return [f"record {name}  {_record(facts)}{note}{repeated}", *([] if node.repeated else _parameters(facts))]


def _artifact(facts: dict[str, Any]) -> str:
    here = "" if facts["in_archive"] else ", not in the archive"
    readers = f", read by {count(len(facts['read_by']), 'record')}" if facts.get("read_by") else ""
    return f"sha256 {facts['sha256'][:12]}, {format_bytes(facts['size_bytes'])}{here}{readers}"


def _record(facts: dict[str, Any]) -> str:
    again = f", does {printable(facts['reproduces'])} again" if facts["reproduces"] else ""
    started = facts["started"][:19].replace("T", " ")
    return printable(f"{facts['stage']} in {facts['environment']}, {facts['status']}, {started} UTC{again}")


def _parameters(facts: dict[str, Any]) -> list[str]:
    chosen: Sequence[dict[str, Any]] = facts["parameters"]
    n_default = facts["n_default_parameters"]
    texts = [f"{p['name']} = {canonical_json(p['value']).decode()} ({p['source']})" for p in chosen]
    if n_default:
        texts.append(f"{n_default} as the notebook has {'it' if n_default == 1 else 'them'}")
    return [printable(f"parameters: {', '.join(texts)}", None)] if texts else []


def _code(facts: dict[str, Any]) -> str:
    state = "with changes" if facts["dirty"] else "clean"
    commit = f"commit {facts['commit'][:12]}, {state}" if facts["commit"] else "not in git"
    here = "" if facts["in_archive"] else ", not in the archive"
    bundle = f"bundle {facts['bundle_sha256'][:12]}{here}"
    return printable(f"{facts['notebook']}, {bundle}, {commit}")


def _environment(facts: dict[str, Any]) -> str:
    packages = count(facts["n_packages"], "package")
    versions = f"kit {facts['kit_version']}, {facts['python']}"
    return printable(
        f", configuration {facts['configuration_sha256'][:12]}, {versions}, {packages}, {facts['platform']}"
    )


def _judged(facts: dict[str, Any]) -> list[str]:
    """Beside what the gate judged, and what a person let pass."""
    lines = [f"promoted from {facts['promoted_from']}"] if facts["promoted_from"] else []
    if facts["live"]:
        lines.append(f"compared with {facts['live']}, which was live")
    if facts["data"]:
        lines.append(f"judged on {', '.join(f'{name} {sha256[:12]}' for name, sha256 in facts['data'].items())}")
    return lines + ([f"waived: {', '.join(facts['waivers'])}"] if facts["waivers"] else [])


def _release(facts: dict[str, Any]) -> list[str]:
    if not facts:
        return []
    lines = [f"cut {facts['time'][:19].replace('T', ' ')} UTC by {facts['who']} into {facts['environment']}"]
    if "bundle_sha256" in facts:
        digests = (
            ("bundle", "bundle_sha256"),
            ("configuration", "configuration_sha256"),
            ("manifest", "manifest_sha256"),
        )
        told = ", ".join(f"{name} {facts[key][:12]}" for name, key in digests)
        lines.append(f"{told}, gate {facts['verdict']}, {count(len(facts['artifacts']), 'artifact')}")
        lines += _judged(facts)
    return [printable(line) for line in lines]
