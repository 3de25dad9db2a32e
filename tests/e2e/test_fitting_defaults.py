"""A data set alone is trained by what suits it: one command for files of one's own."""

import json

import numpy as np
import pytest
import torch
import yaml

from builder.data.apply import apply
from builder.data.facts import SPLITS
from builder.runs.status import status
from command_line import run
from made_files import sections

SHORT = ("trainer=cpu", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sections(tmp_path_factory.mktemp("files"))


def words(section):
    return [f"data.{key}={value}" for key, value in section.items()]


SUITS = {
    "table": ("table", "classification"),
    "images": ("cnn", "classification"),
    "arrays": ("mlp", "classification"),
    "text": ("gpt", "language_model"),
    "sequences": ("lstm_tagger", "tagging"),
}


@pytest.mark.parametrize("data", SUITS)
def test_files_of_ones_own_are_trained_with_nothing_else_said(data, files, tmp_path):
    small = ["model.args.width=16", "model.args.depth=1"] if data in ("text", "sequences") else []
    ran = run(tmp_path, "train", f"data={data}", *words(files[data]), *SHORT, *small)
    assert ran.code == 0, ran.err
    model, task = SUITS[data]
    saved = yaml.safe_load((ran.run / "config.yaml").read_text())
    shipped = run(tmp_path, "show", "config", "--json", f"task={task}", f"model={model}")
    assert saved["name"] == f"{data}_{model}" and saved["task"] == json.loads(shipped.out)["task"]
    assert ("taken, since it suits the data" in ran.err) == (data in ("table", "arrays"))


def test_a_number_is_learnt_where_the_column_holds_numbers(tmp_path):
    generator = np.random.default_rng(0)
    age, size = generator.uniform(0, 80, 300), generator.choice(["small", "large"], 300)
    price = 3 * age + 100 * (size == "large") + generator.normal(0, 5, 300)
    lines = [f"{a:.1f},{s},{p:.2f}" for a, s, p in zip(age, size, price, strict=True)]
    (tmp_path / "my.csv").write_text("\n".join(["age,size,price", *lines]))
    asked = ("data=table", "data.path=my.csv", "data.target=price")
    ran = run(tmp_path, "train", *asked, "model.args.hidden=32", "task.metrics.mae.num_outputs=1", "trainer=cpu")
    assert ran.code == 0, ran.err
    assert "note: taken, since it suits the data: model=table task=regression" in ran.err
    assert status(ran.run).metrics["test/r2"] > 0.9
    config = yaml.safe_load((ran.run / "config.yaml").read_text())
    assert config["model"]["args"]["hidden"] == 32 and config["task"]["metrics"]["mae"]["num_outputs"] == 1
    again = run(tmp_path, "train", "-q", "-cd", str(ran.run), "-cn", "config")
    assert status(again.run).metrics == status(ran.run).metrics
    found = json.loads((ran.run / "data.json").read_text())["state"]
    batch = apply(found, str(tmp_path / "my.csv"))
    assert batch["x"].shape == (300, 1) and batch["categories"].dtype == torch.int64
    assert len(batch["x"]) == sum(json.loads((ran.run / "data.json").read_text())["facts"][f"num_{s}"] for s in SPLITS)


@pytest.mark.parametrize(
    ("name", "suits"),
    [("wine", "model=mlp task=classification"), ("diabetes", "model=mlp task=regression")],
)
def test_another_data_set_under_the_name_of_one_gets_what_suits_it(name, suits, tmp_path):
    ran = run(tmp_path, "train", "data=digits", f"data.name={name}", *SHORT, "report=false")
    assert ran.code == 0 and f"note: taken, since it suits the data: {suits}" in ran.err, ran.err
    assert json.loads((ran.run / "data.json").read_text())["facts"]["num_features"] in (13, 10)


def test_an_explicit_choice_wins(tmp_path, files):
    ran = run(tmp_path, "check", "data=arrays", *words(files["arrays"]), "model=autoencoder", "task=reconstruction")
    assert ran.code == 0 and "suits the data" not in ran.err and ran.out.startswith("arrays_autoencoder: fine.")


def test_show_config_shows_what_suits(tmp_path, files):
    ran = run(tmp_path, "show", "config", "--json", "data=table", *words(files["table"]))
    config = json.loads(ran.out)
    assert ran.code == 0 and config["name"] == "table_table" and config["task"]["monitor"] == "val/accuracy"


def test_faults_are_told_of_the_data_first_and_of_what_suits_it_then(tmp_path, files):
    asked = ("check", "data=table", *words(files["table"]), "model.args.hiden=3")
    assert "model.args.hiden: unknown key\n  did you mean 'hidden'?" in run(tmp_path, *asked).err
    missing = run(tmp_path, "check", "data=table", "data.path=none.csv", "data.target=y", "model.args.hiden=3")
    assert missing.code == 2 and "none.csv" in missing.err


def test_where_nothing_is_known_to_suit_a_choice_is_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(120).reshape(40, 3), target=np.arange(40) % 2)
    ran = run(tmp_path, "check", "data=arrays", "data.path=a.npz")
    assert ran.code == 2 and "which model suits this data: a sample has x [3] int64, target [] int64" in ran.err
    assert "data.dtypes='{x: float32}'" in ran.err
    ran = run(tmp_path, "check", "data=arrays", "data.path=a.npz", "data.dtypes={x: float32}")
    assert ran.code == 0 and ran.out.startswith("arrays_mlp: fine.")
