"""Stops training at the first loss or gradient that isn't finite, and says which part of the model it came from.

A look at all gradients is one fused operation, PyTorch's own of mixed precision, a private one: a norm takes twice as
long on a small model. It multiplies by 1, which changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as Folder
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from builder.errors import RunError
from builder.training.loop_state import current_batch
from builder.training.ranks import anywhere


class NotFinite(RunError):
    """The loss or a gradient is infinite or no number; the message says where it came from."""


class FiniteGradients(Callback):
    """Ends training before an optimiser step whose gradients aren't finite; each trainer of ours has one.

    Elsewhere than on the CPU it looks at the loss too, which the module looks at there: one look a step makes the
    device wait once. It does nothing where a `NanGuard` looks, however seldom, or a scaler.
    """

    def __init__(self) -> None:
        self._looks: Looks | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """See whether somebody else looks."""
        self._looks = None if is_guarded(trainer) else Looks(pl_module.device)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Look at the gradients that the step will be taken with.

        Raises:
            NotFinite: one isn't finite, or the loss isn't.
        """
        if self._looks is None:
            return
        gradients = [grad for group in optimizer.param_groups for p in group["params"] if (grad := p.grad) is not None]
        losses = pl_module.unseen_losses
        if self._looks.all_finite([*gradients, *losses] if losses else gradients):
            losses.clear()
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        number, of = progress.ready, trainer.accumulate_grad_batches
        batch, batches = current_batch(trainer), f"batch {number}" if of == 1 else f"batches up to {number}"
        place = f"in epoch {trainer.current_epoch + 1}, {batches} of it, step {trainer.global_step + 1}"
        if not _all_finite(losses):
            raise NotFinite(f"{_first_output(pl_module, batch)}, {place}")
        raise NotFinite(f"{_first_gradient(pl_module, batch, _bad_gradients(pl_module))}, {place}")


class Looks:
    """Looks whether all values in floating-point tensors of a device are finite; the device is waited for once."""

    def __init__(self, device: torch.device) -> None:
        self._one, self._found = torch.ones((), device=device), torch.zeros((), device=device)

    def all_finite(self, tensors: list[Tensor]) -> bool:
        """Whether they are."""
        if not tensors:
            return True
        found = self._found
        try:
            same = tensors if {*map(type, tensors)} == {Tensor} else [*map(_as_plain, tensors)]
            torch._amp_foreach_non_finite_check_and_unscale_(same, found, self._one)
        except NotImplementedError:  # sparse or complex ones
            torch._amp_foreach_non_finite_check_and_unscale_([*map(_as_plain, tensors)], found, self._one)
        if not found.item():
            return True
        self._found = torch.zeros_like(found)
        return False


def _as_plain(tensor: Tensor) -> Tensor:
    """What of a tensor lies in this process, as one of real numbers that holds all of its values."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


class NanGuard(Callback):
    """Ends training as failed where the loss or a gradient isn't finite: before that step changes any weight.

    The message names the first module whose output isn't finite, or whose parameters' gradients aren't. The weights at
    that step are kept in `checkpoints/not_finite.ckpt`. `every` is how often it looks; a look makes a GPU wait. With 1
    the weights that are kept are finite.
    """

    def __init__(self, every: int = 1, dirpath: str = "checkpoints") -> None:
        super().__init__()
        if every < 1:
            raise ValueError("every has to be 1 or more")
        self.every, self.folder = every, Folder(dirpath)
        self._batch: Any = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the batch at hand, if this step is looked at."""
        self._batch = None if (batch_idx + 1) % self.every else batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Look at the loss."""
        if self._batch is None:
            return
        ours = not torch.isfinite(loss.detach()).all()
        if anywhere(trainer, ours):
            elsewhere = "the loss in another process isn't finite"
            self._stop(trainer, _first_output(pl_module, self._batch) if ours else elsewhere)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Look at the gradients, unless a scaler does, which leaves out the steps where they aren't finite."""
        if self._batch is None or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
        bad = [] if Looks(pl_module.device).all_finite(gradients) else _bad_gradients(pl_module)
        if anywhere(trainer, bool(bad)):
            elsewhere = "a gradient in another process isn't finite"
            self._stop(trainer, _first_gradient(pl_module, self._batch, bad) if bad else elsewhere)

    def _stop(self, trainer: pl.Trainer, what: str) -> None:
        path = self.folder / "not_finite.ckpt"
        module: Any = trainer.lightning_module
        module.keeps_not_finite = True
        trainer.save_checkpoint(path)
        place = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1}"
        raise NotFinite(f"{what}, in {place}; the weights at that step are in {path.parent.name}/{path.name}")


def is_guarded(trainer: pl.Trainer) -> bool:
    """Whether a guard looks, or a scaler, which leaves out the steps where something isn't finite."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    guarded = any(isinstance(callback, NanGuard) for callback in callbacks)
    return guarded or getattr(trainer.precision_plugin, "scaler", None) is not None


def refuse_loss(pl_module: Any, batch: Mapping[str, Tensor], number: int) -> NoReturn:
    """End training, since the loss of a batch isn't finite; nothing was changed by it yet.

    Raises:
        NotFinite: says where that began.
    """
    trainer = pl_module.trainer
    place = f"epoch {trainer.current_epoch + 1}, batch {number + 1} of it, step {trainer.global_step + 1}"
    raise NotFinite(f"{_first_output(pl_module, batch)}, in {place}")


def check_parameters(pl_module: nn.Module) -> None:
    """See that a checkpoint would hold finite weights.

    Raises:
        NotFinite: a parameter isn't finite; names the first.
    """
    named = {name: each.detach() for name, each in pl_module.named_parameters() if each.is_floating_point()}
    if not named or bool(torch.isfinite(nn.utils.get_total_norm(list(named.values())))):
        return
    bad = [name for name, parameter in named.items() if not _finite(parameter)]
    if bad:  # else the norm alone is too large for its dtype
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotFinite(
            f"no checkpoint is written, since the parameter {bad[0].removeprefix('model.')!r} isn't finite{more}"
        )


def _first_output(pl_module: Any, batch: Mapping[str, Tensor]) -> str:
    """What gave the first value that isn't finite, when the model is run on the batch again."""
    for name, tensor in batch.items():
        if not _finite(tensor):
            return f"the batch's tensor {name!r} isn't finite"
    if _is_sharded(pl_module.model):
        return "the loss isn't finite"
    for name, parameter in pl_module.model.named_parameters():
        if not _finite(parameter):
            return f"the parameter {name!r} isn't finite"
    found: list[str] = []
    with _listening(pl_module.model, lambda name, output: found.append(name) if not _all_finite(output) else None):
        _run(pl_module, batch)
    if not found:
        return "the loss isn't finite, though what the model gives is"
    kind = type(pl_module.model.get_submodule(found[0])).__name__
    return f"the output of {found[0] or 'the model'!r} ({kind}) isn't finite, the first of {len(found)} such modules"


def _bad_gradients(pl_module: Any) -> list[str]:
    """The names of the parameters whose gradients aren't finite."""
    named, looks = pl_module.model.named_parameters(), Looks(pl_module.device)
    return [name for name, p in named if p.grad is not None and not looks.all_finite([p.grad])]


def _first_gradient(pl_module: Any, batch: Mapping[str, Tensor], bad: list[str]) -> str:
    """Which of the parameters whose gradients aren't finite is nearest to the loss: its module was called last."""
    calls: list[str] = []
    if not _is_sharded(pl_module.model):
        with _listening(pl_module.model, lambda name, output: calls.append(name)):
            _run(pl_module, batch)
    last = {name: index for index, name in enumerate(calls)}
    first = max(bad, key=lambda name: last.get(name.rpartition(".")[0], -1))
    return f"the gradient of {first!r} isn't finite, the first of {len(bad)} such parameters"


def _is_sharded(model: nn.Module) -> bool:
    """Whether the model can't be run in one process alone: it would wait for the others' parts."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _run(pl_module: Any, batch: Mapping[str, Tensor]) -> None:
    """The model once more on a batch, without a trace in the generators or in its buffers."""
    model = pl_module.model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        model(*pl_module.task.arguments(batch))
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


@contextmanager
def _listening(model: nn.Module, hear: Any) -> Iterator[None]:
    """Within it, `hear(name, output)` is called after each module of the model."""

    def hook(name: str) -> Any:
        return lambda module, arguments, output: hear(name, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach()).all())


def _all_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_all_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_all_finite, value))
    return not isinstance(value, Tensor) or _finite(value)
