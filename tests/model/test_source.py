"""A model printed as plain PyTorch is the same model, in a process without builder; and its text is what one would write."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

import builder
from builder.config.folders import blocks, search_path, shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import parse_yaml, read_yaml
from builder.model.build import construct
from builder.model.infer import explore
from builder.model.read import read_definition
from builder.model.source import source

USERS = """
import torch
from torch import nn


class SourceScale(nn.Module):
    def __init__(self, num_features: int, start: float = 1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((num_features,), start))

    def forward(self, x):
        return x * self.scale


def source_shift(x, by=1):
    return x + by


def source_ramp_(tensor, top=1.0):
    return tensor.copy_(torch.linspace(0, top, tensor.numel()).view_as(tensor))
"""

CHILD = """
import importlib.util, sys, torch

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "builder":
            raise ImportError("builder can't be imported here")

sys.meta_path.insert(0, Blocker())
folder = sys.argv[1]
sys.path[:0] = [folder]
results = {}
for name, (title, inputs) in torch.load(f"{folder}/inputs.pt").items():
    spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(3)
    model = getattr(module, title)()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    torch.manual_seed(4)
    results[name] = {"state": state, "modules": modules, "output": model(**inputs) if isinstance(inputs, dict) else model(inputs)}
    results[name]["after"] = dict(model.state_dict())
assert "builder" not in sys.modules
torch.save(results, f"{folder}/results.pt")
"""

MODELS = {
    "tensors": (
        """
        args: {out_features: 3, in_features: 4}
        parameters:
          weight: {shape: [=out_features, =in_features], init: {type: normal_, std: 0.02}}
          bias: {shape: [=out_features], init: {type: constant_, val: 0.5}}
          gain: {shape: [], init: ones_}
          shift: {shape: [1, =2 * out_features // 2], init: {type: uniform_, a: -1, b: =1 / in_features}, requires_grad: false}
          offset: {shape: [2], init: zeros_, dtype: float64}
        buffers:
          mask: {value: "ones(out_features, in_features).tril()"}
          steps: {value: "arange(out_features)", persistent: false}
          ratio: {value: 0.1, dtype: float64}
          mean: [=in_features]
          noise: {shape: [=in_features], init: {type: trunc_normal_, std: 0.5}}
        forward: |
          y = linear(x - mean + noise, weight * mask, bias) ** 2
          return gain * y + shift + steps + ratio.to(y.dtype) * offset.sum()
        """,
        lambda: torch.randn(5, 4),
        {},
    ),
    "running": (
        """
        args: {width: 3, momentum: 0.1}
        buffers: {mean: [=width]}
        forward: |
          # the mean of what was seen while training
          if training:
            with no_grad():
              mean = (1 - momentum) * mean + momentum * x.mean(dim=0)  # moves slowly

          return x - mean
        """,
        lambda: torch.randn(8, 3),
        {},
    ),
    "heads": (
        """
        inputs: {x: [B, 6]}
        args: {width: 5}
        layers:
          shared: {type: Linear, out_features: =width}
          heads:
            type: ModuleDict
            layers:
              mean: {type: Linear, out_features: 1}
              scale: {type: Sequential, layers: [{type: Linear, out_features: =2 * width}, GELU, {type: Linear, out_features: 2}]}
        forward: |
          x = relu(shared(x))
          return {name: head(x) for name, head in heads.items()}
        """,
        lambda: torch.randn(3, 6),
        {},
    ),
    "repeats": (
        """
        inputs: {x: [B, 4]}
        args: {widths: [8, 16, 32], twice: true}
        blocks:
          Step:
            args: {width: required, twice: false}
            layers:
              - {type: Linear, out_features: =2 * width if twice else width}
              - Tanh
              - {type: Linear, out_features: =width}
        layers:
          steps:
            type: Sequential
            repeat: =len(widths)
            layer:
              type: Sequential
              repeat: =i + 1
              layer: {type: Step, width: "=widths[i]", twice: =twice and i > 0}
        """,
        lambda: torch.randn(3, 4),
        {},
    ),
    "pyramid": (
        """
        inputs: {x: [B, 3, 16, 16]}
        args: {channels: [8, 16], depth: 2, classes: =data.num_classes}
        blocks:
          ConvNorm:
            args: {channels: required, stride: 1}
            layers:
              conv: {type: Conv2d, out_channels: =channels, kernel_size: 3, stride: =stride, padding: 1, bias: false}
              norm: BatchNorm2d
              act: {type: ReLU, inplace: true}
          Stage:
            args: {channels: required, depth: required}
            layers:
              down: {type: Conv2d, out_channels: =channels, kernel_size: [2, 2], stride: 2}
              blocks: {type: Sequential, repeat: =depth, layer: {type: ConvNorm, channels: =channels if i else 2 * channels}}
            forward: |
              return blocks(down(x))
        layers:
          stem: {type: ConvNorm, channels: 5}
          stages: {type: Sequential, repeat: =len(channels), layer: {type: Stage, channels: "=channels[i]", depth: =depth}}
          pool: {type: AdaptiveAvgPool2d, output_size: 1}
          flatten: Flatten
          head: {type: Linear, out_features: =classes}
        """,
        lambda: torch.randn(2, 3, 16, 16),
        {"num_classes": 7},
    ),
    "inline": (
        """
        inputs: {x: [B, 6]}
        args: {width: 8, drop: 0.25, scale: =2 ** 0.5, hidden: =4 * width}
        layers:
          trunk:
            type: ModuleList
            repeat: 3
            layer:
              args: {inner: =width // 2}
              layers:
                gate:
                  layers:
                    fc: {type: Linear, out_features: =width}
                    sigmoid: Sigmoid
                value: {type: Linear, out_features: =width}
                down: {type: Linear, out_features: =inner + i}
                up: {type: Linear, out_features: =hidden}
                drop: {type: Dropout, p: =drop}
              forward: |
                return scale * drop(up(down(gate(x) * value(x)))) + inner
          out: {type: Linear, out_features: 1}
        forward: |
          for block in trunk:
            x = block(x)
          return out(x)
        """,
        lambda: torch.randn(3, 6),
        {},
    ),
    "ties": (
        """
        inputs: {ids: {shape: [B, T], dtype: int64}}
        args: {vocab: 11, width: 6}
        blocks:
          Coder:
            args: {width: required}
            layers:
              parts: {type: Sequential, layers: [{type: Linear, out_features: =width}, Tanh, {type: Linear, out_features: =width}]}
            tie: {parts.2.weight: parts.0.weight}
            forward: return x + parts(x)
        layers:
          tok: {type: Embedding, num_embeddings: =vocab, embedding_dim: =width}
          coders: {type: ModuleList, repeat: 2, layer: {type: Coder, width: =width}}
          heads: {type: ModuleDict, layers: {next: {type: Linear, out_features: =vocab, bias: false}}}
        tie:
          heads.next.weight: tok.weight
          coders.1.parts.0.bias: coders.0.parts.0.bias
        forward: |
          x = tok(ids)
          for coder in coders:
            x = coder(x)
          return heads.next(x)
        """,
        lambda: torch.randint(0, 11, (2, 5)),
        {},
    ),
    "optional": (
        """
        inputs: {image: [B, 4], text: {shape: [B, 2], optional: true}, rounds: {dtype: int, optional: true}}
        layers:
          a: {type: Linear, out_features: 3}
          b: {type: Linear, in_features: 2, out_features: 3}
        forward: |
          h = a(image)
          if text is not None and rounds is not None:
            h += b(text)
            for _ in range(rounds):
              h = h * 0.5
          elif text is not None:
            h += b(text)
          else:
            h = -h
          first, *others = h.unbind(1)
          return {"hidden": h, "parts": (h[:, :1], h[:, 1 + 1:], h[..., -1]), "others": others}
        """,
        lambda: {"image": torch.randn(2, 4), "text": torch.randn(2, 2), "rounds": 2},
        {},
    ),
    "listed": (
        "{inputs: {x: [B, 4]}, layers: [{type: Linear, out_features: 3}, ReLU, {type: Linear, out_features: 2}]}",
        lambda: torch.randn(5, 4),
        {},
    ),
    "transformer": (
        """
        inputs: {x: [B, T, 8]}
        args: {heads: 2, depth: 2}
        layers:
          encoder:
            type: TransformerEncoder
            encoder_layer:
              {type: TransformerEncoderLayer, nhead: =heads, dim_feedforward: 16, dropout: 0.0, batch_first: true, norm_first: true}
            num_layers: =depth
            norm: {type: LayerNorm, normalized_shape: 8}
            enable_nested_tensor: false
          rnn: {type: LSTM, hidden_size: =4 * heads, batch_first: true, bidirectional: true}
          attend: {type: MultiheadAttention, num_heads: =heads, batch_first: true, dtype: float32}
          out: {type: Linear, out_features: 1}
        forward: |
          h, (last, cell) = rnn(encoder(x))
          a, _ = attend(h, h, h, need_weights=False)
          return out(a), last
        """,
        lambda: torch.randn(2, 5, 8),
        {},
    ),
    "users": (
        """
        inputs: {x: [B, 4]}
        parameters: {ramp: {shape: [4], init: {type: source_ramp_, top: 3}}}
        layers:
          scale: {type: SourceScale, start: 2.0}
        forward: return source_shift(scale(x) * ramp, by=2)
        """,
        lambda: torch.randn(2, 4),
        {},
    ),
    "shadows": (
        """
        inputs: {x: [B, 3, 4]}
        args: {math: 9}
        blocks:
          OrderedDict:
            layers: {a: {type: Linear, out_features: =4}, "b-c": ReLU}
        layers:
          first: OrderedDict
          rest: {type: Sequential, layers: {class: {type: Linear, out_features: "=ceil(sqrt(math))"}}}
        forward: |
          N, T, F = x.shape
          x = rest(first(x))
          torch = silu(x)
          return cat([torch, relu(x).view(N, T, -1)], dim=-1) / sqrt(tensor(float(F)))
        """,
        lambda: torch.randn(2, 3, 4),
        {},
    ),
    "scoped": (
        """
        inputs: {x: [B, 4]}
        args: {depth: 0}
        blocks:
          Outer:
            blocks:
              Pair: {layers: [{type: Linear, out_features: 3}, Tanh]}
            layers: {pair: Pair}
            forward: return pair(x)
          Pair: {layers: [{type: Linear, out_features: 5}]}
        layers:
          a: Outer
          b: Pair
          none: {type: Sequential, repeat: =depth, layer: {type: Linear, out_features: 2}}
        """,
        lambda: torch.randn(2, 4),
        {},
    ),
    "formulas": (
        """
        args:
          classes: =len(data.names)
          width: =2 ** int(log2(data.size)) + max(3, data.size // 2)
          sizes: "=[width, 2 * width]"
          kernel: [3, 3]
        inputs: {x: [B, 2, "=data.size", "=data.size"]}
        layers:
          conv: {type: Conv2d, out_channels: "=sizes[0]", kernel_size: =kernel, padding: "=[k // 2 for k in kernel]"}
          norm: {type: LayerNorm, normalized_shape: "=sizes[:1] + [data.size, data.size]"}
          up: {type: Upsample, scale_factor: [2, 2], mode: nearest}
          pool: {type: AdaptiveMaxPool2d, output_size: [1, 1]}
          out: {type: Linear, in_features: "=sizes[0]", out_features: =classes + data.extra.more}
        forward: |
          dims = kernel
          return out(pool(up(norm(conv(x)))).flatten(1)) * len(dims)
        """,
        lambda: torch.randn(2, 2, 8, 8),
        {"names": ["a", "b"], "size": 8, "extra": {"more": 1}},
    ),
    "long": (
        """
        inputs: {query: [B, T, 8], memory: [B, S, 8]}
        args: {number_of_heads: 2, dropout_probability: 0.0, temperature: 0.75}
        layers:
          project_query: {type: Linear, out_features: 8}
          project_memory: {type: Linear, out_features: 8}
        forward: |
          # Queries look at the memory.
          batch, length, width = query.shape
          heads = project_query(query).view(batch, length, number_of_heads, width // number_of_heads).transpose(1, 2)
          stored = project_memory(memory).view(batch, -1, number_of_heads, width // number_of_heads).transpose(1, 2)

          weights = softmax((heads @ stored.transpose(-2, -1)) / temperature - (heads.mean(dim=-1, keepdim=True) + 0.25), dim=-1)
          weights = dropout(weights, dropout_probability, training) if training and dropout_probability > 0.0 else weights  # as in the paper
          if not training and dropout_probability > 0.0 and temperature > 100.0 and number_of_heads > 1024 and batch > 1:
            weights = weights.detach()
          result = (weights @ stored).transpose(1, 2).reshape(batch, length, width) + query * temperature - memory.mean()
          return result
          # the end
        """,
        lambda: {"query": torch.randn(2, 3, 8), "memory": torch.randn(2, 5, 8)},
        {},
    ),
}  # fmt: skip

SHIPPED = {
    "cnn": (lambda: torch.randn(4, 1, 8, 8), {"num_classes": 10}),
    "mlp": (lambda: torch.randn(4, 1, 8, 8), {"num_outputs": 10}),
    "gpt": (lambda: torch.randint(0, 50, (2, 16)), {"vocab_size": 50, "length": 32}),
}

CASES = [*MODELS, *SHIPPED]


def read(name):
    """The definition of a case, its inputs and its data."""
    if name in SHIPPED:
        document = read_yaml(shipped_configs() / f"model/{name}.yaml", f"configs/model/{name}.yaml")
        inputs, data = SHIPPED[name]
    else:
        text, inputs, data = MODELS[name]
        document = parse_yaml(textwrap.dedent(text), f"{name}.yaml")
    title = name.capitalize()
    torch.manual_seed(2)
    return read_definition(document.value, Origins(document.origins), (), blocks(search_path()), title), inputs(), data


def examples(definition, inputs):
    """Shapes and dtypes of the tensors, by name, as a data set would tell them."""
    values = inputs if isinstance(inputs, dict) else {definition.inputs[0].name: inputs}
    return {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in values.items()
        if isinstance(value, torch.Tensor)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All cases printed to files; their own states and outputs, and those of the files, which a process without
    builder has made."""
    path = tmp_path_factory.mktemp("printed")
    (path / "source_users.py").write_text(USERS)
    spec = importlib.util.spec_from_file_location("source_users", path / "source_users.py")
    users = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(users)
    builder.register.layer(users.SourceScale)
    builder.register.function(users.source_shift)
    builder.register.initialiser(users.source_ramp_)
    ours, inputs = {}, {}
    for name in CASES:
        definition, values, data = read(name)
        found = explore(definition, {}, data, examples(definition, values))
        (path / f"{name}.py").write_text(source(definition, {}, data, found))
        torch.manual_seed(3)
        model = construct(definition, {}, data, found.sizes)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        modules = [name for name, _ in model.named_modules()]
        torch.manual_seed(4)
        output = model(**values) if isinstance(values, dict) else model(values)
        ours[name] = {"state": state, "modules": modules, "output": output, "after": dict(model.state_dict())}
        inputs[name] = (definition.name, values)
    torch.save(inputs, path / "inputs.pt")
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, cwd=path)
    assert done.returncode == 0, done.stderr
    return path, ours, torch.load(path / "results.pt", weights_only=False)


def same(a, b):
    """Whether two outputs are the same to the bit, containers included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("name", CASES)
def test_the_printed_file_has_the_same_keys_bits_and_outputs_without_builder(folder, name):
    _, ours, theirs = folder
    for part in ("state", "after"):
        assert list(ours[name][part]) == list(theirs[name][part])
    assert ours[name]["modules"] == theirs[name]["modules"]
    for part in ("state", "output", "after"):
        assert same(ours[name][part], theirs[name][part]), part


@pytest.mark.parametrize("name", CASES)
def test_the_printed_file_is_formatted_and_clean(folder, name):
    ruff = shutil.which("ruff", path=str(pathlib.Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    path, _, _ = folder
    file = str(path / f"{name}.py")
    options = ["--isolated", "--line-length", "100"]
    done = subprocess.run([ruff, "format", "--diff", *options, file], capture_output=True, text=True, cwd=path)
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [ruff, "check", "--select", "E,F,I,W,B", *options, file], capture_output=True, text=True, cwd=path
    )
    assert done.returncode == 0, done.stdout
