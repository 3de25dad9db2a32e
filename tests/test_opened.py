"""A run that is opened again gives the model that was trained: bits, ties, buffers, dtypes; and nothing in it is run."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

import builder
from builder.config.saved import dump_yaml
from builder.errors import RunError, UsageError
from builder.opened import definition_of, model_of, reopen
from builder.weights.assign import unset
from builder.weights.entries import WeightsError
from command_line import ROOT, SMALL, run

ODD = {
    "args": {"width": 8},
    "inputs": {"x": ["B", 1, 8, 8]},
    "buffers": {
        "steps": {"value": "arange(width) * 0.5", "persistent": False},
        "filled": {"value": "zeros(3).fill_(2.0)", "persistent": False},
        "seen": {"shape": [], "dtype": "int64"},
    },
    "parameters": {"scale": {"shape": ["=width"], "init": "ones_", "dtype": "float64"}},
    "layers": {
        "rnn": {"type": "LSTM", "hidden_size": "=width", "batch_first": True},
        "norm": {"type": "BatchNorm1d"},
        "one": {"type": "Linear", "out_features": "=width", "bias": False},
        "two": {"type": "Linear", "out_features": "=width", "bias": False},
        "out": {"type": "Linear", "out_features": 10},
    },
    "tie": {"two.weight": "one.weight"},
    "forward": "seen = seen + 1 if training else seen\nh, _ = rnn(x.flatten(1)[:, None])\nh = norm(h[:, 0])\n"
    "return out(two(one(h)) * scale.float() + steps + filled.sum())\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opened")
    (folder / "configs/model").mkdir(parents=True)
    (folder / "configs/model/odd.yaml").write_text(dump_yaml(ODD))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    ran = run(folder, "train", "-q", "model=odd", "trainer=cpu", "trainer.max_epochs=1")
    assert ran.code == 0, ran.err
    return ran.run


def by_hand(path, checkpoint="best"):
    """The model as plain PyTorch loads it."""
    model = builder.build(path / "model.yaml")
    saved = torch.load(path / f"checkpoints/{checkpoint}.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): value for name, value in saved.items()})
    return model.eval()


def test_it_is_the_model_as_plain_pytorch_loads_it(trained):
    ours, theirs = model_of(reopen(trained)), by_hand(trained)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x)) and not ours.training
    for mine, hand in (
        (ours.state_dict(), theirs.state_dict()),
        (dict(ours.named_buffers()), dict(theirs.named_buffers())),
    ):
        assert list(mine) == list(hand)
        for name, tensor in hand.items():
            assert torch.equal(mine[name], tensor) and mine[name].dtype == tensor.dtype, name
    assert type(ours) is type(theirs) and type(ours).__name__ == "Odd"
    assert ours.two.weight is ours.one.weight and ours.scale.dtype == torch.float64 and not unset(ours)


def test_it_can_be_trained_copied_and_pickled(trained):
    model = model_of(reopen(trained)).train()
    copied, again = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    x = torch.rand(4, 1, 8, 8)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(model.out.weight, copied.out.weight) and torch.equal(again.out.weight, copied.out.weight)
    assert torch.equal(model_of(reopen(trained)).out.weight, copied.out.weight)  # the file is as it was


def test_layers_of_ones_own_and_drawn_buffers_are_made_as_training_made_them(folder):
    (folder / "own.py").write_text(
        "import torch, builder\n\n@builder.register.layer\nclass Own(torch.nn.Module):\n"
        "    def __init__(self, size: int):\n        super().__init__()\n        self.plain = torch.linspace(0, 1, size)\n"
        "        self.weight = torch.nn.Parameter(torch.rand(size))\n"
        "        self.register_buffer('mask', torch.rand(size), persistent=False)\n"
        "        self.seen = []\n"
        "    def get_extra_state(self):\n        return {'seen': self.seen}\n"
        "    def set_extra_state(self, state):\n        self.seen = state['seen']\n"
        "    def forward(self, x):\n        if self.training and not x.is_meta:\n            self.seen.append(len(self.seen))\n"
        "        return x * self.weight + self.plain + self.mask\n"
    )
    model = {
        "buffers": {"noise": {"shape": [10], "init": "normal_", "persistent": False}},
        "layers": {"flatten": "Flatten", "own": {"type": "Own", "size": 64}, "out": {"type": "Linear", "out_features": 10}},
        "forward": "return out(own(flatten(x))) + noise",
    }  # fmt: skip
    (folder / "configs/model/mine.yaml").write_text(dump_yaml(model))
    words = ("model=mine", "trainer=cpu", "trainer.max_epochs=1", "--import", "own.py")
    ran = run(folder, "train", "-q", *words)
    assert ran.code == 0, ran.err
    code = (
        "import torch, own; from builder.opened import *\n"
        f"model = model_of(reopen({str(ran.run)!r}))\n"
        "before = torch.get_rng_state(); again = model_of(reopen(" + repr(str(ran.run)) + "))\n"
        "assert torch.equal(before, torch.get_rng_state())\n"
        "assert torch.equal(model.own.mask, again.own.mask) and torch.equal(model.noise, again.noise)\n"
        f"saved = torch.load({str(ran.run / 'checkpoints/best.ckpt')!r}, weights_only=True)['state_dict']\n"
        "assert len(model.own.seen) > 1 and model.own.seen == saved['model.own._extra_state']['seen']\n"
        "from builder.seeding import reseed\nimport builder\n"
        "reseed(0, 'init'); real = builder.build(" + repr(str(ran.run / "model.yaml")) + ")\n"
        "assert torch.equal(model.own.mask, real.own.mask) and torch.equal(model.noise, real.noise)\n"
        "assert torch.equal(model.own.plain, torch.linspace(0, 1, 64)) and not model.own.plain.is_meta\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=200,
                          env={"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_average_is_what_was_tested(folder):
    words = ("callbacks=[default,ema]", "callbacks.ema.decay=0.5", "name=averaged")
    ran = run(folder, "train", "-q", *SMALL, *words)
    saved = torch.load(ran.run / "checkpoints/last.ckpt", weights_only=True)
    average, raw = saved["state_dict"], saved["current_model_state"]
    for weights, state in (("tested", average), ("ema", average), ("raw", raw)):
        model = model_of(reopen(ran.run, checkpoint="last", weights=weights))
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[f"model.{name}"])
    with pytest.raises(UsageError, match="unknown weights 'mean'; there are tested, ema, raw"):
        reopen(ran.run, weights="mean")


def test_nothing_in_a_checkpoint_is_run(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(WeightsError, match="is not opened"):
        model_of(reopen(trained, checkpoint=path))
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="may run code"):
        model_of(reopen(trained, checkpoint=path))
    assert not (tmp_path / "ran").exists()


def test_any_file_of_weights_of_this_model_will_do_and_no_other(trained, tmp_path):
    theirs = by_hand(trained)
    torch.save(theirs.state_dict(), tmp_path / "plain.pt")
    ours = model_of(reopen(trained, checkpoint=tmp_path / "plain.pt"))
    assert torch.equal(ours.out.weight, theirs.out.weight) and ours.two.weight is ours.one.weight
    state = theirs.state_dict()
    del state["norm.bias"]
    state |= {"more": torch.zeros(1), "out.weight": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WeightsError) as told:
        model_of(reopen(trained, checkpoint=tmp_path / "other.pt"))
    assert all(
        part in str(told.value) for part in ("lacks norm.bias", "has more besides", "out.weight [3, 3] for [10, 8]")
    )


def test_files_that_changed_since_are_refused(trained, tmp_path):
    import shutil

    copied = tmp_path / "copied"
    shutil.copytree(trained, copied)
    assert reopen(copied).checkpoint == copied / "checkpoints/best.ckpt"
    text = (copied / "model.yaml").read_text()
    (copied / "model.yaml").write_text(text.replace("0.5", "0.7"))
    with pytest.raises(RunError, match=r"model.yaml isn't what the run left: its checksum differs"):
        reopen(copied)
    (copied / "model.yaml").write_text(text + "\n")
    with pytest.raises(RunError, match=r"its size differs"):
        reopen(copied)
    (copied / "model.yaml").write_text(text)
    (copied / "checkpoints/best.ckpt").write_bytes(b"x" * (copied / "checkpoints/best.ckpt").stat().st_size)
    with pytest.raises(RunError, match="best.ckpt isn't what the run left"):
        reopen(copied)
    (copied / "checkpoints/best.ckpt").unlink()
    assert reopen(copied).notes == (f"{copied} kept no best checkpoint; the last one is taken",)


def test_a_run_that_did_not_finish_is_opened_and_said(trained, tmp_path):
    import shutil

    copied = tmp_path / "copied"
    shutil.copytree(trained, copied)
    found = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps({**found, "state": "failed", "reason": "it broke"}))
    assert reopen(copied).notes == (f"{copied} isn't finished, it is failed: it broke",)
    (copied / "data.json").unlink()
    with pytest.raises(RunError, match="holds no data.json"):
        reopen(copied)


def test_references_to_the_environment_and_to_the_config_are_resolved(folder, monkeypatch):
    words = ("model.args.hidden=${data.batch_size}", "data.batch_size=12", "output_dir=${oc.env:OUT}", "model=mlp")
    ran = run(folder, "train", "-q", *words, "trainer=cpu", "trainer.max_epochs=1", env={"OUT": "elsewhere"})
    assert ran.code == 0, ran.err
    assert "${data.batch_size}" in (ran.run / "model.yaml").read_text()
    monkeypatch.setenv("OUT", "elsewhere")
    model = model_of(reopen(ran.run))
    assert 12 in {module.out_features for module in model.modules() if isinstance(module, nn.Linear)}


def test_sizes_are_those_of_the_file_and_need_no_library(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert definition_of(reopen(trained)).name == "Odd"
