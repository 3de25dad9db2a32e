"""Networks as someone new to the language writes them, against the same by hand."""

import textwrap

import torch
import torch.nn.functional as F
from torch import nn
from zoo_cases import same_outputs, same_state

from builder import build
from builder.config.yaml_file import parse_yaml


def pair(text, by_hand, **args):
    """The model and the hand-written one, from the same seed."""
    raw = parse_yaml(textwrap.dedent(text), "model.yaml").value
    torch.manual_seed(5)
    ours = build(raw, **args)
    torch.manual_seed(5)
    theirs = by_hand()
    same_state(ours, theirs)
    torch.manual_seed(6)
    return ours, theirs


def same_step(ours, theirs, *inputs):
    """Equal outputs and gradients in training, equal outputs in evaluation."""
    results = []
    for model in (ours, theirs):
        torch.manual_seed(9)
        output = model.train()(*inputs)
        output.square().mean().backward()
        results.append((output, [parameter.grad for parameter in model.parameters()]))
    same_outputs(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    same_outputs(ours.eval()(*inputs), theirs.eval()(*inputs))


DENSENET = """
    args: {growth: 4, depths: [2, 3, 2], start: 8, classes: 5}
    inputs: {x: [B, 3, 16, 16]}
    blocks:
      DenseLayer:
        args: {growth: required}
        layers:
          norm1: BatchNorm2d
          conv1: {type: Conv2d, out_channels: =4 * growth, kernel_size: 1, bias: false}
          norm2: BatchNorm2d
          conv2: {type: Conv2d, out_channels: =growth, kernel_size: 3, padding: 1, bias: false}
        forward: |
          y = conv1(relu(norm1(x)))
          return conv2(relu(norm2(y)))
      DenseBlock:
        args: {growth: required, depth: required}
        layers:
          layers: {type: ModuleList, repeat: =depth, layer: {type: DenseLayer, growth: =growth}}
        forward: |
          features = [x]
          for layer in layers:
            features.append(layer(cat(features, dim=1)))
          return cat(features, dim=1)
      Transition:
        args: {channels: required}
        layers:
          norm: BatchNorm2d
          relu: ReLU
          conv: {type: Conv2d, out_channels: =channels, kernel_size: 1, bias: false}
          pool: {type: AvgPool2d, kernel_size: 2}
    layers:
      stem: {type: Conv2d, out_channels: =start, kernel_size: 3, padding: 1, bias: false}
      block1: {type: DenseBlock, growth: =growth, depth: "=depths[0]"}
      half1: {type: Transition, channels: "=(start + growth * depths[0]) // 2"}
      block2: {type: DenseBlock, growth: =growth, depth: "=depths[1]"}
      half2: {type: Transition, channels: "=((start + growth * depths[0]) // 2 + growth * depths[1]) // 2"}
      block3: {type: DenseBlock, growth: =growth, depth: "=depths[2]"}
      norm: BatchNorm2d
      fc: {type: Linear, out_features: =classes}
    forward: |
      x = half1(block1(stem(x)))
      x = block3(half2(block2(x)))
      return fc(relu(norm(x)).mean(dim=[2, 3]))
"""


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class DenseBlock(nn.Module):
    def __init__(self, channels, growth, depth):
        super().__init__()
        self.layers = nn.ModuleList([DenseLayer(channels + i * growth, growth) for i in range(depth)])

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return torch.cat(features, dim=1)


def transition(channels, outputs):
    stack = nn.Sequential()
    stack.add_module("norm", nn.BatchNorm2d(channels))
    stack.add_module("relu", nn.ReLU())
    stack.add_module("conv", nn.Conv2d(channels, outputs, 1, bias=False))
    stack.add_module("pool", nn.AvgPool2d(2))
    return stack


class DenseNet(nn.Module):
    def __init__(self, growth=4, depths=(2, 3, 2), start=8, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, start, 3, padding=1, bias=False)
        self.block1 = DenseBlock(start, growth, depths[0])
        first = (start + growth * depths[0]) // 2
        self.half1 = transition(2 * first, first)
        self.block2 = DenseBlock(first, growth, depths[1])
        second = (first + growth * depths[1]) // 2
        self.half2 = transition(2 * second, second)
        self.block3 = DenseBlock(second, growth, depths[2])
        last = second + growth * depths[2]
        self.norm = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, classes)

    def forward(self, x):
        x = self.half1(self.block1(self.stem(x)))
        x = self.block3(self.half2(self.block2(x)))
        return self.fc(F.relu(self.norm(x)).mean(dim=[2, 3]))


def test_a_densenet_concatenates_all_that_came_before():
    ours, theirs = pair(DENSENET, DenseNet)
    same_step(ours, theirs, torch.randn(3, 3, 16, 16))


CRNN = """
    # Reads a line of text from a picture (Shi et al. 2015): convolutions, a bidirectional LSTM along the line, letters.
    args: {letters: 10, hidden: 12}
    inputs: {x: [B, 1, 16, W]}
    layers:
      features:
        type: Sequential
        layers:
          - {type: ConvNormAct, channels: 4}
          - {type: MaxPool2d, kernel_size: 2}
          - {type: ConvNormAct, channels: 8}
          - {type: MaxPool2d, kernel_size: [2, 1]}
      rnn: {type: LSTM, hidden_size: =hidden, num_layers: 2, bidirectional: true, batch_first: true}
      out: {type: Linear, out_features: =letters + 1}
    forward: |
      x = features(x)
      x = x.permute(0, 3, 1, 2).flatten(2)
      x, _ = rnn(x)
      return log_softmax(out(x), dim=-1)
"""


class Crnn(nn.Module):
    def __init__(self, letters=10, hidden=12):
        super().__init__()
        self.features = nn.Sequential(self.conv(1, 4), nn.MaxPool2d(2), self.conv(4, 8), nn.MaxPool2d((2, 1)))
        self.rnn = nn.LSTM(8 * 4, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, letters + 1)

    @staticmethod
    def conv(inputs, outputs):
        stack = nn.Sequential()
        stack.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
        stack.add_module("norm", nn.BatchNorm2d(outputs))
        stack.add_module("act", nn.ReLU())
        return stack

    def forward(self, x):
        x = self.features(x)
        x = x.permute(0, 3, 1, 2).flatten(2)
        x, _ = self.rnn(x)
        return F.log_softmax(self.out(x), dim=-1)


def test_a_crnn_reads_along_the_width():
    ours, theirs = pair(CRNN, Crnn)
    same_step(ours, theirs, torch.randn(3, 1, 16, 24))
    assert ours(torch.randn(2, 1, 16, 40)).shape == (2, 20, 11)


TRANSLATOR = """
    args: {vocab: 20, width: 12, start: 1, forcing: 0.5}
    inputs:
      source: {shape: [B, S], dtype: int64}
      steps: {dtype: int}
      target: {shape: [B, T], dtype: int64, optional: true} # given in training: what should have been said so far
    layers:
      embed: {type: Embedding, num_embeddings: =vocab, embedding_dim: =width}
      encoder: {type: GRU, hidden_size: =width, batch_first: true}
      decoder: {type: GRU, input_size: =width, hidden_size: =width, batch_first: true}
      out: {type: Linear, out_features: =vocab}
    forward: |
      _, state = encoder(embed(source))
      token = full_like(source[:, :1], start)
      outputs = []
      for step in range(steps):
        y, state = decoder(embed(token), state)
        logits = out(y)
        outputs.append(logits)
        token = logits.argmax(dim=-1)
        if target is not None and training:
          forced = rand_like(token, dtype=float32) < forcing
          token = where(forced, target[:, step : step + 1], token)
      return cat(outputs, dim=1)
"""


class Translator(nn.Module):
    def __init__(self, vocab=20, width=12, start=1, forcing=0.5):
        super().__init__()
        self.start, self.forcing = start, forcing
        self.embed = nn.Embedding(vocab, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, vocab)

    def forward(self, source, steps, target=None):
        _, state = self.encoder(self.embed(source))
        token = torch.full_like(source[:, :1], self.start)
        outputs = []
        for step in range(steps):
            y, state = self.decoder(self.embed(token), state)
            logits = self.out(y)
            outputs.append(logits)
            token = logits.argmax(dim=-1)
            if target is not None and self.training:
                forced = torch.rand_like(token, dtype=torch.float32) < self.forcing
                token = torch.where(forced, target[:, step : step + 1], token)
        return torch.cat(outputs, dim=1)


def test_an_encoder_decoder_is_taught_by_forcing():
    ours, theirs = pair(TRANSLATOR, Translator)
    source, target = torch.randint(0, 20, (4, 6)), torch.randint(0, 20, (4, 5))
    same_step(ours, theirs, source, 5, target)
    assert ours(source, 7).shape == (4, 7, 20)
    ours.train()
    torch.manual_seed(0)
    taught = ours(source, 5, target)
    torch.manual_seed(0)
    assert not torch.equal(taught, ours(source, 5))  # what was forced changes what follows
