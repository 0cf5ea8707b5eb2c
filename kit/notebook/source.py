"""What one source says by itself: its imports in order, the attributes that it uses, and what keeps it from being understood."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kit.notebook.cells import parse_cell, parse_python

_DYNAMIC = ("code", "codeop", "imp", "importlib", "pkgutil", "pty", "runpy", "site", "subprocess", "zipimport")
_DYNAMIC_NAMES = ("__import__", "compile", "eval", "exec", "execfile", "get_ipython")
_PROJECT = ("bundle", "root", "find_project", "lint_notebooks", "stage_graph")  # of a stage, and of kit
_OF_SYS = ("meta_path", "path", "path_hooks", "path_importer_cache")
_OF_OS = re.compile(r"chdir|fchdir|chroot|system|popen|posix_spawnp?|startfile|(exec|spawn)[lv]p?e?")
_UNPICKLERS = ("cloudpickle", "dill", "joblib", "pickle", "shelve", "torch")
_UNPICKLING = ("Unpickler", "load", "loads", "open")
_LOADERS = ("allow_pickle", "load_model", "model_from_json", "read_pickle")  # they import what bytes name
_CONTEXT = "KIT_CONTEXT"
_SOURCE_ENDINGS = (".ipynb", ".md", ".py")  # files that are no data unless a text names them
_MAX_PATH = 1000  # characters of a text that may be a path

_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_LINE_MAGIC = re.compile(r"\s*(?:[\w.,\s]+=\s*)?(?P<sign>[%!])\s*(?P<name>[\w!]*)(?P<rest>.*)")
_PYTHON_CELLS = ("capture", "prun", "time", "timeit")
_INERT_CELLS = ("html", "HTML", "javascript", "js", "latex", "markdown", "svg", "SVG")
_PYTHON_LINES = ("memit", "mprun", "prun", "time", "timeit")
_INERT_LINES = (
    "alias_magic", "autosave", "colors", "config", "env", "history", "matplotlib", "pdb", "pinfo", "pinfo2", "pprint",
    "precision", "set_env", "tb", "who", "who_ls", "whos", "xmode",
)  # fmt: skip
_OPTIONS = re.compile(r"(\s*-\w+(\s+\d+)?)*\s*")


class Import(msgspec.Struct, frozen=True):
    """One import statement, or one name of it.

    Attributes:
        module: dotted name; of a relative import what follows the dots.
        names: imported from it; empty for `import module`.
        level: number of leading dots.
        is_late: it happens in a function, or for a type checker only.
    """

    module: str
    names: tuple[str, ...] = ()
    level: int = 0
    is_late: bool = False


class Facts(msgspec.Struct, frozen=True):
    """What is known of a source without running it.

    Attributes:
        imports: in the order in which they stand.
        attributes: names of all attributes that it reads or writes.
        opaque: why any file of the bundle may matter to it, a few words; empty if that is not so.
        unpickles: it may import any module that is there because bytes name it.
    """

    imports: tuple[Import, ...] = ()
    attributes: frozenset[str] = frozenset()
    opaque: str = ""
    unpickles: bool = False


@functools.lru_cache(maxsize=512)
def read_cell(source: str) -> Facts:
    """Facts of a code cell; a magic or a shell line that may do anything makes it opaque."""
    name = _CELL_MAGIC.match(source)
    if name and name[1] in _INERT_CELLS:
        return Facts()
    if name and name[1] not in _PYTHON_CELLS:
        return Facts(opaque=f"uses %%{name[1]}")
    embedded, opaque = _read_magics(source.splitlines())
    try:
        trees = [parse_cell(source), *map(parse_python, embedded)]
    except (SyntaxError, RecursionError):
        return Facts(opaque="holds a cell that is not Python")
    facts = _read_tree(ast.Module([node for tree in trees for node in tree.body], []))
    return msgspec.structs.replace(facts, opaque=opaque or facts.opaque)


@functools.lru_cache(maxsize=512)
def read_module(data: bytes) -> Facts:
    """Facts of a module's bytes."""
    try:
        return _read_tree(parse_python(data.decode("utf-8-sig")))
    except (SyntaxError, UnicodeDecodeError, RecursionError):
        return Facts(opaque="is not Python")


def _read_magics(lines: list[str]) -> tuple[list[str], str]:
    """(Python in line magics, why a line may do anything). A line of a text that looks like a magic counts as one."""
    embedded, opaque = [], ""
    for line in lines:
        if not (match := _LINE_MAGIC.fullmatch(line)) or line.lstrip().startswith("%%"):
            continue
        if match["sign"] == "%" and match["name"] in _PYTHON_LINES:
            embedded.append(_OPTIONS.sub("", match["rest"], count=1))
        elif match["sign"] == "!" or match["name"] not in _INERT_LINES:
            opaque = opaque or f"uses {match['sign']}{match['name']}"
    return embedded, opaque


def _read_tree(tree: ast.Module) -> Facts:
    nodes = list(ast.walk(tree))
    imports = tuple(_list_imports(tree.body, is_late=False))
    modules = {each.module.split(".")[0] for each in imports if not each.level}
    attributes = frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute))
    names = attributes | {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {name for each in imports for name in each.names}
    names |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    unpickles = bool(names & set(_LOADERS) or (modules & set(_UNPICKLERS) and names & set(_UNPICKLING)))
    texts = {id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    aliases = {"sys": "sys", "os": "os"} | _find_aliases(nodes)
    reasons = (_find_reason(node, aliases) for node in nodes if id(node) not in texts)
    return Facts(imports, attributes, next(filter(None, reasons), ""), unpickles)


def _find_aliases(nodes: list[ast.AST]) -> dict[str, str]:
    """What `sys` and `os` are called here."""
    imported = (alias for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    return {alias.asname: alias.name for alias in imported if alias.asname and alias.name in ("sys", "os")}


def _list_imports(body: Iterable[ast.stmt], *, is_late: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, is_late=is_late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(node.module or "", names, node.level, is_late)
        else:
            late = is_late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_type_checkers(node)
            yield from _list_imports(_list_statements(node), is_late=late)


def _list_statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements directly within a compound statement, in order, those of handlers and cases among them."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        found = getattr(node, field, ())
        for child in found if isinstance(found, list) else ():
            if isinstance(child, ast.stmt):
                yield child
            else:
                yield from _list_statements(child)


def _is_for_type_checkers(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    return "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))


def _find_reason(node: ast.AST, aliases: Mapping[str, str]) -> str:
    """Why any file may matter, as far as one node tells; empty if it does not.

    Args:
        node: of the tree.
        aliases: names that stand for `sys` and `os`.
    """
    match node:
        case ast.Import(names=names):
            return next((f"imports {each.name}" for each in names if each.name.split(".")[0] in _DYNAMIC), "")
        case ast.ImportFrom(module=str() as module, names=names, level=0):
            return _judge_from(module.split(".")[0], [each.name for each in names])
        case ast.Name(id=name) if name in _DYNAMIC_NAMES:
            return f"uses {name}"
        case ast.Attribute():
            return _judge_attribute(node, aliases)
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]) if name in _PROJECT:
            return f"uses .{name}"
        case ast.Call(func=ast.Name(id="dirname") | ast.Attribute(attr="dirname"), args=[ast.Call(func=inner)]):
            return "uses dirname twice" if "dirname" in ast.unparse(inner) else ""
        case ast.Constant(value=str() as text) if len(text) <= _MAX_PATH:
            return _judge_text(text)
    return ""


def _judge_attribute(node: ast.Attribute, aliases: Mapping[str, str]) -> str:
    module = aliases.get(node.value.id, "") if isinstance(node.value, ast.Name) else ""
    if (module == "sys" and node.attr in _OF_SYS) or (module == "os" and _OF_OS.fullmatch(node.attr)):
        return f"uses {module}.{node.attr}"
    if node.attr in _PROJECT or (node.attr in ("parent", "parents", "pardir") and _leads_out(node)):
        return f"uses .{node.attr}"
    return ""


def _judge_from(module: str, names: list[str]) -> str:
    if module in _DYNAMIC:
        return f"imports {module}"
    if module == "sys" and {*_OF_SYS, "*"} & set(names):
        return "changes sys.path"
    if module == "os" and any(name == "*" or _OF_OS.fullmatch(name) for name in names):
        return f"imports {', '.join(names)} from os"
    return f"imports {', '.join(names)} from kit" if module == "kit" and set(_PROJECT) & set(names) else ""


def _leads_out(node: ast.Attribute) -> bool:
    """True for a path above the folder that a module or the notebook lies in; `Path(__file__).parent` is that folder."""
    if node.attr != "parent":
        return True
    inner = ast.unparse(node.value)
    if ".parent" in inner:
        return True
    return "__file__" not in inner and re.search(r"\b(cwd|getcwd|resolve|absolute|abspath)\b", inner) is not None


def _judge_text(text: str) -> str:
    if text == _CONTEXT:
        return f"reads {_CONTEXT}"
    if ".." in re.split(r"[/\\]", text):
        return f"names {text!r}"
    return f"names {text!r}" if text.endswith(_SOURCE_ENDINGS) and not re.search(r"\s", text) else ""
