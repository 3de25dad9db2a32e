import json

import numpy as np
import pytest
import torch
from PIL import Image

from builder.config.origin import Origins
from builder.data.apply import apply
from builder.data.facts import Refusal
from builder.data.images import image_folder
from builder.data.load import load
from builder.data.loader import WorkerLoader
from made_files import make_images


@pytest.fixture
def path(tmp_path):
    return make_images(tmp_path / "pictures")


def loaded(path, **section):
    return load({"type": "ImageFolder", "path": str(path), "batch_size": 4, **section}, 0, Origins())


def refusal(path, **options):
    with pytest.raises(Refusal) as caught:
        image_folder(str(path), seed=0, **options)
    return [(error.argument, str(error).replace(str(path), "DIR")) for error in caught.value.errors]


def all_of(data):
    return {split: next(iter(data.loader(split))) for split in data.splits}


def test_pictures_are_their_pixels_from_0_to_1_with_the_class_of_their_folder(path):
    data = loaded(path, split={"train": 1.0}, shuffle=False, batch_size=20)
    (batch,) = data.loader("train")
    assert batch["x"].shape == (20, 3, 8, 12) and batch["target"].tolist() == [0] * 10 + [1] * 10
    with Image.open(f"{path}/dog/03.png") as picture:
        expected = np.array(picture).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(batch["x"][13].numpy(), expected, atol=1e-7)
    facts = data.facts
    assert facts.tensors["x"].shape == (3, 8, 12) and facts.tensors["x"].dtype == "float32"
    assert (facts.values["in_channels"], facts.values["height"], facts.values["width"]) == (3, 8, 12)
    assert facts.values["class_names"] == ["cat", "dog"] and data.notes == ("2 classes: cat 10, dog 10",)


def test_jpeg_and_grey_pictures_are_read(tmp_path):
    path = make_images(tmp_path / "jpeg", kind="jpg")
    data = loaded(path, mode="L", split={"train": 1.0}, batch_size=20, shuffle=False)
    (batch,) = data.loader("train")
    with Image.open(f"{path}/cat/02.jpg") as picture:
        assert torch.equal(batch["x"][2, 0] * 255, torch.from_numpy(np.array(picture.convert("L"))).float())


def test_a_size_crops_the_middle_or_stretches(path):
    with Image.open(f"{path}/cat/04.png") as picture:
        middle = np.array(picture.crop((2, 0, 10, 8)).resize((4, 4), Image.Resampling.BILINEAR))
        stretched = np.array(picture.resize((4, 4), Image.Resampling.BILINEAR))
    for fit, expected in (("crop", middle), ("stretch", stretched)):
        data = loaded(path, size=4, fit=fit, split={"train": 1.0}, batch_size=20, shuffle=False)
        (batch,) = data.loader("train")
        assert torch.equal((batch["x"][4] * 255).round(), torch.from_numpy(expected.transpose(2, 0, 1)).float())


def test_in_memory_and_by_workers_the_batches_are_the_same(path):
    kept, made = loaded(path), loaded(path, in_memory=False, num_workers=2)
    assert isinstance(made.loader("train"), WorkerLoader) and not isinstance(kept.loader("train"), WorkerLoader)
    here, there = kept.loader("train"), made.loader("train")
    for epoch in range(2):
        here.set_epoch(epoch), there.set_epoch(epoch)
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a["x"], b["x"]) and torch.equal(a["target"], b["target"])


def test_files_are_read_once_where_they_fit_into_memory(path, monkeypatch):
    data = loaded(path)
    loader = data.loader("train")
    list(loader)
    monkeypatch.setattr(Image, "open", None)
    assert len(list(loader)) == len(loader)


def test_splits_are_those_of_the_folders_if_that_is_said(tmp_path):
    for part, count in (("train", 6), ("val", 2)):
        make_images(tmp_path / part, count=count)
    data = loaded(tmp_path, split="folders")
    assert {split: data.facts.values[f"num_{split}"] for split in ("train", "val", "test")} == {
        "train": 12,
        "val": 4,
        "test": 0,
    }
    assert refusal(tmp_path) == [("path", "the folders train, val are named like splits, not classes")]


def test_new_pictures_are_brought_into_the_form_trained_on(path, tmp_path):
    data = loaded(path, size=6, split={"train": 1.0}, batch_size=20, shuffle=False,
                  transforms={"train": ["Normalise"], "eval": ["Normalise"]})  # fmt: skip
    (batch,) = data.loader("train")
    state = json.loads(json.dumps(data.state))
    assert torch.equal(apply(state, path)["x"], batch["x"])
    assert torch.equal(apply(state, f"{path}/dog/05.png")["x"], batch["x"][15:16])
    with pytest.raises(Refusal, match="there are no pictures"):
        apply(state, str(tmp_path / "none.png"))


def test_a_missing_folder_is_told_with_the_nearest(path, tmp_path):
    with pytest.raises(Refusal, match="no such folder") as caught:
        image_folder(path + "s", seed=0)
    assert caught.value.errors[0].nearest == (path,)


def test_folders_without_pictures_are_all_told(path, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "empty").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").touch()
    assert refusal(folder) == [
        ("path", "the class 'empty' has no pictures"), ("path", "the class 'notes' has no pictures")
    ]  # fmt: skip


def test_files_that_are_no_pictures_are_all_told(path, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "cat" / "00.png").write_text("text")
    (folder / "dog" / "01.png").write_bytes(b"")
    Image.new("RGB", (12, 8)).save(folder / "dog" / "02.png", format="GIF")
    Image.fromarray(np.full((8, 12), 1000, dtype=np.uint16)).save(folder / "dog" / "03.png")
    assert refusal(folder) == [
        ("path", "DIR/cat/00.png can't be read: no picture"),
        ("path", "DIR/dog/01.png can't be read: no picture"),
        ("path", "DIR/dog/02.png can't be read: GIF, neither PNG nor JPEG"),
        ("path", "DIR/dog/03.png can't be read: more than 8 bits a channel, which would be cut off"),
    ]


def test_a_picture_that_breaks_off_is_told_when_it_is_read(path, tmp_path):
    from builder.errors import RunError

    file = tmp_path / "pictures" / "dog" / "09.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RunError, match="dog/09.png: image file is truncated"):
        list(loaded(path, split={"train": 1.0}).loader("train"))


def test_pictures_of_different_sizes_need_a_size(path, tmp_path):
    Image.new("RGB", (5, 7)).save(tmp_path / "pictures" / "dog" / "99.png")
    assert refusal(tmp_path / "pictures") == [
        ("size", "the pictures have 2 different sizes (DIR/cat/00.png is 8 high and 12 wide; DIR/dog/99.png is 7 high and 5 wide)")
    ]  # fmt: skip
    assert image_folder(path, size=[4, 4], seed=0).values["height"] == 4


@pytest.mark.parametrize("size", [0, [3], [3, -1]])
def test_a_size_that_is_none_is_refused(path, size):
    assert refusal(path, size=size) == [("size", "no size of a picture")]


def test_pictures_that_evaluation_reads_first_are_ordinary_tensors(path):
    loader = loaded(path).loader("test")
    with torch.inference_mode():
        batches = list(loader)
    assert not any(tensor.is_inference() for tensor in loader.source.tensors.values()) and batches
