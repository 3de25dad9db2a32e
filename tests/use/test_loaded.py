"""`builder.load`: the model, what it takes and what its answers mean, in one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import builder
from builder.data.apply import apply
from builder.errors import RunError, UsageError
from command_line import ROOT


def state_of(run):
    return json.loads((run / "data.json").read_text())["state"]


def by_hand(run):
    model = builder.build(run / "model.yaml", data=json.loads((run / "data.json").read_text())["facts"])
    saved = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict(
        {name.removeprefix("model."): value for name, value in saved.items() if name.startswith("model.")}
    )
    return model.eval()


def test_a_classifier_of_rows_gives_names_and_probabilities(runs):
    loaded, path = builder.load(runs["fruit"]), str(runs.folder / "fruit.csv")
    batch = apply(state_of(runs["fruit"]), path)
    with torch.no_grad():
        shares = by_hand(runs["fruit"])(batch["x"], batch["categories"]).double().softmax(1)
    found = loaded.predict(path, proba=True)
    assert loaded.classes == ["apple", "banana", "cherry"]
    assert [row["prediction"] for row in found] == [loaded.classes[index] for index in shares.argmax(1).tolist()]
    theirs = np.array([[row[f"p_{name}"] for name in loaded.classes] for row in found])
    np.testing.assert_allclose(theirs, shares.numpy(), rtol=1e-5)
    assert all(torch.equal(value, batch[name]) for name, value in loaded.batch(path).items())
    assert loaded.predict([{"weight": 8, "red": 0.9, "shape": "round"}])[0]["prediction"] in loaded.classes


def test_a_number_is_in_the_unit_of_the_target(runs):
    loaded, path = builder.load(runs["houses"]), str(runs.folder / "houses.csv")
    batch, facts = apply(state_of(runs["houses"]), path), loaded.facts
    with torch.no_grad():
        prices = (
            by_hand(runs["houses"])(batch["x"], batch["categories"])[:, 0].double() * facts["target_std"]
            + facts["target_mean"]
        )
    found = [row["prediction"] for row in loaded.predict(path)]
    np.testing.assert_allclose(found, prices.numpy(), rtol=1e-4)
    with pytest.raises(UsageError, match="no probabilities: the model doesn't tell classes apart"):
        loaded.predict(path, proba=True)


def test_scikit_learns_tables_take_columns_and_give_the_targets_unit(runs):
    sklearn = pytest.importorskip("sklearn.datasets")
    bunch = sklearn.load_diabetes(scaled=False)
    rows = [dict(zip(bunch.feature_names, map(float, row), strict=True)) for row in bunch.data[:9]]
    loaded = builder.load(runs["diabetes"])
    mean, std = (np.array(state_of(runs["diabetes"])[key]) for key in ("mean", "std"))
    x = torch.from_numpy(((bunch.data[:9] - mean) / std).astype(np.float32))
    with torch.no_grad():
        theirs = by_hand(runs["diabetes"])(x)[:, 0].double() * loaded.facts["target_std"] + loaded.facts["target_mean"]
    np.testing.assert_allclose([row["prediction"] for row in loaded.predict(rows)], theirs.numpy(), rtol=1e-5)


def test_arrays_are_scaled_and_shaped_as_in_training(runs):
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = sklearn.load_digits()
    loaded = builder.load(runs["digits"])
    with torch.no_grad():
        theirs = by_hand(runs["digits"])(torch.from_numpy((digits.images[:7, None] / 16).astype(np.float32))).argmax(1)
    for given in (digits.images[:7], {"x": digits.data[:7]}, [{"x": image.tolist()} for image in digits.images[:7]]):
        assert [int(row["prediction"]) for row in loaded.predict(given)] == theirs.tolist()
    with pytest.raises(UsageError, match=r"samples of 'x' have the shape \[9, 9\], the model takes \[1, 8, 8\]"):
        loaded.predict(np.zeros((1, 9, 9)))


def test_pictures_go_through_the_transforms_of_evaluation(runs):
    loaded, folder = builder.load(runs["pics"]), str(runs.folder / "pics")
    batch = apply(state_of(runs["pics"]), folder)
    assert state_of(runs["pics"])["transforms"] and torch.equal(loaded.batch(folder)["x"], batch["x"])
    with torch.no_grad():
        theirs = by_hand(runs["pics"])(batch["x"]).argmax(1)
    assert [loaded.classes.index(row["prediction"]) for row in loaded.predict(folder)] == theirs.tolist()


def test_sentences_get_a_tag_for_each_token(runs):
    loaded = builder.load(runs["tags"])
    found = loaded.predict(["Anna sees Paris", ["Anna"]])
    assert [len(row["tags"]) for row in found] == [3, 1]
    assert {tag for row in found for tag in row["tags"]} <= set(state_of(runs["tags"])["tags"])
    alone = loaded.predict([["Anna"]])
    assert alone[0]["tags"] == found[1]["tags"]  # whatever else is asked about with it


def test_text_is_gone_on_with_as_the_model_says(runs):
    loaded, model = builder.load(runs["topics"]), by_hand(runs["topics"])
    characters = loaded.facts["characters"]
    known = [characters.index(char) for char in "import "]
    for _ in range(64):
        with torch.no_grad():
            known.append(int(model(torch.tensor([known[-16:]]))[0, -1].argmax()))
    assert loaded.predict("import ")[0]["prediction"] == "".join(characters[index] for index in known[7:])


def test_data_that_left_no_state_is_taken_as_tensors(runs):
    loaded, x = builder.load(runs["made"]), torch.randn(5, 16)
    with torch.no_grad():
        theirs = by_hand(runs["made"])(x).argmax(1).tolist()
    assert [int(row["prediction"]) for row in loaded.predict(x)] == theirs


def test_inputs_that_the_task_makes_are_given_themselves(runs):
    loaded = builder.load(runs["siamese"])
    pair = {"first": torch.rand(3, 1, 8, 8), "second": torch.rand(3, 1, 8, 8)}
    found = [row["prediction"] for row in loaded.predict(pair)]
    with torch.no_grad():
        theirs = by_hand(runs["siamese"])(*pair.values()).sigmoid()
    np.testing.assert_allclose(found, theirs.numpy(), rtol=1e-5)
    with pytest.raises(UsageError, match="the input has no 'first', 'second'; it has x"):
        loaded.predict({"x": torch.rand(3, 8, 8)})


def test_what_is_bad_is_refused_in_python(runs):
    loaded = builder.load(runs["fruit"])
    with pytest.raises(RunError, match="sample 2 can't be used: the column 'red' holds 'much', which is no number"):
        loaded.predict([{"weight": 1, "red": 1, "shape": "long"}, {"weight": 1, "red": "much", "shape": "long"}])
    with pytest.raises(UsageError, match="a sample is a int"):
        loaded.predict([1, 2])


def test_it_is_called_like_the_model_and_shows_what_it_is(runs):
    loaded = builder.load(runs["digits"])
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x), by_hand(runs["digits"])(x)) and not loaded(x).requires_grad
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    assert repr(loaded) == f"<Mlp with {count:,} parameters, {runs['digits'] / 'checkpoints/best.ckpt'}>"
    assert isinstance(loaded.model, torch.nn.Module)


def test_loading_and_predicting_import_no_lightning(runs):
    code = (f"import sys, builder; builder.load({str(runs['fruit'])!r}).predict({str(runs.folder / 'fruit.csv')!r})\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('pytorch_lightning', 'torchmetrics', 'matplotlib')])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == ("[]\n", "")
