import fnmatch
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import builder
from builder.errors import Origin
from builder.select import NamedModel, read_selector

ORIGIN = Origin("my.yaml", 3)


def selector(raw):
    found, faults = read_selector(raw, ("freeze",), lambda path: ORIGIN)
    assert not faults, faults
    return found


def faults(raw):
    found, told = read_selector(raw, ("freeze",), lambda path: ORIGIN)
    assert found is None
    return "\n".join(map(str, told))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.dropout = nn.Dropout()
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(4), requires_grad=False)


MODEL = Model()
NAMED = NamedModel(MODEL)


def parameters(raw):
    return list(NAMED.parameters_of(selector(raw)))


def modules(raw):
    return list(NAMED.modules_of(selector(raw)))


def test_the_name_of_a_module_means_all_below_it():
    assert parameters("blocks.1") == [f"blocks.1.{name}" for name, _ in MODEL.blocks[1].named_parameters()]
    assert modules("blocks.1") == [name for name, _ in MODEL.named_modules() if name.startswith("blocks.1")]


def test_the_whole_model_is_two_stars():
    assert parameters("**") == [name for name, _ in MODEL.named_parameters()]
    assert modules("**") == [name for name, _ in MODEL.named_modules()]


def test_a_star_stays_within_a_segment():
    assert parameters("blocks.*.norm.bias") == [f"blocks.{index}.norm.bias" for index in range(3)]
    assert parameters("blocks.[01].norm.bias") == ["blocks.0.norm.bias", "blocks.1.norm.bias"]


def test_a_regular_expression_is_matched_in_full():
    assert parameters(r"re:.*\.mlp\.\d\.bias") == [f"blocks.{i}.mlp.{j}.bias" for i in range(3) for j in (0, 2)]


def test_a_type_is_that_of_a_module_above_and_holds_for_subclasses():
    linear = parameters({"type": "Linear", "match": "blocks.0"})
    # MultiheadAttention's out_proj is of a subclass of Linear
    assert linear == [
        f"blocks.0.{name}.{leaf}" for name in ("attention.out_proj", "mlp.0", "mlp.2") for leaf in ("weight", "bias")
    ]
    assert parameters({"type": "Block"}) == parameters("blocks")


def test_all_keys_of_a_mapping_hold():
    assert parameters({"match": "blocks.**", "type": "LayerNorm", "name": "weight", "ndim": 1}) == [
        f"blocks.{index}.norm.weight" for index in range(3)
    ]
    assert parameters({"requires_grad": False}) == ["scale"]
    assert parameters({"ndim": [1], "not": {"type": ["LayerNorm", "Block"]}}) == ["scale"]


def test_any_item_of_a_list_may_hold():
    assert parameters(["scale", {"type": "LayerNorm", "match": "norm"}]) == ["scale", "norm.weight", "norm.bias"]


def test_a_tied_parameter_is_one_and_selected_by_either_name():
    assert NAMED.aliases["embed.weight"] == ("embed.weight", "head.weight")
    assert parameters("head") == parameters("embed") == parameters({"type": "Embedding"}) == ["embed.weight"]
    assert "embed.weight" not in parameters({"not": "head"})


def test_what_is_about_parameters_selects_no_module():
    assert modules({"type": "LayerNorm"}) == ["blocks.0.norm", "blocks.1.norm", "blocks.2.norm", "norm"]
    assert not modules({"type": "LayerNorm", "name": "weight"})
    assert not modules({"match": "blocks", "not": {"ndim": 1}})
    assert modules(["norm", {"ndim": 1}]) == ["norm"]


def test_modules_are_selected_one_by_one():
    """So that `encoder, but not its norms` can hold the modes of all but the norms."""
    found = modules({"match": "blocks.0", "not": {"type": "LayerNorm"}})
    assert "blocks.0" in found and "blocks.0.norm" not in found


def test_a_block_is_a_type():
    model = builder.build(
        {
            "blocks": {"my_block": {"layers": [{"type": "Linear", "in_features": 4, "out_features": 4}]}},
            "inputs": {"x": ["B", 4]},
            "layers": {"one": "my_block", "two": {"type": "Linear", "out_features": 2}},
        }
    )
    named = NamedModel(model)
    assert list(named.parameters_of(selector({"type": "my_block"}))) == ["one.0.weight", "one.0.bias"]


SHAPES = st.sampled_from(
    [
        "blocks",
        "blocks.0",
        "blocks.*.norm",
        "**.weight",
        "embed",
        "head.weight",
        "norm",
        "re:.*bias",
        "scale",
        "nothing",
    ]
)
TYPES = st.lists(
    st.sampled_from(["Linear", "LayerNorm", "Block", "Embedding", "Dropout", "Conv2d"]), min_size=1, max_size=2
)
LEAVES = st.fixed_dictionaries(
    {}, optional={
        "match": SHAPES, "type": TYPES, "name": st.sampled_from(["weight", "bias", "*_weight", "scale"]),
        "ndim": st.lists(st.integers(0, 3), min_size=1, max_size=2), "requires_grad": st.booleans(),
    },
).filter(bool)  # fmt: skip
SELECTORS = st.recursive(
    st.one_of(SHAPES, LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3), st.fixed_dictionaries({"not": inner}, optional={"match": inner})
    ),
    max_leaves=5,
)


def naive_pattern(pattern, name):
    if pattern.startswith("re:"):
        return name.endswith(pattern[5:])
    if pattern.startswith("**."):
        return name.rpartition(".")[2] == pattern[3:]
    segments = name.split(".")
    return len(segments) == pattern.count(".") + 1 and all(map(fnmatch.fnmatchcase, segments, pattern.split(".")))


def ancestors(name):
    segments = name.split(".")
    return [".".join(segments[:end]) for end in range(1, len(segments))]


CLASSES = {
    "Linear": nn.Linear,
    "LayerNorm": nn.LayerNorm,
    "Block": Block,
    "Embedding": nn.Embedding,
    "Dropout": nn.Dropout,
    "Conv2d": nn.Conv2d,
}
OWN = dict(MODEL.named_modules())


def naive(raw, parameter, names):
    """Whether a selector holds for one parameter, by the words of the documentation."""
    if isinstance(raw, str):
        return any(naive_pattern(raw, part) for name in names for part in [*ancestors(name), name])
    if isinstance(raw, list):
        return any(naive(item, parameter, names) for item in raw)
    checks = {
        "match": lambda value: naive(value, parameter, names),
        "type": lambda value: any(
            isinstance(OWN[part], CLASSES[each]) for name in names for part in ancestors(name) for each in value
        ),
        "name": lambda value: any(fnmatch.fnmatchcase(name.split(".")[-1], value) for name in names),
        "ndim": lambda value: parameter.ndim in value,
        "requires_grad": lambda value: parameter.requires_grad == value,
        "not": lambda value: not naive(value, parameter, names),
    }
    return all(checks[key](value) for key, value in raw.items())


@given(SELECTORS)
def test_a_selector_selects_what_a_naive_matcher_does(raw):
    every = {}
    for name, parameter in MODEL.named_parameters(remove_duplicate=False):
        every.setdefault(id(parameter), (parameter, []))[1].append(name)
    expected = [names[0] for parameter, names in every.values() if naive(raw, parameter, names)]
    assert parameters(raw) == expected


@given(SELECTORS)
def test_a_fault_is_told_exactly_if_a_part_selects_nothing(raw):
    def holds(part):
        every = {}
        for name, parameter in MODEL.named_parameters(remove_duplicate=False):
            every.setdefault(id(parameter), (parameter, []))[1].append(name)
        return any(naive(part, parameter, names) for parameter, names in every.values())

    chosen = selector(raw)
    parts = raw if isinstance(raw, list) else [raw]
    if all(holds(part) for part in parts if not isinstance(part, list)) and not any(
        isinstance(part, list) for part in parts
    ):
        assert NAMED.fault(chosen) is None
    elif not modules(raw) and not isinstance(raw, list):
        assert NAMED.fault(chosen) is not None


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            "blocs.0",
            """\
            my.yaml:3: freeze: no module or parameter has such a name
              found:    'blocs.0'
              did you mean 'blocks.0' or 'blocks.2' or 'blocks.1'?""",
        ),
        (
            "zzz",
            """\
            my.yaml:3: freeze: no module or parameter has such a name
              found:    'zzz'
              expected: names such as embed, blocks, norm, head, scale""",
        ),
        (
            ["embed", "hed"],
            """\
            my.yaml:3: freeze[1]: no module or parameter has such a name
              found:    'hed'
              did you mean 'head'?""",
        ),
        (
            {"type": "Linnear"},
            """\
            my.yaml:3: freeze.type: no module is of this type
              found:    'Linnear'
              expected: one of Model, Embedding, ModuleList, Block, MultiheadAttention, NonDynamicallyQuantizableLinear, LayerNorm, Dropout, Sequential, Linear, ReLU
              did you mean 'Linear'?""",
        ),
        (
            {"match": "embedd", "ndim": 2},
            """\
            my.yaml:3: freeze.match: no module or parameter has such a name
              found:    'embedd'
              did you mean 'embed'?""",
        ),
        (
            {"ndim": 4},
            """\
            my.yaml:3: freeze.ndim: nothing has this 'ndim'
              found:    4
              expected: one of 1, 2""",
        ),
        (
            {"match": "embed", "ndim": 1},
            """\
            my.yaml:3: freeze: nothing has all of this at once, though each of it alone is there
              found:    {'match': 'embed', 'ndim': 1}""",
        ),
    ],
)
def test_what_selects_nothing_is_told(raw, said):
    assert str(NAMED.fault(selector(raw))) == textwrap.dedent(said)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            {"typ": "Linear", "ndim": "2"},
            """\
            my.yaml:3: freeze.typ: unknown key 'typ' of a selector
              expected: one of match, type, name, ndim, requires_grad, not
              did you mean 'type'?
            my.yaml:3: freeze.ndim: 'ndim' can't be used
              found:    '2'
              expected: a number of dimensions, or a list of such""",
        ),
        (
            [],
            """\
            my.yaml:3: freeze: this selects nothing
              found:    []
              expected: a pattern as 'encoder.**', a mapping as {type: Linear, name: weight}, or a list of them""",
        ),
        (
            {"match": "a..b", "not": 3},
            """\
            my.yaml:3: freeze.match: this pattern can't be used: there is nothing between two dots, or before or after one
              found:    'a..b'
            my.yaml:3: freeze.not: this selects nothing
              found:    3
              expected: a pattern as 'encoder.**', a mapping as {type: Linear, name: weight}, or a list of them""",
        ),
        (
            {"requires_grad": "yes"},
            """\
            my.yaml:3: freeze.requires_grad: 'requires_grad' is true or false
              found:    'yes'""",
        ),
    ],
)
def test_what_is_wrong_with_a_selector_is_told(raw, said):
    assert faults(raw) == textwrap.dedent(said)


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["match", "type", "name", "ndim", "not", "requires_grad", "x"]), inner, max_size=3)
)))  # fmt: skip
def test_any_value_is_a_selector_or_has_faults(raw):
    found, told = read_selector(raw, (), lambda path: ORIGIN)
    assert (found is None) == bool(told)
    if found is not None:
        NAMED.parameters_of(found), NAMED.modules_of(found), NAMED.fault(found)
