"""Modules written by hand become YAML that builds the same: keys, order, outputs; and what can't be said is marked."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_model
from torch import nn

import builder
from builder.config.folders import shipped_configs
from builder.importer.describe import MARK
from builder.importer.layers import Unsayable, layer_node, registered
from builder.importer.write import imported
from command_line import run

MODEL = Path(__file__).parents[1] / "model"
sys.path += [str(MODEL), str(MODEL / "zoo")]
import by_hand_models as zoo  # noqa: E402
import handwritten  # noqa: E402


def x(*sizes):
    return torch.rand(sizes, generator=torch.Generator().manual_seed(0))


def ids(*sizes):
    return (x(*sizes) * 4).long()


def again(found, model, **args):
    """The definition built, with the model's weights."""
    made = builder.build(yaml.safe_load(found.text), **args)
    assert list(made.state_dict()) == list(model.state_dict())
    assert [tuple(value.shape) for value in made.state_dict().values()] == [
        tuple(value.shape) for value in model.state_dict().values()
    ]
    made.load_state_dict(model.state_dict())
    return made


class Encoder(nn.Module):
    """PyTorch's own layers, one in another; a buffer that is saved and one that isn't; several inputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(8))
        self.register_buffer("places", torch.rand(6, 8))
        self.register_buffer("order", torch.arange(6), persistent=False)

    def forward(self, ids, mask=None):
        h = self.layers(self.embed(ids) + self.places[: ids.size(1)], src_key_padding_mask=mask)
        h, _ = self.attention(h, h, h, need_weights=False)
        return {"out": h * self.scale, "order": self.order[: ids.size(1)] + 1}


class Modes(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = 0.3
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = F.dropout(self.fc(x), self.p, training=self.training)[None]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0)[0]


class Powers(nn.Module):
    """Functions of C that take a number beside a tensor, as approximations of GELU do."""

    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh(0.8 * (x + 0.04 * torch.pow(x, 3.0))))


class Waiting(nn.Module):
    """Values that wait in expressions while variables are given away."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        left = self.a(x)
        right = self.b(x)
        x = left * 2
        y = right - left
        x += y
        return torch.cat([x, y, torch.tanh(right), left], dim=-1)


CASES = {
    "cnn": (handwritten.Cnn, {"x": x(2, 1, 8, 8)}),
    "mlp": (handwritten.Mlp, {"input": x(2, 64)}),
    "gpt": (lambda: handwritten.Gpt(width=16, depth=3, heads=2), {"ids": ids(2, 7)}),
    "resnet18": (lambda: zoo.resnet18(width=8, classes=5), {"x": x(2, 3, 32, 32)}),
    "resnet50": (lambda: zoo.resnet50(width=8, classes=5), {"x": x(2, 3, 32, 32)}),
    "unet": (lambda: zoo.UNet(3, 8, 2, 4), {"x": x(2, 3, 16, 16)}),
    "lstm_tagger": (lambda: zoo.LstmTagger(20, 5, 8, 16), {"ids": ids(2, 7)}),
    "autoencoder": (lambda: zoo.Autoencoder(20), {"x": x(2, 20)}),
    "vae": (lambda: zoo.Vae(20), {"x": x(2, 20)}),
    "multitask": (lambda: zoo.Multitask(20), {"x": x(2, 20)}),
    "siamese": (lambda: zoo.Siamese(1, 8, 4), {"first": x(2, 1, 8, 8), "second": x(2, 1, 8, 8) + 1}),
    "vit": (lambda: zoo.ViT(3, 32, 8, 16, 3, 2, 5), {"x": x(2, 3, 32, 32)}),
    "table": (lambda: zoo.Table(3, [4, 6], 16, 2, 2), {"x": x(2, 3), "categories": ids(2, 2)}),
    "encoder": (Encoder, {"ids": ids(2, 5)}),
    "modes": (Modes, {"x": x(2, 4)}),
    "powers": (Powers, {"x": x(2, 4)}),
    "waiting": (Waiting, {"x": x(2, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_imported_builds_the_same(case):
    factory, examples = CASES[case]
    torch.manual_seed(0)
    model = factory()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found = imported(model, examples, case)
    assert (found.marks, found.difference) == ({}, 0.0)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items()), "the model stays as it was"
    made = again(found, model).eval()
    other = {name: torch.cat([value, value.flip(0)]) for name, value in examples.items()}  # a batch of another size
    with torch.inference_mode():
        expected, given = model.eval()(**other), made(*other.values())
    flat = [one.values() if isinstance(one, dict) else [one] for one in (expected, given)]
    assert all(torch.equal(one, two) for one, two in zip(*flat, strict=True))


def test_it_does_in_training_what_the_module_does():
    torch.manual_seed(0)
    model = Modes()
    found = imported(model, {"x": x(2, 4)}, "modes")
    assert "training=training" in found.text and "dropout_p=0.3 if training else 0.0" in found.text
    made = again(found, model)
    outputs = []
    for one in (model.train(), made.train()):
        torch.manual_seed(1)
        outputs.append(one(x(2, 4)))
    assert torch.equal(*outputs)


def test_classes_that_occur_more_than_once_are_blocks_with_arguments_and_equal_steps_are_loops():
    gpt = yaml.safe_load(imported(CASES["gpt"][0](), CASES["gpt"][1], "gpt").text)
    assert set(gpt["blocks"]) == {"GptAttention", "GptBlock"}
    assert gpt["layers"]["blocks"] == {"type": "ModuleList", "repeat": 3, "layer": "GptBlock"}
    assert "for layer in blocks:\n" in gpt["forward"] and gpt["tie"] == {"head.weight": "tok.weight"}
    resnet = yaml.safe_load(imported(CASES["resnet18"][0](), CASES["resnet18"][1], "resnet").text)
    assert resnet["blocks"]["Residual"]["args"] == {"in_channels": "required"}
    assert resnet["layers"]["layer1"]["repeat"] == 2


@pytest.mark.parametrize("name", ["cnn", "gpt", "resnet18", "resnet50", "vit", "unet", "table", "multitask"])
def test_it_is_about_as_long_as_what_a_person_wrote(name):
    factory, examples = CASES[name]
    lines = imported(factory(), examples, name).text.count("\n")
    written = (shipped_configs() / "model" / f"{name}.yaml").read_text().count("\n")
    blocks = {"resnet18": ["Residual"], "resnet50": ["Bottleneck"], "unet": ["UNetDown", "UNetUp", "ConvNormAct"]}
    for block in blocks.get(name, ()):
        written += (shipped_configs() / "block" / f"{block}.yaml").read_text().count("\n")
    assert lines <= 2 * written, (lines, written)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Branching()
        self.register_buffer("odd", torch.rand(40), persistent=False)

    def forward(self, x):
        return self.inner(x) + self.odd[:4]


@pytest.mark.parametrize("factory", [Branching, Foreign])
def test_what_cant_be_said_is_marked_and_refused_until_it_is_replaced(factory):
    found = imported(factory(), {"x": x(2, 4)}, "it")
    assert found.marks and found.difference is None
    assert f"# CAN'T BE SAID: {next(iter(found.marks))}: " in found.text
    raw = yaml.safe_load(found.text)
    assert "fc:" in found.text  # what can be said is there
    with pytest.raises(builder.ConfigError, match=MARK):
        builder.build(raw)


LAYERS = [
    nn.Linear(3, 4, bias=False), nn.Conv2d(3, 4, (3, 1), padding="same"), nn.ConvTranspose2d(3, 4, 2, stride=2),
    nn.BatchNorm2d(4, affine=False), nn.LayerNorm((4, 8), eps=1e-6), nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
    nn.GRU(3, 4, bias=False), nn.Embedding(5, 4, padding_idx=0), nn.MultiheadAttention(8, 2, kdim=3),
    nn.TransformerEncoderLayer(8, 2, activation="gelu"), nn.ReLU(inplace=True), nn.Softmax(dim=-1), nn.Flatten(2),
    nn.AdaptiveAvgPool2d((1, 2)), nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(3, 2, 1),
    nn.GroupNorm(2, 4), nn.Upsample(scale_factor=2, mode="bilinear"), nn.GELU("tanh"), nn.PReLU(3), nn.Hardtanh(0, 6),
    nn.Unflatten(1, (2, 3)), nn.RMSNorm(8), nn.Bilinear(2, 3, 4), nn.ZeroPad2d(1), nn.LSTMCell(3, 4), nn.Identity(),
    nn.InstanceNorm2d(3, affine=True), nn.LeakyReLU(0.2, True), nn.PixelShuffle(2), nn.EmbeddingBag(5, 4),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_layer_of_pytorchs_is_made_again_from_its_node(layer):
    node = layer_node(layer, registered(layer))
    made = builder.build({"inputs": ["x"], "layers": {"it": node if isinstance(node, dict) else {"type": node}}}).it
    assert type(made) is type(layer)
    assert made.extra_repr().replace("[", "(").replace("]", ")") == layer.extra_repr()
    assert {key: value.shape for key, value in made.state_dict().items()} == {
        key: value.shape for key, value in layer.state_dict().items()
    }


def test_a_layer_that_was_changed_after_it_was_made_is_refused():
    layer = nn.TransformerEncoderLayer(8, 2)
    layer.linear1 = nn.Linear(8, 3)
    with pytest.raises(Unsayable, match="doesn't say|can't be made|don't say"):
        layer_node(layer, "TransformerEncoderLayer")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, width=4, act='relu'):\n        super().__init__()\n"
        "        self.fc = torch.nn.Linear(3, width)\n        self.act = act\n"
        "    def forward(self, x):\n        return getattr(torch, self.act)(self.fc(x))\n\n"
        "def broken():\n    raise RuntimeError('no weights here')\n\nnumber = 3\n"
    )
    return tmp_path


def test_the_verb_writes_yaml_and_weights_that_belong_together(place):
    words = ("nets.py:Net", "-o", "net.yaml", "--args", "width=5", "--input", "x=2,3", "--weights", "net.safetensors")
    ran = run(place, "import", *words)
    assert (ran.code, ran.err) == (0, "running nets.py:Net\n")
    assert ran.out.splitlines()[:2] == ["net.yaml", "net.safetensors"]
    assert "largest difference of its outputs 0" in ran.out
    model = builder.build(place / "net.yaml")
    assert load_model(model, place / "net.safetensors") == (set(), [])
    assert model(torch.zeros(2, 3)).shape == (2, 5)
    printed = run(place, "import", "nets.py:Net", "--args", "width=5", "--input", "x=2,3")
    assert printed.out == (place / "net.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("nets.py",), 2, "expected: MODULE:FACTORY"),
        (("nets.py:Nte",), 2, "there is no 'Nte' in it; did you mean 'Net'?"),
        (("nte.py:Net",), 2, "there is no file nte.py"),
        (("nothing.here:Net",), 2, "there is no module 'nothing'"),
        (("nets.py:number",), 2, "can't be called"),
        (("nets.py:broken",), 1, "raised RuntimeError: no weights here"),
        (("nets.py:Net", "--args", "widht=3"), 2, "did you mean 'width'?"),
        (("nets.py:Net", "--args", "width"), 2, "isn't NAME=VALUE"),
        (("nets.py:Net", "--input", "y=2,3"), 2, "forward takes no 'y': it takes x"),
        (("nets.py:Net", "--input", "x=two"), 2, "says no input"),
        (("torch:zeros", "--args", "size=[2]"), 1, "gave a Tensor, not a torch.nn.Module"),
    ],
)
def test_what_the_verb_refuses(words, code, why, place):
    ran = run(place, "import", *words)
    assert ran.code == code and why in ran.err


def test_marks_are_told_and_the_exit_code_says_so(place):
    ran = run(place, "import", "nets.py:Net", "--args", "act=angle_of", "-o", "net.yaml")
    assert ran.code == 1 and "can't be said: the model: " in ran.out
