"""`builder doctor`: each mistake is found at its line, and what is right isn't."""

import json
import textwrap

import pytest

from command_line import run

HEAD = """\
import functools
import torch
import builder
from torch import nn


class Table:
    def __init__(self):
        self.values = torch.zeros(3)


def double(x):
    return 2 * x


"""

CASES = {
    "modules in a list": (
        "modules",
        "self.layers = [nn.Linear(2, 2) for _ in range(3)]",
        "self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))",
    ),
    "modules in a dict": (
        "modules",
        'self.layers = {"a": {"b": nn.ReLU()}}',
        'self.layers = nn.ModuleDict({"a": nn.ReLU()})',
    ),
    "modules appended to a list": (
        "modules",
        "self.layers = []\n        self.layers.append(nn.ReLU())",
        "self.layers = nn.ModuleList()\n        self.layers.append(nn.ReLU())",
    ),
    "modules put into a dict": (
        "modules",
        'self.layers = {}\n        self.layers["a"] = nn.ReLU()',
        'self.layers = {}\n        self.layers["a"] = 3',
    ),
    "parameters in a list": (
        "tensors",
        "self.scales = [nn.Parameter(torch.ones(2)) for _ in range(2)]",
        "self.scales = nn.ParameterList(nn.Parameter(torch.ones(2)) for _ in range(2))",
    ),
    "tensors in a tuple": ("tensors", "self.pair = (torch.ones(2), torch.ones(2))", "self.pair = (1.0, 2.0)"),
    "a parameter that is a plain tensor": (
        "parameter",
        "self.scale = torch.ones(3, requires_grad=True)",
        "self.scale = nn.Parameter(torch.ones(3))",
    ),
    "a computed tensor that needs a gradient": (
        "parameter",
        "self.scale = (3 * torch.ones(3)).requires_grad_()",
        "self.scale = nn.Parameter(3 * torch.ones(3))",
    ),
    "a buffer that is a plain tensor": (
        "buffer",
        "self.mean = torch.zeros(3)",
        'self.register_buffer("mean", torch.zeros(3))',
    ),
    "a tensor inside of an object": ("hidden", "self.table = Table()", "self.table = Table().values.shape[0]"),
    "a lambda": ("pickle", "self.act = lambda x: 2 * x", "self.act = double"),
    "a function inside of a function": (
        "pickle",
        "def act(x):\n            return x\n        self.act = act",
        "self.act = functools.partial(double)",
    ),
    "a generator": ("pickle", "self.order = (i for i in range(3))", "self.order = range(3)"),
    "a lock": ("pickle", "import threading\n        self.lock = threading.Lock()", "self.lock = None"),
}
"""What stands in `__init__`: the rule that tells of it, the mistake, and what is right."""

FORWARDS = {
    "forward called directly": ("forward", "return self.fc.forward(x)", "return self.fc(x)"),
    "a tensor made on the default device": (
        "device",
        "return x + torch.zeros(3)",
        "return x + torch.zeros(3, device=x.device) + torch.ones(1).to(x)",
    ),
    "cuda": ("device", "return self.fc(x.cuda())", "return self.fc(x)"),
    "a device that is written out": ("device", 'return x.to("cuda:0")', "return x.to(self.fc.weight.device)"),
}
"""What stands in `forward`."""


def layer(init="pass", forward="return x", call="super().__init__()"):
    return HEAD + (
        "@builder.register.layer\nclass Mine(nn.Module):\n"
        f"    def __init__(self):\n        {call}\n        self.fc = nn.Linear(3, 3)\n        {init}\n\n"
        f"    def forward(self, x):\n        {forward}\n"
    )


@pytest.fixture
def examined(tmp_path):
    """The findings of a file, and the line of the text that each is about."""

    def found(text, *words):
        (tmp_path / "layers.py").write_text(text)
        ran = run(tmp_path, "doctor", *words, "--import", "layers.py", "--json")
        report = json.loads(ran.out)
        assert ran.code == int(bool(report["findings"])) and report["ok"] is not report["findings"], ran.err
        lines = text.splitlines()
        assert all(finding["file"] == "layers.py" and finding["mend"] for finding in report["findings"])
        return [(each["rule"], lines[each["line"] - 1].strip()) for each in report["findings"]], report

    return found


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_init_is_found_and_its_mend_is_not(name, examined):
    rule, wrong, right = CASES[name]
    found, _ = examined(layer(wrong))
    assigning = next(line.strip() for line in wrong.splitlines() if "self." in line)
    assert found == [(rule, assigning)]
    assert examined(layer(right))[0] == []


@pytest.mark.parametrize("name", FORWARDS)
def test_a_mistake_in_forward_is_found_and_its_mend_is_not(name, examined):
    rule, wrong, right = FORWARDS[name]
    assert examined(layer(forward=wrong))[0] == [(rule, wrong)]
    assert examined(layer(forward=right))[0] == []


def test_a_missing_super_is_found(examined):
    assert examined(layer(call="pass"))[0] == [("super", "def __init__(self):")]
    assert examined(layer(call="nn.Module.__init__(self)"))[0] == []


def test_forward_of_a_base_class_may_be_called(examined):
    text = layer() + textwrap.dedent("""

        @builder.register.layer
        class Other(Mine):
            def forward(self, x):
                return super().forward(x) + Mine.forward(self, x)
    """)
    assert examined(text)[0] == []


def test_a_class_that_is_made_inside_of_a_function_is_found(examined):
    text = HEAD + textwrap.dedent("""
        def make():
            class Mine(nn.Module):
                pass
            return Mine

        builder.register.layer("Mine", make())
    """)
    found, _ = examined(text)
    assert found == [("local", "class Mine(nn.Module):")]


def test_modules_that_a_layer_holds_are_looked_at_too(examined):
    text = (
        layer("self.inner = Inner()")
        + "\n\nclass Inner(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.t = 1 + torch.ones(2)\n"
    )
    assert examined(text)[0] == [("buffer", "self.t = 1 + torch.ones(2)")]


def test_a_line_may_say_that_it_is_fine(examined):
    assert examined(layer("self.mean = torch.zeros(3)  # doctor: fine"))[0] == []


NEEDS = HEAD + textwrap.dedent("""
    @builder.register.layer
    class Mine(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layers = list(map(nn.Linear, [width], [width]))

        def forward(self, x):
            return self.layers[0](x)
""")


def test_a_layer_that_needs_arguments_is_made_as_the_config_makes_it(examined, tmp_path):
    found, report = examined(NEEDS)
    assert found == [] and "it needs width. Name a config that uses it" in report["notes"][0]
    (tmp_path / "m.yaml").write_text("inputs: {x: [B, 4]}\nlayers: {mine: {type: Mine, width: 4}}\n")
    found, report = examined(NEEDS, "m.yaml")
    assert [rule for rule, _ in found] == ["modules"] and report["notes"] == []


def test_a_model_that_cannot_be_made_is_noted(examined, tmp_path):
    (tmp_path / "m.yaml").write_text("inputs: {x: [B, 4]}\nlayers: {mine: {type: Mine}}\n")
    found, report = examined(layer("self.mean = torch.zeros(3)", call="pass"), "m.yaml")
    assert {rule for rule, _ in found} == {"super", "buffer"} and "can't be made" in report["notes"][0]


def test_what_is_printed(tmp_path):
    assert "no layers of your own are registered" in run(tmp_path, "doctor").out
    (tmp_path / "layers.py").write_text(layer("self.mean = torch.zeros(3)"))
    ran = run(tmp_path, "doctor", "--import", "layers.py")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == (
        "layers.py:21: Mine: self.mean is a plain tensor: it isn't saved, and stays where it is when the layer moves"
        " with .to()\n  mend:     call `self.register_buffer('mean', …)`; with persistent=False if it needn't be saved\n"
        "1 finding\n"
    )
    (tmp_path / "layers.py").write_text(layer())
    ran = run(tmp_path, "doctor", "--import", "layers.py")
    assert (ran.code, ran.out) == (0, "nothing found in Mine\n")
