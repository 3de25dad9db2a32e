"""Every way of PyTorch's guides to save and load a model, with a hand-written one on the other end."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

import builder
from builder.config.folders import shipped_configs
from command_line import ROOT

sys.path.append(str(Path(__file__).parents[1] / "model"))
from handwritten import Cnn, Gpt  # noqa: E402


def cnn(**args):
    given = {"channels": 4, "depth": 1, "classes": 3} | args
    return builder.build(shipped_configs() / "model/cnn.yaml", inputs={"x": [2, 1, 8, 8]}, **given)


def gpt():
    return builder.build(shipped_configs() / "model/gpt.yaml", vocab=11, context=6, width=8, depth=1, heads=2)


def by_hand():
    return Cnn(channels=4, depth=1, classes=3)


X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def same(left, right, x=X):
    with torch.inference_mode():
        return torch.equal(left.eval()(x), right.eval()(x))


def test_a_state_dict_goes_both_ways_through_a_file(tmp_path):
    ours, theirs = cnn(), by_hand()
    torch.save(ours.state_dict(), tmp_path / "ours.pt")
    assert (
        str(theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True)))
        == "<All keys matched successfully>"
    )
    assert same(ours, theirs)
    other = by_hand()
    torch.save(other.state_dict(), tmp_path / "theirs.pt")
    ours.load_state_dict(torch.load(tmp_path / "theirs.pt", weights_only=True, mmap=True))
    assert same(ours, other)


def test_tied_weights_stay_one_through_a_state_dict_and_safetensors(tmp_path):
    ours, theirs = gpt(), Gpt(vocab=11, context=6, width=8, depth=1, heads=2)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    save_model(ours, str(tmp_path / "ours.safetensors"))
    read = Gpt(vocab=11, context=6, width=8, depth=1, heads=2)
    assert load_model(read, tmp_path / "ours.safetensors") == (set(), [])
    ids = torch.arange(6)[None]
    assert same(ours, theirs, ids) and same(ours, read, ids)
    assert read.head.weight is read.tok.weight


LOAD_WHOLE = """
import sys, torch
model = torch.load(sys.argv[1], weights_only=False)
x = torch.load(sys.argv[2])
model.eval()
torch.save([model(x).detach(), dict(model.state_dict())], sys.argv[3])
"""


def test_a_whole_model_is_unpickled_in_another_process(tmp_path):
    ours = cnn()
    torch.save(ours, tmp_path / "whole.pt")
    torch.save(X, tmp_path / "x.pt")
    words = [sys.executable, "-c", LOAD_WHOLE, *(str(tmp_path / name) for name in ("whole.pt", "x.pt", "out.pt"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    output, state = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(output, ours.eval()(X).detach())
    theirs = by_hand()
    theirs.load_state_dict(state)
    assert same(ours, theirs)


def test_a_checkpoint_with_optimiser_and_scheduler_goes_on_in_the_hand_written_model_bit_for_bit(tmp_path):
    ours, target = cnn().train(), torch.tensor([0, 2])
    ours.dropout.p = 0.0

    def trained(model, optimizer, scheduler, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), target).backward()
            optimizer.step()
            scheduler.step()

    def tools(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)

    optimizer, scheduler = tools(ours)
    trained(ours, optimizer, scheduler, 3)
    parts = {"model": ours, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({"epoch": 3} | {name: part.state_dict() for name, part in parts.items()}, tmp_path / "all.pt")
    theirs = by_hand().train()
    theirs.dropout.p = 0.0
    saved = torch.load(tmp_path / "all.pt", weights_only=True)
    theirs.load_state_dict(saved["model"])
    their_optimizer, their_scheduler = tools(theirs)
    their_optimizer.load_state_dict(saved["optimizer"])
    their_scheduler.load_state_dict(saved["scheduler"])
    trained(ours, optimizer, scheduler, 3)
    trained(theirs, their_optimizer, their_scheduler, 3)
    assert saved["epoch"] == 3
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


def test_strict_and_not_strict_are_those_of_pytorch():
    ours, theirs = cnn(), by_hand()
    part = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")} | {"odd": X}
    with pytest.raises(RuntimeError) as caught:
        ours.load_state_dict(part)
    assert 'Missing key(s) in state_dict: "fc.weight", "fc.bias"' in str(caught.value)
    assert 'Unexpected key(s) in state_dict: "odd"' in str(caught.value)
    before = copy.deepcopy(ours.fc.state_dict())
    found = ours.load_state_dict(part, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["fc.weight", "fc.bias"], ["odd"])
    assert torch.equal(ours.stem.weight, theirs.stem.weight) and torch.equal(ours.fc.weight, before["weight"])
    with pytest.raises(RuntimeError, match="size mismatch for fc.weight"):
        cnn(classes=5).load_state_dict(theirs.state_dict(), strict=False)


def test_a_part_of_a_model_is_loaded_into_the_same_part_of_another():
    ours, theirs = cnn(), by_hand()
    ours.trunk.load_state_dict(theirs.trunk.state_dict())
    theirs.stem.load_state_dict(ours.stem.state_dict())
    theirs.fc.load_state_dict(ours.fc.state_dict())
    assert same(ours, theirs)


def test_weights_go_to_the_device_that_is_asked_for(tmp_path):
    ours, theirs = cnn(), by_hand()
    torch.save(ours.state_dict(), tmp_path / "ours.pt")
    for device in ("cpu", torch.device("cpu"), lambda storage, place: storage, {"cpu": "cpu"}):
        theirs.load_state_dict(torch.load(tmp_path / "ours.pt", map_location=device, weights_only=True))
        assert same(ours, theirs)
    shapes = torch.load(tmp_path / "ours.pt", map_location="meta", weights_only=True)
    assert all(tensor.is_meta for tensor in shapes.values())
    with torch.device("meta"):
        empty = by_hand()
    empty.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), assign=True)
    assert same(ours, empty)
    bare = builder.build(shipped_configs() / "model/cnn.yaml", channels=4, depth=1, classes=3, device="meta",
                         inputs={"x": [2, 1, 8, 8]})  # fmt: skip
    bare.load_state_dict(theirs.state_dict(), assign=True)
    assert same(bare, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_weights_saved_on_a_gpu_are_loaded_on_the_cpu_and_back(tmp_path):
    ours = cnn().cuda()
    torch.save(ours.state_dict(), tmp_path / "gpu.pt")
    theirs = by_hand()
    theirs.load_state_dict(torch.load(tmp_path / "gpu.pt", map_location="cpu", weights_only=True))
    torch.testing.assert_close(theirs.eval()(X), ours.eval()(X.cuda()).cpu())


def test_weights_of_a_wrapped_model_lose_their_prefix_as_pytorch_takes_it_off():
    ours, theirs = cnn(), by_hand()
    state = nn.DataParallel(ours).state_dict()
    assert all(key.startswith("module.") for key in state)
    consume_prefix_in_state_dict_if_present(state, "module.")
    theirs.load_state_dict(state)
    assert same(ours, theirs)


def test_weights_of_another_model_are_renamed_by_hand():
    ours, theirs = cnn(), by_hand()
    state = {key.replace("fc.", "head."): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict({key.replace("head.", "fc."): value for key, value in state.items()})
    assert same(ours, theirs)


def test_an_average_of_weights_is_saved_and_loaded():
    ours, theirs = cnn(), by_hand()
    averaged = torch.optim.swa_utils.AveragedModel(ours, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    for _ in range(2):
        averaged.update_parameters(ours)
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.add_(1.0)
    theirs.load_state_dict(averaged.module.state_dict())
    assert same(averaged.module, theirs) and not same(ours, theirs)
