"""docs/language.md lists what the language consists of: no more and no less than the code has."""

import re

import torch
import yaml

import builder
from builder.lang.arithmetic import FUNCTIONS
from builder.lang.names import BUILTINS, COLLECTION_METHODS, CONTEXTS, RESULT_FIELDS, TENSOR_ATTRIBUTES
from builder.lang.syntax import CONSTRUCTS
from builder.model.spec import CONTAINERS, DEFINITION_KEYS
from builder.model.tensors import DTYPES, PLAIN
from command_line import ROOT

TEXT = (ROOT / "docs/language.md").read_text(encoding="utf-8")


def listed(after, before):
    """The names in backticks between two texts."""
    return set(re.findall(r"`(\w+)`", TEXT.split(after, 1)[1].split(before, 1)[0]))


def same(found, wanted):
    wanted = set(wanted)
    assert found == wanted, f"docs/language.md lacks {sorted(wanted - found)}, and should lack {sorted(found - wanted)}"


def test_keys_containers_and_dtypes():
    same(listed("\nKeys:", "."), DEFINITION_KEYS)
    same(listed("(`builder registry layer`).", "hold other layers"), CONTAINERS)
    same(listed("dtypes of inputs, parameters and buffers:", "."), DTYPES)
    same(listed("a plain value of Python:", "."), PLAIN)


def test_functions_of_formulas_and_builtins_of_forward():
    same(listed("and the functions\n", "."), FUNCTIONS)
    same(listed("one of Python's builtins:", "."), BUILTINS)
    same(listed("`with` and one of", ", `return`"), CONTEXTS)


def test_attributes():
    found = listed("`mul_`, …):", ".\n")
    in_place = {f"{name}_" for name in found} & TENSOR_ATTRIBUTES
    same(found | in_place, TENSOR_ATTRIBUTES)
    same(listed("On what a function returns:", ".\n"), RESULT_FIELDS)
    same(listed("On lists and dicts:", ".\n"), COLLECTION_METHODS)


def test_what_is_left_out_of_python_and_what_is_written_in_its_place():
    table = TEXT.split("| --- | --- |\n")[1]
    assert {f"| {what} | {hint} |" for what, hint in CONSTRUCTS.values() if hint} == set(table.splitlines())


def test_the_examples_build_and_run():
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    shaped = [block for block in blocks if "inputs" in block]
    assert len(shaped) == 1 and len(blocks) > 1
    model = builder.build(shaped[0])
    assert model(torch.randn(2, 3, 16)).shape == (2, 3, 16)
    assert type(model.act).__name__ == "GELU" and type(model.mlp.body).__name__ == "MLP"
    for block in (block for block in blocks if "inputs" not in block):
        builder.build({"inputs": {"x": ["B", 3, 32, 32]}, **block})
