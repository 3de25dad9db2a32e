"""`builder evaluate`: the numbers of the end of training, bit for bit, and what they come to."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

import builder
from builder.data.apply import apply
from builder.runs.status import status
from builder.use import evaluation
from command_line import run

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(evaluation, "TOKENS", 20)


@pytest.fixture
def evaluate(runs):
    return lambda name, *words: run(runs.folder, "evaluate", str(runs[name]), *words)


def left(ran):
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_the_test_gives_the_bits_of_the_end_of_training(runs, evaluate):
    for name in ("digits", "fruit", "houses", "pics", "topics", "rebuilt", "tags", "averaged", "made", "siamese"):
        metrics, ended = left(evaluate(name, "--json"))["metrics"], status(runs[name]).metrics
        assert metrics == {key: value for key, value in ended.items() if key.startswith("test/")} and metrics, name


def test_a_validation_gives_the_bits_of_its_epoch(runs, evaluate):
    ended = status(runs["fruit"]).metrics
    metrics = left(evaluate("fruit", "--json", "--split", "val", "--checkpoint", "last"))["metrics"]
    assert metrics == {key: value for key, value in ended.items() if key.startswith("val/")}


def test_bits_are_the_same_in_lower_precision(runs, evaluate):
    for precision in ("bf16-mixed", "bf16-true", "64-true"):
        ran = run(
            runs.folder,
            "train",
            "-q",
            "model=mlp",
            "model.args.hidden=8",
            "trainer=cpu",
            "trainer.max_epochs=1",
            f"trainer.precision={precision}",
            "name=precise",
        )
        assert ran.code == 0, ran.err
        found = left(run(runs.folder, "evaluate", str(ran.run), "--json"))["metrics"]
        assert found == {key: value for key, value in status(ran.run).metrics.items() if key.startswith("test/")}, (
            precision
        )


def test_classes_are_scored_as_scikit_learn_does(runs, evaluate):
    found = left(evaluate("fruit", "--json", "--data", "fruit.csv"))
    loaded, path = builder.load(runs["fruit"]), str(runs.folder / "fruit.csv")
    rows = loaded.predict(path, proba=True)
    truth = apply(loaded.run.state, path)["target"].numpy()
    shares = np.array([[row[f"p_{name}"] for name in loaded.classes] for row in rows])
    said = shares.argmax(1)
    precision, recall, f1, samples = sk.precision_recall_fscore_support(truth, said, zero_division=np.nan)
    for index, score in enumerate(found["classes"]):
        assert score["name"] == loaded.classes[index] and score["samples"] == samples[index]
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert score[name] == pytest.approx(value[index]) or (score[name] is None and np.isnan(value[index]))
        assert score["auroc"] == pytest.approx(sk.roc_auc_score(truth == index, shares[:, index]))
    assert found["confusion"] == sk.confusion_matrix(truth, said).tolist()
    assert found["metrics"]["test/accuracy"] == pytest.approx(sk.accuracy_score(truth, said))
    bins, error = np.minimum((shares.max(1) * 15).astype(int), 14), 0.0
    for place in range(15):
        if (bins == place).any():
            error += (bins == place).mean() * abs(
                shares.max(1)[bins == place].mean() - (said == truth)[bins == place].mean()
            )
    assert found["calibration_error"] == pytest.approx(error)


def test_errors_of_a_number_are_in_its_own_unit(runs, evaluate):
    found = left(evaluate("houses", "--json", "--data", "houses.csv"))
    loaded, path = builder.load(runs["houses"]), runs.folder / "houses.csv"
    prices = np.loadtxt(path, delimiter=",", skiprows=1, usecols=3)
    rest = prices - np.array([row["prediction"] for row in loaded.predict(str(path))])
    assert found["errors"]["mae"] == pytest.approx(np.abs(rest).mean(), rel=1e-4)
    assert found["errors"]["rmse"] == pytest.approx(np.sqrt((rest**2).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("fruit", {"confusion.png", "roc.png", "precision_recall.png", "calibration.png"}), ("houses", {"residuals.png"}),
        ("rebuilt", {"reconstructions.png"}), ("topics", {"samples.txt"}), ("tags", {"confusion.png", "roc.png", "precision_recall.png", "calibration.png"}),
    ],
)  # fmt: skip
def test_pictures_and_texts_lie_in_the_run(runs, evaluate, name, files):
    ran = evaluate(name, "--json", "-o", f"evaluated_{name}")
    folder = runs.folder / f"evaluated_{name}"
    assert {path.name for path in folder.iterdir()} == {"evaluation.json", *files}
    assert json.loads((folder / "evaluation.json").read_text()) == left(ran)
    assert all(path.read_bytes().startswith(PNG) for path in folder.glob("*.png"))


def test_the_table_says_it_for_people_and_sampled_text_follows_the_seed(runs, evaluate):
    ran = evaluate("fruit")
    assert ran.code == 0 and "test/accuracy" in ran.out and "precision" in ran.out and "cherry" in ran.out
    assert ran.out.splitlines()[-1].startswith(f"{runs['fruit']}/evaluations/test-best: evaluation.json, confusion.png")
    texts = []
    for seed in ("1", "1", "2"):
        assert evaluate("topics", "-o", "texts", "--seed", seed).code == 0
        texts.append((runs.folder / "texts/samples.txt").read_text())
    assert texts[0] == texts[1] != texts[2] and texts[0].count("--- seed") == 4


def test_pictures_of_classes_are_labelled_by_their_folders(runs, evaluate):
    found = left(evaluate("pics", "--json", "--data", "pics"))
    assert found["samples"] == 24 and [score["samples"] for score in found["classes"]] == [12, 12]
    (runs.folder / "odd/drak").mkdir(parents=True)
    ran = evaluate("pics", "--data", "odd")
    assert (
        ran.code == 2 and "the folder 'drak' of odd is no class; there are dark, light; did you mean 'dark'?" in ran.err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--split", "vla"), "no split 'vla'; there are train, val, test; did you mean val?"),
        (("--data", "nothing.csv"), "there is no file nothing.csv"),
        (("--data", "houses.csv"), "houses.csv: there is no column 'weight'"),
        (("--data", "houses.csv", "--split", "val"), "--data takes one file, and then neither --split nor changes"),
        (("--data", "seed=7"), "change what the model's inputs are made by"),
        (("--data", "model.args.hidden=8"), "isn't of the data"),
        (("--data", "batch_sise=8"), "has no argument 'batch_sise'"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(evaluate, words, said):
    ran = evaluate("fruit", *words)
    assert ran.code == 2 and said in ran.err, ran.err


def test_a_file_without_targets_and_changed_data_are_told(runs, evaluate):
    lines = (runs.folder / "fruit.csv").read_text().splitlines()
    (runs.folder / "bare.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    ran = evaluate("fruit", "--data", "bare.csv")
    assert ran.code == 2 and "bare.csv has no 'fruit', which the model is to be compared with" in ran.err
    assert "aren't those that the run had" in evaluate("made", "--data", "noise=2.0").err
    assert evaluate("fruit", "--data", "eval_batch_size=3").err == ""


def test_nothing_is_left_behind_in_the_process(runs, evaluate):
    before = torch.get_rng_state()
    settings = torch.are_deterministic_algorithms_enabled()
    assert evaluate("digits").code == 0
    assert torch.equal(before, torch.get_rng_state()) and torch.are_deterministic_algorithms_enabled() == settings
