"""Several models as one: stacked weights, one step of all of them through `torch.func`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.optim import Optimizer

from builder.sweep.vmap_optim import Rates, clipped, has_rule, rates_of, state_of, step_of
from builder.training.task import Task

Batch = dict[str, Tensor]


class _Dropout(nn.Module):
    """Dropout with a probability that is a tensor: each model has its own."""

    p: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p))

    def forward(self, x: Tensor) -> Tensor:
        """Zeros with probability p in training, what is left larger by 1 / (1 - p)."""
        if not self.training:
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class Together:
    """T models whose parameters lie in one tensor [T, …] for each name; each model sees its own part of it.

    `dropouts` are the layers whose probability differs. A batch is one for all models, or stacked [T, …] with `apart`.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        tasks: Sequence[Task],
        optimizers: Callable[[int, nn.Module], Optimizer],
        *,
        dropouts: Sequence[str] = (),
        apart: bool = False,
        clip: float | None = None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        models = [model.to(device=device, dtype=dtype).train() for model in models]
        replaced = [_with_dropouts(copy.deepcopy(model), dropouts) for model in models]
        params, buffers = stack_module_state(replaced)
        self.params = {name: value.detach() for name, value in params.items()}
        self.buffers = dict(buffers)
        for index, model in enumerate(models):  # what a model is saved and stepped by is its part of the whole
            for name, parameter in model.named_parameters():
                parameter.data = self.params[name][index]
        self.models, self.count, self.task = models, len(models), tasks[0]
        self.optimizers = [optimizers(index, model) for index, model in enumerate(models)]
        self.weights = torch.tensor([[weight for _, weight in task.loss.parts.values()] for task in tasks],
                                    dtype=dtype, device=device)  # fmt: skip
        self._shared = 0 if apart else None
        self._train, self._eval = replaced[0].train(), copy.deepcopy(replaced[0]).eval()
        self._clip, self._number = clip, 0
        self._rule = step_of(self.optimizers) if has_rule(self.optimizers) else None
        self.state = state_of(type(self.optimizers[0]), self.params) if self._rule else {}
        self._names = _names(models[0], self.optimizers[0])
        self._rates: Rates = {}
        self._known: Any = None
        self._whole: Any = self._step
        self._small: Any = self._step
        self._compiled: Any = None

    @property
    def steps_at_once(self) -> bool:
        """Whether the optimisers step together, by one rule."""
        return self._rule is not None

    def compile(self) -> None:
        """Compile the step, for batches of one size; others are stepped as they are."""
        self._whole = self._first
        self._compiled = torch.compile(self._step, dynamic=False)

    def _first(self, *parts: Any) -> Any:
        """The first compiled step; where the compiler can't, all steps are made as they are, and that is said."""
        try:
            found = self._compiled(*parts)
        except Exception as error:  # whatever the compiler, or the one of C++ that it calls, raises
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"note: the step isn't compiled: {first}", file=sys.stderr)
            self._whole = self._step
            return self._step(*parts)
        self._whole = self._compiled
        return found

    def step(self, batch: Batch, *, whole: bool) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """One optimiser step of every model; `whole` says that the batch has the usual size.

        Returns:
            The losses [T], outputs [T, …] and the terms of the loss, each [T], before the step.
        """
        self._number += 1
        number = torch.tensor(float(self._number), dtype=torch.float64)
        if self._rule is None:
            grads, (losses, outputs, terms) = self._gradients(self.params, self.buffers, self.weights, batch)
            self._one_by_one(clipped(grads, self._clip) if self._clip else grads)
            return losses, outputs, terms
        run = self._whole if whole else self._small
        new, self.state, seen = run(self.params, self.buffers, self.state, self.weights, self._current(), number, batch)
        for name, value in new.items():
            self.params[name].copy_(value)
        losses, outputs, terms = seen
        return losses, outputs, terms

    def _step(
        self, params: Any, buffers: Any, state: Any, weights: Tensor, rates: Rates, number: Tensor, batch: Batch
    ) -> Any:
        grads, seen = self._gradients(params, buffers, weights, batch)
        if self._clip:
            grads = clipped(grads, self._clip)
        assert self._rule is not None
        with torch.no_grad():
            new, state = self._rule(params, grads, state, rates, number)
        return new, state, seen

    def _gradients(self, params: Any, buffers: Any, weights: Tensor, batch: Batch) -> Any:
        over = grad(self._loss, has_aux=True)
        return vmap(over, in_dims=(0, 0, 0, self._shared), randomness="different")(params, buffers, weights, batch)

    def _loss(self, params: Any, buffers: Any, weights: Tensor, batch: Batch) -> tuple[Tensor, Any]:
        task = self.task
        output = functional_call(self._train, (params, buffers), tuple(task.arguments(batch)))
        loss, terms = self._judged(batch, output, weights)
        return loss, (loss.detach(), output, terms)

    def _judged(self, batch: Mapping[str, Tensor], output: Any, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        task = self.task
        names = task.names(batch, output)
        if not task.loss.parts:
            return task.loss.function(names), {}
        terms = {name: part(names) for name, (part, _) in task.loss.parts.items()}
        total = sum(weights[place] * term for place, term in enumerate(terms.values()))
        assert isinstance(total, Tensor)
        return total, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def evaluate(self, batch: Batch, params: Any = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """Losses [T], outputs [T, …] and terms of the loss, with the models in eval mode."""

        def one(params: Any, buffers: Any, weights: Tensor, batch: Batch) -> Any:
            output = functional_call(self._eval, (params, buffers), tuple(self.task.arguments(batch)))
            loss, terms = self._judged(batch, output, weights)
            return loss, output, terms

        run = vmap(one, in_dims=(0, 0, 0, self._shared), randomness="different")
        losses, outputs, terms = run(params or self.params, self.buffers, self.weights, batch)
        return losses, outputs, terms

    def _current(self) -> Rates:
        """The rates, made anew where a schedule has changed them."""
        known = [[{key: value for key, value in group.items() if key != "params"} for group in one.param_groups]
                 for one in self.optimizers]  # fmt: skip
        if known != self._known:
            device = self.weights.device
            rates = rates_of(self.optimizers, self._names)
            self._rates = {
                name: {key: value.to(device) for key, value in columns.items()} for name, columns in rates.items()
            }
            self._known = known
        return self._rates

    def _one_by_one(self, grads: Mapping[str, Tensor]) -> None:
        for index, (model, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = grads[name][index]
            optimizer.step()


def _with_dropouts(model: nn.Module, names: Sequence[str]) -> nn.Module:
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Dropout)
        model.set_submodule(name, _Dropout(layer.p).to(next(model.parameters())))
    return model


def _names(model: nn.Module, optimizer: Optimizer) -> dict[int, dict[int, str]]:
    """The parameter of each place in each group, by name."""
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {number: {place: by_id[id(parameter)] for place, parameter in enumerate(group["params"])}
            for number, group in enumerate(optimizer.param_groups)}  # fmt: skip


def part(value: Any, index: int) -> Any:
    """One model's part of what is stacked."""
    return torch.utils._pytree.tree_map(lambda tensor: tensor[index], value)
