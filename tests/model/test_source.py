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
torch.set_num_threads(1)
for name, (title, inputs, varied) in torch.load(f"{folder}/jobs.pt").items():
    spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(3)
    model = getattr(module, title)()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modules = [name for name, _ in model.named_modules()]
    torch.manual_seed(4)
    results[name] = {"state": state, "modules": modules, "output": model(*inputs), "after": dict(model.state_dict())}
    if varied is not None:
        with torch.device("meta"):
            other = getattr(module, title)(**varied)
        results[name]["varied"] = {key: tuple(value.shape) for key, value in other.state_dict().items()}
assert "builder" not in sys.modules
torch.save(results, f"{folder}/results.pt")
"""

sys.path.insert(0, str(pathlib.Path(__file__).parent / "zoo"))

from zoo_cases import CASES as SHIPPED  # noqa: E402
from zoo_cases import FACTS  # noqa: E402

MODELS = {
    "features": (
        """
        inputs: {x: [B, 1, 8, 8]}
        layers:
          trunk: {type: FeatureExtractor, of: {type: model/cnn, channels: 4, depth: 1}, until: fc}
          head: {type: Linear, out_features: 3}
        """,
        lambda: torch.randn(2, 1, 8, 8),
        {},
    ),
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
    "conditions": (
        """
        inputs: {x: [B, 4]}
        args: {deep: true, norm: false, width: 6}
        blocks:
          Unit:
            args: {width: required, skip: =width > 6}
            layers:
              fc: {type: Linear, out_features: =width}
              skip_fc: {type: Linear, out_features: =width, when: =skip}
              parts:
                type: ModuleDict
                layers:
                  a: {type: Linear, out_features: =width}
                  b: {type: Linear, in_features: 4, out_features: 3, when: =not skip}
            forward: |
              y = parts.a(fc(x))
              return y if skip_fc is None else y + skip_fc(x)
        layers:
          first: {type: Unit, width: =width}
          second: {type: Unit, width: =2 * width}
          body:
            type: Sequential
            layers:
              - {type: Linear, out_features: =width}
              - {type: LayerNorm, when: =norm}
              - {type: Tanh, when: =deep}
              - {type: Linear, out_features: 5, when: =deep}
          tail:
            type: Sequential
            layers:
              act: {type: ReLU, when: =deep}
              out: {type: Linear, out_features: 2}
          list: {type: ModuleList, layers: {one: {type: Linear, out_features: 2}, two: ReLU}}
        forward: |
          x = tail(body(second(first(x))))
          for layer in list:
            x = layer(x)
          return x
        """.replace("list:", "named:").replace("in list", "in named"),
        lambda: torch.randn(2, 4),
        {},
    ),
    "rounded": (
        """
        inputs: {x: [B, 4]}
        args: {width: 10}
        blocks:
          Half:
            args: {width: required, inner: =ceil(width / 3), outer: =2 * width}
            layers:
              down: {type: Linear, out_features: =ceil(width / 3)}
              norm: {type: LayerNorm, bias: =outer is not None}
              up: {type: Linear, out_features: =width}
            forward: |
              if outer is None:  # given as null
                x = down(x)
              else:  # its formula
                # twice the width
                x = down(x) * outer
              return up(norm(x)) + inner
        layers:
          plain: {type: Half, width: =width}
          without: {type: Half, width: =width, outer: null}
        """,
        lambda: torch.randn(2, 4),
        {},
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

VARIED = {
    "autoencoder": {"hidden": [20, 10, 8]},
    "bert": {"width": 64, "depth": 3},
    "cnn": {"channels": 12},
    "gpt": {"width": 64, "vocab": 77},
    "gpt2": {"width": 64},
    "llama": {"width": 64, "hidden": 80, "depth": 1},
    "lstm_tagger": {"hidden": 10, "depth": 3},
    "mlp": {"hidden": 20, "depth": 4},
    "multitask": {"hidden": 24, "depth": 1},
    "resnet18": {"width": 8, "depths": [1, 3, 2, 1]},
    "resnet50": {"width": 8, "depths": [1, 3, 2, 1]},
    "siamese": {"channels": 6, "code": 3},
    "table": {"hidden": 24, "depth": 3},
    "unet": {"width": 6, "depth": 3},
    "vae": {"hidden": 30, "code": 7},
    "vit": {"width": 64, "patch": 16},
}
"""Other arguments for the shipped models: the sizes in the printed files follow them."""

CASES = [*MODELS, *SHIPPED]


def read(name):
    """The definition of a case, values for its arguments, its data, and inputs by name."""
    torch.manual_seed(2)
    if name in SHIPPED:
        case = SHIPPED[name]
        document = read_yaml(shipped_configs() / f"model/{name}.yaml", f"configs/model/{name}.yaml")
        given, data, inputs = case.args, FACTS, dict(zip(case.names, case.make(), strict=True))
    else:
        text, make, data = MODELS[name]
        document = parse_yaml(textwrap.dedent(text), f"{name}.yaml")
        given, inputs = {}, make()
    title = "".join(part.capitalize() for part in name.split("_"))
    definition = read_definition(document.value, Origins(document.origins), (), blocks(search_path()), title)
    return definition, given, data, inputs if isinstance(inputs, dict) else {definition.inputs[0].name: inputs}


def explored(definition, given, data, inputs):
    """What exploring a case tells, with the shapes of its inputs as a data set would tell them."""
    examples = {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }
    return explore(definition, given, data, examples)


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: sums are split by threads
    ours, jobs = {}, {}
    for name in CASES:
        definition, given, data, inputs = read(name)
        found = explored(definition, given, data, inputs)
        (path / f"{name}.py").write_text(source(definition, given, data, found))
        torch.manual_seed(3)
        model = construct(definition, given, data, found.sizes)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        modules = [name for name, _ in model.named_modules()]
        torch.manual_seed(4)
        output = model(*inputs.values())
        ours[name] = {"state": state, "modules": modules, "output": output, "after": dict(model.state_dict())}
        if name in VARIED:
            other = given | VARIED[name]
            ours[name]["varied"] = shapes(explored(definition, other, data, inputs).model.state_dict())
        jobs[name] = (definition.name, tuple(inputs.values()), VARIED.get(name))
    torch.set_num_threads(threads)
    torch.save(jobs, path / "jobs.pt")
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


@pytest.mark.parametrize("name", VARIED)
def test_sizes_in_the_printed_file_follow_its_arguments(folder, name):
    _, ours, theirs = folder
    assert ours[name]["varied"] == theirs[name]["varied"] != shapes(ours[name]["state"])


def test_every_shipped_model_is_printed():
    assert set(SHIPPED) == set(VARIED) == {path.stem for path in (shipped_configs() / "model").glob("*.yaml")}


def test_the_text_is_what_one_would_write_by_hand():
    text = """
        args: {channels: 16, depth: 2, classes: =data.num_classes}
        inputs: {x: [B, 3, 16, 16]}
        blocks:
          Residual:
            args: {channels: required}
            layers:
              conv: {type: Conv2d, out_channels: =channels, kernel_size: 3, padding: 1, bias: false}
              norm: BatchNorm2d
            # not the paper's order
            forward: |
              # the shortcut
              return x + relu(norm(conv(x)))  # after the activation
        layers:
          stem: {type: Conv2d, out_channels: =channels, kernel_size: 3}
          trunk: {type: Sequential, repeat: =depth, layer: {type: Residual, channels: =channels}}
          head: {type: Sequential, layers: {pool: {type: AdaptiveAvgPool2d, output_size: 1}, flatten: Flatten, fc: {type: Linear, out_features: =classes}}}
        forward: return head(trunk(stem(x)))
    """
    document = parse_yaml(textwrap.dedent(text), "net.yaml")
    definition = read_definition(document.value, Origins(document.origins), (), None, "Net")
    data = {"num_classes": 10}
    assert source(definition, {"depth": 3}, data, explore(definition, {"depth": 3}, data)) == textwrap.dedent(
        '''\
        """Net in plain PyTorch, written by `builder show code` from net.yaml."""

        from collections import OrderedDict

        import torch.nn.functional as F
        from torch import nn


        # net.yaml:5
        class Residual(nn.Module):
            def __init__(self, *, channels):
                super().__init__()
                self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
                self.norm = nn.BatchNorm2d(channels)

            def forward(self, x):  # net.yaml:11
                # the shortcut
                return x + F.relu(self.norm(self.conv(x)))  # after the activation


        class Net(nn.Module):
            def __init__(self, *, channels=16, depth=3, classes=10):
                super().__init__()
                self.stem = nn.Conv2d(3, channels, kernel_size=3)
                self.trunk = nn.Sequential(*[Residual(channels=channels) for _ in range(depth)])
                self.head = nn.Sequential(
                    OrderedDict(
                        pool=nn.AdaptiveAvgPool2d(1),
                        flatten=nn.Flatten(),
                        fc=nn.Linear(channels, classes),
                    )
                )

            def forward(self, x):  # net.yaml:18
                return self.head(self.trunk(self.stem(x)))
        '''
    )


def test_a_users_layer_that_cannot_be_imported_is_said_so():
    @builder.register.layer
    class SourceInside(torch.nn.Module):
        def forward(self, x):
            return x

    definition = read_definition({"layers": {"inside": "SourceInside"}}, Origins(), (), None, "Net")
    text = source(definition, {}, {}, explore(definition, {}, {}))
    assert "# SourceInside is not at the top level of test_source; it must move there to be imported.\n" in text
