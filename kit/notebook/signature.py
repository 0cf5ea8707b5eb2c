"""A stage's signature: parameters, inputs and outputs, read from its cells by `ast`."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import PurePosixPath
from typing import Any

from kit.artifact import require_artifact_name
from kit.errors import NotebookError
from kit.files import canonical_json
from kit.graph import Stage
from kit.notebook.cells import code_cells, first_heading, is_parameters_cell, parse_cell, parse_python
from kit.parameter import Parameter, ParameterType, Source, require_value

INJECTED_TAG = "injected-parameters"
_SCALARS = ("int", "float", "str", "bool")
_RESERVED = ("env", "help", "input", "json", "release", "timeout")  # options that every stage's command has


def read_stage(notebook: dict[str, Any], path: str) -> Stage | None:
    """The signature of a notebook; None if no cell calls `kit.open_stage`, so it is no stage.

    Args:
        notebook: as `read_notebook` gives it.
        path: relative to the project, with `/`.

    Raises:
        NotebookError: what the cells declare cannot be read; names file, cell and what to write instead.
    """
    calls = [
        (index, call)
        for index, cell in code_cells(notebook)
        for call in _open_stage_calls(cell, f"{path}, cell {index + 1}")
    ]
    if not calls:
        return None
    name = PurePosixPath(path).stem
    if len(calls) > 1:
        cells = ", ".join(str(index + 1) for index, _ in calls)
        raise NotebookError(f"{path} calls kit.open_stage in cells {cells}; a stage opens once: keep one call")
    index, call = calls[0]
    where = f"{path}, cell {index + 1}"
    inputs, outputs = _read_names(call, where)
    parameters = _read_parameters_cell(notebook, path)
    return Stage(name, path, first_heading(notebook), parameters, inputs, outputs, where)


def _open_stage_calls(cell: dict[str, Any], where: str) -> list[ast.Call]:
    if "open_stage" not in cell["source"]:
        return []
    try:
        tree = parse_cell(cell["source"])
    except SyntaxError as error:  # a stage must not vanish by a slip of the pen
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}; mend the cell that opens the stage") from error
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called_name(node) == "open_stage"]


def _called_name(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(value=ast.Name(id="kit"), attr=name) | ast.Name(id=name):
            return name
    return ""


def _read_names(call: ast.Call, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {"inputs": (), "outputs": ()}
    if call.args:
        raise NotebookError(f"{where}: write kit.open_stage(inputs=[…], outputs=[…]), with the names of the arguments")
    for keyword in call.keywords:
        if keyword.arg not in found:
            raise NotebookError(f"{where}: kit.open_stage has no argument {keyword.arg!r}; it takes inputs and outputs")
        found[keyword.arg] = _read_name_list(keyword.value, f"{where}, {keyword.arg}")
    for name in found["inputs"]:
        if name in found["outputs"]:
            raise NotebookError(
                f"{where}: {name!r} is input and output; a stage never changes what it reads: rename one"
            )
    return found["inputs"], found["outputs"]


def _read_name_list(node: ast.expr, where: str) -> tuple[str, ...]:
    try:
        names = ast.literal_eval(node)
    except (ValueError, TypeError):
        names = None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise NotebookError(
            f"{where}: expected a literal list of names such as ['features.parquet'], read without running"
        )
    if len(set(names)) < len(names):
        raise NotebookError(f"{where}: a name stands twice in {list(names)}")
    for name in names:
        require_artifact_name(name, where)
    return tuple(names)


def _read_parameters_cell(notebook: dict[str, Any], path: str) -> tuple[Parameter, ...]:
    for index, cell in code_cells(notebook):
        if INJECTED_TAG in cell["metadata"].get("tags", []):
            raise NotebookError(
                f"{path}, cell {index + 1} is tagged {INJECTED_TAG!r}: papermill left it, and it would set parameters to what "
                f"they were then, whatever the record says: remove the cell"
            )
    tagged = [(index, cell) for index, cell in code_cells(notebook) if is_parameters_cell(cell)]
    if len(tagged) != 1:
        found = f"cells {', '.join(str(index + 1) for index, _ in tagged)}" if tagged else "none"
        raise NotebookError(
            f"{path} needs one code cell tagged 'parameters' (it may hold only comments), found {found}; "
            f"set the tag in JupyterLab's property inspector"
        )
    index, cell = tagged[0]
    return read_parameters(cell["source"], f"{path}, cell {index + 1}")


def read_parameters(source: str, where: str) -> tuple[Parameter, ...]:
    """The parameters that a cell declares.

    Raises:
        NotebookError: a statement that is no literal assignment, an unknown annotation, a default of another type, a
            name that the command line uses.
    """
    try:
        tree = parse_python(source)
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}; a parameters cell is plain Python") from error
    comments = _read_comments(source)
    parameters: dict[str, Parameter] = {}
    for node in tree.body:
        if _is_ignorable(node):
            continue
        parameter = _read_parameter(node, comments, f"{where}, line {node.lineno}")
        if parameter.name in _RESERVED:
            raise NotebookError(
                f"{where}, line {node.lineno}: parameter {parameter.name!r} would hide the command line's own "
                f"--{parameter.name}: rename it"
            )
        if parameter.name in parameters:
            raise NotebookError(f"{where}, line {node.lineno}: parameter {parameter.name!r} is declared twice")
        parameters[parameter.name] = parameter
    return tuple(parameters.values())


def _is_ignorable(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())) | ast.ImportFrom(module="typing" | "__future__"):
            return True
    return False


def _read_parameter(node: ast.stmt, comments: dict[int, str], where: str) -> Parameter:
    declared: ParameterType | None = None
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            declared = _read_type(annotation, where)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            pass
        case _:
            raise NotebookError(
                f"{where}: expected `name: type = literal  # help`, found `{ast.unparse(node)}`; "
                f"move other code to a later cell"
            )
    try:
        default = ast.literal_eval(value)
        canonical_json(default)
    except (ValueError, TypeError) as error:
        raise NotebookError(
            f"{where}: the default of {name!r} must be a literal JSON value, found `{ast.unparse(value)}`"
        ) from error
    if isinstance(default, tuple):
        raise NotebookError(f"{where}: the default of {name!r} is a tuple; only JSON values cross: write a list")
    comment = comments.get(node.end_lineno or 0, "")
    parameter = Parameter(name, declared or _type_of(default), default, comment, node.lineno)
    try:
        require_value(parameter, default, Source.NOTEBOOK)
    except TypeError as error:
        raise NotebookError(f"{where}: {error}") from error
    return parameter


def _read_comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}


def _read_type(node: ast.expr, where: str) -> ParameterType:
    match node:
        case ast.Name(id=name) if name in (*_SCALARS, "list", "dict"):
            return ParameterType(name)
        case ast.Constant(value=None):
            return ParameterType("none")
        case ast.Constant(value=str() as text) if inner := _read_expression(text):
            return _read_type(inner, where)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            members = [_read_type(side, where) for side in (left, right)]
            flat = [m for member in members for m in (member.arguments if member.name == "union" else (member,))]
            return ParameterType("union", tuple(flat))
        case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal"), slice=inner):
            return ParameterType("literal", choices=_read_choices(inner, where))
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return ParameterType("list", (_read_type(inner, where),))
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[ast.Name(id="str"), inner])):
            return ParameterType("dict", (ParameterType("str"), _read_type(inner, where)))
    raise NotebookError(
        f"{where}: unknown parameter type `{ast.unparse(node)}`; expected int, float, str, bool, list[…], dict[str, …], "
        f"X | None or Literal[…]"
    )


def _read_expression(text: str) -> ast.expr | None:
    try:
        body = parse_python(text).body
    except SyntaxError:
        return None
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None


def _read_choices(node: ast.expr, where: str) -> tuple[str | int | bool, ...]:
    values = node.elts if isinstance(node, ast.Tuple) else [node]
    try:
        choices = [ast.literal_eval(value) for value in values]
    except (ValueError, TypeError):
        choices = [None]
    if not all(isinstance(choice, str | int | bool) for choice in choices):
        raise NotebookError(f"{where}: Literal[…] takes texts, integers and booleans, found `{ast.unparse(node)}`")
    return tuple(choice for choice in choices if isinstance(choice, str | int | bool))


def _type_of(default: Any) -> ParameterType:
    if default is None:
        return ParameterType("union", (*(ParameterType(name) for name in _SCALARS), ParameterType("none")))
    return ParameterType(type(default).__name__)
