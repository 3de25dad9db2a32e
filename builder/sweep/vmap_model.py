"""Several models as one: stacked weights, one step of all of them through `torch.func`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.optim import Optimizer

from builder.sweep.vmap_optim import clipped, has_rule, numbers_of, state_of, step_of
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


class _Compiled:
    """A function of tensors that is compiled at its first call, for each of their shapes.

    Where the compiler can't, it is called as it is, and that is said.
    """

    def __init__(self, function: Callable[..., Any], what: str) -> None:
        # Nothing but the tensors' shapes can change: `Together.keep`, after which all is another, begins anew.
        guards: dict[str, Any] = {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe}
        self._function, self._what = function, what
        self._run: Callable[..., Any] = torch.compile(function, dynamic=False, options=guards)
        self._tried = False

    def __call__(self, *parts: Any) -> Any:
        if self._tried:
            return self._run(*parts)
        self._tried = True
        try:
            return self._run(*parts)
        except Exception as error:  # whatever the compiler, or the one of C++ that it calls, raises
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"note: the {self._what} isn't compiled: {first}", file=sys.stderr)
            self._run = self._function
            return self._run(*parts)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a batch gave, of T models: losses [T], the loss's terms, each [T], and updates of metrics, each [T, …].

    Where updates can't be made for several models at once, there are the `outputs` [T, …] that they are made of.
    """

    losses: Tensor
    terms: Mapping[str, Tensor]
    updates: Mapping[str, tuple[Tensor, ...]] | None
    outputs: Any


class Together:
    """T models whose parameters lie in one tensor [T, …] for each name; each model sees its own part of it.

    `dropouts` are the layers whose probability differs. A batch is one for all models, or stacked [T, …] with `apart`.
    `gathers` says that updates of metrics are made with the step.
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
        gathers: bool = True,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.models = [model.to(device=device, dtype=dtype).train() for model in models]
        replaced = [_with_dropouts(copy.deepcopy(model), dropouts) for model in self.models]
        params, buffers = stack_module_state(replaced)
        self.params = {name: value.detach() for name, value in params.items()}
        self.buffers, self.task = dict(buffers), tasks[0]
        self._point()
        self.optimizers = [optimizers(index, model) for index, model in enumerate(self.models)]
        self.weights = torch.tensor([[weight for _, weight in task.loss.parts.values()] for task in tasks],
                                    dtype=dtype, device=device)  # fmt: skip
        self._shared, self._gathers = 0 if apart else None, gathers
        self._train, self._eval = replaced[0].train(), copy.deepcopy(replaced[0]).eval()
        self._clip, self.number = clip, 0
        groups = _groups(self.models[0], self.optimizers[0])
        self._rule = step_of(self.optimizers, groups) if has_rule(self.optimizers) else None
        self.state = state_of(type(self.optimizers[0]), self.params) if self._rule else {}
        self._stepped: Any = self._step
        self._judged_all: Any = self._judge

    def _point(self) -> None:
        """Let the parameters of each model be its parts of the whole: so it is saved, and stepped where no rule is."""
        for index, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.data = self.params[name][index]

    @property
    def steps_at_once(self) -> bool:
        """Whether the optimisers step together, by one rule."""
        return self._rule is not None

    @property
    def is_compiled(self) -> bool:
        """Whether steps are compiled, for as many models as there are."""
        return isinstance(self._stepped, _Compiled)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the models at these places alone. A compiled step is one for as many as there were."""
        chosen = torch.tensor(places, device=self.weights.device)
        self.params = {name: value[chosen] for name, value in self.params.items()}
        self.buffers = {name: value[chosen] for name, value in self.buffers.items()}
        self.state = {key: {name: value[chosen] for name, value in kept.items()} for key, kept in self.state.items()}
        self.weights = self.weights[chosen]
        for index in {*range(len(self.models))} - {*places}:  # those that are left out keep weights of their own
            for parameter in self.models[index].parameters():
                parameter.data = parameter.data.clone()
        self.models = [self.models[place] for place in places]
        self.optimizers = [self.optimizers[place] for place in places]
        self._stepped, self._judged_all = self._step, self._judge
        self._point()

    def compile(self) -> None:
        """Compile the step, and what is done in eval mode, for batches that are to be computed so."""
        self._stepped, self._judged_all = _Compiled(self._step, "step"), _Compiled(self._judge, "evaluation")

    def step(self, batch: Batch, *, compiled: bool) -> Seen:
        """One optimiser step of every model, in its compiled form if there is one and it is to be used.

        Returns:
            What the models gave before the step.
        """
        self.number += 1
        if self._rule is None:
            grads, seen = self._gradients(self.params, self.buffers, self.weights, batch)
            self._one_by_one(clipped(grads, self._clip) if self._clip else grads)
            return self._seen(*seen)
        numbers = numbers_of(self.optimizers, self.number, self.weights)
        run = self._stepped if compiled else self._step
        return self._seen(*run(self.params, self.buffers, self.state, self.weights, numbers, batch))

    def _step(
        self, params: Any, buffers: Any, state: Any, weights: Tensor, numbers: Sequence[Tensor], batch: Batch
    ) -> Any:
        grads, seen = self._gradients(params, buffers, weights, batch)
        if self._clip:
            grads = clipped(grads, self._clip)
        assert self._rule is not None
        with torch.no_grad():
            self._rule(params, grads, state, numbers)
        return seen

    def _gradients(self, params: Any, buffers: Any, weights: Tensor, batch: Batch) -> Any:
        over = grad(self._loss, has_aux=True)
        return vmap(over, in_dims=(0, 0, 0, self._shared), randomness="different")(params, buffers, weights, batch)

    def _loss(self, params: Any, buffers: Any, weights: Tensor, batch: Batch) -> tuple[Tensor, Any]:
        output = functional_call(self._train, (params, buffers), tuple(self.task.arguments(batch)))
        return self._judged(batch, output, weights)

    def _judged(self, batch: Mapping[str, Tensor], output: Any, weights: Tensor) -> tuple[Tensor, Any]:
        """The loss of one model, and what is seen of it: loss, terms, and updates or the output."""
        task = self.task
        names = task.names(batch, output)
        terms = {name: part(names) for name, (part, _) in task.loss.parts.items()}
        if terms:
            loss = torch.stack([weights[place] * term for place, term in enumerate(terms.values())]).sum()
        else:
            loss = task.loss.function(names)
        seen = (loss.detach(), {name: term.detach() for name, term in terms.items()})
        return loss, (*seen, updates_of(task, names) if self._gathers else output)

    def _seen(self, losses: Tensor, terms: Mapping[str, Tensor], more: Any) -> Seen:
        return Seen(losses, terms, more, None) if self._gathers else Seen(losses, terms, None, more)

    @torch.no_grad()
    def evaluate(self, batch: Batch, params: Any = None, *, compiled: bool) -> Seen:
        """What the models give in eval mode, with weights of their own or `params`; `compiled` as for a step."""
        run = self._judged_all if compiled else self._judge
        return self._seen(*run(params or self.params, self.buffers, self.weights, batch))

    def _judge(self, params: Any, buffers: Any, weights: Tensor, batch: Batch) -> Any:
        def one(params: Any, buffers: Any, weights: Tensor, batch: Batch) -> Any:
            output = functional_call(self._eval, (params, buffers), tuple(self.task.arguments(batch)))
            return self._judged(batch, output, weights)[1]

        over = vmap(one, in_dims=(0, 0, 0, self._shared), randomness="different")
        return over(params, buffers, weights, batch)

    def _one_by_one(self, grads: Mapping[str, Tensor]) -> None:
        for index, (model, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = grads[name][index]
            optimizer.step()


def updates_of(task: Task, names: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What each metric is updated with, of the values that it may name."""
    return {
        key: tuple(value.detach() if isinstance(value := term(names), Tensor) else value for term in metric.of)
        for key, metric in task.metrics.items()
    }


def _with_dropouts(model: nn.Module, names: Sequence[str]) -> nn.Module:
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Dropout)
        model.set_submodule(name, _Dropout(layer.p).to(next(model.parameters())))
    return model


def _groups(model: nn.Module, optimizer: Optimizer) -> dict[str, int]:
    """The number of the group of each parameter, by name."""
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)]: number for number, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]}  # fmt: skip


def part(value: Any, index: int) -> Any:
    """One model's part of what is stacked."""
    return torch.utils._pytree.tree_map(lambda tensor: tensor[index], value)
