"""Shipped configs with a few things wrong: each gives a model or tells what is wrong, in time, whatever it is."""

import copy
import time
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.check import check
from builder.config.compose import compose, shipped_configs
from builder.config.folders import blocks
from builder.config.origin import Origins
from builder.config.saved import dump_yaml
from builder.config.yaml_file import parse_yaml
from builder.errors import BuilderError
from builder.lang import guard
from builder.model import make
from builder.model.infer import explore
from builder.model.read import read_definition

SECONDS = 30
"""The most that one config may take on a busy machine; a whole model of the zoo takes one or two."""

FACTS = {
    "num_classes": 3, "num_outputs": 3, "num_features": 3072, "vocab_size": 20, "height": 32, "width": 32, "in_channels": 3,
    "length": 8, "num_train": 10,
}  # fmt: skip
VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 1.5, 1e-9, 1e30, 2**62, "", "x", "ReLU", "Linear", "Conv2d", "Sequential", "ModuleList", "ModuleDict",
    "Residual", "MLP", "model/mlp", "TransformerEncoderLayer", "LSTM", "required", "normal_", "zeros_", "=width", "=hidden", "=i", "=data.num_classes",
    "=1 // 0", "=[1, 2]", "=2 ** 40", "=(", "${seed}", "${nowhere}", "${.x}", "${oc.env:HOME}", "???", "float32", "int64", "a.b", "a b", "é", "forward",
    "return x", "return relu(x)", "x = x + 1\nreturn x", "for i in range(3):\n  x = x * 2\nreturn x", "output", "cross_entropy(output, target)",
    "output.logits", "output[0]", "val/loss", [], {}, [1], [1, 2, 3], ["x"], ["B", 3, 8, 8], [None], [[1]], {"type": "ReLU"}, {"type": None}, {"x": ["B", 4]},
    {"shape": [2], "init": "ones_"}, {"type": "Linear", "out_features": 3}, {"layers": ["ReLU"]}, {"layers": {"a": "ReLU"}, "forward": "return a(x)"},
    {"repeat": 3, "layer": "ReLU", "type": "Sequential"}, {"type": "FeatureExtractor", "of": "cnn"}, {1: 2},
]  # fmt: skip
KEYS = [
    "type", "layers", "layer", "repeat", "args", "inputs", "blocks", "parameters", "buffers", "forward", "tie", "name", "when", "unused", "init", "shape",
    "dtype", "optional", "persistent", "value", "out_features", "in_features", "bias", "x", "ids", "lr", "monitor", "mode", "metrics", "loss", "of", "fc", "_x",
    "class", "training", "0", "i", "data", "", "until", "frozen",
]  # fmt: skip


def places(value, path=()):
    """The path of every value inside of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def mutate(value, random):
    """Drop, rename, replace, copy or edit one thing in a config."""
    path = random.choice(list(places(value)) or [()])
    if not path:
        return
    parent, key = at(value, path[:-1]), path[-1]
    old = parent[key]
    number = isinstance(old, int | float) and not isinstance(old, bool)
    match 5 if number and random.randrange(2) else random.randrange(7):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            new = random.choice([*KEYS, *map(str, parent), f"{key}x", str(key)[:-1]])
            items = [(new if name == key else name, item) for name, item in parent.items()]
            parent.clear()
            parent.update(items)
        case 2:
            parent[key] = copy.deepcopy(at(value, random.choice(list(places(value)))))
        case 3 if isinstance(parent, dict):
            parent[random.choice(KEYS)] = copy.deepcopy(random.choice(VALUES))
        case 4 if isinstance(old, str) and old:
            start = random.randrange(len(old))
            parent[key] = (
                old[:start]
                + random.choice(["", "x", "(", ")", " ", "\n", "=", ".", "self", "0"])
                + old[start + random.randrange(4) :]
            )
        case 5 if number:
            parent[key] = random.choice([old + 1, old - 1, -old, old * 2, 0, float(old), str(old)])
        case _:
            parent[key] = copy.deepcopy(random.choice(VALUES))


def mutated(value, random):
    value = copy.deepcopy(value)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        mutate(value, random)
    return value


def shipped(name):
    path = shipped_configs() / name
    return parse_yaml(path.read_text(encoding="utf-8"), name).value


MODELS = sorted(path.stem for path in (shipped_configs() / "model").glob("*.yaml"))
SMALL = {"cnn", "mlp", "autoencoder", "lstm_tagger", "multitask", "siamese", "vae", "gpt"}
BLOCKS = sorted(path.stem for path in (shipped_configs() / "block").glob("*.yaml"))
EXPERIMENTS = ["digits_cnn", "digits_mlp", "diabetes_mlp", "breast_cancer_mlp"]


def example(dtype):
    return ((2, 8), "int64") if dtype == "int64" else ((2, 3, 32, 32), "float32")


def try_model(name, random):
    """A mutated model, alone."""
    raw = parse_yaml(dump_yaml(mutated(shipped(f"model/{name}.yaml"), random)), f"{name}.yaml")
    definition = read_definition(raw.value, Origins(raw.origins), (), blocks([shipped_configs()]))
    examples = {item.name: example(item.dtype) for item in definition.inputs}
    return explore(definition, {}, FACTS, examples).model


def try_block(name, random):
    """A mutated block, as a model."""
    raw = mutated(shipped(f"block/{name}.yaml"), random)
    args = raw.get("args") if isinstance(raw, dict) and isinstance(raw.get("args"), dict) else {}
    given = {key: 32 for key, value in args.items() if value == "required"}
    raw = parse_yaml(dump_yaml(raw), f"{name}.yaml")
    definition = read_definition(raw.value, Origins(raw.origins), (), blocks([shipped_configs()]))
    pictures = [item.name for item in definition.inputs if item.shape is None or len(item.shape) == 4]
    return explore(definition, given, FACTS, {name: ((2, 32, 8, 8), "float32") for name in pictures}).model


def try_experiment(name, random, folder):
    """A mutated whole config, all the way to the first training step."""
    (folder / "config.yaml").write_text(dump_yaml(mutated(WHOLE[name], random)), encoding="utf-8")
    return check(compose(config_name="config", config_dir=folder))


WEIGHTS = parse_yaml(
    r"""
init:
  - {select: {type: [Linear, LSTM], not: out}, weight: {type: kaiming_normal_, nonlinearity: relu}, bias: zeros_}
  - {select: 're:body\..*', weight*: {type: normal_, std: =0.02 / sqrt(count)}, optional: true}
init_seed: 3
load:
  - path: weights.pt
    rules: [{strip: net.}, {rename: '^b\.(\d)', to: 'body.\1'}, {drop: "old.**"}, {transpose: out.weight}]
    shape: {default: error, body.0.linear.weight: {resize: linear}, "out.**": skip}
    missing: {allow: ["body.1.**", out]}
    unexpected: warn
    min_loaded: 0.1
freeze:
  - {select: [body.0, {ndim: 1}], mode: train, until: {epoch: 2}}
  - {select: {type: Dropout}, until: {step: 5}}
optimizer:
  type: AdamW
  lr: 0.01
  groups: [{name: head, select: out, lr: 0.1, betas: [0.8, 0.9]}, {select: body.0, layer_decay: 0.5}]
  no_decay: [{name: bias}, {ndim: 1}]
  layer_decay: {rate: 0.7, layers: [body.0, body.1, out]}
scheduler:
  type: SequentialLR
  milestones: [3]
  schedulers: [{type: LinearLR, total_iters: 3}, {type: WarmupCosine, total_steps: 9, warmup: 0.1}]
""",
    "weights.yaml",
).value
"""Sections that say all sorts of things about the weights of digits_mlp."""


def try_weights(name, random, folder):
    """A mutation of what a config says of its weights, all the way to the first training step."""
    if not (folder / "weights.pt").exists():
        saved = {
            "net.b.0.linear.weight": torch.zeros(128, 64),
            "net.b.0.linear.bias": torch.zeros(128),
            "old.x": torch.zeros(1),
        }
        torch.save({"model": {**saved, "net.out.weight": torch.zeros(128, 10)}}, folder / "weights.pt")
    whole = {**WHOLE[name], **mutated(WEIGHTS, random)}
    (folder / "weights_config.yaml").write_text(dump_yaml(whole), encoding="utf-8")
    return check(compose(config_name="weights_config", config_dir=folder))


def try_overrides(name, random):
    """An experiment under overrides of any of its keys."""
    paths = [".".join(map(str, path)) for path in places(WHOLE[name])]
    values = [
        "null",
        "1",
        "-1",
        "x",
        "ReLU",
        "SGD",
        "[]",
        "{}",
        "{type: Linear}",
        "=i",
        "1e9",
        "true",
        "'${seed}'",
        "???",
        "StepLR",
    ]
    overrides = []
    for _ in range(random.choice([1, 1, 2])):
        path = random.choice(
            [*paths, *("optimizer", "model", "data", "task", "scheduler", "trainer", "callbacks", "logger")]
        )
        form = random.choice(["{}={}", "{}={}", "+{}.new={}", "++{}={}", "~{}", "{}.type={}", "{}.0={}"])
        overrides.append(form.format(path, random.choice(values)))
    return check(compose([f"experiment={name}", *overrides]))


WHOLE: dict = {}


def run(kind, random, folder):
    """Try one; gives how it ended and for how long it took, and lets pass no exception but ours."""
    started = time.monotonic()
    try:
        if kind == "model":
            try_model(random.choice([*SMALL, *MODELS]), random)
        elif kind == "block":
            try_block(random.choice(BLOCKS), random)
        elif kind == "experiment":
            try_experiment(random.choice(EXPERIMENTS), random, folder)
        elif kind == "weights":
            try_weights("digits_mlp", random, folder)
        else:
            try_overrides(random.choice(EXPERIMENTS), random)
    except BuilderError as error:
        assert str(error)
        return "told", time.monotonic() - started
    return "built", time.monotonic() - started


def prepare():
    """Compose the experiments whose configs are mutated."""
    for name in EXPERIMENTS:
        WHOLE[name] = compose([f"experiment={name}", "logger=null"]).unresolved


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(guard, "MAX_STEPS", 300_000)
        patch.setattr(make, "MAX_MODULES", 3_000)
        threads = torch.get_num_threads()
        prepare()
        yield folder
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("kind", "examples"), [("model", 60), ("block", 60), ("experiment", 60), ("weights", 60), ("overrides", 60)]
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's and Lightning's, of odd but allowed values
def test_a_mutated_config_gives_a_model_or_is_told(kind, examples, elsewhere):
    @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def fuzz(random):
        _, seconds = run(kind, random, Path(elsewhere))
        assert seconds < SECONDS

    fuzz()


if __name__ == "__main__":  # the long version: python tests/contract/test_front_fuzz.py FIRST LAST
    import collections
    import os
    import sys
    import tempfile
    import traceback
    import warnings

    warnings.simplefilter("ignore")
    first, last = map(int, sys.argv[1:3])
    guard.MAX_STEPS, make.MAX_MODULES = 300_000, 3_000
    os.chdir(tempfile.mkdtemp())
    prepare()
    ends: collections.Counter = collections.Counter()
    slowest = (0.0, 0)
    for seed in range(first, last):
        random = Random(seed)
        kind = ("model", "block", "experiment", "weights", "overrides")[seed % 5]
        try:
            end, seconds = run(kind, random, Path.cwd())
            ends[kind, end] += 1
            slowest = max(slowest, (seconds, seed))
        except Exception as error:
            frames = [
                f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
            ]
            print(
                seed,
                kind,
                type(error).__name__,
                str(error)[:150].replace("\n", " "),
                " < ".join(frames[-5:]),
                flush=True,
            )
            ends[kind, type(error).__name__] += 1
    print(dict(ends), "slowest", slowest)
