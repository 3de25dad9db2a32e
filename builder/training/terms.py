"""Reads the terms of a task: expressions over outputs and batch, registered losses and metrics."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from builder.catalog.component import Component, read_component
from builder.catalog.functions import constants
from builder.catalog.signatures import signature_of
from builder.config.formulas import evaluate_formulas
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, dotted, nearest
from builder.lang.forward import Expression as Parsed
from builder.lang.forward import parse_expression
from builder.registry import Registry, functions, losses, metrics

Expression = Callable[[Mapping[str, Any]], Any]
"""An expression of the config as a function of the named values."""


@dataclass(slots=True)
class TaskReader:
    """What formulas and expressions of a task may name, and the faults found so far.

    `outputs` are the keys of the model's output: none for a tensor, None if it isn't known what the model gives.
    `metrics` is where metrics are looked up.
    """

    data: Mapping[str, Any]
    tensors: tuple[str, ...]
    origins: Origins
    outputs: tuple[str, ...] | None = None
    metrics: Registry = metrics
    faults: list[Fault] = field(default_factory=list)

    def fault(self, message: str, path: Path, **details: Any) -> None:
        """Report that something is wrong at `path`."""
        self.faults.append(Fault(message, path, self.origins.of(path), **details))

    def expression(self, text: Any, names: Collection[str], path: Path) -> Expression | None:
        """An expression as a function; None if it is wrong."""
        if not isinstance(text, str):
            self.fault(f"{dotted(path)} is no expression", path, found=text, expected=f"text over {', '.join(names)}")
            return None
        try:
            parsed = self._parse(text, names, path)
        except ConfigError as error:
            self.faults.extend(_with_names(fault, names) for fault in error.faults)
            return None
        for key in dict.fromkeys([*(key for _, key in parsed.lookups), *_subscripts(text)]):
            if self.outputs and key not in self.outputs:
                expected, near = ", ".join(self.outputs), nearest(key, self.outputs)
                self.fault(f"the model's output has no {key!r}", path, found=text, expected=expected, nearest=near)
        return parsed.bind({name: functions.get(name) for name in parsed.functions}, guarded=True)

    def _parse(self, text: str, names: Collection[str], path: Path) -> Parsed:
        """The expression; `output.depth` is a key where the model gives a mapping.

        As long as it isn't known what the model gives, it is one where no tensor has an attribute of that name.
        """
        parse = partial(
            parse_expression, text, names, functions, constants=constants(), origin=self.origins.of(path), path=path
        )
        try:
            return parse(mappings=("output", "prediction") if self.outputs else ())
        except ConfigError:
            if self.outputs is not None:
                raise
            return parse(mappings=("output", "prediction"))

    def terms(
        self, section: Any, default: tuple[str, ...], names: Collection[str], path: Path
    ) -> tuple[Expression, ...] | None:
        """What a registered loss or metric is called with: its `of`, a list of expressions; None if one is wrong."""
        of = section.get("of", default) if isinstance(section, Mapping) else default
        if not isinstance(of, list | tuple):
            self.fault(
                "of is no list", (*path, "of"), found=of, expected="a list of expressions, e.g. [output, target]"
            )
            return None
        place = (*path, "of") if of is not default else path
        terms = [self.expression(term, names, (*place, i) if of is not default else path) for i, term in enumerate(of)]
        return tuple(term for term in terms if term is not None) if None not in terms else None

    def loss(self, section: Any, path: Path) -> nn.Module | None:
        """A registered loss; None if it is wrong."""
        component = self._component(losses, section, path)
        return None if component is None else self._made(_with_tensors(component))

    def metric(self, section: Any, path: Path) -> Component | None:
        """A registered metric, made once to see that it can be; None if it is wrong."""
        component = self._component(self.metrics, section, path)
        return None if component is None or self._made(component) is None else component

    def _component(self, registry: Any, section: Any, path: Path) -> Component | None:
        section, faults = evaluate_formulas(section, {"data": self.data}, path, self.origins)
        component, more = read_component(registry, section, path, self.origins.of, reserved=("of",))
        without_value = {fault.path for fault in faults}
        self.faults += [*faults, *(fault for fault in more if fault.path not in without_value)]
        return None if faults or more else component

    def _made(self, component: Component) -> Any:
        try:
            return component.make()
        except ConfigError as error:
            self.faults.extend(error.faults)
            return None


def _with_names(fault: Fault, names: Collection[str]) -> Fault:
    """The fault of an unknown name with the names there are."""
    known = fault.message.startswith("unknown name") and fault.expected is None
    return replace(fault, expected=f"one of {', '.join(names)}, or a function") if known else fault


def _subscripts(text: str) -> list[str]:
    """The keys that a valid expression takes from the output in brackets: `output["depth"]`."""
    nodes = [node for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Subscript)]
    return [
        node.slice.value
        for node in nodes
        if isinstance(node.value, ast.Name) and node.value.id == "output"
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    ]


def _with_tensors(component: Component) -> Component:
    """The same component with lists as tensors where its signature says Tensor, e.g. the class weights of a loss."""
    parameters = signature_of(component.target).parameters
    arguments = {
        name: torch.tensor(value, dtype=torch.get_default_dtype())
        if isinstance(value, list) and name in parameters and "Tensor" in str(parameters[name].annotation)
        else value
        for name, value in component.arguments.items()
    }
    return replace(component, arguments=arguments)
