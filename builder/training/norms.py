"""Norms of gradients and activations: bounded, or logged, for the parts of the model that a selector names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from builder.select import KEYS
from builder.training.loop_rule import without_outputs
from builder.training.placed import PlacedCallback


class ClipGradients(PlacedCallback):
    """Bounds gradients before each optimiser step: their `norm` taken together, or the size of each `value`.

    `select` is a selector; None for all parameters. Several of these are applied in their order.
    """

    def __init__(self, norm: float | None = None, value: float | None = None, select: Any = None) -> None:
        super().__init__()
        if (norm is None) == (value is None):
            raise ValueError("say either norm or value")
        if not (norm if norm is not None else value or 0) > 0:
            raise ValueError("a bound has to be above 0")
        self.norm, self.value, self.select = norm, value, select
        self._parameters: list[nn.Parameter] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Find the parameters."""
        self._parameters = list(self.parameters(pl_module.model, self.select).values())

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Clip."""
        if self.norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.norm)
        elif self.value is not None:
            nn.utils.clip_grad_value_(self._parameters, self.value)


class GradientNorms(PlacedCallback):
    """Logs `grad_norm/NAME`, the 2-norm of gradients before they are clipped, with the losses of steps.

    `select` is a selector, or several by name: `{head: classifier, norms: {type: LayerNorm}}`; None for `all`.
    """

    def __init__(self, select: Any = None) -> None:
        super().__init__()
        self.select = select
        self._groups: dict[str, list[nn.Parameter]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Find the parameters of each group."""
        groups = _by_name(self.select)
        self._groups = {name: list(self.parameters(pl_module.model, raw).values()) for name, raw in groups.items()}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Log the norms, if it is a step that is logged."""
        if not is_logged(trainer, trainer.fit_loop.epoch_loop.batch_idx):
            return
        norms = {}
        for name, parameters in self._groups.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                norms[f"grad_norm/{name}"] = float(nn.utils.get_total_norm(gradients))
        log(trainer, norms)


class ActivationNorms(PlacedCallback):
    """Logs `activation/MODULE`, the root mean square of what modules give in training, with the losses of steps.

    `select` is a selector of modules; None for all without others inside. Other steps cost nothing.
    """

    def __init__(self, select: Any = None) -> None:
        super().__init__()
        self.select = select
        self._modules: dict[str, nn.Module] = {}
        self._handles: list[Any] = []
        self._found: dict[str, Tensor] = {}
        self._step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Find the modules."""
        self._modules = self.modules(pl_module.model, self.select)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Listen to the modules, if it is a step that is logged."""
        if is_logged(trainer, batch_idx):
            self._step = trainer.global_step
            self._handles = [
                module.register_forward_hook(self._hook(name)) for name, module in self._modules.items()
            ]  # fmt: skip

    @without_outputs
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        """Log what was heard."""
        self._forget()
        if self._found:
            values = {f"activation/{name}": float(value) for name, value in self._found.items()}
            log(trainer, values, self._step)
            self._found = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the modules as they were."""
        self._forget()

    def _forget(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, name: str) -> Any:
        def hear(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                self._found[name] = output.detach().float().square().mean().sqrt()

        return hear


def _by_name(select: Any) -> dict[str, Any]:
    """Selectors by name. One alone, which has no keys but a selector's own, is called `selected`; none, `all`."""
    if select is None:
        return {"all": None}
    if isinstance(select, Mapping) and not set(select) <= set(KEYS):
        return dict(select)
    return {"selected": select}


def is_logged(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the losses of this step are logged too."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(every) and not (batch_idx + 1) % every


def log(trainer: pl.Trainer, values: Mapping[str, float], step: int | None = None) -> None:
    """Give values to all loggers, at the step at hand unless another is said."""
    for logger in trainer.loggers if values else ():
        at = trainer.global_step if step is None else step
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=at)
