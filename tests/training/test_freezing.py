"""Freezing under the Trainer: the bits of hand-written loops, modes, schedules, resume."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import TASK, TRAINER, train, wine

from builder.config.origin import Origins
from builder.errors import ConfigError
from builder.seeding import reseed_step
from builder.training.freezing import Freezing
from builder.training.module import Plan, TrainingModule
from builder.training.task import read_task
from builder.weights.freeze import read_freeze, resolve

EPOCHS, BATCHES = 6, 4
SCHEDULES = {
    "for good": [{"select": "trunk"}],
    "until an epoch": [{"select": "trunk", "until": {"epoch": 2}}],
    "until a step": [{"select": "trunk", "until": {"step": 10}}],
    "statistics go on": [{"select": "trunk", "mode": "train", "until": {"epoch": 2}}],
    "one after the other": [
        {"select": "trunk.0", "until": {"step": 18}},
        {"select": "trunk", "until": {"step": 6}},
        {"select": {"name": "bias"}, "until": {"epoch": 1}},
    ],
}
OPTIMIZERS = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1),
}


class Net(nn.Module):
    """A trunk with BatchNorm and Dropout, and a head with both."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8))
        self.head = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3))

    def forward(self, x):
        return self.head(self.trunk(x))


def plan_of(section, model):
    return resolve(read_freeze(section, Origins()), model)


def fitted(model, section, run_dir, *, trainer=None, **kwargs):
    config = {"trainer": {**TRAINER, "max_epochs": EPOCHS, **(trainer or {})}, **kwargs.pop("config", {})}
    callbacks = (Freezing(plan_of(section, model)), *kwargs.pop("callbacks", ()))
    return train(model, run_dir, config=config, callbacks=callbacks, **kwargs)


class Watch(pl.Callback):
    """Notes at each batch what is frozen and which modules are in eval mode."""

    def __init__(self):
        self.seen = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen[trainer.global_step] = what_is(pl_module.model)


def what_is(model):
    """The parameters that don't require gradients or have none, and the modules in eval mode."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return frozen, {name for name, module in model.named_modules() if not module.training}


def same(first, second):
    return all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())


def under(name, model):
    return {key for key, _ in model.named_parameters() if key.startswith(f"{name}.")}


def by_hand(model, optimizer, frozen_at, *, accumulate=1, clip=None, bf16=False, seed=0):
    """Plain PyTorch: `frozen_at(epoch, step)` gives the parameters that are frozen and the modules in eval mode."""
    loader, step = wine(seed).loader("train"), 0
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        batches = list(loader)
        model.train()
        for index, batch in enumerate(batches):
            reseed_step(seed, "train", epoch, index)
            frozen, in_eval = frozen_at(epoch, step)
            for name, parameter in model.named_parameters():
                parameter.requires_grad = name not in frozen
            for name, module in model.named_modules():
                module.training = name not in in_eval
            if index % accumulate == 0:
                optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = cross_entropy(model(batch["x"]), batch["target"])
            (loss / accumulate).backward()
            if (index + 1) % accumulate == 0 or index + 1 == len(batches):
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                step += 1
    return step


TRUNK = {"trunk.0.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias", "trunk.4.weight", "trunk.4.bias"}
TRUNK_MODULES = {"trunk", "trunk.0", "trunk.1", "trunk.2", "trunk.3", "trunk.4"}
NOTHING = (set(), set())


def one_after_the_other(epoch, step):
    frozen, in_eval = set(), set()
    if epoch < 1:
        frozen |= {"trunk.0.bias", "trunk.1.bias", "trunk.4.bias", "head.0.bias", "head.2.bias"}
    if step < 6:
        frozen, in_eval = frozen | TRUNK, in_eval | TRUNK_MODULES
    if step < 18:
        frozen, in_eval = frozen | {"trunk.0.weight", "trunk.0.bias"}, in_eval | {"trunk.0"}
    return frozen, in_eval


BY_HAND = {
    "for good": lambda epoch, step: (TRUNK, TRUNK_MODULES),
    "until an epoch": lambda epoch, step: (TRUNK, TRUNK_MODULES) if epoch < 2 else NOTHING,
    "until a step": lambda epoch, step: (TRUNK, TRUNK_MODULES) if step < 10 else NOTHING,
    "statistics go on": lambda epoch, step: (TRUNK, set()) if epoch < 2 else NOTHING,
    "one after the other": one_after_the_other,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_gives_the_bits_of_a_hand_written_loop(tmp_path, schedule, optimizer):
    ours, theirs = Net(), Net()
    fitted(ours, SCHEDULES[schedule], tmp_path, optimizer=OPTIMIZERS[optimizer])
    assert by_hand(theirs, OPTIMIZERS[optimizer](theirs), BY_HAND[schedule]) == EPOCHS * BATCHES
    assert same(ours, theirs)
    assert same(ours.trunk, Net().trunk) == (schedule == "for good")


@pytest.mark.parametrize(
    ("trainer", "by"),
    [
        ({"gradient_clip_val": 0.5}, {"clip": 0.5}),
        ({"precision": "bf16-mixed"}, {"bf16": True}),
        ({"accumulate_grad_batches": 3}, {"accumulate": 3}),
        ({"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}, {"accumulate": 2, "clip": 0.5}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("until", [{"epoch": 3}, {"step": 5}])
def test_clipping_mixed_precision_and_accumulation_are_as_by_hand(tmp_path, trainer, by, until):
    (unit, at), = until.items()  # fmt: skip
    ours, theirs = Net(), Net()
    fitted(ours, {"select": "trunk", "until": until}, tmp_path, trainer=trainer, optimizer=OPTIMIZERS["AdamW"])

    def frozen_at(epoch, step):
        return (TRUNK, TRUNK_MODULES) if {"epoch": epoch, "step": step}[unit] < at else NOTHING

    by_hand(theirs, OPTIMIZERS["AdamW"](theirs), frozen_at, **by)
    assert same(ours, theirs) and not same(ours.trunk, Net().trunk)


def test_all_but_the_head_is_the_usual_idiom(tmp_path):
    ours, theirs = Net(), Net()
    fitted(ours, {"select": {"not": "head"}, "mode": "train"}, tmp_path, optimizer=OPTIMIZERS["SGD"])

    for parameter in theirs.parameters():
        parameter.requires_grad = False
    theirs.head.requires_grad_(True)
    optimizer, loader = OPTIMIZERS["SGD"](theirs.head), wine().loader("train")
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for number, batch in enumerate(loader):
            reseed_step(0, "train", epoch, number)
            optimizer.zero_grad()
            cross_entropy(theirs(batch["x"]), batch["target"]).backward()
            optimizer.step()
    assert same(ours, theirs)


def test_a_thawed_parameter_has_no_gradient_of_earlier_micro_batches(tmp_path):
    seen = []

    class Look(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            seen.append((trainer.global_step, pl_module.model.trunk[0].weight.grad is None))

    section = {"select": "trunk", "until": {"step": 5}}
    trainer = {"accumulate_grad_batches": 2, "limit_val_batches": 0}
    fitted(Net(), section, tmp_path, trainer=trainer, callbacks=[Look()])
    assert dict(seen)[5] and not dict(seen)[7]


def test_statistics_stay_bit_for_bit_and_nothing_is_dropped_while_frozen(tmp_path):
    model, calls = Net(), []
    before = {key: value.clone() for key, value in model.trunk.state_dict().items()}

    def note(module, inputs, output):
        calls.append(torch.equal(inputs[0], output))

    model.trunk[3].register_forward_hook(note)
    trainer = {"val_check_interval": 0.25, "num_sanity_val_steps": 2}
    fitted(model, "trunk", tmp_path, trainer=trainer)
    assert all(torch.equal(value, before[key]) for key, value in model.trunk.state_dict().items())
    assert len(calls) > EPOCHS * BATCHES and all(calls)
    assert int(model.head[0].num_batches_tracked) == EPOCHS * BATCHES


def test_mode_train_leaves_the_statistics_to_go_on(tmp_path):
    model = Net()
    fitted(model, {"select": "trunk", "mode": "train"}, tmp_path)
    assert int(model.trunk[1].num_batches_tracked) == EPOCHS * BATCHES
    assert same(model.trunk[0], Net().trunk[0]) and not same(model.trunk[1], Net().trunk[1])


@pytest.mark.parametrize("interval", [1.0, 0.25])
def test_modes_are_right_at_each_step_whatever_meddles_with_them(tmp_path, interval):
    class Meddler(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.train()

        def on_validation_start(self, trainer, pl_module):
            pl_module.train()

        on_validation_end = on_validation_start

    watch = Watch()
    section = {"select": "trunk", "until": {"epoch": 3}}
    fitted(Net(), section, tmp_path, trainer={"val_check_interval": interval}, callbacks=[Meddler(), watch])
    expected = [(TRUNK, TRUNK_MODULES)] * (3 * BATCHES) + [NOTHING] * (3 * BATCHES)
    assert list(watch.seen.values()) == expected


def test_modules_that_are_replaced_once_training_is_set_up_are_held_as_well(tmp_path):
    class Convert(pl.Callback):  # as Trainer(sync_batchnorm=True) does
        def on_fit_start(self, trainer, pl_module):
            nn.SyncBatchNorm.convert_sync_batchnorm(pl_module.model)

    model, watch = Net(), Watch()
    fitted(model, {"select": "trunk", "until": {"epoch": 3}}, tmp_path, callbacks=[Convert(), watch])
    assert isinstance(model.trunk[1], nn.SyncBatchNorm)
    assert list(watch.seen.values()) == [(TRUNK, TRUNK_MODULES)] * 12 + [NOTHING] * 12


def test_the_callbacks_of_fit_come_before_those_of_the_config(tmp_path):
    seen = []

    class Look(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            seen.extend(type(callback).__name__ for callback in trainer.callbacks)

    config = {"callbacks": {"rates": {"type": "RichModelSummary"}}}
    fitted(Net(), "trunk", tmp_path, config=config, callbacks=[Look()])
    assert seen == ["ExactResume", "Randomness", "FiniteGradients", "Freezing", "Look", "RichModelSummary"]


def test_parameters_that_are_never_trained_stay_so(tmp_path):
    model, watch = Net(), Watch()
    model.trunk[0].requires_grad_(False)
    fitted(model, {"select": "trunk", "until": {"epoch": 1}}, tmp_path, callbacks=[watch])
    assert list(watch.seen.values())[4:] == [({"trunk.0.weight", "trunk.0.bias"}, set())] * 20
    assert same(model.trunk[0], Net().trunk[0]) and not same(model.trunk[4], Net().trunk[4])


def test_all_is_in_the_optimiser_from_the_start_and_its_layout_stays(tmp_path):
    layouts = []

    class Look(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            state = trainer.optimizers[0].state_dict()
            layouts.append((state["param_groups"][0]["params"], len(state["state"])))

    section = [{"select": "trunk", "until": {"epoch": 2}}]
    fitted(Net(), section, tmp_path, optimizer=OPTIMIZERS["AdamW"], callbacks=[Look()])
    assert layouts == [(list(range(10)), 4)] * 2 + [(list(range(10)), 10)] * 4


def test_nothing_is_said_about_modules_in_eval_mode(tmp_path, recwarn):
    fitted(Net(), "trunk", tmp_path)
    assert not [warning for warning in recwarn if "eval mode" in str(warning.message)]


def test_the_model_is_not_looked_at_between_the_steps_at_which_something_thaws(tmp_path, monkeypatch):
    import builder.training.freezing as freezing

    applied = []

    class Counted(freezing.Freezer):
        def apply(self, epoch, step):
            applied.append((epoch, step))
            return super().apply(epoch, step)

    monkeypatch.setattr(freezing, "Freezer", Counted)
    fitted(
        Net(), {"select": "trunk", "until": {"step": 6}}, tmp_path, trainer={"limit_val_batches": 0, "max_epochs": 3}
    )
    assert applied == [(0, 0), (0, 0), (1, 4), (1, 6), (2, 8)]


def stock(section, run_dir, epochs, ckpt_path=None, **trainer):
    """Lightning itself, with our callback; gives the Trainer, the model and what was seen at each step."""
    data, model, watch = wine(), Net(), Watch()
    task = read_task(TASK, data.facts, {"x": True}, Origins())
    module = TrainingModule(model, Plan(task, OPTIMIZERS["AdamW"], None, 0))
    loader = torch.utils.data.DataLoader(
        [{"x": x, "target": target} for x, target in zip(*data.splits["train"].values(), strict=True)],
        32,
        num_workers=0,
    )
    kept = pl.callbacks.ModelCheckpoint(run_dir, "{step}", save_top_k=-1, every_n_train_steps=1)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Freezing(plan_of(section, model)), watch, kept], log_every_n_steps=1, **trainer,
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=ckpt_path, weights_only=False)
    return model, watch.seen


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.filterwarnings("ignore:`isinstance")
@pytest.mark.parametrize("until", [{"epoch": 2}, {"step": 6}])
def test_a_resumed_run_is_frozen_before_the_thaw_and_thawed_after_it(tmp_path, until):
    section = {"select": "trunk", "until": until}
    _, seen = stock(section, tmp_path, 3)
    thaw = 6 if "step" in until else 8
    assert [state == NOTHING for state in seen.values()] == [step >= thaw for step in range(12)]
    for step in (2, 4, 5, 6, 7, 8, 9):  # within an epoch, and between two
        model, again = stock(section, tmp_path, 3, tmp_path / f"step={step}.ckpt")
        assert again == {key: state for key, state in seen.items() if key >= step}
        assert int(model.trunk[1].num_batches_tracked) == 12 - thaw


def test_a_schedule_is_refused_where_it_would_not_be_held_to(tmp_path):
    from pytorch_lightning.strategies import FSDPStrategy

    class Cluster(FSDPStrategy):
        def __init__(self):
            pass

    model = Net()
    module = pl.LightningModule()
    module.model = model
    trainer = type("Trainer", (), {"strategy": Cluster(), "callbacks": [], "max_epochs": 2})()
    with pytest.raises(ConfigError) as caught:
        Freezing(plan_of({"select": "trunk", "until": {"epoch": 1}}, model)).setup(trainer, module, "fit")
    assert str(caught.value) == (
        "freeze.until: nothing can thaw under Cluster\n  expected: trainer.strategy: ddp, or one device"
    )
    Freezing(plan_of("trunk", model)).setup(trainer, module, "fit")
    assert not model.trunk[0].weight.requires_grad


def test_weight_averaging_that_would_replace_frozen_statistics_is_refused(tmp_path):
    config = {"callbacks": {"swa": {"type": "StochasticWeightAveraging", "swa_lrs": 0.01}}}
    with pytest.raises(ConfigError) as caught:
        fitted(Net(), "trunk", tmp_path, config=config)
    assert str(caught.value) == (
        "freeze: StochasticWeightAveraging would replace the statistics of these frozen BatchNorm layers\n"
        "  found:    'trunk'\n"
        "  hint:     EMAWeightAveraging leaves them as they are; or freeze with mode: train"
    )


@pytest.mark.parametrize("section", [{"select": "trunk", "mode": "train"}, {"select": "trunk", "until": {"epoch": 2}}])
def test_weight_averaging_goes_with_statistics_that_move(tmp_path, section):
    config = {"callbacks": {"swa": {"type": "StochasticWeightAveraging", "swa_lrs": 0.01, "swa_epoch_start": 3}}}
    fitted(Net(), section, tmp_path, config=config)


def test_the_average_of_what_is_frozen_is_that_up_to_rounding(tmp_path):
    model, config = Net(), {"callbacks": {"ema": {"type": "EMAWeightAveraging", "decay": 0.9}}}
    fitted(model, "trunk", tmp_path, config=config)
    for ours, before in zip(model.trunk.state_dict().values(), Net().trunk.state_dict().values(), strict=True):
        assert torch.allclose(ours, before, rtol=1e-6, atol=1e-7)
