"""Reads the terms of a task: expressions over outputs and batch, registered losses and metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from builder.catalog.component import Component, read_component
from builder.catalog.signatures import signature_of
from builder.config.formulas import evaluate_formulas
from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Path, dotted
from builder.lang.forward import parse_expression
from builder.registry import functions, losses, metrics

Expression = Callable[[Mapping[str, Any]], Any]
"""An expression of the config as a function of the named values."""


@dataclass(slots=True)
class TaskReader:
    """What formulas and expressions of a task may name, and the faults found so far."""

    data: Mapping[str, Any]
    tensors: tuple[str, ...]
    origins: Origins
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
            parsed = parse_expression(text, names, functions, origin=self.origins.of(path), path=path)
            return parsed.bind(functions)
        except ConfigError as error:
            self.faults.extend(error.faults)
            return None

    def terms(
        self, section: Any, default: tuple[str, ...], names: Collection[str], path: Path
    ) -> tuple[Expression, ...] | None:
        """What a registered loss or metric is called with: its `of`, a list of expressions; None if one is wrong."""
        of = section.get("of", default) if isinstance(section, Mapping) else default
        if not isinstance(of, list | tuple):
            self.fault("of is no list", (*path, "of"), found=of, expected="a list of expressions, e.g. [output, target]")
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
        component = self._component(metrics, section, path)
        return None if component is None or self._made(component) is None else component

    def _component(self, registry: Any, section: Any, path: Path) -> Component | None:
        section, faults = evaluate_formulas(section, {"data": self.data}, path, self.origins)
        component, more = read_component(registry, section, path, self.origins.of, reserved=("of",))
        self.faults += [*faults, *more]
        return None if faults or more else component

    def _made(self, component: Component) -> Any:
        try:
            return component.make()
        except ConfigError as error:
            self.faults.extend(error.faults)
            return None


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
