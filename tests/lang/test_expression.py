import pytest
import torch
import torch.nn.functional as F
from lang_helpers import CALLABLES, CONSTANTS, FUNCTIONS

from builder.errors import ConfigError, Origin
from builder.lang.forward import parse_expression

NAMES = ("output", "prediction", "target", "depth", "mask")


def read(text, **more):
    return parse_expression(
        text, NAMES, CALLABLES, constants=CONSTANTS, path=("task", "loss"),
        origin=Origin("task.yaml", 3, 1, text_line=3, text_indent=6), **more,
    )  # fmt: skip


def messages(text, **more):
    with pytest.raises(ConfigError) as caught:
        read(text, **more)
    return [fault.message for fault in caught.value.faults]


def test_a_loss_over_outputs_and_batch():
    expression = read("cross_entropy(output.seg, target) + 0.3 * mse_loss(output.depth, depth)", mappings=["output"])
    assert expression.names == ("output", "target", "depth")
    assert expression.lookups == (("output", "seg"), ("output", "depth"))
    assert expression.functions == ("cross_entropy", "mse_loss")
    seg, depth, target = torch.randn(4, 3), torch.randn(4), torch.tensor([0, 1, 2, 0])
    values = {"output": {"seg": seg, "depth": depth}, "target": target, "depth": depth + 1, "unused": None}
    expected = F.cross_entropy(seg, target) + 0.3 * F.mse_loss(depth, depth + 1)
    assert torch.equal(expression.bind(FUNCTIONS)(values), expected)


def test_a_tensors_attributes_are_its_own_where_it_is_no_mapping():
    values = {"output": torch.randn(3, 4), "mask": torch.ones(4)}
    assert torch.equal(read("(output * mask).mean(dim=1)").bind(FUNCTIONS)(values), values["output"].mean(dim=1))
    assert read("output.mean()").lookups == ()
    assert read("output.mean + 1", mappings=["output"]).bind(FUNCTIONS)({"output": {"mean": 2}}) == 3


def test_comprehensions_conditionals_and_subscripts():
    values = {"output": [torch.ones(2), torch.zeros(2)], "mask": None}
    expression = read("sum([o.sum() for o in output]) if mask is None else output[0]")
    assert expression.bind(FUNCTIONS)(values) == 2
    assert read("output['a'] + len(output)").bind(FUNCTIONS)({"output": {"a": 1}}) == 2
    assert read("{'a': output, 'b': (mask, 1.5)}").bind(FUNCTIONS)({"output": 1, "mask": 2}) == {"a": 1, "b": (2, 1.5)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("outptu", ["unknown name 'outptu'"]),
        ("training", ["unknown name 'training'"]),
        ("self", ["unknown name 'self'"]),
        ("values", ["unknown name 'values'"]),
        ("_values", ["unknown name '_values'"]),
        ("output.nope", ["attribute 'nope' is not part of the language"]),
        ("output.__class__", ["attribute '__class__' is not part of the language"]),
        ("target(output)", ["'target' is an input and can't be called"]),
        ("no_grad()", ["'no_grad' can only stand in `with`"]),
        ("[output for output in target]", ["'output' is a value of the expression and can't be assigned"]),
        ("output = 3", ["not Python: invalid syntax"]),
        ("return output", ["not Python: invalid syntax"]),
        ("", ["not Python: invalid syntax"]),
        ("mse_loss(output, *target", ["not Python: '(' was never closed"]),
        ("lambda: output", ["lambda is not part of the language"]),
    ],
)
def test_a_wrong_expression_is_told(text, found):
    assert messages(text) == found


def test_a_key_of_a_mapping_cant_begin_with_an_underscore():
    assert messages("output.__class__", mappings=["output"]) == ["the name '__class__' begins with an underscore"]
    assert messages("output.depth.__class__", mappings=["output"]) == [
        "attribute '__class__' is not part of the language"
    ]


def test_the_whole_message():
    with pytest.raises(ConfigError) as caught:
        read("mse_loss(output, targte)")
    assert str(caught.value) == (
        "task.yaml:3: task.loss: unknown name 'targte'\n"
        "  found:    'mse_loss(output, targte)'\n"
        "  did you mean 'target'?"
    )
    assert caught.value.faults[0].origin.column == 6 + 18


def test_a_value_may_be_called_like_a_function():
    expression = parse_expression("relu + stack([relu])", ["relu"], CALLABLES)
    assert torch.equal(expression.bind(FUNCTIONS)({"relu": torch.ones(1)}), torch.full((1, 1), 2.0))
