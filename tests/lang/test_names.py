import subprocess
import sys

import torch
from torch import nn

from builder.lang import names


def test_every_tensor_attribute_exists():
    assert [name for name in sorted(names.TENSOR_ATTRIBUTES) if not hasattr(torch.Tensor, name)] == []


def test_no_allowed_attribute_leads_out():
    assert names.ATTRIBUTES & names.DENIED_ATTRIBUTES == frozenset()
    assert [name for name in names.ATTRIBUTES if name.startswith("_") or name.endswith("__")] == []
    hooks = [name for name in names.ATTRIBUTES if "hook" in name or "storage" in name or "grad_fn" in name]
    assert hooks == []


def test_the_modules_own_attributes_are_all_known():
    code = "from torch import nn; print(*{*dir(nn.Module), *vars(nn.Module())})"  # where no package adds to them
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    assert names.MODULE_API >= {name for name in done.stdout.split() if not name.startswith("_")}
    container = nn.ModuleDict()
    assert {name for name in dir(container) if name in ("items", "keys", "values")} == {"items", "keys", "values"}


def test_what_allowed_attributes_give_is_never_a_module_a_type_or_a_frame():
    """Reads every property of a tensor; methods are left uncalled."""
    tensor = torch.randn(2, 2)
    for name in sorted(names.TENSOR_ATTRIBUTES - {"imag", "values", "indices"}):
        value = getattr(tensor, name)
        assert callable(value) or isinstance(
            value, torch.Tensor | torch.Size | torch.dtype | torch.device | torch.layout | int | bool
        ), name


def test_names_that_a_definition_can_use():
    for name in ("conv", "x", "fc1", "β", "relu", "norm"):
        assert names.name_problem(name) is None
    for name in ("_x", "__class__", "self", "training", "parameters", "for", "1", "a b", "len", 3, "ﬁ", "to"):
        assert names.name_problem(name) is not None
    assert names.name_problem("type", attribute=False) is None
    assert names.name_problem("ｃｏｎｖ") == "is written with look-alike characters; Python reads it as 'conv'"
