"""Shipped models are the hand-written ones: keys, initial bits, outputs, gradients."""

import by_hand_models as by_hand
import pytest
import torch
from zoo_cases import CASES, flat, same_outputs, same_state

from builder.config.folders import shipped_configs

BY_HAND = {
    "autoencoder": lambda: by_hand.Autoencoder(64, [24, 12], 4),
    "lstm_tagger": lambda: by_hand.LstmTagger(50, 5, 8, 6),
    "multitask": lambda: by_hand.Multitask(64, 16, classes=5),
    "resnet18": lambda: by_hand.resnet18(width=4, classes=5),
    "resnet50": lambda: by_hand.ResNet(by_hand.Bottleneck, [2, 1, 1, 2], width=4, classes=5),
    "siamese": lambda: by_hand.Siamese(1, 4, 6),
    "table": lambda: by_hand.Table(6, [3, 4, 9], 16, 2, 5),
    "unet": lambda: by_hand.UNet(3, 4, 2, 5),
    "vae": lambda: by_hand.Vae(64, 24, 4),
    "vit": lambda: by_hand.ViT(3, 32, 8, 32, 2, 4, 5),
}


def test_every_shipped_model_has_a_case():
    assert sorted(CASES) == sorted(path.stem for path in (shipped_configs() / "model").glob("*.yaml"))


@pytest.fixture(params=BY_HAND, scope="module")
def pair(request):
    case = CASES[request.param]
    torch.manual_seed(7)
    ours = case.build(request.param)
    torch.manual_seed(7)
    theirs = BY_HAND[request.param]()
    torch.manual_seed(8)
    return ours, theirs, case.make()


def test_keys_and_initial_bits_are_those_of_the_hand_written_class(pair):
    ours, theirs, _ = pair
    same_state(ours, theirs)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_bit_equal(pair, training):
    results = []
    for model in pair[:2]:
        model.zero_grad()
        torch.manual_seed(3)
        output = model.train(training)(*pair[2])
        sum(part.square().mean() for part in flat(output)).backward()
        results.append((output, [parameter.grad for parameter in model.parameters()]))
    same_outputs(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    same_state(*pair[:2])  # batch norms' statistics too


def test_weights_of_the_hand_written_class_load_strictly(pair):
    ours, theirs, inputs = pair
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    same_outputs(ours.eval()(*inputs), theirs.eval()(*inputs))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_networks_have_the_published_keys_and_sizes(name):
    ours = CASES[name].build(name, width=64, depths=[2, 2, 2, 2] if name == "resnet18" else [3, 4, 6, 3], classes=1000)
    keys = list(ours.state_dict())
    assert keys[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert keys[-2:] == ["fc.weight", "fc.bias"]
    assert "layer2.0.downsample.0.weight" in keys and "layer2.1.downsample.0.weight" not in keys
    assert ("layer1.0.downsample.1.running_var" in keys) == (name == "resnet50")
    # The parameter counts that torchvision documents for its weights.
    assert (
        sum(parameter.numel() for parameter in ours.parameters()) == {"resnet18": 11689512, "resnet50": 25557032}[name]
    )
