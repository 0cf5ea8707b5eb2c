"""Functions of a SavedModel, renamed so that a model's bytes do not tell what its process did before it was saved.

TensorFlow names a function `__inference_<what>_<number>`, the number from a counter of the process: a training that went on
after a kill has counted less far than one that was not disturbed, and both have learnt the same model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"(__(?:inference|forward|backward)_.*_)(\d+)")


def renumber_functions(path: Path) -> None:
    """Number the functions of a saved_model.pb from 1, in the order in which they were made; put them in the order of names.

    A file that names a function in a place that this does not know is left as it is.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        library = graph.graph_def.library
        names = number_names(function.signature.name for function in library.function)
        _rename_calls([*graph.graph_def.node, *(node for each in library.function for node in each.node_def)], names)
        for function in library.function:
            function.signature.name = names.get(function.signature.name, function.signature.name)
            _rename_attributes(function.attr.values(), names)
            _number_captures(function)
        for gradient in library.gradient:
            gradient.function_name = names.get(gradient.function_name, gradient.function_name)
            gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
        library.function.sort(key=lambda function: function.signature.name)
        _rename_objects(graph.object_graph_def, names)
        old, text = names.keys() - names.values(), graph.SerializeToString()
        if any(each.encode() in text for each in old):
            return
    path.write_bytes(saved.SerializeToString(deterministic=True))


def number_names(names: Iterable[str]) -> dict[str, str]:
    """Old name -> new one, of those that hold a counter's number."""
    found = [(int(match[2]), match[1], name) for name in names if (match := _NAME.fullmatch(name))]
    return {name: f"{stem}{place}" for place, (_, stem, name) in enumerate(sorted(found), 1)}


def _rename_calls(nodes: Iterable[Any], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.op = names.get(node.op, node.op)
        _rename_attributes(node.attr.values(), names)


def _rename_attributes(attributes: Iterable[Any], names: Mapping[str, str]) -> None:
    for attribute in attributes:
        kind = attribute.WhichOneof("value")
        functions = [attribute.func] if kind == "func" else attribute.list.func if kind == "list" else ()
        for function in functions:
            function.name = names.get(function.name, function.name)
        if kind == "s" and (name := names.get(attribute.s.decode("utf-8", "replace"))):
            attribute.s = name.encode()


def _number_captures(function: Any) -> None:
    """What a function captured is called by a number of the process as well: by its place among the arguments instead."""
    for place, argument in function.arg_attr.items():
        if "_user_specified_name" in argument.attr and argument.attr["_user_specified_name"].s.isdigit():
            argument.attr["_user_specified_name"].s = str(place).encode()


def _rename_objects(objects: Any, names: Mapping[str, str]) -> None:
    for node in objects.nodes:
        if node.WhichOneof("kind") == "function":
            node.function.concrete_functions[:] = [names.get(n, n) for n in node.function.concrete_functions]
        elif node.WhichOneof("kind") == "bare_concrete_function":
            bare = node.bare_concrete_function
            bare.concrete_function_name = names.get(bare.concrete_function_name, bare.concrete_function_name)
    described = {name: objects.concrete_functions[name] for name in objects.concrete_functions}
    copies = {
        names.get(name, name): type(each).FromString(each.SerializeToString()) for name, each in described.items()
    }
    objects.concrete_functions.clear()
    for name, each in copies.items():
        objects.concrete_functions[name].CopyFrom(each)
