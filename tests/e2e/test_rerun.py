"""`builder rerun`: the same bits come out, and where they don't, it says so."""

import json

import pytest
import torch

from builder.weights.digest import tensors_sha256
from command_line import run

WORDS = (
    "model=mlp",
    "model.args.hidden=8",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "callbacks=[default,timing]",
    "report=false",
)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    ran = run(tmp_path_factory.mktemp("rerun"), "train", *WORDS)
    assert ran.code == 0, ran.err
    return ran


def test_the_manifest_holds_the_hash_of_the_tested_weights(first):
    saved = torch.load(first.run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    weights = {name.removeprefix("model."): tensor for name, tensor in saved.items()}
    manifest = json.loads((first.run / "manifest.json").read_text())
    assert manifest["weights"]["tested"]["sha256"] == tensors_sha256(weights)


def test_a_rerun_is_identical(first):
    ran = run(first.folder, "rerun", first.run.name, "--quiet")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.startswith(
        "nothing differs from then: code, versions, machine, data\nidentical, bit for bit: 6 final metrics, "
    )
    for said in (
        "curves",
        "the model (model.yaml)",
        "the weights that were tested",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert said in ran.out, said
    assert ran.run != first.run
    assert "class Mlp" in (ran.run / "model.py").read_text()


def test_what_differs_is_said_before_and_what_came_out_differently_after(first, tmp_path):
    config = first.run / "config.yaml"
    written = config.read_text()
    try:
        config.write_text(written.replace("lr: 0.001", "lr: 0.0011"))
        checked = run(first.folder, "rerun", first.run.name, "--check", "--json")
        ran = run(first.folder, "rerun", first.run.name, "--json")
    finally:
        config.write_text(written)
    assert checked.code == 1
    found = json.loads(checked.out)
    assert ([change["what"] for change in found["changes"]], found["again"]) == (["config.yaml"], None)
    result = json.loads(ran.out)
    assert (ran.code, result["identical"]) == (1, False)
    assert any(line.startswith("curve lr: from step 9 on, 0.001 then, 0.0011 now") for line in result["different"])
    assert any(
        line.startswith("checkpoints/best.ckpt: 6 of 6 tensors differ, by at most ") for line in result["different"]
    )
    assert "the weights that were tested" in result["different"]
    assert "the model (model.yaml)" in result["same"]


def test_a_check_trains_nothing(first):
    before = sorted(first.run.parent.iterdir())
    ran = run(first.folder, "rerun", first.run.name, "--check")
    assert (ran.code, ran.out) == (0, "nothing differs from then: code, versions, machine, data\n"), ran.err
    assert sorted(first.run.parent.iterdir()) == before


def test_a_run_without_an_end_is_refused(first, tmp_path):
    status = first.run / "status.json"
    written = status.read_text()
    try:
        status.write_text(json.dumps({**json.loads(written), "state": "failed", "reason": "it broke"}))
        ran = run(first.folder, "rerun", first.run.name)
    finally:
        status.write_text(written)
    assert ran.code == 2
    assert "is failed (it broke): it has no end to compare with" in ran.err


def test_the_hash_of_tensors_is_of_names_types_shapes_and_bits():
    tensors = {"a": torch.tensor([1.0, -0.0]), "b": torch.tensor(3, dtype=torch.bfloat16)}
    digest = tensors_sha256(tensors)
    assert digest == tensors_sha256(dict(reversed(tensors.items())))
    others = [{**tensors, "a": torch.tensor([1.0, 0.0])}, {**tensors, "a": tensors["a"].reshape(2, 1)}, {"a": tensors["a"]},
              {**tensors, "b": torch.tensor(3, dtype=torch.float16)}, {"c": tensors["a"], "b": tensors["b"]}]  # fmt: skip
    assert digest not in map(tensors_sha256, others)
