"""Ordinary files of torch.save are read as torch.load reads them; all others are left to torch.load."""

import collections
import pickle
import struct
import time
import zipfile

import pytest
import torch
from torch import nn

from builder.weights.files import open_weights
from builder.weights.mapped import NotOrdinary, read_mapped
from builder.weights.pickled import load_tree


def saved(path, value):
    torch.save(value, path)
    return path


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
        assert ours.requires_grad == theirs.requires_grad
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


def training_state():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LSTM(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "lr": 0.1,
        "more": [None, "x", True],
    }


VIEWED = torch.arange(24.0).reshape(4, 6)


@pytest.mark.parametrize(
    "value",
    [
        training_state(),
        {"whole": VIEWED, "row": VIEWED[1], "transposed": VIEWED.T, "strided": VIEWED[:, ::2]},
        {str(dtype): torch.ones(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.uint8, torch.int16)},
        {"empty": torch.empty(0, 3), "number": torch.tensor(2.5), "wanted": torch.ones(2, requires_grad=True)},
        VIEWED,
    ],
    ids=["training", "views", "dtypes", "odd shapes", "a tensor alone"],
)  # fmt: skip
def test_what_is_read_is_what_torch_reads(tmp_path, value):
    path = saved(tmp_path / "file.pt", value)
    assert_same(read_mapped(path), torch.load(path, weights_only=True))


def test_tensors_that_share_memory_still_do_and_the_file_stays_as_it_is(tmp_path):
    path = saved(tmp_path / "file.pt", {"whole": VIEWED, "row": VIEWED[1]})
    before = path.read_bytes()
    tree = read_mapped(path)
    tree["whole"].zero_()
    assert not tree["row"].any()
    assert path.read_bytes() == before


def test_versions_of_modules_are_kept(tmp_path):
    state = nn.BatchNorm1d(3).state_dict()
    assert read_mapped(saved(tmp_path / "file.pt", state))._metadata == state._metadata


def test_lists_that_are_not_wanted_are_empty_and_all_else_is_the_same(tmp_path):
    state = {**training_state(), "optimizer_states": [{"state": {0: {"pair": (torch.ones(1), 2)}}}]}
    path = saved(tmp_path / "file.ckpt", state)
    theirs = torch.load(path, weights_only=True)
    for expected in (theirs, theirs["optimizer"]):
        expected |= {key: [] for key, value in expected.items() if isinstance(value, list)}
    assert_same(read_mapped(path, lists=False), theirs)
    assert_same(open_weights(path).read("1.running_var"), theirs["state_dict"]["1.running_var"])


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    "value",
    [
        {"size": torch.Size([1, 2])},
        {"parameter": nn.Parameter(torch.ones(1))},
        {"sparse": torch.eye(3).to_sparse()},
        {"set": {1, 2}},
        {(1, 2): torch.ones(1)},
        {"pair": (torch.ones(1), 2)},
        {"evil": Evil()},
        {"counter": collections.Counter("aab")},
    ],
)
def test_what_is_not_known_is_left_to_torch(tmp_path, value, capsys):
    with pytest.raises(NotOrdinary):
        read_mapped(saved(tmp_path / "file.pt", value))
    assert capsys.readouterr().out == ""


def test_what_lists_hold_is_refused_even_where_they_are_not_wanted(tmp_path, capsys):
    with pytest.raises(NotOrdinary):
        read_mapped(saved(tmp_path / "file.pt", {"weight": torch.ones(1), "list": [Evil()]}), lists=False)
    assert capsys.readouterr().out == ""


def test_torch_reads_what_is_left_to_it(tmp_path):
    path = saved(tmp_path / "file.pt", {"size": torch.Size([1, 2]), "weight": torch.ones(2)})
    assert load_tree(path)["size"] == torch.Size([1, 2])


def rewritten(path, change):
    """The archive with the content of its pickle changed."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


HOSTILE = {
    "a class of Python": pickle.dumps(Evil(), protocol=2),
    "an attribute of a mapping": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.",
    "lists within lists": b"\x80\x02" + b"]" * 500 + b"a" * 499 + b".",
    "a mapping that holds itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "cut off": b"\x80\x02}q\x00X",
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_runs_nothing_and_ends(tmp_path, content, capsys):
    path = rewritten(saved(tmp_path / "file.pt", {"weight": torch.ones(2)}), lambda _: content)
    try:
        tree = read_mapped(path)
    except NotOrdinary:
        tree = None
    assert tree is None or tree["a"] is tree
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name", ["torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage", "collections\nOrderedDict"]
)
@pytest.mark.parametrize("attribute", ["arguments", "dtype", "__init__", "__setstate__", "__code__", "__class__"])
def test_a_hostile_file_changes_nothing_of_how_others_are_read(tmp_path, name, attribute):
    size = len(attribute).to_bytes(4, "little")
    set_it = b"\x80\x02c" + name.encode() + b"\nN}X" + size + attribute.encode() + b"K\x01s\x86b."
    ordinary = {"weight": torch.ones(2), "double": torch.ones(2).double()}
    hostile = rewritten(saved(tmp_path / "hostile.pt", ordinary), lambda _: set_it)
    with pytest.raises(NotOrdinary):
        read_mapped(hostile)
    assert_same(read_mapped(saved(tmp_path / "file.pt", ordinary)), ordinary)


def test_a_list_that_is_shared_a_thousandfold_is_looked_at_once(tmp_path):
    inner = []
    for _ in range(60):
        inner = [inner, inner]
    path = saved(tmp_path / "file.pt", {"weight": torch.ones(2), "deep": inner})
    started = time.perf_counter()
    assert read_mapped(path)["weight"].sum() == 2
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("size", [1000, 2**40])
def test_a_tensor_larger_than_its_storage_is_not_made(tmp_path, size):
    path = saved(tmp_path / "file.pt", {"weight": torch.ones(7)})
    written = b"M" + struct.pack("<H", size) if size < 2**16 else b"\x8a\x08" + struct.pack("<q", size)
    usual = b"K\x00K\x07\x85"  # the offset, and a shape of one number
    with pytest.raises(NotOrdinary):
        read_mapped(rewritten(path, lambda content: content.replace(usual, b"K\x00" + written + b"\x85")))


def test_a_file_that_is_cut_off_is_not_read(tmp_path):
    path = saved(tmp_path / "file.pt", training_state())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises((NotOrdinary, zipfile.BadZipFile)):
        read_mapped(path)
