"""Callbacks that find faults of their own arguments once there is a model, and say where these are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import nn

from builder.config.origin import Origins
from builder.errors import DEFAULT, ConfigError, Fault, Origin, Path
from builder.select import NamedModel, Selector, read_selector


class PlacedCallback(Callback):
    """A callback that knows where in the config it stands."""

    path: Path = ("callbacks",)
    origin: Origin = DEFAULT

    def origins(self) -> Origins:
        """The origin of the callback's section, for all that is in it."""
        return Origins({self.path: self.origin})

    def refuse(self, argument: str, *faults: Fault) -> ConfigError:
        """The error to raise for faults of an argument."""
        path = (*self.path, argument)
        return ConfigError(*(replace(fault, path=path, origin=self.origin) for fault in faults))

    def parameters(self, model: nn.Module, raw: Any, argument: str = "select") -> dict[str, nn.Parameter]:
        """The parameters that a selector selects, by name; all for None.

        Raises:
            ConfigError: it is no selector, or it selects nothing.
        """
        if raw is None:
            return dict(model.named_parameters())
        named, selector = self._named(model, raw, argument)
        return dict(named.parameters_of(selector))

    def modules(self, model: nn.Module, raw: Any, argument: str = "select") -> dict[str, nn.Module]:
        """The modules that a selector selects, by name; for None all that have no others inside.

        Raises:
            ConfigError: it is no selector, or it selects nothing.
        """
        if raw is None:
            return {name: module for name, module in model.named_modules() if not list(module.children())}
        named, selector = self._named(model, raw, argument)
        return dict(named.modules_of(selector))

    def _named(self, model: nn.Module, raw: Any, argument: str) -> tuple[NamedModel, Selector]:
        selector, faults = read_selector(raw, (*self.path, argument), lambda path: self.origin)
        if selector is None:
            raise ConfigError(*faults)
        named = NamedModel(model)
        fault = named.fault(selector)
        if fault is not None:
            raise ConfigError(fault)
        return named, selector
