"""Paths in a source that may lead above the folder that it lies in, where what is there is no part of a stage's files."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

# where a path begins that is known in full, and so has folders above
ANCHORS = frozenset(
    ("__file__", "__path__", "absolute", "abspath", "cwd", "getcwd", "getfile", "getsourcefile", "realpath", "resolve")
)


def leads_out(node: ast.AST) -> bool:
    """True for what is above the folder of a module or a notebook by itself, or twice above anything."""
    match node:
        case ast.Attribute(attr="parents" | "pardir"):
            return True
        case ast.Attribute(attr="parent", value=inner):
            return ".parent" in ast.unparse(inner)
        case ast.Call(func=ast.Name(id="dirname") | ast.Attribute(attr="dirname"), args=[inner]):
            return "dirname" in ast.unparse(inner)
    return False


def climbs(nodes: Iterable[ast.AST]) -> bool:
    """True if a source goes up from a path that may be anywhere: `HERE.parent`; that leads out if the path has an anchor.

    Not so `Path(__file__).parent`, which is the module's own folder, and not the folder that is made for an output.
    """
    nodes = list(nodes)
    harmless = {id(each) for node in nodes for each in _list_made(node)}
    ups = (inner for node in nodes if id(node) not in harmless for inner in _list_ups(node))
    return any("__file__" not in ast.unparse(inner) for inner in ups)


def _list_ups(node: ast.AST) -> Iterator[ast.expr]:
    """What a node gives the folder of."""
    match node:
        case ast.Attribute(attr="parent", value=inner):
            yield inner
        case ast.Call(func=ast.Name(id="dirname") | ast.Attribute(attr="dirname"), args=[inner]):
            yield inner
        case ast.Call(func=ast.Attribute(attr="split", value=ast.Attribute(attr="path")), args=[inner]):
            yield inner


def _list_made(node: ast.AST) -> Iterator[ast.expr]:
    """Folders that are only made: `out.parent.mkdir()`, `os.makedirs(os.path.dirname(out))`."""
    match node:
        case ast.Attribute(attr="mkdir", value=made):
            yield made
        case ast.Call(func=ast.Name(id="makedirs") | ast.Attribute(attr="makedirs"), args=[made, *_]):
            yield made
