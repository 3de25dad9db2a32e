"""`builder features`: what layers give, as hand-written hooks see it."""

import json

import numpy as np
import pytest
import torch

import builder
from builder.use.features import chosen_layers, plane
from command_line import run


@pytest.fixture
def features(runs):
    return lambda name, *words: run(runs.folder, "features", str(runs[name]), *words)


def by_hook(model, name, *inputs):
    """What a layer gives, call by call."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(lambda module, given, output: seen.append(output.detach()))
    with torch.no_grad():
        model(*inputs)
    handle.remove()
    return seen


def test_they_are_what_a_hook_sees_in_every_format(runs, features):
    polars = pytest.importorskip("polars")
    from safetensors.torch import load_file

    ran = features(
        "fruit", "--select", "body", "-i", "fruit.csv", *(f"-ofeatures.{s}" for s in ("npz", "parquet", "safetensors"))
    )
    assert ran.code == 0, ran.err
    loaded = builder.load(runs["fruit"])
    batch = loaded.batch(str(runs.folder / "fruit.csv"))
    (theirs,) = by_hook(loaded.model, "body", batch["x"], batch["categories"])
    arrays = np.load(runs.folder / "features.npz")
    assert arrays["body"].tolist() == theirs.tolist() and arrays["index"].tolist() == list(range(2, 152))
    table = polars.read_parquet(runs.folder / "features.parquet")
    assert np.array(table["body"].to_list(), dtype=np.float32).tolist() == theirs.tolist()
    assert torch.equal(load_file(runs.folder / "features.safetensors")["body"], theirs)
    assert ran.out == f"body  {list(theirs.shape)}\nfeatures.npz, features.parquet, features.safetensors\n"


@pytest.mark.parametrize(
    ("pool", "by_hand"), [("mean", lambda x: x.mean((2, 3))), ("max", lambda x: x.amax((2, 3))), ("none", lambda x: x)]
)
def test_maps_are_pooled_over_their_places(runs, features, pool, by_hand, monkeypatch):
    monkeypatch.chdir(runs.folder)
    assert features("pics", "-s", "trunk.0", "--data", "test", "--pool", pool, "-o", "maps.npz").code == 0
    arrays, loaded = np.load(runs.folder / "maps.npz"), builder.load(runs["pics"])
    from builder.use.evaluate import open_set

    (batch,) = open_set(loaded, "test").loader
    (theirs,) = by_hook(loaded.model, "trunk.0", batch["x"])
    assert (
        arrays["trunk.0"].tolist() == by_hand(theirs).tolist() and arrays["label"].tolist() == batch["target"].tolist()
    )


def test_sequences_are_pooled_over_their_steps(runs, features):
    for pool, by_hand in (("last", lambda x: x[:, -1]), ("mean", lambda x: x.mean(1))):
        assert (
            features("topics", "-s", "blocks.0", "--pool", pool, "-i", "line.txt", "-o", "steps.npz").code == 2
        )  # no such file
        (runs.folder / "steps.txt").write_text("import this\n")
        assert features("topics", "-s", "blocks.0", "--pool", pool, "-i", "steps.txt", "-o", "steps.npz").code == 0
        loaded = builder.load(runs["topics"])
        (theirs,) = by_hook(loaded.model, "blocks.0", loaded.batch("import this")["ids"])
        assert np.load(runs.folder / "steps.npz")["blocks.0"].tolist() == by_hand(theirs).tolist()


def test_a_layer_that_is_called_twice_is_two(runs):
    model = {"layers": {"flatten": "Flatten", "one": {"type": "Linear", "out_features": 64}, "act": "ReLU", "out": {"type": "Linear", "out_features": 10}},
             "forward": "x = act(one(flatten(x)))\nreturn out(act(one(x)))\n"}  # fmt: skip
    trained = runs.with_model("twice", model)
    ran = run(runs.folder, "features", str(trained), "-s", "[one, act]", "-o", "twice.npz")
    assert ran.code == 0, ran.err
    arrays = np.load(runs.folder / "twice.npz")
    assert {"one", "one#2", "act", "act#2"} <= set(arrays) and (np.maximum(arrays["one"], 0) == arrays["act"]).all()
    assert not (arrays["one"] == arrays["one#2"]).all()


def test_projections_are_pictures_and_repeatable(runs, features):
    for how in ("pca", "tsne"):
        ran = features("digits", "-s", "body", "--data", "test", "--project", how, "-o", f"{how}.png")
        assert ran.code == 0, ran.err
        assert (runs.folder / f"{how}.png").read_bytes().startswith(b"\x89PNG")
    values = np.random.default_rng(0).normal(size=(40, 5))
    assert (plane(values, "tsne", 1) == plane(values, "tsne", 1)).all()
    centred = values - values.mean(0)
    assert np.abs(plane(values, "pca", 0)) == pytest.approx(np.abs(centred @ np.linalg.svd(centred)[2][:2].T))


def test_hooks_are_gone_afterwards_even_if_the_model_raises(runs):
    from builder.use.evaluate import open_set
    from builder.use.features import take

    loaded = builder.load(runs["digits"])
    take(loaded, "body", "mean", open_set(loaded, "val"))
    broken = loaded.model.get_submodule("out").register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        take(loaded, "body", "mean", open_set(loaded, "val"))
    broken.remove()
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_a_module_stands_for_all_in_it():
    model = builder.build(
        {
            "layers": {
                "a": {"type": "Sequential", "layers": [{"type": "Linear", "in_features": 2, "out_features": 2}, "ReLU"]}
            }
        }
    )
    assert list(chosen_layers(model, "a")) == ["a"] and list(chosen_layers(model, "{type: Linear}")) == ["a.0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "bdy", "-o", "f.npz"), "did you mean 'body'"),
        (("-s", "body", "-o", "f.txt"), "the format of f.txt isn't known by its name"),
        (("-s", "body", "-o", "f.png"), "say by --project pca or tsne"),
        (("-s", "body", "-o", "f.npz", "--project", "pca"), "--project draws a picture: name it by -o FILE.png"),
        (("-s", "body", "-o", "f.npz", "--pool", "mena"), "--pool mena: there are mean, max, last, none; did you mean mean?"),
        (("-s", "body", "-o", "f.npz", "--data", "tset"), "no split 'tset'; there are train, val, test; did you mean test?"),
        (("-s", "[body, out]", "-o", "f.png", "--project", "pca"), "one layer is projected at a time; chosen are body, out"),
        (("-s", "{name: weight}", "-o", "f.npz"), "selects parameters only"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused(features, words, said):
    ran = features("digits", *words)
    assert ran.code == 2 and said in ran.err, ran.err


def test_bad_samples_are_told(runs, features):
    (runs.folder / "holes.jsonl").write_text(json.dumps({"x": [0.0] * 5}) + '\n{"x": [1]}\n')
    ran = features("arrays", "-s", "body", "-i", "holes.jsonl", "-o", "holes_out.npz")
    assert ran.code == 0 and "2: 'x' has the shape [1], the model takes [5]" in ran.err
