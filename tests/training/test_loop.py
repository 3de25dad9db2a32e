"""The trimmed epoch loop does what Lightning's own does, to the bit, and says when it leaves an epoch to it."""

import logging
import warnings
from datetime import timedelta

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_map

import command_line
from builder.data.loader import TensorLoader
from builder.training import loop_rule
from builder.training.averaging import EMAWeightAveraging
from builder.training.csv_logger import CSVLogger
from builder.training.loop import trim
from builder.training.quiet import quiet_lightning

SAMPLES, BATCH = 23, 4
STEPS = 6
"""Batches of an epoch; the last one is short."""
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip


class Module(pl.LightningModule):
    """A small network; what a case changes is an argument."""

    def __init__(self, make=torch.optim.AdamW, schedule=None, output="loss", logs=False, **arguments):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.make, self.schedule, self.output, self.logs, self.arguments = make, schedule, output, logs, arguments

    def training_step(self, batch, batch_idx):
        loss = cross_entropy(self.net(batch["x"]), batch["target"])
        if self.logs:
            self.log("step", loss, on_step=True, on_epoch=True, prog_bar=True)
        if self.output == "none" and batch_idx == 2:
            return None
        return {"loss": loss, "index": batch_idx} if self.output == "mapping" else loss

    def validation_step(self, batch, batch_idx):
        self.log("val", cross_entropy(self.net(batch["x"]), batch["target"]))

    def on_train_epoch_end(self):
        self.log("epoch", self.net[0].weight.sum())

    def configure_optimizers(self):
        optimizer = self.make(self.parameters(), **self.arguments)
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)} if self.schedule else optimizer


class Spy(pl.Callback):
    """Notes each hook of training with all counters, and the numbers that come with it."""

    def __init__(self):
        self.seen = []

    def note(self, hook, trainer, *given):
        epoch_loop = trainer.fit_loop.epoch_loop
        values = [tree_map(lambda x: x.tolist() if isinstance(x, torch.Tensor) else x, value) for value in given]
        values = [value for value in values if not isinstance(value, torch.optim.Optimizer)]
        gradients = [None if p.grad is None else p.grad.tolist() for p in trainer.lightning_module.parameters()]
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        state = trainer.fit_loop.state_dict()
        self.seen.append((
            hook, trainer.global_step, trainer.current_epoch, state, values, gradients, rates, epoch_loop.batch_idx,
            trainer.lightning_module._current_fx_name, trainer._logger_connector._first_loop_iter, trainer.is_last_batch,
        ))  # fmt: skip


def _noting(hook):
    return lambda self, trainer, module, *given: self.note(hook, trainer, *given)


HOOKS = (*loop_rule.STEP_HOOKS, "on_train_epoch_start", "on_train_epoch_end", "on_validation_start",
         "on_validation_batch_end", "on_validation_end", "on_train_end")  # fmt: skip
for _hook in HOOKS:
    setattr(Spy, _hook, _noting(_hook))


def loader(shuffle=True):
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "x": torch.randn(SAMPLES, 5, generator=generator),
        "target": torch.randint(3, (SAMPLES,), generator=generator),
    }
    return TensorLoader(tensors, BATCH, seed=3, shuffle=shuffle)


def trained(tmp_path, module, trimmed, *, callbacks=(), ckpt_path=None, **arguments):
    """What is left after training: weights, state of the optimiser and of the loops, metrics, and what was logged."""
    torch.manual_seed(0)
    folder = tmp_path / ("trimmed" if trimmed else "stock")
    model, logger = module(), CSVLogger(folder)
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, about what a case asks for
        trainer = pl.Trainer(**{
            **QUIET, "max_epochs": 2, "log_every_n_steps": 2, "callbacks": list(callbacks), "logger": logger,
            "default_root_dir": folder, **arguments,
            "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        })  # fmt: skip
        if trimmed:
            trim(trainer)
        torch.manual_seed(7)
        trainer.fit(model, loader(), loader(shuffle=False), ckpt_path=ckpt_path, weights_only=True)
    left = {
        "weights": model.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "loops": trainer.fit_loop.state_dict(),
        "metrics": dict(trainer.callback_metrics),
        "bar": dict(trainer.progress_bar_metrics),
        "logged": logger.path.read_text() if logger.path.exists() else "",
        "steps": trainer.global_step,
        "stepped": trainer.fit_loop.epoch_loop._batches_that_stepped,
        "stopped": trainer.should_stop,
        "schedulers": [each.scheduler.state_dict() for each in trainer.lr_scheduler_configs],
        "drawn": torch.rand(2),
    }
    return tree_map(lambda x: x.tolist() if isinstance(x, torch.Tensor) else x, left), trainer


def step_schedule(optimizer):
    return {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "step", "frequency": 2}


def epoch_schedule(optimizer):
    return {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}


def plateau(interval):
    def schedule(optimizer):
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
        return {"scheduler": scheduler, "interval": interval, "monitor": "val", "strict": False}

    return schedule


def module(**arguments):
    return lambda: Module(**arguments)


def stops(trainer, module, outputs, batch, batch_idx):
    trainer.should_stop = batch_idx == 3


def logs_much():
    def start(trainer, module, batch, batch_idx):
        module.log("start", float(batch_idx), on_step=True, on_epoch=True, reduce_fx="max", batch_size=1)

    def end(trainer, module, outputs, batch, batch_idx):
        module.log("end", outputs["loss"] if outputs else torch.tensor(0.0), on_step=True, on_epoch=True)

    return LambdaCallback(on_train_batch_start=start, on_train_batch_end=end)


def scaled():
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))


CASES = {
    "as it is": {},
    "accumulation": {"accumulate_grad_batches": 4},
    "accumulation and a norm": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    "clipping by norm": {"gradient_clip_val": 0.1},
    "clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "steps": {"max_steps": 7, "max_epochs": -1},
    "steps in accumulation": {"max_steps": 3, "max_epochs": -1, "accumulate_grad_batches": 2},
    "time": {"max_time": {"hours": 1}},
    "few batches": {"limit_train_batches": 3},
    "validation within": {"val_check_interval": 0.5},
    "validation after batches": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "validation by time": {"val_check_interval": timedelta(seconds=1000), "check_val_every_n_epoch": None},
    "validation seldom": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "64-true": {"precision": "64-true"},
    "fast_dev_run": {"fast_dev_run": True},
    "overfit_batches": {"overfit_batches": 2},
    "anomalies": {"detect_anomaly": True},
    "schedule by step": {"module": module(schedule=step_schedule)},
    "schedule by step in accumulation": {"module": module(schedule=step_schedule), "accumulate_grad_batches": 2},
    "schedule by epoch": {"module": module(schedule=epoch_schedule)},
    "plateau by step": {"module": module(schedule=plateau("step")), "val_check_interval": 2},
    "plateau by epoch": {"module": module(schedule=plateau("epoch"))},
    "logging in a step": {"module": module(logs=True)},
    "logging in accumulation": {"module": module(logs=True), "accumulate_grad_batches": 2},
    "a mapping": {"module": module(output="mapping")},
    "LBFGS": {"module": module(make=torch.optim.LBFGS, max_iter=3)},
    "SGD": {"module": module(make=torch.optim.SGD, lr=0.1, momentum=0.9)},
}
MADE = {
    "logging callback": lambda: {"callbacks": [logs_much()]},
    "scaled": lambda: {"plugins": [scaled()], "gradient_clip_val": 0.5},
    "scaled in accumulation": lambda: {"plugins": [scaled()], "accumulate_grad_batches": 2},
    "stop within": lambda: {"callbacks": [LambdaCallback(on_train_batch_end=stops)]},
    "stop not yet": lambda: {"callbacks": [LambdaCallback(on_train_batch_end=stops)], "min_epochs": 2},
    "early stopping": lambda: {"callbacks": [EarlyStopping("val", patience=0, min_delta=9.0)], "max_epochs": 5},
    "timer": lambda: {"callbacks": [Timer(timedelta(hours=1), interval="step")]},
    "other accumulation": lambda: {"callbacks": [GradientAccumulationScheduler({0: 2, 1: 3})]},
    "averaging": lambda: {"callbacks": [EMAWeightAveraging(0.9)]},
    "weight averaging": lambda: {"callbacks": [StochasticWeightAveraging(0.05, 1)], "max_epochs": 3},
}
for _name, _case in CASES.items():
    MADE[_name] = lambda case=_case: dict(case)


def run(tmp_path, name, *, trimmed, spy=None):
    case = {"module": Module, **MADE[name]()}
    callbacks = [*case.pop("callbacks", ()), *([spy] if spy else [])]
    return trained(tmp_path, trimmed=trimmed, callbacks=callbacks, **case)


@pytest.mark.parametrize("name", MADE)
def test_both_loops_leave_the_same_bits_after_the_same_hooks(tmp_path, name):
    stock_spy, spy = Spy(), Spy()
    stock, _ = run(tmp_path, name, trimmed=False, spy=stock_spy)
    ours, _ = run(tmp_path, name, trimmed=True, spy=spy)
    unheard, trainer = run(tmp_path, name, trimmed=True)
    assert trainer.fit_loop.epoch_loop.why_stock is None
    assert [each[:3] for each in spy.seen] == [each[:3] for each in stock_spy.seen]
    for index, (told, expected) in enumerate(zip(spy.seen, stock_spy.seen, strict=True)):
        assert told == expected, index
    assert ours == stock
    assert unheard == stock
    assert stock["steps"] > 0


class Killed(Exception):
    pass


def kills(trainer, module, outputs, batch, batch_idx):
    if trainer.global_step == 8:
        raise Killed


@pytest.mark.parametrize("arguments", [{}, {"accumulate_grad_batches": 2}, {"val_check_interval": 3}], ids=str)
def test_training_goes_on_within_an_epoch_as_in_lightnings_own_loop(tmp_path, arguments):
    left = []
    for trimmed in (False, True):
        folder = tmp_path / str(trimmed)
        saves = ModelCheckpoint(folder, filename="last", every_n_train_steps=2, enable_version_counter=False)
        with pytest.raises(Killed):
            callbacks = [LambdaCallback(on_train_batch_end=kills), saves]
            trained(tmp_path, Module, trimmed, callbacks=callbacks, max_epochs=4, **arguments)
        spy = Spy()
        kept, trainer = trained(
            tmp_path, Module, trimmed, callbacks=[spy], ckpt_path=folder / "last.ckpt", max_epochs=4, **arguments
        )
        left.append((kept, spy.seen))
    assert trainer.fit_loop.epoch_loop.why_stock is None
    assert left[0] == left[1]


def overriding(hook):
    return type(
        "Overriding", (Module,), {hook: lambda self, *args, **kwargs: getattr(Module, hook)(self, *args, **kwargs)}
    )


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class NoIndex(Module):
    def training_step(self, batch):
        return super().training_step(batch, 0)


class OtherDevice(SingleDeviceStrategy):
    pass


FALLBACKS = {
    "profiler": (lambda: {"profiler": "simple"}, "SimpleProfiler times all that is called"),
    "strategy": (lambda: {"strategy": OtherDevice("cpu")}, "OtherDevice: it knows one device only"),
    "manual": (lambda: {"module": Manual}, "there is no automatic optimisation"),
    "no index": (lambda: {"module": NoIndex}, "training_step takes no batch_idx"),
    "on_train_batch_start": (
        lambda: {"module": overriding("on_train_batch_start")},
        "Overriding overrides on_train_batch_start, which may end the epoch",
    ),
} | {
    hook: (lambda hook=hook: {"module": overriding(hook)}, f"Overriding overrides {hook}")
    for hook in loop_rule.MODULE_HOOKS
}  # fmt: skip


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_the_trimmed_loop_leaves_out_is_left_to_lightnings_own_and_told(tmp_path, caplog, name):
    make, reason = FALLBACKS[name]
    caplog.set_level(logging.DEBUG, "builder.training.loop")
    stock, _ = trained(tmp_path, **{"module": Module, "trimmed": False, **make()})
    ours, trainer = trained(tmp_path, **{"module": Module, "trimmed": True, **make()})
    assert trainer.fit_loop.epoch_loop.why_stock == reason
    assert f"Lightning's own loop: {reason}" in caplog.messages
    assert ours == stock


def test_another_lightning_than_those_it_was_held_against_runs_its_own_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(pl, "__version__", "2.7.0")
    _, trainer = trained(tmp_path, Module, True)
    assert trainer.fit_loop.epoch_loop.why_stock == "Lightning 2.7.0 isn't known to it, only 2.6.6"


def test_this_lightning_is_one_that_it_was_held_against():
    assert pl.__version__ in loop_rule.KNOWN, "hold the trimmed loop against this Lightning: run this file's tests"


def test_the_trimmed_loop_is_told_of_too(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "builder.training.loop")
    trained(tmp_path, Module, True)
    assert caplog.messages.count("the trimmed loop") == 1


def test_a_loop_that_someone_else_put_in_stays(tmp_path):
    class Other(_TrainingEpochLoop):
        pass

    trainer = pl.Trainer(**QUIET)
    trainer.fit_loop.epoch_loop = other = Other(trainer)
    trim(trainer)
    assert trainer.fit_loop.epoch_loop is other


@pytest.mark.parametrize(
    ("words", "told"),
    [((), "debug: the trimmed loop"), (("trainer.profiler=simple",), "debug: Lightning's own loop: SimpleProfiler")],
    ids=["trimmed", "stock"],
)
def test_with_debug_the_command_line_says_which_loop_runs(tmp_path, words, told):
    few = ("trainer.limit_train_batches=1", "trainer.max_epochs=1")
    ran = command_line.run(tmp_path, "--debug", "train", *command_line.SMALL, *few, *words)
    assert ran.code == 0
    assert told in ran.err
