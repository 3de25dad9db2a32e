"""Each construct of the forward language against the same method written by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lang_helpers import build, errors, faults, plain, read
from torch import nn

X = torch.arange(24.0).reshape(2, 3, 4) / 7

CASES = {
    "assignments": (
        "a = b = x + 1\nc, (d, *e) = a, (b, 2, 3)\n[f, g] = e\nc += d\nreturn c * f - g",
        lambda self, x: (x + 1) * 4 - 3,
    ),
    "operators": (
        "return -x + 2 * x / 3 - x // 2 % 5 + x ** 2 + (+x)",
        lambda self, x: -x + 2 * x / 3 - x // 2 % 5 + x**2 + (+x),
    ),
    "matmul": ("return x @ x.transpose(1, 2)", lambda self, x: x @ x.transpose(1, 2)),
    "bits": ("m = (x > 1) & ~(x > 2) | (x == 0)\nreturn m ^ True", lambda self, x: ((x > 1) & ~(x > 2) | (x == 0)) ^ True),
    "comparisons": (
        "return 0 < len(x) <= 2 and 3 in [1, 3] and not 4 in (5,) or None is None",
        lambda self, x: 0 < len(x) <= 2 and 3 in [1, 3] and 4 not in (5,),
    ),
    "subscripts": (
        "y = x.clone()\ny[:, 0] = 0\ny[..., -1] += 1\nreturn y[None, 0, 1:, ::2]",
        lambda self, x: _subscripts(x),
    ),
    "conditional": ("return x.sum() if x.ndim == 3 else x", lambda self, x: x.sum()),
    "if": (
        "if x.size(0) == 3:\n  y = x\nelif x.size(0) == 2:\n  y = 2 * x\nelse:\n  y = 3 * x\nreturn y",
        lambda self, x: 2 * x,
    ),
    "loops": (
        "t = 0\nfor i in range(9):\n  if i == 1: continue\n  if i == 5: break\n  t += i\n"
        "for i, (a, b) in enumerate(zip(x, reversed(list(x)))):\n  t = t + i * a @ b.T\n  pass\nreturn t",
        lambda self, x: 0 + 2 + 3 + 4 + x[1] @ x[0].T,
    ),
    "comprehensions": (
        "d = {k: v + 1 for k, v in {'a': x}.items() if k != 'b'}\nreturn cat([y * 2 for y in d['a']] + [z for z in x if True], dim=0)",
        lambda self, x: torch.cat([*((x + 1) * 2), *x], dim=0),
    ),
    "generator": ("return sum(y * y for y in x)", lambda self, x: x[0] * x[0] + x[1] * x[1]),
    "lists": (
        "out = []\nfor y in x:\n  out.append(y)\nout.extend([x[0]])\nlast = out.pop()\nreturn stack([*out, last])",
        lambda self, x: torch.stack([x[0], x[1], x[0]]),
    ),
    "starred arguments": ("return x.view(*x.shape[:-1], 2, -1)", lambda self, x: x.view(2, 3, 2, 2)),
    "keywords": ("return x.mean(dim=[1, 2], keepdim=True)", lambda self, x: x.mean(dim=[1, 2], keepdim=True)),
    "several outputs": ("return {'y': x, 'shape': (x.shape[0], *x.shape[1:])}", lambda self, x: {"y": x, "shape": (2, 3, 4)}),
    "no_grad": ("with no_grad():\n  y = x.detach() * 2\nreturn y + x", lambda self, x: 3 * x),
    "builtins": (
        "return x * min(1, max(2, 3)) + sum([1, 2]) + abs(-1) + round(2.4) + int(1.5) + float(2) + any([False]) + all([]) + bool(1) + len(tuple(sorted([1])))",
        lambda self, x: x * 1 + 3 + 1 + 2 + 1 + 2.0 + 0 + 1 + 1 + 1,
    ),
    "dtypes": ("return x.to(float32) + zeros(4, dtype=float, device=x.device)", lambda self, x: x.float() + torch.zeros(4, dtype=float)),
    "greek": ("β = x + 1  # größer\nreturn β", lambda self, x: x + 1),
    "strings": ("return einsum('bij,bkj->bik', x, x)", lambda self, x: torch.einsum("bij,bkj->bik", x, x)),
    "fields of results": ("return x.max(dim=1).values + finfo(x.dtype).eps", lambda self, x: x.max(dim=1).values + torch.finfo(x.dtype).eps),
    "device": ("return x if x.device.type == 'cpu' else 0", lambda self, x: x),
    "underscore": ("_, y = x\nreturn y + sum([1 for _ in range(2)])", lambda self, x: x[1] + 2),
    "continued lines": ("y = (x +\n     1)\nreturn y \\\n  * 2", lambda self, x: (x + 1) * 2),
    "in place": ("y = x * 2\ny += x\ny.mul_(2)\nreturn y", lambda self, x: 6 * x),
    "a local named as a builtin of Python": ("type = x\nid = type + 1\nreturn id", lambda self, x: x + 1),
}  # fmt: skip


def _subscripts(x):
    y = x.clone()
    y[:, 0] = 0
    y[..., -1] += 1
    return y[None, 0, 1:, ::2]


def same(a, b):
    if isinstance(b, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    return a == b


@pytest.mark.parametrize("name", CASES)
def test_a_construct_does_what_python_does(name):
    text, by_hand = CASES[name]
    assert same(build(text)(X), by_hand(None, X))


def test_a_method_on_a_text_is_refused():
    assert faults("return x * 'ä'.count('ä')") == ["attribute 'count' of a constant is not part of the language"]


def test_layers_parameters_buffers_args_and_training_are_taken_from_self():
    module = build(
        "y = relu(fc(x)) * scale + shift * depth\nif training:\n  y = y + 1\nreturn y",
        args={"depth": 3}, layers={"fc": nn.Linear(4, 4)}, parameters={"scale": torch.ones(4) * 2}, buffers={"shift": torch.ones(4)},
    )  # fmt: skip
    expected = F.relu(module.fc(X)) * module.scale + module.shift * 3
    assert torch.equal(module(X), expected + 1)
    assert torch.equal(module.eval()(X), expected)


def test_a_buffer_is_updated_in_forward_and_lives_in_the_state_dict():
    module = build(
        "with no_grad():\n  mean = 0.9 * mean + 0.1 * x.mean()\n  count += 1\nreturn x - mean",
        buffers={"mean": torch.zeros(()), "count": torch.zeros((), dtype=torch.int64)},
    )
    twin = copy.deepcopy(module)
    assert torch.equal(module(X), X - 0.1 * X.mean())
    module(X)
    assert module.state_dict()["count"] == 2 and torch.equal(module.mean, 0.9 * (0.1 * X.mean()) + 0.1 * X.mean())
    assert twin.count == 0


def test_optional_inputs_are_none_when_not_given():
    module = build("if mask is not None:\n  x = x * mask\nreturn x", optional=("mask",))
    assert module(X) is X
    assert torch.equal(module(X, mask=X), X * X)
    assert torch.equal(module(x=X), X)


def test_containers_are_looped_over_subscripted_and_called():
    module = build(
        "for i, block in enumerate(trunk):\n  x = block(x) * (i + 1)\n"
        "for block in trunk[1:]:\n  x = block(x)\n"
        "x = trunk[-1](x) + stack_(x)\n"
        "outs = {name: head(x) for name, head in heads.items()}\n"
        "for name in heads:\n  outs[name] = outs[name] + heads[name](x)\n"
        "for head in heads.values():\n  x = head(x)\n"
        "for layer in (stack_[0], heads['a']):\n  x = layer(x)\n"
        "outs['x'] = x + trunk[0].weight.sum() + stack_[1].bias\nreturn outs",
        layers={
            "trunk": nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]),
            "stack_": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
            "heads": nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}),
        },
    )
    x = X
    for i, block in enumerate(module.trunk):
        x = block(x) * (i + 1)
    x = module.trunk[1](x)
    x = module.trunk[-1](x) + module.stack_(x)
    outs = {name: head(x) + head(x) for name, head in module.heads.items()}
    x = module.heads["b"](module.heads["a"](x))
    x = module.heads["a"](module.stack_[0](x))
    outs["x"] = x + module.trunk[0].weight.sum() + module.stack_[1].bias
    assert same(module(X), outs)


def test_a_recurrent_layers_tuple():
    module = build(
        "y, (h, c) = lstm(x)\nreturn y[:, -1] + h[0] + c[0]", layers={"lstm": nn.LSTM(4, 4, batch_first=True)}
    )
    y, (h, c) = module.lstm(X)
    assert torch.equal(module(X), y[:, -1] + h[0] + c[0])


def test_what_is_emitted_is_what_an_expert_would_write():
    forward = read(
        "x = relu(conv(x)) * scale\nreturn (x + 1) * (2 if training else width)",
        args=frozenset({"width"}), layers={"conv": plain()}, parameters={"scale"},
    )  # fmt: skip
    assert forward.to_source({"relu": "F.relu"}) == (
        "def forward(self, x):\n"
        "    x = F.relu(self.conv(x)) * self.scale\n"
        "    return (x + 1) * (2 if self.training else self.width)"
    )
    assert forward.source_lines() == {2: 21, 3: 22}
    assert forward.layers == ("conv",) and forward.functions == ("relu",) and forward.args == ("width",)
    assert forward.parameters == ("scale",) and forward.builtins == ()


def test_the_function_is_the_very_code_of_the_same_method_by_hand():
    class ByHand(nn.Module):
        def forward(self, x, mask=None):
            for block in self.trunk:
                x = relu(block(x))  # noqa: F821
            return cat([x, mask]) if mask is not None else x.mean(dim=1)  # noqa: F821

    text = "for block in trunk:\n  x = relu(block(x))\nreturn cat([x, mask]) if mask is not None else x.mean(dim=1)"
    module = build(text, optional=("mask",), layers={"trunk": nn.ModuleList([nn.Linear(4, 4)])})
    ours, theirs = type(module).forward.__code__, ByHand.forward.__code__
    assert ours.co_code == theirs.co_code and ours.co_names == theirs.co_names
    assert ours.co_varnames == theirs.co_varnames
    assert type(module).forward.__qualname__ == ours.co_qualname == "Net.forward"


def test_the_functions_globals_hold_what_it_uses_and_no_builtins_that_reach_out():
    function = type(build("return relu(x) * len(x)")).forward
    assert set(function.__globals__) == {"__builtins__", "relu", "len"}
    reaching_out = {"open", "eval", "exec", "compile", "input", "breakpoint", "print", "help", "exit", "quit"}
    assert reaching_out.isdisjoint(function.__globals__["__builtins__"])


def test_buffers_read_and_written_are_told():
    forward = read("a = x + b\nreturn a", buffers={"a", "b"})
    assert (forward.reads, forward.writes) == (("b", "a"), ("a",))


def test_a_declared_name_wins_over_a_registered_function():
    module = build("return relu(x) + linear", inputs=("x", "linear"), layers={"relu": nn.Identity()})
    assert torch.equal(module(X, X), 2 * X)
    assert faults("return linear(x, x)", inputs=("x", "linear")) == ["'linear' is an input and can't be called"]


def test_an_error_holds_all_faults():
    assert len(errors("y = a + b\nz = c(x)\nreturn x.data").faults) == 4
