"""Initialising, loading, freezing and grouping, from the command line to the run folder."""

import csv
import hashlib
import json

import pytest
import torch

import builder
from builder.seeding import reseed
from command_line import run

MODEL = """\
inputs: {x: [B, 64]}
layers:
  flat: Flatten
  trunk: {type: Sequential, layers: [{type: Linear, out_features: 16}, BatchNorm1d, ReLU]}
  head: {type: Linear, out_features: =data.num_classes}
"""
OVERRIDES = ("model=net", "trainer=cpu", "trainer.max_epochs=2")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "net.yaml").write_text(MODEL.replace("x: [B, 64]", "x: [B, 1, 8, 8]"))
    return tmp_path


def reports(ran):
    assert ran.code == 0, ran.err
    return {path.stem: json.loads(path.read_text()) for path in (ran.run / "reports").glob("*.json")}


def saved(ran, name="last"):
    return torch.load(ran.run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_initial_weights_follow_init_seed_and_the_rest_follows_seed(folder):
    def begin(*words):
        return reports(run(folder, "train", *OVERRIDES, "trainer.max_epochs=1", "--quiet", *words))["init"]

    first, other_order = begin("init_seed=1", "seed=0"), begin("init_seed=1", "seed=5")
    other_weights, by_seed = begin("init_seed=2", "seed=0"), begin("seed=1")
    assert first == other_order == by_seed
    assert first != other_weights


def test_a_run_keeps_a_report_of_all_that_was_done_to_its_weights(folder):
    torch.save(
        {"model": {"trunk.0.weight": torch.full((16, 64), 0.5), "trunk.0.bias": torch.zeros(16)}}, folder / "w.pt"
    )
    ran = run(
        folder, "train", *OVERRIDES, "init=[{select: head, weight: {type: normal_, std: 0.5}}]",
        "load={path: w.pt, missing: {allow: ['trunk.1', head]}}",
        "freeze={select: 'trunk.0', until: {epoch: 1}}",
        "optimizer.groups=[{name: head, select: head, lr: 0.01}]", "optimizer.no_decay={ndim: 1}",
    )  # fmt: skip
    found = reports(ran)
    assert set(found) == {"init", "load", "freeze", "groups", "model"}
    rows = {row["parameter"]: row for row in found["init"]["parameters"]}
    assert rows["head.weight"]["std"] == pytest.approx(0.5, rel=0.2)
    assert rows["head.weight"]["origin"] is not None and rows["head.bias"]["rule"] is None
    assert [group["name"] for group in found["groups"]["groups"]] == [
        "head",
        "head/no_decay",
        "default",
        "default/no_decay",
    ]
    assert [phase["trainable"] for phase in found["freeze"]["phases"]] == [202, 1242]
    assert "2 of 2 tensors loaded" in ran.err and "head/no_decay" in ran.err

    with (ran.run / "metrics.csv").open() as file:
        rates = {key for row in csv.DictReader(file) for key, value in row.items() if key.startswith("lr/") and value}
    assert rates == {"lr/head", "lr/head/no_decay", "lr/default", "lr/default/no_decay"}
    groups = saved(ran)["optimizer_states"][0]["param_groups"]
    assert groups[2]["param_names"] == ["trunk.0.weight"] and groups[2]["weight_decay"] == 0.01


def test_frozen_weights_are_those_that_were_loaded(folder):
    weights = {"trunk.0.weight": torch.randn(16, 64), "trunk.0.bias": torch.randn(16)}
    torch.save(weights, folder / "w.pt")
    ran = run(
        folder, "train", *OVERRIDES, "load={path: w.pt, missing: {allow: ['trunk.1', head]}}", "freeze='trunk'", "-q"
    )
    state = saved(ran)["state_dict"]
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in weights.items())
    assert state["model.trunk.1.num_batches_tracked"] == 0
    assert [name for group in saved(ran)["optimizer_states"][0]["param_groups"] for name in group["param_names"]] == [
        "head.weight", "head.bias"
    ]  # fmt: skip


def test_weights_go_from_run_to_run(folder):
    first = run(folder, "train", *OVERRIDES, "name=first", "-q")
    assert first.code == 0, first.err
    second = run(
        folder, "train", *OVERRIDES, "name=second", "load.path=run:first/latest@last", "trainer.max_epochs=1",
        "optimizer.lr=0.0", "-q",
    )  # fmt: skip
    assert second.code == 0, second.err
    ours, theirs = (saved(ran)["state_dict"] for ran in (first, second))
    assert torch.equal(ours["model.head.weight"], theirs["model.head.weight"])


def test_a_run_s_config_names_the_run_that_it_began_with(folder):
    first = run(folder, "train", *OVERRIDES, "name=first", "trainer.max_epochs=1", "-q")
    words = ("name=second", "load.path=run:first/latest@last", "trainer.max_epochs=1", "-q")
    second = run(folder, "train", *OVERRIDES, *words)
    assert second.code == 0, second.err
    another = run(folder, "train", *OVERRIDES, "name=first", "seed=9", "trainer.max_epochs=1", "-q")
    assert first.run != another.run
    again = run(folder, "train", "-cd", str(second.run), "-cn", "config", "-q")
    assert again.code == 0, again.err
    ours, theirs = (saved(ran)["state_dict"] for ran in (second, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    (source,) = reports(again)["load"]["sources"]
    (file,) = source["files"]
    checkpoint = first.run / "checkpoints/last.ckpt"
    assert file["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_check_shows_what_would_be_done_and_does_nothing(folder):
    torch.save({"net.head.weight": torch.zeros(10, 16), "net.head.bias": torch.zeros(10)}, folder / "w.pt")
    ran = run(
        folder, "check", *OVERRIDES, "load={path: w.pt, rules: [{strip: net.}], missing: {allow: [trunk]}}",
        "freeze={select: trunk, until: {epoch: 1}}", "optimizer.layer_decay=0.5", "init=kaiming",
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert "w.pt: 2 of 2 tensors loaded" in ran.out
    assert "strip net.  2 keys" in ran.out
    assert "epoch 1" in ran.out and "kaiming_normal_" in ran.out
    assert not (folder / "outputs").exists()
    told = json.loads(run(folder, "check", *OVERRIDES, "freeze={select: trunk, until: {epoch: 1}}", "--json").out)
    assert [phase["trainable"] for phase in told["reports"]["freeze"]["phases"]] == [170, 1242]


def test_what_says_nothing_is_noted(folder):
    ran = run(folder, "check", *OVERRIDES, "freeze={select: trunk, until: {epoch: 9}}")
    assert ran.code == 0
    assert ran.err == (
        "note: override 'freeze={select: trunk, until: {epoch: 9}}': freeze.until: epoch 9 never comes, so trunk stays frozen: "
        "there are 2 epochs, which count from 0\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["freeze=trnk"], "override 'freeze=trnk': freeze: no module or parameter has such a name"),
        (["load.path=none.pt"], "load.path"),
        (["load=3"], "override 'load=3': load: wrong value"),
        (["optimizer.groups=[{select: trunk, lrr: 1}]"], "lrr"),
        (["init=[{select: hed, weight: zeros_}]"], "no module or parameter has such a name"),
        (["init=kaming"], "kaiming"),
        (["init_seed=-1"], "init_seed"),
        (["freeze='**'"], "nothing is left to train"),
    ],
)
def test_what_is_wrong_is_told_before_training(folder, words, said):
    ran = run(folder, "train", *OVERRIDES, *words)
    assert ran.code == 2 and said in ran.err
    assert "Traceback" not in ran.err and not (folder / "outputs").exists()


def test_a_rule_from_the_environment_stays_a_reference(folder):
    words = ("init=[{select: '${oc.env:PART}', weight: zeros_}]", "trainer.max_epochs=1", "-q")
    ran = run(folder, "train", *OVERRIDES, *words, env={"PART": "head"})
    assert ran.code == 0, ran.err
    assert (saved(ran)["state_dict"]["model.head.weight"] != 0).any()
    assert "select: ${oc.env:PART}" in (ran.run / "model.yaml").read_text()
    assert "select: ${oc.env:PART}" in (ran.run / "config.yaml").read_text()
    assert not (ran.run / "model.py").exists()


def test_a_run_s_model_begins_again_as_the_run_began(folder):
    words = (
        "init=[{select: head, weight: {type: normal_, std: 0.5}}]",
        "optimizer.lr=0.0",
        "optimizer.weight_decay=0.0",
    )
    ran = run(folder, "train", *OVERRIDES, *words, "trainer.max_epochs=1", "-q")
    assert ran.code == 0, ran.err
    reseed(0, "init")
    again = builder.build(ran.run / "model.yaml")
    reseed(0, "init")
    names: dict = {}
    exec((ran.run / "model.py").read_text(), names)
    printed = names["Net"]()
    trained = saved(ran)["state_dict"]
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, trained[f"model.{name}"]), name
        assert torch.equal(parameter, printed.get_parameter(name)), name
