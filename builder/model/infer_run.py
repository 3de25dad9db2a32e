"""Runs a model on the meta device once, noting every call; says what doesn't fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from builder.errors import ConfigError, Fault
from builder.lang.guard import TooLong, bounded
from builder.model.explain import explain
from builder.model.infer_mode import Exploring
from builder.model.make import Maker
from builder.model.misfit import depends_on_data, misfit
from builder.model.pending import Refused
from builder.model.recall import Contradicted, Recall
from builder.model.record import Call, Record, shapes, tensors


class Meter(Protocol):
    """Measures a run besides its shapes: a context around it that is told of each module entered and left."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> None: ...

    def enter(self, path: str) -> None:
        """The module at that path is called."""

    def leave(self, path: str) -> None:
        """It returned."""


class DependsOnData(Exception):
    """The model can't be run to its end without the values of its inputs."""


class Misfit(Exception):
    """The model doesn't run with these inputs."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def run(
    model: nn.Module, inputs: Mapping[str, Any], maker: Maker, meter: Meter | None = None
) -> tuple[tuple[Call, ...], Any]:
    """Run the model, recording the first call of each module."""
    record = Record()
    handles = list(_watch(model, record, meter))
    try:
        with (
            bounded(),
            torch.set_grad_enabled(meter is not None),
            torch.device("meta"),
            Exploring(),
            meter or _Recalling(model, maker, Recall(maker.sizes, record.calls)),
        ):
            outputs = model(*inputs.values())  # optional inputs come last
    except Refused:
        raise Misfit(maker.faults[0] if maker.faults else Fault("sizes depend on a guess")) from None
    except Contradicted as error:
        maker.guessed[error.path] = error.names
        raise Misfit(Fault("sizes depend on a guess")) from None
    except Exception as error:  # whatever a layer raises, a user's among them
        if isinstance(error, TooLong):
            raise too_long(error) from None
        if depends_on_data(error):
            raise DependsOnData from error
        raise Misfit(misfit(model, error, record, maker.nodes)) from error
    finally:
        for handle in handles:
            handle.remove()
    return tuple(record.calls.values()), outputs


def too_long(error: TooLong) -> ConfigError:
    """What a user is told of a model that takes more steps than it may."""
    told = explain(error)
    return ConfigError(Fault(str(error), told.path, told.origin))


class _Recalling:
    """Puts a recall before the `forward` of each block of a model, while it is active."""

    def __init__(self, model: nn.Module, maker: Maker, recall: Recall) -> None:
        self._model, self._maker, self._recall = model, maker, recall
        self._changed: list[nn.Module] = []

    def __enter__(self) -> None:
        keys = self._maker.keys
        for path, module in self._model.named_modules():
            if path and path in keys:
                module.__dict__["forward"] = partial(self._recall.call, path, keys[path], module.forward)
                self._changed.append(module)

    def __exit__(self, *error: Any) -> None:
        for module in self._changed:
            del module.__dict__["forward"]


def _watch(model: nn.Module, record: Record, meter: Meter | None) -> Iterator[Any]:
    """Note what goes into each module and what comes out; all tensors are kept, so that no two share an identity."""
    for path, module in model.named_modules():

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: Any, path: str = path) -> None:
            record.running.append((path, tensors((args, kwargs))))
            if meter is not None:
                meter.enter(path)

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any, path: str = path) -> None:
            if meter is not None:
                meter.leave(path)
            _, given = record.running.pop()
            record.calls.setdefault(path, Call(path, shapes(given), shapes(output)))
            record.givers.extend((tensor, path) for tensor in tensors(output))

        yield module.register_forward_pre_hook(enter, with_kwargs=True)
        yield module.register_forward_hook(leave, with_kwargs=True)
