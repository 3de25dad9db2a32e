"""Each preset of configs/init does what it says, on every shipped model."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from builder.config.folders import blocks, search_path, shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.model.build import construct
from builder.model.infer import explore
from builder.model.init_read import with_rules
from builder.model.read import read_definition
from builder.model.source import source
from builder.weights.init_report import init_report
from builder.weights.initialise import Touched

sys.path.insert(0, str(Path(__file__).parent / "zoo"))

from zoo_cases import CASES, FACTS  # noqa: E402

PRESETS = sorted(path.stem for path in (shipped_configs() / "init").glob("*.yaml"))
WITHOUT_EFFECT = (
    {(name, "orthogonal_rnn") for name in CASES if name != "lstm_tagger"}
    | {("unet", "gpt2")}
)  # fmt: skip
"""Models that have none of the layers that a preset is about."""


def preset(name):
    document = read_yaml(shipped_configs() / f"init/{name}.yaml")
    assert list(document.value) == ["init"]
    return document.value["init"], Origins(document.origins)


def explored(name, rules):
    """The definition of a shipped model with a preset's rules, its case, and what the meta device told."""
    document, case = read_yaml(shipped_configs() / f"model/{name}.yaml"), CASES[name]
    definition = read_definition(document.value, Origins(document.origins), (), blocks(search_path()), name.title())
    definition = with_rules(definition, *preset(rules))
    with torch.random.fork_rng():
        inputs = dict(zip(case.names, case.make(), strict=True))
    examples = {key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in inputs.items()}
    return definition, case, explore(definition, case.args, FACTS, examples)


def made(name, rules):
    """Such a model and its report."""
    definition, case, found = explored(name, rules)
    touched = Touched()
    torch.manual_seed(0)
    model = construct(definition, case.args, FACTS, found.sizes, touched=touched)
    return model, init_report(model, touched)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("rules", [rules for rules in PRESETS if rules != "pytorch"])
def test_a_preset_works_on_every_model(name, rules):
    _, report = made(name, rules)
    filled = {row.parameter for row in report.rows if row.origin is not None and f"init/{rules}.yaml" in row.origin}
    assert bool(filled) == ((name, rules) not in WITHOUT_EFFECT)
    assert filled or report.idle


def test_the_preset_without_rules_changes_nothing():
    model, report = made("mlp", "pytorch")
    assert {row.rule for row in report.rows} == {None}
    assert report.idle == ()
    torch.manual_seed(0)
    assert torch.equal(next(model.parameters()), nn.Linear(64, 16).weight)


@pytest.mark.parametrize(
    ("name", "rules"),
    [("gpt", "gpt2"), ("gpt2", "gpt2"), ("vit", "vit"), ("resnet50", "kaiming"), ("unet", "xavier"),
     ("lstm_tagger", "orthogonal_rnn")],
)  # fmt: skip
def test_a_printed_file_draws_the_same_numbers_in_no_long_lines(name, rules):
    definition, case, found = explored(name, rules)
    model, _ = made(name, rules)
    code = source(definition, case.args, FACTS, found)
    assert max(len(line) for line in code.splitlines() if not line.startswith('"""')) <= 100
    names = {"__name__": "printed"}
    exec(compile(code, "printed.py", "exec"), names)
    cls = [value for value in names.values() if isinstance(value, type) and value.__module__ == "printed"][-1]
    torch.manual_seed(0)
    expected, state = model.state_dict(), cls().state_dict()
    assert [key for key in expected if not torch.equal(expected[key], state[key])] == []


def test_kaiming_and_xavier():
    for rules, variance in (("kaiming", lambda into, out: 2 / into), ("xavier", lambda into, out: 2 / (into + out))):
        model, _ = made("resnet18", rules)
        weight = model.get_parameter("layer4.1.conv2.weight")
        into = out = weight[0].numel()
        assert weight.std().item() == pytest.approx(math.sqrt(variance(into, out)), rel=0.1)
        assert not model.fc.bias.any()


@pytest.mark.parametrize(("name", "ends"), [("gpt", "proj"), ("gpt2", "c_proj"), ("llama", ("o_proj", "down_proj"))])
def test_gpt2_scales_the_ends_of_residual_branches_by_the_number_of_blocks(name, ends):
    model, _ = made(name, "gpt2")
    depth = CASES[name].args["depth"]
    stds = {}
    for path, parameter in model.named_parameters():
        if path.endswith("weight") and parameter.ndim == 2:
            stds.setdefault(path.split(".")[-2].endswith(ends), []).append(parameter)
    scaled, plain = (torch.cat([item.flatten() for item in stds[key]]).std().item() for key in (True, False))
    assert len(stds[True]) == 2 * depth
    assert plain == pytest.approx(0.02, rel=0.05)
    assert scaled == pytest.approx(0.02 / math.sqrt(2 * depth), rel=0.05)


def test_vit_begins_with_a_head_of_zeros_and_small_positions():
    model, _ = made("vit", "vit")
    assert not model.classifier.weight.any()
    assert not model.classifier.bias.any()
    embeddings = model.vit.embeddings
    assert not embeddings.cls_token.any()
    assert embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.2)
    layer = model.vit.layers[0]
    assert 0 < layer.mlp.fc1.bias.std() < 1e-5
    assert not layer.attention.q_proj.bias.any()
    assert layer.mlp.fc1.weight.abs().max() <= math.sqrt(6 / sum(layer.mlp.fc1.weight.shape))


def test_orthogonal_rnn():
    model, _ = made("lstm_tagger", "orthogonal_rnn")
    lstm = next(module for module in model.modules() if isinstance(module, nn.LSTM))
    for gate in lstm.weight_hh_l0.chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(len(gate)), atol=1e-5)
    total = (lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4)
    assert [part.unique().tolist() for part in total] == [[0], [1], [0], [0]]
