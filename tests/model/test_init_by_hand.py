"""Rules give the bits that the hand-written constructor gives, by `build` and through the printed file."""

import math

import torch
from init_helpers import same_as_by_hand
from torch import nn

GPT = """
args: {width: 16, depth: 3}
inputs: {ids: {shape: [B, T], dtype: int64}}
init:
  - {select: {type: [Linear, Embedding]}, weight: {type: normal_, std: 0.02}, bias: zeros_}
  - {select: "**.proj", weight: {type: normal_, std: =0.02 / sqrt(count)}}
blocks:
  Block:
    args: {width: required}
    layers:
      ln: LayerNorm
      proj: {type: Linear, out_features: =width}
      mlp:
        layers:
          fc: {type: Linear, out_features: =4 * width}
          act: GELU
          proj: {type: Linear, out_features: =width}
    forward: |
      x = x + proj(ln(x))
      return x + mlp(x)
layers:
  tok: {type: Embedding, num_embeddings: 11, embedding_dim: =width}
  blocks: {type: Sequential, repeat: =depth, layer: {type: Block, width: =width}}
  head: {type: Linear, out_features: 11, bias: false}
tie: {head.weight: tok.weight}
forward: return head(blocks(tok(ids)))
"""


class MLP(nn.Sequential):
    def __init__(self, width):
        super().__init__()
        self.fc, self.act, self.proj = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln, self.proj, self.mlp = nn.LayerNorm(width), nn.Linear(width, width), MLP(width)


class GPT2(nn.Module):
    """Initial values as in GPT-2's reimplementations: all layers first, then the ends of residual branches again."""

    def __init__(self, width=16, depth=3):
        super().__init__()
        self.tok = nn.Embedding(11, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.tok.weight
        done = set()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and module.weight not in done:
                done.add(module.weight)
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * depth))


def test_gpt2_with_scaled_residual_branches_and_tied_embeddings():
    code = same_as_by_hand(GPT, GPT2)
    assert "std=0.02 / math.sqrt(count)" in code
    assert "# m.yaml:5" in code
    same_as_by_hand(GPT, lambda: GPT2(8, 2), width=8, depth=2)


RESNET = """
inputs: {x: [B, 3, 16, 16]}
init:
  - {select: {type: Conv2d}, weight: {type: kaiming_normal_, mode: fan_out, nonlinearity: relu}}
  - {select: {type: BatchNorm2d}, weight: ones_, bias: zeros_}
  - {select: "**.bn2", weight: zeros_}
blocks:
  BasicBlock:
    args: {width: required, down: false}
    layers:
      conv1: {type: Conv2d, out_channels: =width, kernel_size: 3, padding: 1, bias: false}
      bn1: BatchNorm2d
      conv2: {type: Conv2d, out_channels: =width, kernel_size: 3, padding: 1, bias: false}
      bn2: BatchNorm2d
      skip: {type: Conv2d, out_channels: =width, kernel_size: 1, when: =down}
    forward: |
      y = bn2(conv2(relu(bn1(conv1(x)))))
      return relu(y + (skip(x) if skip is not None else x))
layers:
  conv1: {type: Conv2d, out_channels: 4, kernel_size: 3, bias: false}
  bn1: BatchNorm2d
  layer1: {type: Sequential, layers: [{type: BasicBlock, width: 8, down: true}, {type: BasicBlock, width: 8}]}
  pool: {type: AdaptiveAvgPool2d, output_size: 1}
  flat: Flatten
  fc: {type: Linear, out_features: 5}
"""


class BasicBlock(nn.Module):
    def __init__(self, before, width, down):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = nn.Conv2d(before, width, 1) if down else None


class ResNet(nn.Module):
    """The order of torchvision's ResNet with `zero_init_residual`."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(BasicBlock(4, 8, True), BasicBlock(8, 8, False))
        self.pool, self.flat, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, 1)
                nn.init.constant_(module.bias, 0)
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.constant_(module.bn2.weight, 0)


def test_resnet_in_its_published_order():
    code = same_as_by_hand(RESNET, ResNet)
    assert 'if isinstance(layer, nn.Conv2d) and leaf == "weight":' in code


LSTM = """
inputs: {x: [B, T, 6]}
layers:
  lstm:
    type: LSTM
    hidden_size: 5
    num_layers: 2
    bidirectional: true
    init:
      - {"weight_ih*": xavier_uniform_, "weight_hh*": {type: orthogonal_, gate: each}, "bias_*": zeros_}
      - {"bias_ih*": {type: ones_, gate: forget}}
  gru: {type: GRU, hidden_size: 4, init: {weight_hh_l0: {type: normal_, gate: [new, reset]}}}
  cell: {type: LSTMCell, hidden_size: 3, init: {weight_hh: {type: orthogonal_, gate: each}}}
  head: {type: Linear, out_features: 2}
forward: |
  y, state = lstm(x)
  y, last = gru(y)
  h, c = cell(y[:, -1])
  return head(h)
"""


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            elif name.startswith("weight_hh"):
                for first in range(0, 20, 5):
                    nn.init.orthogonal_(parameter.data[first : first + 5])
            else:
                nn.init.zeros_(parameter)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter.data[5:10])
        self.gru = nn.GRU(10, 4)
        nn.init.normal_(self.gru.weight_hh_l0.data[8:12])
        nn.init.normal_(self.gru.weight_hh_l0.data[0:4])
        self.cell = nn.LSTMCell(4, 3)
        for first in range(0, 12, 3):
            nn.init.orthogonal_(self.cell.weight_hh.data[first : first + 3])
        self.head = nn.Linear(3, 2)


def test_gates_of_recurrent_layers():
    code = same_as_by_hand(LSTM, Recurrent)
    assert "nn.init.ones_(parameter.detach().chunk(4)[1])" in code
    assert "nn.init.normal_(self.gru.weight_hh_l0.detach().chunk(3)[2])" in code


DEFAULT = """
inputs: {x: [B, 4]}
init:
  - {"*": {type: uniform_, a: 1, b: 2}}
  - {select: second, "*": default}
  - {select: [first, attention], bias: default, in_proj_weight: default, optional: true}
layers:
  first: {type: Linear, out_features: 4}
  second: {type: Linear, out_features: 4}
  attention: {type: MultiheadAttention, num_heads: 2}
  norm: BatchNorm1d
forward: |
  x = second(first(x))
  y, weights = attention(x, x, x)
  return norm(y)
"""


class Defaults(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.attention, self.norm = nn.MultiheadAttention(4, 2), nn.BatchNorm1d(4)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 1, 2)
        self.second.reset_parameters()
        weight = self.first.weight.data.clone()
        self.first.reset_parameters()
        self.first.weight.data.copy_(weight)
        kept = self.attention.in_proj_bias.data.clone(), self.attention.out_proj.bias.data.clone()
        self.attention._reset_parameters()
        self.attention.in_proj_bias.data.copy_(kept[0])
        weight = self.attention.out_proj.weight.data.clone()
        self.attention.out_proj.reset_parameters()
        self.attention.out_proj.weight.data.copy_(weight)


def test_default_is_reset_parameters_and_touches_what_was_chosen_only():
    code = same_as_by_hand(DEFAULT, Defaults)
    assert '_reset(self.first, "bias")' in code


NESTED = """
args: {width: 6, gain: 0.5}
inputs: {x: [B, T, 4]}
init: {select: last, bias: {type: constant_, val: =gain / width}}
blocks:
  Cell:
    args: {width: required, gain: required}
    init: {select: fc, bias: {type: uniform_, a: 0, b: =gain}}
    layers:
      fc: {type: Linear, out_features: =width, init: {weight: orthogonal_}}
layers:
  cells:
    type: Sequential
    repeat: 2
    layer: {type: Cell, width: =width, gain: =gain, init: {select: "fc", bias: {type: normal_, mean: =i}}}
    init: {select: "0", weight: {type: eye_}}
  odd: {type: Linear, out_features: =width, when: =gain > 9, init: {weight: zeros_}}
  even: {type: Linear, out_features: =width, when: =gain < 9, init: {weight: {type: sparse_, sparsity: 0.5}}}
  own:
    init: {"*": {type: trunc_normal_, std: =gain}}
    layers: {a: {type: Linear, out_features: =width}, b: ReLU}
  encoder:
    type: TransformerEncoder
    num_layers: 2
    enable_nested_tensor: false
    encoder_layer: {type: TransformerEncoderLayer, nhead: 2, dim_feedforward: 8, init: {select: linear1, bias: normal_}}
  last: {type: Linear, out_features: 2}
"""


class Nested(nn.Module):
    def __init__(self, width=6, gain=0.5):
        super().__init__()
        init, cells = nn.init, []
        for i in range(2):
            cell = nn.Sequential()
            cell.fc = nn.Linear(width if i else 4, width)
            init.orthogonal_(cell.fc.weight)
            init.uniform_(cell.fc.bias, 0, gain)
            init.normal_(cell.fc.bias, mean=i)
            cells.append(cell)
        self.cells = nn.Sequential(*cells)
        init.eye_(self.cells[0].fc.weight)
        self.even = nn.Linear(width, width)
        init.sparse_(self.even.weight, 0.5)
        self.own = nn.Sequential()
        self.own.a = nn.Linear(width, width)
        init.trunc_normal_(self.own.a.weight, std=gain)
        init.trunc_normal_(self.own.a.bias, std=gain)
        layer = nn.TransformerEncoderLayer(width, 2, 8)
        init.normal_(layer.linear1.bias)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(width, 2)
        init.constant_(self.last.bias, gain / width)


def test_inner_rules_come_first_in_repeats_conditions_containers_and_arguments():
    same_as_by_hand(NESTED, Nested)


def test_a_user_s_initialiser_needs_to_know_nothing_of_gradients(tmp_path, monkeypatch):
    import sys

    from builder import register

    (tmp_path / "init_by_user.py").write_text(
        "import torch\n\n\ndef by_hand_ramp_(tensor, top=1.0):\n"
        "    tensor += torch.linspace(0, top, tensor.numel()).view_as(tensor)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ramp = __import__("init_by_user").by_hand_ramp_
    if "by_hand_ramp_" not in __import__("builder.registry", fromlist=["initialisers"]).initialisers:
        register.initialiser(ramp)

    def by_hand():
        layer = nn.Sequential(nn.Linear(3, 4))
        with torch.no_grad():
            ramp(layer[0].weight, top=2.0)
        return layer

    text = "inputs: {x: [B, 3]}\nlayers: [{type: Linear, out_features: 4, init: {weight: {type: by_hand_ramp_, top: 2.0}}}]"
    same_as_by_hand(text, by_hand)
    sys.modules.pop("init_by_user")
