import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from builder.config.origin import Origins
from builder.data.apply import apply
from builder.data.arrays import arrays
from builder.data.facts import Refusal
from builder.data.load import load
from made_files import arrays_of, make_arrays


def whole(path, **section):
    section = {"split": {"train": 1.0}, "shuffle": False, "batch_size": 100, **section}
    data = load({"type": "Arrays", "path": path, **section}, 0, Origins())
    return data, next(iter(data.loader("train")))


def refusal(path, **options):
    with pytest.raises(Refusal) as caught:
        arrays(path, seed=0, **options)
    return [str(error) for error in caught.value.errors]


@pytest.mark.parametrize("form", ["npz", "compressed", "folder", "files"])
def test_every_form_gives_the_same_batches(tmp_path, form):
    made = arrays_of()
    if form == "npz":
        path = make_arrays(tmp_path / "a.npz")
    elif form == "compressed":
        path = str(tmp_path / "a.npz")
        np.savez_compressed(path, **made)
    else:
        for name, array in made.items():
            np.save(tmp_path / f"{name}.npy", array)
        path = str(tmp_path) if form == "folder" else {name: str(tmp_path / f"{name}.npy") for name in made}
    data, batch = whole(path)
    assert torch.equal(batch["x"], torch.from_numpy(made["x"]).float()) and batch["x"].dtype == torch.float32
    assert torch.equal(batch["target"], torch.from_numpy(made["target"]))
    assert (data.facts.values["num_classes"], data.facts.values["num_features"]) == (3, 5)
    assert data.notes == ("arrays: x [60, 5] float64 as float32, target [60] int64 as int64",)


@pytest.mark.parametrize("order", ["C", "F", ">f8"])
def test_every_layout_of_an_array_is_read_right(tmp_path, order):
    x = np.random.default_rng(1).normal(size=(9, 2, 3))
    stored = x.astype(">f8") if order == ">f8" else np.asarray(x, order=order)
    np.savez(tmp_path / "a.npz", odd=np.zeros(9, dtype=np.uint8), x=stored)
    _, batch = whole(str(tmp_path / "a.npz"), target=None)
    assert torch.equal(batch["x"], torch.from_numpy(x).float())


def test_a_large_file_is_never_read_whole(tmp_path):
    path = tmp_path / "big.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(3_000_000, 1000))  # a hole of 3 GB
    array[7, :3] = [1, 2, 3]
    array.flush()
    del array
    section = {"type": "Arrays", "path": str(tmp_path), "target": None, "split": {"train": 1.0}, "batch_size": 16}
    code = f"""
import resource
from builder.config.origin import Origins
from builder.data.load import load
loader = load({section!r}, 0, Origins()).loader("train")
loader.shuffle = False
assert next(iter(loader))["big"][7, :4].tolist() == [1, 2, 3, 0]
loader.shuffle = True
for _ in zip(range(20), loader): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1500  # MB, most of them PyTorch


def test_a_compressed_array_that_is_too_large_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", **arrays_of())
    monkeypatch.setattr("builder.data.array_files.UNPACKED", 1000)
    assert refusal(str(tmp_path / "a.npz")) == ["'x.npy' is too large to unpack"]


def test_dtypes_can_be_said(tmp_path):
    path = make_arrays(tmp_path / "a.npz", x=np.arange(8, dtype=np.uint8).reshape(4, 2), target=np.arange(4) % 2)
    assert whole(path)[1]["x"].dtype == torch.int64
    assert whole(path, dtypes={"x": "float32"})[1]["x"].dtype == torch.float32


def test_an_array_says_the_split_and_another_keeps_groups_together(tmp_path):
    parts = np.array(["train"] * 6 + ["val"] * 2)
    path = make_arrays(tmp_path / "a.npz", x=np.arange(8.0), target=np.arange(8) % 2, part=parts)
    data = load({"type": "Arrays", "path": path, "split": "part", "batch_size": 8}, 0, Origins())
    assert next(iter(data.loader("val")))["x"].tolist() == [6, 7] and set(data.facts.tensors) == {"x", "target"}
    path = make_arrays(tmp_path / "b.npz", x=np.arange(40.0), target=np.arange(40) % 2, who=np.arange(40) // 4)
    data = load({"type": "Arrays", "path": path, "groups": "who", "batch_size": 40}, 0, Origins())
    who = [{int(x) // 4 for x in next(iter(data.loader(split)))["x"]} for split in data.splits]
    assert sum(map(len, who)) == len(set.union(*who)) == 10


def test_floats_as_target_are_numbers_to_predict(tmp_path):
    path = make_arrays(tmp_path / "a.npz", x=np.ones((30, 2)), target=np.linspace(0, 1, 30))
    data = arrays(path, seed=0)
    assert data.values["num_outputs"] == 1 and data.values["task"] == "regression"


def test_a_mapped_array_is_mapped_anew_in_another_process(tmp_path):
    source = arrays(make_arrays(tmp_path / "a.npz"), seed=0).splits["train"]
    expected = source.take(slice(0, 4))
    assert len(pickle.dumps(source.columns["x"])) < 1000
    again = pickle.loads(pickle.dumps(source)).take(slice(0, 4))
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_workers_give_the_same_batches(tmp_path):
    path = make_arrays(tmp_path / "a.npz")
    section = {"type": "Arrays", "path": path, "batch_size": 8}
    here, there = (load({**section, "num_workers": n}, 0, Origins()).loader("train") for n in (None, 1))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a["x"], b["x"])


def test_new_arrays_are_brought_into_the_form_trained_on(tmp_path):
    path = make_arrays(tmp_path / "a.npz")
    data, batch = whole(path)
    made = apply(json.loads(json.dumps(data.state)), path)
    assert all(torch.equal(made[name], batch[name]) for name in batch)
    with pytest.raises(Refusal, match="there is no array 'x'"):
        apply(data.state, make_arrays(tmp_path / "b.npz", y=np.ones(3)))


@pytest.mark.parametrize(
    ("made", "options", "expected"),
    [
        ({"x": np.ones(3), "target": np.ones(4)}, {}, ["the arrays have different numbers of samples: x 3, target 4"]),
        ({"x": np.array([1, np.nan, 3])}, {"target": None}, ["the array 'x' isn't finite in sample 1"]),
        ({"x": np.ones(3)}, {}, ["there is no array 'target'"]),
        ({"x": np.ones(3)}, {"target": None, "split": "part"}, ["there is no array 'part'"]),
        ({"x": np.array(["a", "b"])}, {"target": None}, ["the array 'x' holds texts, not numbers"]),
        ({"x": np.ones(3), "target": np.array([0, -1, 1])}, {}, ["the target 'target' has a class below 0"]),
        (
            {"x": np.ones(30), "target": np.arange(30)},
            {},
            ["the target 'target' has 30 classes for 30 samples: too many"],
        ),
        ({"x": np.float64(3)}, {"target": None}, ["the array has no dimension for samples"]),
        (
            {"x": np.array([1.0, np.inf]), "target": np.array([0, 1])},
            {"dtypes": {"x": "flaot32", "z": "int64"}},
            ["there is no array 'z'", "no dtype", "the array 'x' isn't finite in sample 1"],
        ),
    ],
)
def test_arrays_that_can_not_be_used_are_refused(tmp_path, made, options, expected):
    assert refusal(make_arrays(tmp_path / "a.npz", **made), **options) == expected


def test_arrays_of_python_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    assert refusal(str(tmp_path), target=None) == ["the array holds Python objects, which are never read"]


def test_files_that_are_no_arrays_are_refused(tmp_path):
    (tmp_path / "a.npz").write_text("text")
    (tmp_path / "b.npy").write_text("text")
    path = make_arrays(tmp_path / "cut.npz")
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    assert refusal(str(tmp_path / "a.npz"))[0].startswith("no .npz file can be read: File is not a zip file")
    assert refusal(path)[0].startswith("no .npz file can be read")
    assert refusal({"x": str(tmp_path / "b.npy")})[0].startswith("no array can be read")
    assert refusal(str(tmp_path / "none.npz")) == ["no such file"]
    assert refusal({"x": str(tmp_path / "n.npy"), "target": str(tmp_path / "m.npy")}) == ["no such file"] * 2
