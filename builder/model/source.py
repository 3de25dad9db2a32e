"""Tree → plain PyTorch: the model as one Python file that imports nothing of this project."""

from __future__ import annotations

import ast
import re

from builder.errors import Path
from builder.model.infer import Exploration
from builder.model.make import Names
from builder.model.scope import evaluate
from builder.model.source_class import ClassPrinter, File
from builder.model.source_names import Imports, bound_names
from builder.model.source_sizes import Visit, classes, find, instance_names, visits
from builder.model.spec import Definition


def source(definition: Definition, given: Names, data: Names, found: Exploration) -> str:
    """The model as a Python file: same `state_dict` keys in the same order, same initial weights, same outputs.

    The model is the file's last class. Its arguments have the values in use as defaults; facts of the data set and sizes
    that were left out are numbers, or expressions over the arguments where those hold for other arguments too.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        found: what `explore` told of it.

    Returns:
        Text as a formatter leaves it, in lines of 100 columns.
    """
    first: dict[Path, Visit] = {}
    for visit in visits(definition, given, data):
        first.setdefault(visit.node.place.path, visit)
    made = {visit.node.definition.place.path for visit in first.values() if visit.node.definition is not None}
    parts = [part for part in classes(definition) if part is definition or part.place.path in made]
    file = File(Imports(bound_names(parts)), data, found, find(definition, given, data, found), first)
    for part in parts:
        file.names[part.place.path] = file.imports.unique(_class_name(part.name))
    texts = []
    for part in parts:
        printer = _printer(file, part, definition, given, data)
        texts.append("\n".join(printer.lines(file.names[part.place.path])))
    body = "\n\n\n".join(texts)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    return "\n".join([_docstring(definition), "", *file.imports.lines(used), "", "", body, ""])


def _printer(file: File, part: Definition, root: Definition, given: Names, data: Names) -> ClassPrinter:
    if part is root:
        return ClassPrinter(file, part, instance_names(part, given, {"data": data}), "", given)
    for visit in file.first.values():
        own = visit.node.definition
        if own is not None and own.place.path == part.place.path:
            inputs = {} if visit.node.kind == "definition" else _arguments(visit)
            outer = visit.names if visit.node.kind == "definition" else {}
            return ClassPrinter(file, part, instance_names(part, inputs, outer), visit.path)
    raise AssertionError(f"no instance of {part.name}")


def _arguments(visit: Visit) -> Names:
    return {key: evaluate(value, visit.names) for key, value in visit.node.arguments.items()}


def _class_name(name: str) -> str:
    """A definition's name as that of a class."""
    if name.isidentifier():
        return name
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"\W+", name))
    return title if title.isidentifier() else "Model"


def _docstring(definition: Definition) -> str:
    origin = definition.place.origin
    where = f" from {origin.file}" if origin.file is not None else ""
    return f'"""{definition.name} in plain PyTorch, written by `builder show code`{where}."""'
