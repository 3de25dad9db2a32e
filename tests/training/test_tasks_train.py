"""Every shipped task trains a shipped model on real data: briefly, and well enough to see that it learns."""

import io
import math
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from training_helpers import shipped

import builder
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.data.load import load
from builder.data.module import DataModule
from builder.training.fit import fit
from builder.training.made import shapes_of
from builder.training.task import read_task


def digits(tmp_path):
    return shipped("data", "digits")


def labelled_digits(tmp_path):
    """Digits with three labels each: even, above 4, with a loop."""
    found = load_digits()
    labels = [found.target % 2 == 0, found.target > 4, np.isin(found.target, [0, 6, 8, 9])]
    np.savez(
        tmp_path / "digits.npz", x=(found.images / 16).astype("float32"), target=np.stack(labels, 1).astype("float32")
    )
    return shipped("data", "arrays") | {"path": str(tmp_path / "digits.npz")}


def python_tokens(tmp_path):
    """The kinds of the tokens in a module of Python's own, a line of code a sentence."""
    text = Path(tokenize.__file__).read_text()
    lines, sentence = [], []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER):
            lines += [*sentence, ""] if sentence else []
            sentence = []
        elif token.string.strip() and " " not in token.string and "\n" not in token.string:
            sentence.append(f"{token.string}\t{tokenize.tok_name[token.type]}")
    (tmp_path / "tokens.txt").write_text("\n".join(lines))
    return shipped("data", "sequences") | {"path": str(tmp_path / "tokens.txt"), "length": 24}


def topics(tmp_path):
    return shipped("data", "topics") | {"length": 32, "stride": 512}


VALUE = {"tensors": {"value": "x.mean(dim=[1, 2, 3])"}}
CASES = {
    "classification": (digits, "mlp", {}, {}, 4),
    "classification_balanced": (digits, "mlp", {}, {}, 4),
    "multilabel": (labelled_digits, "mlp", {}, {}, 5),
    "regression": (lambda tmp_path: shipped("data", "diabetes"), "mlp", {}, {}, 8),
    "reconstruction": (digits, "autoencoder", {}, {}, 3),
    "vae": (digits, "vae", {}, {}, 5),
    "language_model": (topics, "gpt", {"width": 32, "depth": 1}, {}, 2),
    "tagging": (python_tokens, "lstm_tagger", {"width": 16, "hidden": 24, "depth": 1}, {}, 5),
    "multitask": (digits, "multitask", {}, VALUE, 3),
    "contrastive": (digits, "siamese", {"channels": 8, "code": 16}, {}, 3),
}
LEARNT = {
    "classification": ("test/accuracy", 0.8),
    "classification_balanced": ("test/balanced", 0.8),
    "multilabel": ("test/f1", 0.9),
    "regression": ("test/r2", 0.2),
    "reconstruction": ("test/mae", -0.2),
    "vae": ("test/mae", -0.25),
    "language_model": ("test/perplexity", -60.0),
    "tagging": ("test/accuracy", 0.8),
    "multitask": ("test/accuracy", 0.8),
    "contrastive": ("test/auroc", 0.6),
}
"""A value of the test split and what it reaches; a negative one is a bound from above."""


def prepared(name, tmp_path):
    """The shipped task of that name with its data and model: what a run of it would be made of."""
    make_data, model, args, changes, epochs = CASES[name]
    section = shipped("task", name) | changes
    data = load(make_data(tmp_path), 0, Origins())
    torch.manual_seed(0)
    made = shapes_of(section.get("tensors"), data.facts.tensors, 2, Origins())
    shapes = {key: (2, *fact.shape) for key, fact in data.facts.tensors.items()} | {k: v[0] for k, v in made.items()}
    definition = shipped("model", model)
    declared = list(definition["inputs"])
    examples = {key: shapes[key] for key in declared}
    network = builder.build(
        shipped_configs() / "model" / f"{model}.yaml", data=data.facts.values, inputs=examples, **args
    )
    return data, section, network, dict.fromkeys(declared, True), epochs


def test_every_shipped_task_has_a_case():
    assert sorted(CASES) == sorted(path.stem for path in (shipped_configs() / "task").glob("*.yaml"))


@pytest.mark.parametrize("name", CASES)
def test_every_shipped_task_trains_and_learns(name, tmp_path):
    data, section, network, inputs, epochs = prepared(name, tmp_path)
    task = read_task(section, data.facts, inputs, Origins())
    result = fit(
        network, task, DataModule(data),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3), origins=Origins(), run_dir=tmp_path,
        config={"trainer": {"max_epochs": epochs, "accelerator": "cpu", "log_every_n_steps": 0}}, seed=0, quiet=True,
    )  # fmt: skip
    assert result.state == "finished"
    assert set(task.metric_names()) <= set(result.metrics)
    assert all(math.isfinite(value) for value in result.metrics.values())
    metric, bound = LEARNT[name]
    assert result.metrics[metric] > bound if bound > 0 else result.metrics[metric] < -bound, result.metrics
    terms = [value for key, value in result.metrics.items() if key.startswith("val/loss_")]
    assert len(terms) == len(task.loss.terms) != 1


def test_the_terms_of_a_loss_add_up_with_their_weights(tmp_path):
    data, section, network, inputs, _ = prepared("multitask", tmp_path)
    task = read_task(section, data.facts, inputs, Origins())
    batch = dict(next(iter(data.loader("val"))))
    values = task.names(batch, network(*task.arguments(batch)))
    total = task.loss.function(values)
    torch.testing.assert_close(total.detach(), values.terms["classes"] + 0.3 * values.terms["value"])
    torch.testing.assert_close(
        values.terms["value"], torch.nn.functional.mse_loss(values["output"]["value"], batch["x"].mean(dim=[1, 2, 3]))
    )


def test_padding_has_no_part_in_the_loss_or_the_metrics_of_tagging(tmp_path):
    data, section, _, inputs, _ = prepared("tagging", tmp_path)
    task = read_task(section, data.facts, inputs, Origins())
    batch = dict(next(iter(data.loader("val"))))
    torch.manual_seed(0)
    output = torch.randn(*batch["target"].shape, data.facts.values["num_classes"])
    other = torch.where(batch["mask"][..., None], output, torch.randn_like(output))
    assert not torch.equal(output, other)
    first, second = ({**task.names(batch, given)} for given in (output, other))
    assert torch.equal(task.loss.function(first), task.loss.function(second))
    metric = task.metrics["accuracy"]
    values = [metric.make()(*(term(given) for term in metric.of)) for given in (first, second)]
    real = batch["mask"]
    assert values[0] == values[1] == (output.argmax(-1) == batch["target"])[real].float().mean()


def test_pairs_of_the_contrastive_task_are_alike_and_unlike_by_turns(tmp_path):
    data, section, _, inputs, _ = prepared("contrastive", tmp_path)
    task = read_task(section, data.facts, inputs, Origins())
    batch = dict(next(iter(data.loader("train"))))
    size, pictures = len(batch["target"]), batch["x"]
    first, second = task.arguments(batch)
    assert first.shape == second.shape == pictures.shape
    of = {tuple(picture.flatten().tolist()): label for picture, label in zip(pictures, batch["target"], strict=True)}
    same = [
        of[tuple(a.flatten().tolist())] == of[tuple(b.flatten().tolist())] for a, b in zip(first, second, strict=True)
    ]
    assert batch["same"].tolist() == same
    assert 0.3 * size < sum(same) < 0.6 * size


def test_what_is_drawn_for_a_batch_is_drawn_once(tmp_path):
    data = load(digits(tmp_path), 0, Origins())
    section = shipped("task", "reconstruction") | {
        "tensors": {"noisy": "x + 0.1 * randn_like(x)"}, "inputs": {"x": "noisy"}
    }  # fmt: skip
    task = read_task(section, data.facts, {"x": True}, Origins())
    batch = dict(next(iter(data.loader("train"))))
    (noisy,) = task.arguments(batch)
    assert task.names(batch, noisy)["noisy"] is noisy
    assert not torch.equal(noisy, batch["x"])


def test_class_weights_come_from_the_train_split(tmp_path):
    data = load(shipped("data", "wine"), 0, Origins())
    task = read_task(shipped("task", "classification_balanced"), data.facts, {"x": True}, Origins())
    counts = torch.bincount(data.splits["train"]["target"])
    torch.testing.assert_close(task.loss.module.weight, len(data.splits["train"]["target"]) / (3 * counts).float())
