import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from load_helpers import only, refusal
from PIL import Image
from torch import nn

D = 6


class Positions(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(*shape))


def resized(tmp_path, source, model, policy, name="pos_embed"):
    """The tensor that a policy makes of `source` for the model, and how the report says it was made."""
    torch.save({name: source}, tmp_path / "a.pt")
    report = only(model, {"path": str(tmp_path / "a.pt"), "shape": {name: policy}, "missing": "warn"})
    (row,) = report.resized
    assert row.source_shape == tuple(source.shape) and row.how in "\n".join(report.lines())
    return dict(model.named_parameters())[name].detach(), row.how


@pytest.mark.parametrize("sides", [(4, 7), (8, 5)])
def test_a_grid_of_positions_is_resized_as_transformers_does_it_while_running(tmp_path, sides):
    config = transformers.ViTConfig(hidden_size=D, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4,
                                    image_size=16 * sides[0], patch_size=16)  # fmt: skip
    torch.manual_seed(0)
    vit = transformers.ViTModel(config, add_pooling_layer=False).embeddings
    nn.init.normal_(vit.position_embeddings)
    height = 16 * sides[1]
    expected = vit.interpolate_pos_encoding(torch.zeros(1, sides[1] ** 2 + 1, D), height, height).detach()
    model = Positions(1, sides[1] ** 2 + 1, D)
    found, how = resized(tmp_path, vit.position_embeddings.data, model, {"resize": "bicubic", "antialias": False})
    torch.testing.assert_close(found, expected)
    assert how == f"bicubic, {sides[0]}×{sides[0]} → {sides[1]}×{sides[1]}, 1 token before it kept"


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_a_grid_is_smoothed_where_it_gets_smaller_as_pillow_does_it(tmp_path, mode):
    source = torch.rand(1, 1 + 144, D)
    found, how = resized(tmp_path, source, Positions(1, 1 + 25, D), {"resize": mode})
    planes = source[0, 1:].T.reshape(D, 12, 12).numpy()
    pillow = [Image.fromarray(plane).resize((5, 5), getattr(Image.Resampling, mode.upper())) for plane in planes]
    expected = torch.from_numpy(np.stack([np.asarray(plane) for plane in pillow])).flatten(1).T
    torch.testing.assert_close(found[0, 1:], expected, atol=1e-5, rtol=1e-5)
    assert (
        torch.equal(found[:, :1], source[:, :1]) and how == f"{mode}, antialiased, 12×12 → 5×5, 1 token before it kept"
    )


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_tokens_before_a_square_grid_are_found_and_kept(tmp_path, tokens):
    source = torch.rand(tokens + 49, D)
    found, how = resized(tmp_path, source, Positions(tokens + 64, D), "resize")
    assert torch.equal(found[:tokens], source[:tokens]) and not torch.equal(
        found[tokens : tokens + 49], source[tokens:]
    )
    assert how.startswith("bicubic, antialiased, 7×7 → 8×8")


def test_a_grid_that_isn_t_square_is_said(tmp_path):
    source = torch.rand(1, 2 + 6 * 4, D)
    policy = {"resize": "bilinear", "prefix": 2, "source_grid": [6, 4], "grid": [3, 10]}
    found, how = resized(tmp_path, source, Positions(1, 2 + 3 * 10, D), policy)
    image = source[:, 2:].reshape(1, 6, 4, D).permute(0, 3, 1, 2)
    by_hand = F.interpolate(image, (3, 10), mode="bilinear", antialias=True).permute(0, 2, 3, 1).reshape(1, 30, D)
    torch.testing.assert_close(found[:, 2:], by_hand)
    assert how == "bilinear, antialiased, 6×4 → 3×10, 2 tokens before it kept"


def test_positions_on_a_line_are_interpolated_between_their_neighbours(tmp_path):
    source = torch.rand(10, D)
    found, how = resized(tmp_path, source, Positions(24, D), "resize")
    old = (np.arange(10) + 0.5) / 10
    new = (np.arange(24) + 0.5) / 24
    by_hand = np.stack([np.interp(new, old, column) for column in source.T.numpy()], 1)
    np.testing.assert_allclose(found.numpy(), by_hand, atol=1e-6)
    assert how == "linear, 10 → 24 positions"


def test_positions_of_an_embedding_keep_its_first_rows_if_asked(tmp_path):
    model = nn.ModuleDict({"pos": nn.Embedding(18, D)})
    source = torch.rand(10, D)
    found, how = resized(tmp_path, source, model, {"resize": "linear", "prefix": 2}, "pos.weight")
    assert torch.equal(found[:2], source[:2]) and how == "linear, 8 → 16 positions, 2 tokens before it kept"


def test_what_may_be_a_line_or_a_grid_is_refused_and_either_can_be_said(tmp_path):
    source = torch.rand(1, 64, D)
    torch.save({"pos_embed": source}, tmp_path / "a.pt")
    message = refusal(Positions(1, 16, D), {"path": str(tmp_path / "a.pt"), "shape": "resize"})
    assert message == (
        "train.yaml:7: load.shape: 'pos_embed' has the shape [1, 64, 6] in the file and [1, 16, 6] in the model; "
        "64 and 16 tokens may be a line or a square grid\n"
        "  hint:     say {resize: linear}, or {resize: bicubic, prefix: 0}"
    )
    line, how = resized(tmp_path, source, Positions(1, 16, D), {"resize": "linear"})
    assert how == "linear, 64 → 16 positions"
    grid, how = resized(tmp_path, source, Positions(1, 16, D), {"resize": "bicubic", "prefix": 0})
    assert how == "bicubic, antialiased, 8×8 → 4×4" and not torch.equal(line, grid)


def kernels(tmp_path, source, conv, policy):
    torch.save({"weight": source, "bias": conv.bias.detach()}, tmp_path / "a.pt")
    report = only(conv, {"path": str(tmp_path / "a.pt"), "shape": policy})
    return conv.weight.detach(), report.resized[0].how


def test_the_input_channels_of_a_kernel_are_averaged(tmp_path):
    source = torch.rand(4, 3, 5, 5)
    found, how = kernels(tmp_path, source, nn.Conv2d(1, 4, 5), "resize")
    torch.testing.assert_close(found, (source[:, :1] + source[:, 1:2] + source[:, 2:]) / 3)
    assert how == "3 → 1 channels by average"
    found, _ = kernels(tmp_path, source, nn.Conv2d(6, 4, 5), {"resize": "bicubic", "channels": "average"})
    torch.testing.assert_close(found, source.mean(1, keepdim=True).expand(-1, 6, -1, -1))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("how", ["sum", "repeat"])
def test_other_ways_keep_what_the_kernel_gives_for_a_grey_picture(tmp_path, how, channels):
    source = torch.rand(4, 3, 5, 5)
    conv = nn.Conv2d(channels, 4, 5)
    found, _ = kernels(tmp_path, source, conv, {"resize": "bicubic", "channels": how})
    grey = torch.rand(1, 1, 9, 9)
    if how == "sum" or channels == 6:
        torch.testing.assert_close(
            F.conv2d(grey.expand(-1, channels, -1, -1), found), F.conv2d(grey.expand(-1, 3, -1, -1), source)
        )
    if how == "repeat":
        torch.testing.assert_close(found, source.repeat(1, 2, 1, 1)[:, :channels] * (3 / channels))


@pytest.mark.parametrize(
    ("conv", "size", "mode", "words"),
    [(nn.Conv1d, (5,), "linear", "linear, 5 → 3"), (nn.Conv2d, (5, 7), "bicubic", "bicubic, antialiased, 5×7 → 3×3"),
     (nn.Conv3d, (5, 5, 5), "trilinear", "trilinear, 5×5×5 → 3×3×3")],
)  # fmt: skip
def test_the_size_of_a_kernel_is_interpolated(tmp_path, conv, size, mode, words):
    source = torch.rand(4, 2, *size)
    found, how = kernels(tmp_path, source, conv(2, 4, 3), "resize")
    antialias = mode == "bicubic"
    torch.testing.assert_close(found, F.interpolate(source, (3,) * len(size), mode=mode, antialias=antialias))
    assert how == words


def test_half_precision_is_resized_in_single(tmp_path):
    source = torch.rand(4, 3, 5, 5).half()
    found, _ = kernels(tmp_path, source, nn.Conv2d(1, 4, 5), "resize")
    torch.testing.assert_close(found, source.float().mean(1, keepdim=True).half().float())


@pytest.mark.parametrize(
    ("source", "model", "policy", "why"),
    [
        ((5, 4), nn.Linear(4, 7), "resize", "only position embeddings [n, d] and [1, n, d] and kernels of convolutions are resized"),
        ((7, 5), nn.Linear(4, 7), "resize", "only position embeddings [n, d] and [1, n, d] and kernels of convolutions are resized"),
        ((5, 3, 3, 3), nn.Conv2d(3, 4, 3), "resize", "of a convolution only the kernel's input channels and its size are resized"),
        ((4, 2, 3, 3), nn.Conv2d(4, 4, 3, groups=4), "resize", "the channels of a transposed or grouped convolution aren't resized"),
        ((4, 2, 3, 3), nn.ConvTranspose2d(4, 3, 3), "resize", "the channels of a transposed or grouped convolution aren't resized"),
        ((4, 2, 5, 5), nn.Conv2d(2, 4, 3), {"resize": "linear"}, "'linear' doesn't interpolate in 2 dimensions"),
    ],
)  # fmt: skip
def test_what_can_t_be_resized_is_an_error(tmp_path, source, model, policy, why):
    torch.save({"weight": torch.rand(*source)}, tmp_path / "a.pt")
    assert why in refusal(model, {"path": str(tmp_path / "a.pt"), "shape": policy, "missing": "warn"})


@pytest.mark.parametrize(
    ("n", "m", "policy", "why"),
    [
        (11, 17, {"resize": "bicubic", "prefix": 1}, "11 tokens of the file less 1 are no square grid"),
        (10, 18, {"resize": "bicubic", "prefix": 1}, "18 tokens of the model less 1 are no square grid"),
        (10, 17, {"resize": "bicubic", "prefix": 1, "grid": [3, 5]}, "a grid of 3×5 and 1 tokens before it are not the 17 tokens of the model"),
        (10, 3, {"resize": "linear", "prefix": 3}, "10 tokens and 3 don't both go beyond a prefix of 3"),
    ],
)  # fmt: skip
def test_a_grid_that_doesn_t_fit_is_an_error(tmp_path, n, m, policy, why):
    torch.save({"pos_embed": torch.rand(n, D)}, tmp_path / "a.pt")
    assert why in refusal(Positions(m, D), {"path": str(tmp_path / "a.pt"), "shape": policy})


def test_whole_numbers_aren_t_resized(tmp_path):
    model = nn.Module()
    model.register_buffer("table", torch.zeros(7, D, dtype=torch.int64))
    torch.save({"table": torch.zeros(10, D, dtype=torch.int64)}, tmp_path / "a.pt")
    assert "; int64 isn't resized" in refusal(model, {"path": str(tmp_path / "a.pt"), "shape": "resize"})
