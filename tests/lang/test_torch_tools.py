"""What PyTorch's own tools see in an emitted forward is ordinary Python."""

import copy

import pytest
import torch
from lang_helpers import build
from torch import nn

TEXT = """\
outs = []
for i, block in enumerate(trunk):
  x = relu(block(x)) + i
  outs.append(x)
for name, head in heads.items():
  x = x + head(x) * scale
x = sum([y * width for y in outs]) + x
for a, b in zip(trunk, reversed(trunk)):
  x = a(x) - b(x)
with no_grad():
  mean = x.mean(dim=0)
y = x[[0, 1]] if mask is None else x[[0, 1]] * mask
return {"y": y, "mean": cat([mean, x.max(dim=0).values]), "sorted": [len(outs), *sorted([3, 1])]}
"""


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build(
        TEXT.replace("mean = ", "m = ").replace("[mean,", "[m,"), optional=("mask",), args={"width": 2}, parameters={"scale": torch.ones(4)},
        layers={
            "trunk": nn.ModuleList([nn.Linear(4, 4), build("return relu(fc(x))", layers={"fc": nn.Linear(4, 4)})]),
            "heads": nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}),
        },
    )  # fmt: skip


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def equal(first, second):
    return first["sorted"] == second["sorted"] and all(torch.equal(first[key], second[key]) for key in ("y", "mean"))


def test_compile_takes_the_whole_graph(net):
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert equal(compiled(X), net(X))
    assert equal(compiled(X, mask=torch.ones(4)), net(X))


def test_export_takes_it_and_names_the_yaml_line(net):
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net, (X,), dynamic_shapes={"x": {0: batch}})
    bigger = torch.randn(5, 4)
    assert torch.equal(program.module()(bigger)["y"], net(bigger)["y"])
    traces = [node.meta["stack_trace"] for node in program.graph.nodes if node.meta.get("stack_trace")]
    assert any('File "net.yaml", line 23, in forward' in trace for trace in traces)


def test_fx_traces_it(net):
    traced = torch.fx.symbolic_trace(net, concrete_args={"mask": None})
    assert torch.equal(traced(X)["y"], net(X)["y"])


def test_deepcopy_and_a_backward_pass(net):
    twin = copy.deepcopy(net)
    twin(X)["y"].sum().backward()
    assert twin.trunk[0].weight.grad is not None and net.trunk[0].weight.grad is None


def test_autocast_and_enable_grad_are_contexts():
    net = build(
        "with autocast('cpu', enabled=False):\n  with enable_grad():\n    y = fc(x)\nreturn y",
        layers={"fc": nn.Linear(4, 4)},
    )
    with torch.no_grad():
        assert net(X).requires_grad
