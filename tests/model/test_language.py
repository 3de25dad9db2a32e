"""What the model language can say, each against the same by hand."""

import textwrap

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import builder
from builder import ConfigError, build
from builder.config.yaml_file import parse_yaml


def model(text, **args):
    return build(parse_yaml(textwrap.dedent(text), "model.yaml").value, **args)


def test_a_list_of_layers_is_numbered_like_a_sequential():
    torch.manual_seed(0)
    ours = model("""
        inputs: {x: [B, 4]}
        layers: [{type: Linear, out_features: 3}, ReLU, {type: Linear, out_features: 2}]
    """)
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours(x), theirs(x))


def test_a_custom_layer_is_written_wholly_in_yaml():
    torch.manual_seed(0)
    ours = model(
        """
        args: {out_features: required, in_features: 3}
        parameters:
          weight: {shape: [=out_features, =in_features], init: normal_}
          bias: {shape: [=out_features], init: {type: constant_, val: 0.5}}
        forward: return linear(x, weight, bias) ** 2
        """,
        out_features=2,
    )
    torch.manual_seed(0)
    weight, x = torch.empty(2, 3).normal_(), torch.randn(4, 3)
    assert torch.equal(ours.weight, weight) and isinstance(ours.weight, nn.Parameter)
    assert torch.equal(ours(x), F.linear(x, weight, torch.full((2,), 0.5)) ** 2)
    assert repr(ours) == "Model(out_features=2, in_features=3)"


def test_a_running_statistic_is_a_buffer_that_forward_updates():
    ours = model("""
        args: {width: 3}
        buffers: {mean: {shape: [=width]}}
        forward: |
          if training:
            with no_grad():
              mean = 0.9 * mean + 0.1 * x.mean(dim=0)
          return x - mean
    """)
    x = torch.randn(8, 3)
    assert torch.equal(ours(x), x - 0.1 * x.mean(0))
    assert torch.equal(ours.state_dict()["mean"], 0.1 * x.mean(0))
    ours.eval()
    ours(x)
    assert torch.equal(ours.mean, 0.1 * x.mean(0))
    assert ours.double().mean.dtype == torch.float64


def test_optional_inputs_several_outputs_and_dicts():
    ours = model("""
        inputs: {image: [B, 4], text: {shape: [B, 2], optional: true}}
        layers:
          a: {type: Linear, out_features: 3}
          b: {type: Linear, in_features: 2, out_features: 3}
        forward: |
          h = a(image)
          if text is not None:
            h += b(text)
          return {"hidden": h, "parts": (h[:, :1], h[:, 1:])}
    """)
    image, text = torch.randn(2, 4), torch.randn(2, 2)
    assert torch.equal(ours(image)["hidden"], ours.a(image))
    both = ours(image, text=text)
    assert torch.equal(both["hidden"], ours.a(image) + ours.b(text))
    assert torch.equal(both["parts"][1], both["hidden"][:, 1:])


def test_sizes_are_found_through_branches_concat_recurrence_and_attention():
    ours = model("""
        inputs: {x: [B, 3, 16, 16]}
        layers:
          left: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
          right: {type: Conv2d, out_channels: 5, kernel_size: 1}
          norm: BatchNorm2d
          group: {type: GroupNorm, num_groups: 3}
          rnn: {type: LSTM, hidden_size: 7, batch_first: true, bidirectional: true}
          attn: {type: MultiheadAttention, num_heads: 2, batch_first: true}
          out: {type: Linear, out_features: 2}
        forward: |
          x = group(norm(cat([left(x), right(x)], dim=1)))
          h, (last, cell) = rnn(x.flatten(2).transpose(1, 2))
          a, weights = attn(h, h, h)
          return out(a.mean(dim=1))
    """)
    assert ours.norm.num_features == ours.group.num_channels == ours.rnn.input_size == 9
    assert ours.attn.embed_dim == ours.out.in_features == 14
    assert ours(torch.randn(2, 3, 16, 16)).shape == (2, 2)


def test_the_class_of_what_is_repeated_is_named_after_its_container():
    element = {"layers": {"fc": {"type": "Linear", "out_features": 4}}}
    rows = {"type": "Sequential", "repeat": 1, "layer": {"type": "Sequential", "repeat": 1, "layer": element}}
    named = {"type": "Sequential", "repeat": 1, "layer": {"name": "Own", **element}}
    parts = {"type": "Sequential", "repeat": 1, "layer": element}
    model = build({"inputs": {"x": ["B", 4]}, "layers": {"many_parts": parts, "rows": rows, "named": named}})
    found = (model.many_parts[0], model.rows[0][0], model.named[0])
    assert [type(part).__name__ for part in found] == ["ManyPartsLayer", "RowsLayerLayer", "Own"]


def test_repeat_counts_i_and_nested_blocks_with_arguments():
    ours = model("""
        inputs: {x: [B, 4]}
        args: {widths: [8, 16, 32]}
        blocks:
          Step:
            args: {width: required, twice: false}
            blocks:
              Pair:
                args: {width: required}
                layers: [{type: Linear, out_features: =width}, Tanh]
            layers:
              pair: {type: Pair, width: =2 * width if twice else width}
        layers:
          steps: {type: Sequential, repeat: =len(widths), layer: {type: Step, width: "=widths[i]", twice: "=i == 1"}}
    """)
    assert [ours.steps[k].pair[0].out_features for k in range(3)] == [8, 32, 32]
    assert [ours.steps[k].pair[0].in_features for k in range(3)] == [4, 8, 32]


def test_module_dicts_loops_and_a_layer_called_twice():
    ours = model("""
        inputs: {x: [B, 6]}
        layers:
          shared: {type: Linear, out_features: 6}
          heads: {type: ModuleDict, layers: {mean: {type: Linear, out_features: 1}, scale: {type: Linear, out_features: 2}}}
        forward: |
          x = shared(shared(x))
          return {name: head(x) for name, head in heads.items()}
    """)
    x = torch.randn(3, 6)
    out = ours(x)
    assert list(out) == ["mean", "scale"]
    assert torch.equal(out["scale"], ours.heads["scale"](ours.shared(ours.shared(x))))


def test_a_users_layer_is_used_by_its_name():
    @builder.register.layer
    class TestedScale(nn.Module):
        def __init__(self, num_features: int, start: float = 1.0):
            super().__init__()
            self.scale = nn.Parameter(torch.full((num_features,), start))

        def forward(self, x):
            return x * self.scale

    ours = model("inputs: {x: [B, 5]}\nlayers: {s: {type: TestedScale, start: 2.0}}")
    assert torch.equal(ours(torch.ones(1, 5)), torch.full((1, 5), 2.0))


def test_a_traceback_names_the_line_of_the_yaml(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "inputs: [x]\nlayers:\n  fc: {type: Linear, in_features: 4, out_features: 2}\nforward: |\n  y = fc(x)\n  return y.reshape(7)\n"
    )
    ours = build(path)
    with pytest.raises(RuntimeError) as caught:
        ours(torch.ones(1, 4))
    frames = [(str(entry.path), entry.lineno + 1) for entry in caught.traceback]
    assert (str(path), 6) in frames


FAULTS = {
    "unknown type": (
        "layers: {fc: {type: Linera, out_features: 2}}",
        "layers.fc.type: unknown layer type 'Linera'\n  did you mean 'Linear'",
    ),
    "unknown argument": (
        "layers: {fc: {type: Linear, in_features: 2, out_feature: 2, out_features: 1}}",
        "layers.fc.out_feature: layer Linear has no argument 'out_feature'",
    ),
    "missing argument": ("layers: {fc: {type: Linear, in_features: 2}}", "out_features"),
    "wrongly typed argument": ("layers: {fc: {type: Linear, in_features: 2, out_features: many}}", "'many'"),
    "unknown name in a formula": (
        "args: {width: 3}\nlayers: {fc: {type: Linear, in_features: 2, out_features: =widht}}",
        "unknown name 'widht' in a formula",
    ),
    "division by zero": ("args: {w: 0}\nlayers: {fc: {type: Linear, in_features: 2, out_features: =4 // w}}", "zero"),
    "required": (
        "args: {w: required}\nlayers: {fc: {type: Linear, in_features: 2, out_features: =w}}",
        "args.w: argument 'w' is required",
    ),
    "recursion": (
        "blocks: {A: {layers: {b: B}}, B: {layers: {a: A}}}\nlayers: {a: A}",
        "block 'A' contains itself\n  found:    'A → B → A'",
    ),
    "block argument": (
        "blocks: {A: {args: {width: 1}, layers: {r: ReLU}}}\nlayers: {a: {type: A, witdh: 2}}",
        "block A has no argument 'witdh'\n  expected: one of width\n  did you mean 'width'?",
    ),
    "unknown key": ("layer: {r: ReLU}\nlayers: {r: ReLU}", "unknown key 'layer' in a module definition"),
    "no inputs known": ("layers: {fc: {type: Linear, out_features: 2}}", "nothing is known of the model's inputs"),
    "a guessed size": (
        "inputs: {x: [B, C, H, W]}\nlayers: {c: {type: Conv2d, out_channels: 2, kernel_size: 1}}",
        "layers.c: in_channels of layer 'c' depends on a free dimension of the inputs\n"
        "  found:    'free dimensions C, H, W'",
    ),
    "several inputs without forward": ("inputs: [a, b]\nlayers: {r: ReLU}", "several inputs need a `forward`"),
    "a ModuleList in a stack": ("layers: {m: {type: ModuleList, layers: [ReLU]}}", "a ModuleList can't be called"),
    "shape": (
        "inputs: {x: [B, 4]}\nlayers: {a: {type: Linear, out_features: 3}, b: {type: Linear, in_features: 5, out_features: 1}}",
        "layers.b: shapes don't fit in Linear 'b'\n"
        "  found:    an input of shape [2, 3], after Linear 'a' (out_features=3), which gave [2, 3]\n"
        "  expected: in_features=5, as it says; in_features=3 would fit",
    ),
    "a name of nn.Module": ("layers: {train: ReLU}", "every torch.nn.Module has it already"),
    "two meanings": ("args: {fc: 1}\nlayers: {fc: ReLU}", "'fc' is the name of an argument and of a layer"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_named(case):
    text, wanted = FAULTS[case]
    with pytest.raises(ConfigError) as caught:
        model(text)
    assert wanted in str(caught.value)


def test_all_faults_come_at_once():
    with pytest.raises(ConfigError) as caught:
        model("layers: {a: Linera, b: {type: Conv2d, kernel: 3}, c: {type: ReLU, inplace: =no}}")
    text = str(caught.value)
    assert "Linera" in text and "'kernel'" in text and "'no'" in text
