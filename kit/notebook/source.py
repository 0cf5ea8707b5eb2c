"""What one source says by itself: its imports in order, the attributes that it uses, and what keeps it from being understood."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kit.notebook.cells import parse_cell, parse_python
from kit.notebook.paths import ANCHORS, climbs, leads_out

_DYNAMIC = (
    "builtins", "code", "codeop", "imp", "import_ipynb", "importlib", "lazy_loader", "nbimporter", "pkgutil", "pty", "pydoc",
    "runpy", "site", "subprocess", "zipimport",
)  # fmt: skip
_DYNAMIC_NAMES = ("__builtins__", "__loader__", "__spec__", "compile", "eval", "exec", "execfile")
# the same of whatever they are an attribute of, and under whatever name they are imported
_DYNAMIC_ANYWHERE = (
    "__import__", "create_subprocess_exec", "create_subprocess_shell", "get_ipython", "subprocess_exec", "subprocess_shell",
)  # fmt: skip
_PROJECT = ("_context", "bundle", "root", "find_project", "lint_notebooks", "stage_graph")  # of a stage, and of kit
_OF_SYS = ("meta_path", "path", "path_hooks", "path_importer_cache")
_OF_OS = re.compile(r"chdir|fchdir|chroot|pardir|system|popen|posix_spawnp?|startfile|(exec|spawn)[lv]p?e?")
_UNPICKLERS = ("cloudpickle", "dill", "joblib", "pickle", "shelve", "torch")
_UNPICKLING = ("Unpickler", "load", "loads", "open")
# they import what bytes or texts name
_LOADERS = ("allow_pickle", "dictConfig", "load_model", "model_from_json", "read_pickle", "timeit")
_CONTEXT = "KIT_CONTEXT"
_SOURCE_ENDINGS = (".ipynb", ".md", ".py")  # files that are no data unless a text names them
_MAX_PATH = 1000  # characters of a text that may be a path

_CELL_MAGIC = re.compile(r"\s*%%(\S*)")
_LINE_MAGIC = re.compile(r"\s*(?:[\w.,\s]+=\s*)?(?P<sign>%%?|!)\s*(?P<name>[\w!]*)(?P<rest>.*)")
_PYTHON_CELLS = ("capture", "prun", "time", "timeit")
_INERT_CELLS = ("html", "HTML", "javascript", "js", "latex", "markdown", "svg", "SVG")
_PYTHON_LINES = ("memit", "mprun", "prun", "time", "timeit")
_INERT_LINES = (
    "alias_magic", "autoreload", "autosave", "colors", "config", "env", "history", "matplotlib", "pdb", "pinfo", "pinfo2",
    "pprint", "precision", "set_env", "tb", "who", "who_ls", "whos", "xmode",
)  # fmt: skip
_INERT_EXTENSIONS = ("autoreload", "line_profiler", "memory_profiler")
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
        attributes: names of all attributes that it reads or writes, and of what it imports from kit.
        opaque: why any file of the bundle may matter to it, a few words; empty if that is not so.
        unpickles: it may import any module that is there because bytes or a text name it.
        variables: names of the environment variables that it reads by name.
        is_anchored: it has paths that are known in full, see `kit.notebook.paths`.
        climbs: it goes up from paths, of which another source may say where they begin.
    """

    imports: tuple[Import, ...] = ()
    attributes: frozenset[str] = frozenset()
    opaque: str = ""
    unpickles: bool = False
    variables: frozenset[str] = frozenset()
    is_anchored: bool = False
    climbs: bool = False


@functools.lru_cache(maxsize=512)
def read_cell(source: str) -> Facts:
    """Facts of a code cell; a magic or a shell line that may do anything makes it opaque."""
    magic = _CELL_MAGIC.match(source)
    if magic and magic[1] in _INERT_CELLS:
        return Facts()
    if magic and magic[1] not in _PYTHON_CELLS:
        return Facts(opaque=f"uses %%{magic[1]}")
    embedded, opaque = _read_magics(source.strip().splitlines())
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
    """(Python in magics, why a line may do anything). A line of a text that looks like a magic counts as one."""
    embedded, opaque = [], ""
    for index, line in enumerate(lines):
        if not (match := _LINE_MAGIC.fullmatch(line)):
            continue
        sign, name, rest = match["sign"], match["name"], match["rest"]
        if sign != "!" and name in _PYTHON_LINES:  # of a cell's `%%timeit` what is executed before
            embedded.append(_OPTIONS.sub("", rest, count=1))
        elif not (_is_inert(name, rest) if sign == "%" else sign == "%%" and index == 0):
            opaque = opaque or f"uses {sign}{name}"
    return embedded, opaque


def _is_inert(name: str, rest: str) -> bool:
    """True for a line magic that changes nothing that code can tell."""
    is_known = name in ("load_ext", "reload_ext") and rest.strip() in _INERT_EXTENSIONS
    return is_known or name in _INERT_LINES


def _read_tree(tree: ast.Module) -> Facts:
    nodes = list(_walk(tree))
    imports = tuple(_list_imports(tree.body, is_late=False))
    modules = {each.module.split(".")[0] for each in imports if not each.level}
    attributes = frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute))
    attributes |= {name for each in imports if each.module == "kit" for name in each.names}
    names = attributes | {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {name for each in imports for name in each.names}
    names |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    texts = {id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    aliases = {"sys": "sys", "os": "os"} | _find_aliases(nodes)
    reasons = (_find_reason(node, aliases) for node in nodes if id(node) not in texts)
    anywhere = next((f"uses {name}" for name in _DYNAMIC_ANYWHERE if name in names), "")
    return Facts(
        imports,
        attributes,
        opaque=anywhere or next(filter(None, reasons), ""),
        unpickles=bool(names & set(_LOADERS) or (modules & set(_UNPICKLERS) and names & set(_UNPICKLING))),
        variables=frozenset(filter(None, map(_find_variable, nodes))),
        is_anchored=bool(names & ANCHORS),
        climbs=climbs(nodes),
    )


def _walk(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes; `getattr(x, "name")` also as the attribute that it is."""
    for node in ast.walk(tree):
        yield node
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str() as name), *_]):
                yield ast.Attribute(value, name, ast.Load())


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
        case ast.Call() if leads_out(node):
            return "uses dirname twice"
        case ast.Constant(value=str() as text) if len(text) <= _MAX_PATH:
            return _judge_text(text)
    return ""


def _judge_attribute(node: ast.Attribute, aliases: Mapping[str, str]) -> str:
    module = aliases.get(node.value.id, "") if isinstance(node.value, ast.Name) else ""
    if (module == "sys" and node.attr in _OF_SYS) or (module == "os" and _OF_OS.fullmatch(node.attr)):
        return f"uses {module}.{node.attr}"
    if node.attr in _PROJECT or leads_out(node):
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


def _find_variable(node: ast.AST) -> str:
    """Name of the environment variable that a node reads; empty if it reads none, or under a name that is made up."""
    match node:
        case ast.Subscript(value=place, slice=ast.Constant(value=str() as name), ctx=ast.Load()):
            return name if _is_environ(place) else ""
        case ast.Call(
            func=ast.Name(id="getenv") | ast.Attribute(attr="getenv"), args=[ast.Constant(value=str() as name), *_]
        ):
            return name
        case ast.Call(
            func=ast.Attribute(attr="get" | "pop", value=place), args=[ast.Constant(value=str() as name), *_]
        ):
            return name if _is_environ(place) else ""
        case ast.Compare(left=ast.Constant(value=str() as name), comparators=[place]):
            return name if _is_environ(place) else ""
    return ""


def _is_environ(node: ast.expr) -> bool:
    return "environ" in (getattr(node, "id", ""), getattr(node, "attr", ""))


def _judge_text(text: str) -> str:
    if text == _CONTEXT:
        return f"reads {_CONTEXT}"
    if ".." in re.split(r"[/\\]", text):
        return f"names {text!r}"
    return f"names {text!r}" if text.endswith(_SOURCE_ENDINGS) and not re.search(r"\s", text) else ""
