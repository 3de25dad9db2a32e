"""Every shipped config of every group composes and passes `check`, in a combination in which it makes sense.

A new file is picked up by itself, except for a model: that needs a case here.
"""

import json
import re

import numpy as np
import pytest
import torch

from builder.config.folders import shipped_configs
from command_line import run
from made_files import sections

GROUPS = sorted(path.name for path in shipped_configs().iterdir() if path.is_dir())
FILES = {group: sorted(path.stem for path in (shipped_configs() / group).glob("*.yaml")) for group in GROUPS}

TEXT = ("data=topics", "task=language_model")
MEAN_LOGITS = "task.loss='cross_entropy(output.mean(dim=[2, 3]), target)'"

# What each model is checked with, besides `model=NAME`.
MODELS = {
    "autoencoder": ["task.loss='mse_loss(output, x)'", "~task.metrics.accuracy", "task.monitor=val/loss", "task.mode=min"],
    "bert": [
        *TEXT, "model.args.depth=2", "model.args.width=48", "~task.metrics.perplexity",
        "task.loss='cross_entropy(output.last_hidden_state.flatten(0, 1), target.flatten() % 48)'",
    ],
    "cnn": [],
    "gpt": [*TEXT],
    "gpt2": [*TEXT, "model.args.depth=2", "model.args.width=48"],
    "llama": [*TEXT, "model.args.depth=2", "model.args.width=48", "model.args.heads=4", "model.args.kv_heads=2"],
    "lstm_tagger": [*TEXT, "model.args.tags=200"],
    "mlp": [],
    "multitask": [
        "task.loss='cross_entropy(output.classes, target) + 0.3 * mse_loss(output.value, target.float())'",
        "task.prediction=output.classes",
    ],
    "resnet18": ["model.args.width=8"],
    "resnet50": ["model.args.width=8"],
    "siamese": [
        "+task.inputs={first: x, second: x}", "task.loss='mse_loss(output, target.float())'", "~task.metrics.accuracy",
        "task.monitor=val/loss", "task.mode=min",
    ],
    "table": ["data=table"],
    "unet": ["model.args.width=8", "model.args.depth=2", MEAN_LOGITS, "task.prediction='output.mean(dim=[2, 3])'"],
    "vae": [
        "task.loss='mse_loss(output.x, x) - 0.5 * mean(1 + output.logvar - output.mean ** 2 - output.logvar.exp())'",
        "~task.metrics.accuracy", "task.monitor=val/loss", "task.mode=min",
    ],
    "vit": ["model.args.patch=4", "model.args.width=48", "model.args.depth=2", "model.args.heads=4"],
}  # fmt: skip

# What others need; those that aren't here need nothing.
NEEDS = {
    "data": {
        "topics": ["model=gpt", "task=language_model"],
        "text": ["model=gpt", "task=language_model"],
        "sequences": [
            "model=lstm_tagger",
            "task.loss='cross_entropy(output.flatten(0, 1), target.flatten())'",
            "~task.metrics.accuracy",
            "task.monitor=val/loss",
            "task.mode=min",
        ],
        "diabetes": ["model=mlp", "task=regression"],
        "*": ["model=mlp"],
    },
    "task": {
        "contrastive": ["model=siamese"],
        "language_model": ["model=gpt", "data=topics"],
        "multilabel": ["model=mlp", "data=arrays"],
        "multitask": ["model=multitask", "+task.tensors={value: 'x.mean(dim=[1, 2, 3])'}"],
        "reconstruction": ["model=autoencoder"],
        "regression": ["model=mlp", "data=diabetes"],
        "tagging": ["model=lstm_tagger", "data=sequences"],
        "vae": ["model=vae"],
    },
}


def needs(group, name):
    of_group = NEEDS.get(group, {})
    return of_group.get(name, of_group.get("*", []))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What data sets that read files have to be told: where such files lie."""
    folder = tmp_path_factory.mktemp("files")
    found = sections(folder)
    x, labels = torch.rand(40, 5), torch.rand(40, 3).round()
    np.savez(folder / "labels.npz", x=x.numpy(), target=labels.numpy())
    return found | {"multilabel": {"path": str(folder / "labels.npz")}, "tagging": found["sequences"]}


def without_notes(text):
    """What was written on standard error but notes on what was found in data."""
    return re.sub(r"^note: .*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)


def test_every_shipped_model_has_a_case():
    assert sorted(MODELS) == FILES["model"]


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_model_passes_check(name, tmp_path, files):
    told = [f"data.{key}={value}" for key, value in files["table"].items()] if "data=table" in MODELS[name] else []
    ran = run(tmp_path, "check", f"model={name}", *MODELS[name], *told)
    assert (ran.code, without_notes(ran.err)) == (0, "")
    assert ": fine. " in ran.out and list(tmp_path.iterdir()) == []


CASES = [
    pytest.param(group, name, id=f"{group}-{name}")
    for group in GROUPS
    if group not in ("model", "block", "experiment")
    for name in FILES[group]
]


@pytest.mark.parametrize(("group", "name"), CASES)
def test_every_shipped_config_passes_check(group, name, tmp_path, files):
    told = [f"data.{key}={value}" for key, value in files.get(name, {}).items()] if group in ("data", "task") else []
    ran = run(tmp_path, "check", *needs(group, name), f"{group}={name}", *told)
    if (group, name) == ("trainer", "gpu") and not torch.cuda.is_available():
        assert ran.code == 2 and "configs/trainer/gpu.yaml" in ran.err and "gpu backend" in ran.err
    else:
        assert (ran.code, without_notes(ran.err)) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES["experiment"])
def test_every_shipped_experiment_passes_check_and_is_called_by_its_name(name, tmp_path):
    if name == "digits_transfer":  # begins with what another experiment has learnt
        words = ("experiment=digits_pretrain", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
        assert run(tmp_path, "train", "--quiet", *words).code == 0
    ran = run(tmp_path, "check", f"experiment={name}")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{name}: fine. ")


@pytest.mark.parametrize("name", FILES["block"])
def test_every_shipped_block_is_a_layer_type_of_any_model(name, tmp_path):
    """What the blocks compute is shown beside the model's tests; here, that a config reaches each."""
    ran = run(tmp_path, "check", f"model.layers.fc={{type: {name}, no_such_argument: 1}}")
    assert ran.code == 2
    assert f"block {name} has no argument 'no_such_argument'" in ran.err


def test_every_group_is_known_here():
    covered = {case.values[0] for case in CASES} | {"model", "block", "experiment"}
    assert covered == set(GROUPS)


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "block"])
def test_every_shipped_config_is_offered_as_a_choice(group, tmp_path):
    ran = run(tmp_path, "check", f"{group}=no-such-choice", "--json")
    faults = json.loads(ran.out)["faults"]
    assert ran.code == 2 and len(faults) == 1
    assert set(FILES[group]) <= set(faults[0]["expected"].removeprefix("one of ").split(", "))


@pytest.mark.parametrize("group", GROUPS)
def test_every_shipped_config_says_what_it_is(group):
    """A comment at its top or beside its first key: what a user reads who opens it."""
    for name in FILES[group]:
        lines = (shipped_configs() / group / f"{name}.yaml").read_text().splitlines()
        assert any("#" in line and "@package" not in line for line in lines[:3]), f"{group}/{name}"
