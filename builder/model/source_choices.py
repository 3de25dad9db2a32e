"""A tree without formulas for types: each layer has the type that it has in this model, as an expert writes one model.

Where a block is used with several types in it, it becomes several definitions, a class each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from builder.errors import ConfigError, Fault
from builder.model.pending import Names
from builder.model.scope import evaluate
from builder.model.source_init import names_of
from builder.model.source_names import free_names
from builder.model.source_visits import instance_names, nodes_of
from builder.model.spec import Argument, Definition, Node, Place, Value


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
    settler = _Settler()
    settled = settler.definition(definition, [instance_names(definition, given, {"data": data})])
    if settler.faults:
        raise ConfigError(*settler.faults)
    return settled, {name: value for name, value in given.items() if name in settled.args}


@dataclass(slots=True)
class _Settler:
    """Puts types into definitions. `made` has what became of each, `dropped` the arguments that each does without."""

    faults: list[Fault] = field(default_factory=list)
    made: dict[int, list[tuple[Definition, Definition]]] = field(default_factory=dict)
    dropped: dict[int, frozenset[str]] = field(default_factory=dict)

    def definition(self, part: Definition, instances: Sequence[Names]) -> Definition:
        """A definition with types for its layers, of which these are the instances, by what formulas see in each."""
        layers = self._nodes(part.layers, instances)
        if all(new is old for new, old in zip(layers, part.layers, strict=True)):
            return part
        settled = replace(part, layers=layers)
        decided = _used(part) - _used(settled)  # names that had no other use than to choose
        args = _without(part.args, decided)
        settled = replace(settled, args=args)
        known = self.made.setdefault(id(part), [])
        for before, after in known:
            if before == settled:
                return after
        if known and part.rules:
            self._fault(part.place, "initialisation rules can't be printed for a block with several types in it")
        after = _elsewhere(settled, len(known)) if known else settled
        known.append((settled, after))
        self.dropped[id(after)] = frozenset(part.args) - frozenset(args)
        return after

    def _nodes(self, nodes: Iterable[Node], instances: Sequence[Names]) -> tuple[Node, ...]:
        return tuple(self._node(node, [names for names in instances if evaluate(node.when, names)]) for node in nodes)

    def _node(self, node: Node, instances: Sequence[Names]) -> Node:
        """A node with its type, which is made in these instances; itself, if nothing in it is chosen."""
        if not instances:
            return node  # it is never made
        if node.choice is not None and node.choose is not None:
            kinds = {id(kind): kind for kind in (node.choose(evaluate(node.choice, names)) for names in instances)}
            if len(kinds) > 1:
                message = "one statement of plain code can't make layers of several types"
                self._fault(node.place, message, found=" and ".join(kind.type for kind in kinds.values()))
            node = replace(next(iter(kinds.values())), name=node.name, when=node.when)
        changed = {
            key: new
            for key, value in node.arguments.items()
            if isinstance(value, Node) and (new := self._node(value, instances)) is not value
        }
        arguments = {**node.arguments, **changed} if changed else node.arguments
        children, element, inner = self._nodes(node.children, instances), node.element, node.definition
        if element is not None:
            copies = [{**n, "i": index} for n in instances for index in range(evaluate(node.repeat, n))]
            element = self._node(element, copies)
        if inner is not None:
            inner = self.definition(inner, [_inside(node, inner, names) for names in instances])
            dropped = self.dropped.get(id(inner), frozenset())
            arguments = {key: value for key, value in arguments.items() if key not in dropped} if dropped else arguments
        parts = (arguments is node.arguments, element is node.element, inner is node.definition)
        if all(parts) and all(new is old for new, old in zip(children, node.children, strict=True)):
            return node
        return replace(node, arguments=arguments, children=children, element=element, definition=inner)

    def _fault(self, place: Place, message: str, found: str | None = None) -> None:
        fault = Fault(message, place.path, place.origin, found=found)
        if fault not in self.faults:
            self.faults.append(fault)


def _inside(node: Node, own: Definition, names: Names) -> Names:
    """What formulas see inside the instance of a definition that a node makes, seeing `names` itself."""
    if node.kind == "definition":
        return instance_names(own, {}, names)
    facts = {"data": names["data"]} if own.sees_data and "data" in names else {}
    return instance_names(own, evaluate(dict(node.arguments), names), facts)


def _elsewhere(part: Definition, number: int) -> Definition:
    """The same at a place of its own, and so are its layers: what is printed for one is kept by its place."""

    def moved(place: Place) -> Place:
        return Place(place.origin, (*place.path, f"#{number}"))

    def node_of(node: Node) -> Node:
        arguments = {key: node_of(value) if isinstance(value, Node) else value for key, value in node.arguments.items()}
        own = node.definition if node.kind != "definition" or node.definition is None else whole(node.definition)
        return replace(
            node, place=moved(node.place), arguments=arguments, children=tuple(map(node_of, node.children)),
            element=None if node.element is None else node_of(node.element), definition=own,
        )  # fmt: skip

    def whole(definition: Definition) -> Definition:
        return replace(definition, place=moved(definition.place), layers=tuple(map(node_of, definition.layers)))

    return whole(part)


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
    for node, _, _ in nodes_of(part):
        values += [node.when, node.repeat, node.choice if node.choose is not None else None]
        values += [value for value in node.arguments.values() if not isinstance(value, Node)]
        used |= set(names_of(node.init))
        if node.kind == "definition" and node.definition is not None:
            used |= _used(node.definition) | free_names([item.default for item in node.definition.args.values()])
    return used | set(names_of(part.init)) | free_names(values)
