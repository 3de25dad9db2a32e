"""Tree → plain PyTorch: the model as one Python file that imports nothing of this project."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from builder.errors import Path
from builder.model.infer import Exploration
from builder.model.pending import Names
from builder.model.scope import evaluate
from builder.model.source_choices import chosen
from builder.model.source_class import ClassPrinter
from builder.model.source_file import HELPERS, File
from builder.model.source_init import function_lines, standings
from builder.model.source_layout import WIDTH
from builder.model.source_names import Imports, bound_names
from builder.model.source_sizes import find
from builder.model.source_visits import Visit, classes, instance_names, visits
from builder.model.spec import Definition


def source(definition: Definition, given: Names, data: Names, found: Exploration) -> str:
    """The model as a Python file: same `state_dict` keys in the same order, same initial weights, same outputs.

    The model is the file's last class. The defaults of its arguments are the values in use. Facts of the data set are
    numbers; sizes that were left out are expressions over the arguments where those hold for other values of the
    arguments too, else numbers.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.
        found: what `explore` told of it.

    Returns:
        Text as a formatter leaves it, in lines of 100 columns.

    Raises:
        ConfigError: something in it can't be said in such a file.
    """
    definition, given = chosen(definition, given, data)
    first: dict[Path, Visit] = {}
    for visit in visits(definition, given, data):
        first.setdefault(visit.node.place.path, visit)
    instances = {visit.node.definition.place.path: visit for visit in reversed(first.values()) if visit.node.definition}
    parts = [part for part in classes(definition) if part is definition or part.place.path in instances]
    file = File(
        Imports(bound_names(parts)),
        data,
        found,
        find(definition, given, data, found),
        first,
        standings=standings(definition, given, data, found.sizes),
    )
    file.imports.taken.update(HELPERS)
    for part in (definition, *(part for part in parts if part is not definition)):  # its name is its own
        file.names[part.place.path] = file.imports.unique(_class_name(part.name))
    texts = ["\n".join(text) for text in _classes(file, parts, instances, given)]
    helpers = [text for name, text in HELPERS.items() if name in file.helpers]
    functions = ["\n".join(function_lines(lines)) for lines in file.functions]
    body = "\n\n\n".join(helpers + functions + texts)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    return "\n".join([_docstring(definition), "", *file.imports.lines(used), "", "", body, ""])


def _classes(file: File, parts: list[Definition], instances: dict[Path, Visit], given: Names) -> Iterator[list[str]]:
    """The lines of each class; the last is the model itself."""
    for part in parts:
        place, visit = part.place.path, instances.get(part.place.path)
        if visit is None:
            printer = ClassPrinter(file, part, instance_names(part, given, {"data": file.data}), "", given)
        elif visit.node.kind == "definition":
            printer = ClassPrinter(file, part, instance_names(part, {}, visit.names), visit.path)
        else:
            arguments = evaluate(dict(visit.node.arguments), visit.names)
            printer = ClassPrinter(file, part, instance_names(part, arguments, {}), visit.path)
        yield printer.lines(file.names[place])


def _class_name(name: str) -> str:
    """A definition's name as that of a class."""
    if name.isidentifier():
        return name
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"\W+", name))
    return title if title.isidentifier() else "Model"


def _docstring(definition: Definition) -> str:
    text = f"{definition.name} in plain PyTorch, written by `builder show code`"
    file = definition.place.origin.file
    line = f'"""{text}{"" if file is None else f" from {file}"}."""'
    return line if len(line) <= WIDTH else f'"""{text}.\n\nFrom {file}.\n"""'
