"""Models built from YAML are the hand-written ones: keys, bits, classes' behaviour under PyTorch's tools."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from handwritten import Cnn, Gpt, Mlp

from builder import build
from builder.config.compose import shipped_configs

CASES = {
    "cnn": (
        lambda: build(shipped_configs() / "model/cnn.yaml", data={"num_classes": 10}, inputs={"x": (2, 1, 8, 8)}),
        Cnn,
        lambda: torch.randn(4, 1, 8, 8),
    ),
    "mlp": (
        lambda: build(
            shipped_configs() / "model/mlp.yaml", data={"num_outputs": 10}, inputs={"x": torch.zeros(2, 1, 8, 8)}
        ),
        Mlp,
        lambda: torch.randn(4, 1, 8, 8),
    ),
    "gpt": (
        lambda: build(shipped_configs() / "model/gpt.yaml", data={"vocab_size": 50, "length": 32}),
        Gpt,
        lambda: torch.randint(0, 50, (2, 16)),
    ),
}


@pytest.fixture(params=CASES)
def pair(request):
    built, by_hand, inputs = CASES[request.param]
    torch.manual_seed(7)
    ours = built()
    torch.manual_seed(7)
    theirs = by_hand()
    torch.manual_seed(8)
    return ours, theirs, inputs()


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_keys_and_initial_bits_are_those_of_the_hand_written_class(pair):
    ours, theirs, _ = pair
    same_state(ours, theirs)
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]


def test_outputs_and_gradients_are_bit_equal(pair):
    ours, theirs, x = pair
    results = []
    for model in (ours, theirs):
        torch.manual_seed(3)
        output = model(x)
        output.square().mean().backward()
        results.append((output, [parameter.grad for parameter in model.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_deepcopy_and_pickle_keep_bits_and_class(pair):
    ours, _, x = pair
    ours.eval()
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other) is type(ours)
        same_state(ours, other)
        assert torch.equal(other(x), ours(x))


def test_a_saved_module_is_loaded_in_a_fresh_process(pair, tmp_path):
    ours, _, x = pair
    ours.eval()
    torch.save({"model": ours, "x": x, "y": ours(x)}, tmp_path / "model.pt")
    code = (
        "import sys, torch; saved = torch.load(sys.argv[1], weights_only=False);"
        "assert torch.equal(saved['model'](saved['x']), saved['y'])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.pt")], check=True)


def test_torch_export_takes_any_batch(pair):
    ours, _, x = pair
    ours.eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(ours, (x,), dynamic_shapes=({0: batch},))
    more = torch.cat([x, x, x])
    assert torch.equal(exported.module()(more), ours(more))


def test_state_dicts_cross_over_strictly(pair):
    ours, theirs, x = pair
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer)
    buffer.seek(0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1)
    ours.load_state_dict(torch.load(buffer), strict=True)
    same_state(ours, theirs)
    ours.eval(), theirs.eval()
    assert torch.equal(ours(x), theirs(x))
