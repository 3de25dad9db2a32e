"""A tree without formulas for types: each has the type that it has in this model, as an expert writes one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from builder.errors import ConfigError, Fault, Path
from builder.model.pending import Names
from builder.model.source_init import names_of
from builder.model.source_names import free_names
from builder.model.source_visits import visits
from builder.model.spec import Argument, Definition, Node, Value


def chosen(definition: Definition, given: Names, data: Names) -> tuple[Definition, Names]:
    """The model with its layers' types in the place of formulas, without the arguments that decided nothing else.

    Args:
        definition: the model.
        given: values for its arguments.
        data: facts of the data set.

    Returns:
        The definition, and those of the `given` arguments that it still has.

    Raises:
        ConfigError: a formula chooses several types for layers that one statement makes.
    """
    types = _types(definition, given, data)
    if not types:
        return definition, given
    settled = _Settler(types).definition(definition)
    return settled, {name: value for name, value in given.items() if name in settled.args}


def _types(definition: Definition, given: Names, data: Names) -> dict[Path, Node]:
    """What each formula chose, by the place of its layer."""
    seen: dict[Path, Node] = {}
    faults: dict[Path, Fault] = {}
    for visit in visits(definition, given, data):
        node, place = visit.node, visit.node.place
        if node.choice is not None and seen.setdefault(place.path, node).type != node.type:
            faults[place.path] = Fault("one statement of plain code can't make layers of several types", place.path,
                                       place.origin, found=f"{seen[place.path].type} and {node.type}")  # fmt: skip
    if faults:
        raise ConfigError(*faults.values())
    return seen


@dataclass(slots=True)
class _Settler:
    """Puts `types` into definitions, callees first. `dropped` are the arguments that each then does without."""

    types: Mapping[Path, Node]
    done: dict[int, Definition] = field(default_factory=dict)
    dropped: dict[int, set[str]] = field(default_factory=dict)

    def definition(self, part: Definition) -> Definition:
        """A definition with types for its layers, the same for the same one."""
        if id(part) not in self.done:
            layers = tuple(map(self._node, part.layers))
            settled = replace(part, layers=layers)
            used = _used(settled)
            decided = _used(part) - used  # names that had no other use than to choose
            args = _without(part.args, decided)
            self.done[id(part)] = replace(settled, args=args)
            self.dropped[id(part)] = set(part.args) - set(args)
        return self.done[id(part)]

    def _node(self, node: Node) -> Node:
        if node.choose is not None:
            if node.place.path not in self.types:
                return node  # it is never made
            node = replace(self.types[node.place.path], name=node.name, when=node.when)
        arguments = {
            key: self._node(value) if isinstance(value, Node) else value for key, value in node.arguments.items()
        }
        if node.definition is not None:
            inner = self.definition(node.definition)
            arguments = {key: value for key, value in arguments.items() if key not in self.dropped[id(node.definition)]}
            node = replace(node, definition=inner)
        element = None if node.element is None else self._node(node.element)
        return replace(node, arguments=arguments, children=tuple(map(self._node, node.children)), element=element)


def _without(args: Mapping[str, Argument], decided: set[str]) -> dict[str, Argument]:
    """The arguments but for those, if no default of another one needs them."""
    kept = {name: argument for name, argument in args.items() if name not in decided}
    needed = free_names([argument.default for argument in kept.values()])
    return {name: argument for name, argument in args.items() if name in kept or name in needed}


def _used(part: Definition) -> set[str]:
    """The names that a definition's inside uses, defaults of arguments apart."""
    values: list[Value] = [list(item.shape or ()) for item in part.inputs]
    used = set(part.forward.args) if part.forward is not None else set()
    for spec in (*part.parameters, *part.buffers):
        values += [spec.shape, dict(spec.init_arguments), spec.when]
        used |= set(spec.value.names if spec.value is not None else ())
    used |= {*names_of(part.init), *(name for node in part.layers for name in _used_by(node))}
    return used | free_names(values)


def _used_by(node: Node) -> set[str]:
    """The names around a node that it uses."""
    inner = [value for value in (*node.arguments.values(), *node.children, node.element) if isinstance(value, Node)]
    plain = [value for value in node.arguments.values() if not isinstance(value, Node)]
    used = free_names([node.when, node.repeat, *plain, node.choice if node.choose is not None else None])
    used |= {*names_of(node.init), *(name for item in inner for name in _used_by(item))}
    if node.kind == "definition" and node.definition is not None:
        used |= _used(node.definition) | free_names([argument.default for argument in node.definition.args.values()])
    return used
