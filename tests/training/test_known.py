"""What `check` knows without importing Lightning and torchmetrics is what these say themselves."""

import itertools
import json
import os
import subprocess
import sys
import types
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from builder import registry
from builder.catalog.component import Component
from builder.catalog.known import FILE, NotKnown, require_fine
from builder.errors import DEFAULT
from builder.optim.light import light
from builder.training.known_metrics import RULES, Binary, Distance, KnownMetrics, Multiclass, Multilabel, Tokens
from builder.training.known_parts import known_parts
from builder.training.known_trainer import FINE
from builder.training.known_trainer import require_fine as require_trainer
from builder.training.quiet import quiet_lightning

LIGHT = """
import sys
from builder.cli.main import main
code = main(["check", *sys.argv[1:]])
heavy = [name for name in ("pytorch_lightning", "torchmetrics", "torch._dynamo", "sklearn") if name in sys.modules]
sys.exit(code or (f"imported {heavy}" if heavy else 0))
"""


@pytest.fixture(autouse=True)
def not_deterministic():
    """Torchmetrics counts otherwise under deterministic algorithms, which trainers choose for the whole process."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)


def test_what_is_known_of_callbacks_and_loggers_is_what_they_say():
    assert json.loads(FILE.read_text()) == known_parts(), "python -m builder.training.known_parts writes it anew"


@pytest.mark.parametrize(
    "words", [["model=resnet18", "data=synthetic", "data.shape=[3,32,32]"], ["experiment=digits_mlp"]]
)
def test_check_of_a_config_that_is_fine_imports_no_lightning(words, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout


SCORES, CLASSES, LABELS = torch.rand(4, 3), torch.tensor([0, 2, 1, 2]), torch.tensor([0, 1, 1, 0])
ARGUMENTS = {
    Multiclass: [
        {"num_classes": 3, "average": average, "ignore_index": ignored}
        for average in ("micro", "macro", "weighted") for ignored in (None, -100)
    ],
    Multilabel: [{"num_labels": 3}, {"num_labels": 3, "threshold": 0.3}],
    Tokens: [{}, {"ignore_index": -100}],
}  # fmt: skip
TENSORS = {
    Multiclass: [
        (SCORES, CLASSES), (CLASSES, CLASSES), (torch.rand(4, 3, 5), torch.randint(0, 3, (4, 5))),
        (SCORES, CLASSES.int()), (SCORES, torch.tensor([0, -100, 1, 2])), (-5 * SCORES, CLASSES),
    ],
    Multilabel: [(SCORES, torch.randint(0, 2, (4, 3))), (5 * SCORES - 2, torch.randint(0, 2, (4, 3)))],
    Binary: [(SCORES[:, 0], LABELS), (5 * SCORES[:, 0] - 2, LABELS), (SCORES[:, :2], torch.randint(0, 2, (4, 2)))],
    Distance: [(SCORES[:, 0], SCORES[:, 1]), (SCORES, SCORES + 1)],
    Tokens: [(torch.rand(2, 4, 5), torch.randint(0, 5, (2, 4))), (torch.rand(2, 1, 5), torch.tensor([[0], [-100]]))],
}  # fmt: skip


def _of(rule, table, default):
    return next((table[base] for base in rule.__mro__ if base in table), default)


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_takes_its_metric_takes(name):
    rule, higher = RULES[name]
    metric = registry.metrics.get(name)
    assert metric.higher_is_better is higher
    taken = 0
    for arguments, tensors in itertools.product(_of(rule, ARGUMENTS, [{}]), _of(rule, TENSORS, [])):
        try:
            KnownMetrics().get(name)(**arguments).update(*tensors)
        except NotKnown:
            continue
        taken += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a class has no samples
            metric(**arguments).update(*tensors)
    assert taken


@pytest.mark.parametrize(
    "name, arguments, tensors",
    [
        ("MulticlassAccuracy", {"num_classes": 3}, (SCORES, torch.tensor([0, 1, 2, 3]))),
        ("MulticlassAccuracy", {"num_classes": 4}, (SCORES, CLASSES)),
        ("BinaryAccuracy", {}, (SCORES[:, 0], CLASSES)),
        ("MultilabelF1Score", {"num_labels": 2}, (SCORES, torch.ones(4, 3, dtype=torch.int64))),
        ("R2Score", {}, (SCORES, SCORES[:, 0])),
        ("Perplexity", {}, (SCORES, CLASSES)),
    ],
)
def test_what_a_metric_refuses_its_rule_does_not_take(name, arguments, tensors):
    with pytest.raises((ValueError, RuntimeError)):
        registry.metrics.get(name)(**arguments).update(*tensors)
    with pytest.raises(NotKnown):
        KnownMetrics().get(name)(**arguments).update(*tensors)


VALUES = {
    "accelerator": ["auto", "cpu"], "devices": ["auto", 1], "strategy": ["auto"], "num_nodes": [1],
    "max_epochs": [0, 3], "max_steps": [-1, 5], "limit_train_batches": [None, 0, 3, 0.5], "limit_val_batches": [0, 0.0],
    "limit_test_batches": [1.0], "check_val_every_n_epoch": [1, 7], "num_sanity_val_steps": [0, 2],
    "log_every_n_steps": [1, 50], "accumulate_grad_batches": [1, 4], "gradient_clip_val": [None, 1, 0.5],
    "gradient_clip_algorithm": [None, "norm", "value"], "deterministic": [True, False],
    "enable_progress_bar": [True, False], "enable_model_summary": [True, False],
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_lightning_takes_the_arguments_that_it_is_known_to_take(name):
    usual = {key: values[-1] for key, values in VALUES.items()} | {"accelerator": "cpu"}
    for value in VALUES[name]:
        assert FINE[name](value)
        for others in ({"accelerator": "cpu"}, usual):
            with quiet_lightning():
                pl.Trainer(**{**others, name: value}, logger=False, enable_checkpointing=False)


def test_each_argument_that_is_known_is_tried():
    assert VALUES.keys() | {"shard", "compile"} == FINE.keys()


@pytest.mark.parametrize(
    "arguments",
    [{"accelerator": "gpu"}, {"devices": 2}, {"strategy": "ddp"}, {"max_epochs": True}, {"precision": "16-mixed"},
     {"limit_train_batches": 1.5}, {"fast_dev_run": True}, {"max_epoch": 3}],
)  # fmt: skip
def test_other_arguments_are_left_to_lightning(arguments):
    with pytest.raises(NotKnown):
        require_trainer(arguments)


def test_with_a_gpu_only_the_choice_of_the_cpu_is_known(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_trainer({"accelerator": "cpu"})
    for arguments in ({}, {"accelerator": "auto"}):
        with pytest.raises(NotKnown, match="more than its CPU"):
            require_trainer(arguments)


def test_nothing_is_known_where_somebody_else_starts_processes(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(NotKnown, match="somebody else"):
        require_trainer({})


@pytest.mark.parametrize(
    "part",
    [
        "NoSuchCallback",
        {"type": "EarlyStopping", "patience": "long"},
        {"type": "EarlyStopping", "monitor": "val/los"},
        {"type": "EarlyStopping", "patienc": 3},
        {"type": "EarlyStopping", "patience": [3]},
        {"type": "ModelCheckpoint", "dirpath": "../elsewhere"},
        {"type": "ModelCheckpoint", "filename": "/tmp/elsewhere"},
        {"patience": 3},
        7,
    ],
)
def test_callbacks_that_may_be_wrong_are_not_known(part):
    fine = {"best": {"type": "ModelCheckpoint", "filename": "best", "monitor": "val/loss", "mode": "min"}}
    require_fine(registry.callbacks, fine, ["val/loss"], ("dirpath", "monitor"))
    with pytest.raises(NotKnown):
        require_fine(registry.callbacks, {**fine, "it": part}, ["val/loss"], ("dirpath", "monitor"))


@pytest.mark.parametrize("name", registry.optimizers)
def test_an_optimizer_that_is_looked_at_is_like_the_real_one(name, monkeypatch):
    monkeypatch.setattr("builder.optim.light.sys", types.SimpleNamespace(modules={}))  # as where nothing imported it
    component = Component("optimizer", name, registry.optimizers.get(name), {}, ("optimizer",), DEFAULT)
    weights = [nn.Parameter(torch.empty(2, 2))]
    ours, theirs = light(component).make(weights), component.make(weights)
    assert ours.defaults == theirs.defaults
    assert [group.keys() for group in ours.param_groups] == [group.keys() for group in theirs.param_groups]
    assert isinstance(ours, type(theirs))
    assert type(ours) is not type(theirs)
