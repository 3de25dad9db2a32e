import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler

from builder.config.origin import Origins
from builder.data.changes import chain_of
from builder.data.load import load
from builder.data.sources import TensorSource
from builder.data.transforms import _beta, transforms
from builder.errors import ConfigError, Origin

DIGITS = {"type": "SklearnDataset", "name": "digits", "batch_size": 64}
CHANNELS = torch.arange(2 * 3 * 6 * 5, dtype=torch.float32).view(2, 3, 6, 5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(name, **arguments):
    return transforms.get(name)(**arguments)


def digits(**section):
    return load({**DIGITS, **section}, 0, Origins())


def message(transforms_section, **section):
    origins = Origins({("data",): Origin("data.yaml", 1), ("data", "transforms"): Origin("data.yaml", 2)})
    with pytest.raises(ConfigError) as caught:
        load({**DIGITS, "transforms": transforms_section, **section}, 0, origins)
    return str(caught.value)


def test_normalise_takes_its_statistics_from_the_train_split_alone():
    data = load(
        {"type": "SklearnDataset", "name": "wine", "standardise": False, "batch_size": 32,
         "transforms": {"train": [{"type": "Normalise"}], "eval": [{"type": "Normalise"}]}}, 0, Origins(),
    )  # fmt: skip
    train = data.sources["train"]["x"].double().numpy()
    expected = StandardScaler().fit(train).transform(data.sources["test"]["x"].double().numpy())
    (batch,) = data.loader("test")
    np.testing.assert_allclose(batch["x"].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(data.splits["test"]["x"][:3].numpy(), expected[:3], atol=1e-4)


def test_normalise_of_pictures_is_by_channel_and_a_constant_channel_becomes_zero():
    x = torch.randn(50, 3, 4, 4) * 5 + 2
    x[:, 1] = 7.3
    fitted = made("Normalise").fitted(TensorSource({"x": x}), {})
    out = fitted({"x": x}, generator())["x"]
    for channel, std in ((0, 1.0), (1, 0.0), (2, 1.0)):
        assert abs(float(out[:, channel].mean())) < 1e-5
        assert float(out[:, channel].std(correction=0)) == pytest.approx(std, abs=1e-5)


def test_statistics_that_are_given_are_used():
    out = made("Normalise", mean=[1.0, 2.0, 3.0], std=2.0)({"x": CHANNELS}, generator())["x"]
    assert torch.equal(out, (CHANNELS - torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)) / 2)


def test_flip_turns_some_samples_and_a_mask_with_them():
    x = torch.arange(200 * 4.0).view(200, 1, 1, 4)
    out = made("Flip", of=["x", "mask"])({"x": x, "mask": -x}, generator())
    turned = (out["x"] == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(out["mask"], -out["x"]) and 60 < int(turned.sum()) < 140
    assert torch.equal(out["x"][~turned], x[~turned])
    assert torch.equal(made("Flip", p=1.0, dim=2)({"x": CHANNELS}, generator())["x"], CHANNELS.flip(2))


def test_a_random_crop_is_a_window_of_the_padded_picture():
    out = made("RandomCrop", size=[4, 3], padding=1)({"x": CHANNELS}, generator(4))["x"]
    padded = F.pad(CHANNELS, [1] * 4)
    for sample in range(2):
        windows = [padded[sample, :, i : i + 4, j : j + 3] for i in range(5) for j in range(5)]
        assert any(torch.equal(out[sample], window) for window in windows)
    places = {
        made("RandomCrop", size=2)({"x": CHANNELS}, generator(seed))["x"][0, 0, 0, 0].item() for seed in range(80)
    }
    assert len(places) == 20


def test_a_center_crop_is_the_middle():
    assert torch.equal(made("CenterCrop", size=[4, 3])({"x": CHANNELS}, generator())["x"], CHANNELS[:, :, 1:5, 1:4])


def test_resize_and_scale_are_those_of_pytorch():
    out = made("Resize", size=3)({"x": CHANNELS}, generator())["x"]
    assert torch.equal(out, F.interpolate(CHANNELS, (3, 3), mode="bilinear", antialias=True))
    assert made("Scale", by=0.5, add=1.0)({"x": torch.tensor([4])}, generator())["x"].tolist() == [3.0]


def test_noise_has_the_deviation_asked_for():
    noise = made("Noise", std=0.3)({"x": torch.zeros(100, 100)}, generator())["x"]
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05) and abs(float(noise.mean())) < 0.01


def test_brightness_multiplies_each_sample():
    ratio = made("Brightness", by=0.4)({"x": torch.ones(300, 2, 2)}, generator())["x"]
    assert torch.equal(ratio, ratio[:, :1, :1].expand(300, 2, 2))
    assert 0.6 <= float(ratio.min()) < 0.65 and 1.35 < float(ratio.max()) <= 1.4


def test_cutout_hides_a_square_in_all_channels():
    out = made("Cutout", size=3, fill=9.0)({"x": torch.zeros(40, 2, 8, 8)}, generator())["x"]
    hidden = (out == 9).long()
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    rows, columns = hidden[:, 0].sum(1).amax(1), hidden[:, 0].sum(2).amax(1)
    assert torch.equal(hidden[:, 0].sum((1, 2)), rows * columns) and int(rows.max()) == int(columns.max()) == 3
    assert int(rows.min()) >= 1


def test_mixup_mixes_samples_and_probabilities_by_one_share():
    target = torch.arange(6) % 3
    batch = {"x": torch.eye(6), "target": target}
    out = made("Mixup", alpha=1.0, num_classes=3)(batch, generator(2))
    share = float(out["x"][0, 0])
    other = (out["x"] - share * torch.eye(6)).argmax(1)
    expected = share * F.one_hot(target, 3) + (1 - share) * F.one_hot(target[other], 3)
    torch.testing.assert_close(out["probabilities"], expected)
    assert 0.5 <= share < 1 and sorted(other.tolist()) == list(range(6)) and torch.equal(out["target"], target)


def test_the_share_of_mixup_is_drawn_from_the_larger_half_of_a_beta_distribution():
    chosen = generator(0)
    shares = [float(_beta(0.5, chosen, torch.zeros(()))) for _ in range(4000)]
    # Beta(1/2, 1/2) is the arcsine distribution: the mean of the larger of X and 1 - X is 1/2 + 1/pi.
    assert np.mean(shares) == pytest.approx(0.5 + 1 / math.pi, abs=0.01)


AUGMENT = {
    "train": [{"type": "RandomCrop", "size": 8, "padding": 1}, {"type": "Noise", "std": 0.1}, {"type": "Mixup"}],
    "eval": [{"type": "OneHot"}],
}


def test_what_is_drawn_is_a_function_of_seed_epoch_and_batch():
    data = digits(transforms=AUGMENT)
    first, second = data.loader("train"), data.loader("train")
    first.set_epoch(2)
    torch.manual_seed(1)
    whole = [batch["x"] for batch in first]
    second.set_position(2, 7)
    torch.manual_seed(2)
    rest = [batch["x"] for batch in second]
    assert all(torch.equal(a, b) for a, b in zip(whole[7:], rest, strict=True))
    second.set_epoch(3)
    assert not torch.equal(next(iter(second))["x"].sort(0)[0], whole[0].sort(0)[0])
    plain = digits().loader("train")
    plain.set_epoch(2)
    assert not torch.equal(next(iter(plain))["x"], whole[0])


def test_transforms_draw_nothing_from_the_generators_of_training():
    loader = digits(transforms=AUGMENT).loader("train")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(loader)
    assert torch.rand(1) == expected


def test_workers_change_nothing_in_what_transforms_draw():
    here, there = digits(transforms=AUGMENT).loader("train"), digits(transforms=AUGMENT, num_workers=1).loader("train")
    for epoch in range(2):
        here.set_epoch(epoch), there.set_epoch(epoch)
        for a, b in zip(here, there, strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_each_split_gets_its_own_list_and_facts_are_those_of_changed_batches():
    data = digits(
        transforms={"train": [{"type": "RandomCrop", "size": 6}], "eval": [{"type": "CenterCrop", "size": 6}]}
    )
    assert data.facts.tensors["x"].shape == (1, 6, 6)
    assert (data.facts.values["height"], data.facts.values["num_features"]) == (6, 36)
    assert next(iter(data.loader("train")))["x"].shape[1:] == (1, 6, 6)
    assert torch.equal(next(iter(data.loader("val")))["x"], data.sources["val"]["x"][:64, :, 1:7, 1:7])


def test_a_chain_can_be_made_again_from_plain_values():
    data = digits(transforms={"train": [{"type": "Normalise"}], "eval": [{"type": "Normalise"}]})
    again = chain_of(json.loads(json.dumps(data.state))["transforms"])
    raw = {"x": data.sources["test"]["x"][:5]}
    assert torch.equal(again(raw, generator())["x"], data.splits["test"]["x"][:5])


def test_a_transform_of_ones_own_is_a_function_that_gives_one(monkeypatch):
    monkeypatch.setattr(transforms, "_entries", dict(transforms._entries))

    @transforms.register
    def Double(of="x"):
        return lambda batch, generator: batch | {of: batch[of] * 2}

    data = digits(transforms={"train": ["Double"], "eval": [{"type": "Double"}]})
    assert float(next(iter(data.loader("train")))["x"].max()) == 2


def test_all_faults_of_transforms_are_told_at_once():
    text = message({"train": [{"type": "Flipp"}, {"type": "Noise", "sdt": 1}], "evl": [], "eval": {"type": "Flip"}})
    assert text == (
        "data.yaml:2: data.transforms.train[0].type: unknown transform 'Flipp'\n"
        "  did you mean 'Flip'?\n"
        "data.yaml:2: data.transforms.train[1].sdt: transform Noise has no argument 'sdt'\n"
        "  expected: std, of\n"
        "  did you mean 'std'?\n"
        "data.yaml:2: data.transforms.train[1]: transform Noise needs the argument 'std'\n"
        "  expected: float\n"
        "data.yaml:2: data.transforms.evl: unknown key 'evl'\n"
        "  expected: train, eval\n"
        "  did you mean 'eval'?\n"
        "data.yaml:2: data.transforms.eval: transforms are a list\n"
        "  found:    {'type': 'Flip'}\n"
        "  expected: a list of transforms"
    )


def test_lists_that_lead_to_different_tensors_are_told():
    assert message({"train": [{"type": "Mixup"}]}) == (
        "data.yaml:2: data.transforms: train and eval lead to different tensors 'probabilities': "
        "[10] float32 in train, none in eval\n"
        "  hint:     give each a transform that leads to the same form, as CenterCrop for RandomCrop or OneHot for Mixup"
    )


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (
            {"type": "Flip", "of": "y"},
            "data.transforms.eval[0].of: a batch has no tensor 'y'\n  expected: one of x, target",
        ),
        ({"type": "CenterCrop", "size": 9}, "data.transforms.eval[0].size: the window doesn't fit"),
        ({"type": "Flip", "p": 1.5}, "data.transforms.eval[0].p: no probability\n  found:    1.5"),
        ({"type": "Normalise", "mean": [1, 2], "std": 1}, "data.transforms.eval[0].mean: one number for each channel"),
        ({"type": "Flip", "dim": 7}, "data.transforms.eval[0]: transform 'Flip' can't be done: IndexError"),
    ],
)
def test_a_transform_that_does_not_fit_the_data_is_told(transform, expected):
    assert message({"eval": [transform]}).startswith(f"data.yaml:2: {expected}")


def test_a_target_without_classes_has_no_probabilities():
    text = message({"train": ["Mixup"], "eval": ["OneHot"]}, name="diabetes")
    assert "data.transforms.train[0].num_classes: the data has no classes" in text
