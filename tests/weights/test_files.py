import argparse
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from builder.weights.files import WeightsError, open_weights
from builder.weights.sources import located


def small():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def same(file, state):
    assert sorted(file.keys()) == sorted(state)
    for name, tensor in state.items():
        read = file.read(name)
        assert file.shape(name) == tuple(tensor.shape) and file.dtype(name) == tensor.dtype
        assert read.dtype == tensor.dtype and torch.equal(read, tensor)


def refused(path, **options):
    with pytest.raises(WeightsError) as caught:
        open_weights(path, **options)
    return str(caught.value).replace(str(path), "FILE")


def save(state, path):
    """Write tensors in the format that the file's name says; those called legacy as PyTorch did before 1.6."""
    if path.name == "a.safetensors":
        save_file(dict(state), path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "legacy")


@pytest.mark.parametrize("name", ["a.pt", "legacy.bin", "a.safetensors", "a.npz", "misnamed.safetensors"])
def test_each_format_gives_names_shapes_dtypes_and_tensors_whatever_its_suffix(tmp_path, name):
    state, path = small().state_dict(), tmp_path / name
    save(state, path)
    same(open_weights(path), state)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int16, torch.bool]
)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_dtypes_are_kept(tmp_path, dtype, name):
    state = {"x": torch.randn(3, 2).to(dtype), "scalar": torch.ones(()).to(dtype), "none": torch.zeros(0, 4).to(dtype)}
    (torch.save if name == "a.pt" else save_file)(state, tmp_path / name)
    same(open_weights(tmp_path / name), state)


def test_arrays_of_numpy_keep_slashes_in_names_their_order_and_their_values_whatever_their_layout(tmp_path):
    arrays = {
        "dense/kernel:0": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">f4"),
        "scalar": np.float16(2.5),
        "mask": np.array([True, False]),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    file = open_weights(tmp_path / "a.npz")
    assert file.keys() == list(arrays)
    assert file.dtype("big") == torch.float32
    for name, array in arrays.items():
        assert np.array_equal(file.read(name).numpy(), array)


WRAPPED = {
    "imagenet": (lambda s: {"epoch": 3, "arch": "x", "state_dict": s, "best_acc1": torch.tensor(0.7)}, "state_dict"),
    "model": (lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}}, "model"),
    "model_state_dict": (lambda s: {"epoch": 1, "model_state_dict": s, "optimizer_state_dict": {"state": {}}}, "model_state_dict"),
    "net": (lambda s: {"net": s, "acc": 93.1}, "net"),
    "weights": (lambda s: {"weights": s}, "weights"),
    "deeper": (lambda s: {"model": {"state_dict": s, "name": "x"}}, "model.state_dict"),
    "unheard of": (lambda s: {"generator_of_pictures": s, "step": 5}, "generator_of_pictures"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED)
def test_a_wrapped_state_dict_is_found_and_said(tmp_path, case):
    wrap, where = WRAPPED[case]
    torch.save(wrap(small().state_dict()), tmp_path / "a.pt")
    file = open_weights(tmp_path / "a.pt")
    same(file, small().state_dict())
    assert file.notes == (f"the state dict lies under {where!r}",)


def test_several_sets_of_weights_are_told_and_chosen_by_a_key(tmp_path):
    path, one, other = tmp_path / "a.pt", small().state_dict(), {"w": torch.ones(2)}
    torch.save({"student": one, "teacher": {"net.work": other}, "optimizer": {"state": {"x": torch.ones(1)}}}, path)
    assert refused(path) == (
        "FILE holds 2 sets of weights: 'student', 'teacher.net.work'\n  hint:     say which by 'key: student'"
    )
    same(open_weights(path, key="student"), one)
    same(open_weights(path, key="teacher.net.work"), other)
    assert refused(path, key="studnt") == (
        "FILE has no tensors under 'studnt'; did you mean 'student'?\n"
        "  hint:     what it holds: student, teacher.net.work"
    )


def test_two_well_known_wrappers_are_ambiguous(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "net": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    assert "holds 2 sets of weights: 'model', 'net'" in refused(tmp_path / "a.pt")


def test_a_mapping_that_holds_itself_is_no_endless_search(tmp_path):
    outer, inner = {"epoch": 1}, {"x": torch.ones(1)}
    outer["model"], inner["state_dict"] = inner, outer
    torch.save(outer, tmp_path / "a.pt")
    try:
        assert open_weights(tmp_path / "a.pt").keys() == ["x"]
    except WeightsError as error:
        assert "a.pt holds" in str(error)


def test_an_average_beside_the_weights_is_taken_only_when_asked_for(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": {"a": torch.ones(1)}}, path)
    raw, ema = open_weights(path), open_weights(path, weights="ema")
    assert (raw.read("a"), ema.read("a")) == (0, 1)
    assert raw.notes[1] == "the raw weights; 'weights: ema' takes their average"
    assert ema.notes == ("the state dict lies under 'state_dict_ema'", "the EMA weights")
    torch.save({"a": torch.ones(1)}, path)
    assert refused(path, weights="ema").startswith("FILE holds no EMA weights")


def test_entries_that_are_no_dense_tensors_are_left_out_and_said(tmp_path):
    torch.save({"a": torch.ones(1), "epoch": 4, "sparse": torch.eye(2).to_sparse()}, tmp_path / "a.pt")
    file = open_weights(tmp_path / "a.pt")
    assert file.keys() == ["a"] and file.notes == ("left out, being no dense tensors: epoch, sparse",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_come_off_where_all_names_have_them(tmp_path, prefix):
    state = small().state_dict()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "a.pt")
    file = open_weights(tmp_path / "a.pt")
    same(file, state)
    assert file.notes == (f"the prefix {prefix!r} of all names was taken off",)


def test_a_prefix_that_one_name_lacks_stays(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "a.pt")
    same(open_weights(tmp_path / "a.pt"), state)


def test_what_wrappers_of_pytorch_save_has_the_model_s_own_names(tmp_path):
    model = small()
    wrappers = {
        "parallel": nn.DataParallel(model),
        "compiled": torch.compile(model, backend="eager"),
        "averaged": torch.optim.swa_utils.AveragedModel(model),
    }
    for name, wrapper in wrappers.items():
        torch.save(wrapper.state_dict(), tmp_path / name)
        same(open_weights(tmp_path / name), model.state_dict())
    assert open_weights(tmp_path / "averaged").notes[0].endswith("its counter 'n_averaged' was left out")


def shards(folder, suffix):
    first, second = {"a": torch.ones(2), "b": torch.zeros(3)}, {"c": torch.eye(2)}
    for number, tensors in enumerate((first, second), 1):
        path = folder / f"model-{number:05}-of-00002.{suffix}"
        (save_file if suffix == "safetensors" else torch.save)(tensors, path)
    places = {name: f"model-00001-of-00002.{suffix}" for name in first} | {"c": f"model-00002-of-00002.{suffix}"}
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    return index, first | second


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_opened_by_their_index_or_their_folder(tmp_path, suffix):
    index, state = shards(tmp_path, suffix)
    same(open_weights(index), state)
    same(open_weights(tmp_path), state)


def test_a_missing_shard_is_named(tmp_path):
    index, _ = shards(tmp_path, "safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert refused(index) == (
        "FILE names 2 shards, of which 1 aren't there: model-00002-of-00002.safetensors\n"
        "  hint:     they belong into the folder of the index"
    )


def test_an_index_can_t_point_out_of_its_folder_or_at_a_tensor_that_isn_t_there(tmp_path):
    index, _ = shards(tmp_path, "bin")
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    assert refused(index) == "FILE names the shard '../../etc/passwd', which is no file beside it"
    index.write_text(json.dumps({"weight_map": {"x": "model-00001-of-00002.bin"}}))
    assert refused(index) == "FILE says that 'x' is in model-00001-of-00002.bin, but it isn't"
    index.write_text('{"weights": {}}')
    assert refused(index) == "FILE is no index of shards: it has no 'weight_map'"


def test_a_folder_with_one_file_of_weights_is_as_good_as_the_file(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert open_weights(tmp_path).keys() == ["a"]
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert "holds several sets of weights: model.safetensors, pytorch_model.bin" in refused(tmp_path)
    (tmp_path / "other").mkdir()
    save_file({"b": torch.ones(1)}, tmp_path / "other" / "diffusion.safetensors")
    (tmp_path / "other" / "config.json").write_text("{}")
    assert open_weights(tmp_path / "other").keys() == ["b"] and open_weights(tmp_path / "other").notes == ()
    for name in ("optimizer.pt", "vae.ckpt"):
        torch.save({"a": torch.ones(1)}, tmp_path / "other" / name)
    taken = "diffusion.safetensors was taken; the folder also has optimizer.pt, vae.ckpt"
    assert open_weights(tmp_path / "other").notes == (taken,)
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").startswith("FILE is a folder without weights")


class Wicked:
    def __reduce__(self):
        return os.mkdir, (os.environ["WICKED"],)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "protocol 0", "index", "npz"])
def test_nothing_in_a_file_is_ever_run(tmp_path, monkeypatch, how):
    path, proof = tmp_path / "a.pt", tmp_path / "ran"
    monkeypatch.setenv("WICKED", str(proof))
    if how == "zip":
        torch.save({"a": torch.ones(1), "b": Wicked()}, path)
    elif how == "legacy":
        torch.save({"a": torch.ones(1), "b": Wicked()}, path, _use_new_zipfile_serialization=False)
    elif how == "npz":
        np.savez(tmp_path / "a.npz", a=np.array([Wicked()], dtype=object))
        path = tmp_path / "a.npz"
    else:
        path.write_bytes(pickle.dumps({"b": Wicked()}, protocol=0 if how == "protocol 0" else 4))
    if how == "index":
        (tmp_path / "model.bin.index.json").write_text(json.dumps({"weight_map": {"b": "a.pt"}}))
        path = tmp_path / "model.bin.index.json"
    message = refused(path)
    assert not proof.exists()
    assert "weights_only" not in message and "unsafe" not in message.lower()
    if how in ("zip", "legacy", "pickle"):
        assert "posix.mkdir" in message


def test_a_pickle_that_needs_more_than_tensors_is_refused_with_what_it_wanted_and_the_way_out(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"args": argparse.Namespace(lr=1), "model": small().state_dict()}, path)
    assert refused(path) == (
        "FILE is not opened: it needs argparse.Namespace, which may run code\n"
        "  hint:     where the file comes from, save tensors only: torch.save(model.state_dict(), path), or "
        "safetensors.torch.save_file"
    )
    torch.save(small(), path)
    assert "torch.nn.modules.container.Sequential" in refused(path) and "Conv2d" in refused(path)
    torch.save({"metric": np.float64(1.0), "model": small().state_dict()}, path)
    assert "it needs numpy" in refused(path)


def test_a_program_is_no_file_of_weights(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    assert refused(tmp_path / "a.pt").startswith("FILE is not opened: it is a TorchScript archive, a program")


STRANGERS = {
    b"": "FILE is empty",
    b"hello": "FILE isn't weights in a format that is known here",
    b"\x89HDF\r\n\x1a\n....": "FILE is an HDF5 file, as Keras writes them",
    b"GGUF\x03\x00\x00\x00": "FILE is a GGUF file",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d": "FILE is a pointer of Git LFS, not the file itself",
    b"<!DOCTYPE html><html>": "FILE is a web page or another text, not weights",
    b'{"a": 1}': "FILE is no index of shards: it has no 'weight_map'",
    b'{"a": ': "FILE is no index of shards: Expecting value: line 1 column 7 (char 6)",
}


@pytest.mark.parametrize("content", STRANGERS)
def test_what_isn_t_weights_is_told_by_its_content(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert refused(tmp_path / "a.pt").splitlines()[0] == STRANGERS[content]


def test_a_file_that_isn_t_there_names_the_nearest(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "resnet.safetensors")
    message = refused(tmp_path / "resnet.safetensor")
    assert message == "there is no file FILE\n  hint:     did you mean FILEs?"
    assert "there is no folder" in refused(tmp_path / "nowhere" / "a.pt")


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, [torch.ones(1)], torch.ones(2), {"optimizer": {"m": torch.ones(1)}}]
)
def test_a_file_without_named_tensors_is_told(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    assert refused(tmp_path / "a.pt").startswith("FILE holds ")


@pytest.mark.parametrize("name", ["a.pt", "legacy.pt", "a.safetensors", "a.npz"])
def test_a_file_that_is_cut_off_or_damaged_is_told_and_never_crashes(tmp_path, name):
    state, path = small().state_dict(), tmp_path / name
    save(state, path)
    whole, chance = path.read_bytes(), random.Random(0)
    for cut in (1, 9, 40, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:cut])
        assert "FILE" in refused(path)
    told = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(min(len(damaged), 1500))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            file = open_weights(path)
            for key in file.keys():
                file.read(key)
        except WeightsError as error:
            told += str(path) in str(error)
    assert told > 5


def test_bfloat16_in_an_archive_of_numpy_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = "{'descr': '|V2', 'fortran_order': False, 'shape': (2,), }".ljust(117) + "\n"
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00v\x00" + header.encode() + b"\0" * 4)
    assert refused(tmp_path / "a.npz") == (
        "FILE holds 'w.npy' as |V2, which PyTorch can't take\n  hint:     save bfloat16 as float32, or as safetensors"
    )


def test_key_and_ema_mean_nothing_where_a_format_has_neither(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert refused(tmp_path / "a.safetensors", key="model").startswith(
        "FILE is safetensors, in which there is no 'model'"
    )
    assert refused(tmp_path / "a.safetensors", weights="ema").startswith("FILE is safetensors, which doesn't tell EMA")


def test_versions_of_modules_are_read_from_the_file(tmp_path):
    torch.save(small().state_dict(), tmp_path / "a.pt")
    entries = open_weights(tmp_path / "a.pt").entries
    assert entries["1.running_mean"].version == 2 and entries["0.weight"].version == 1
    torch.save(OrderedDict(small().state_dict().items()), tmp_path / "a.pt")
    assert open_weights(tmp_path / "a.pt").entries["1.running_mean"].version is None


def test_names_in_a_message_can_t_write_to_the_terminal(tmp_path):
    torch.save({"a\x1b[2J": {"x": torch.ones(1)}, "b\x1b[2J": {"x": torch.ones(1)}}, tmp_path / "a.pt")
    for options in ({}, {"key": "c"}, {"weights": "ema"}):
        message = refused(tmp_path / "a.pt", **options)
        assert "\x1b" not in message and r"a\x1b[2J" in message.replace("\\\\", "\\")


def run_folder(path):
    (path / "checkpoints").mkdir(parents=True)
    for name in ("best", "last"):
        torch.save({"a": torch.ones(1)}, path / "checkpoints" / f"{name}.ckpt")
    return path


def test_a_checkpoint_of_a_run_is_found_by_the_run_and_its_name(tmp_path):
    run = run_folder(tmp_path / "run")
    assert located("run:abc@best", lambda name: run) == run / "checkpoints" / "best.ckpt"
    assert located("run:x@y@last.ckpt", {"x@y": run}.get) == run / "checkpoints" / "last.ckpt"
    with pytest.raises(WeightsError) as caught:
        located("run:abc@bset", lambda name: run)
    assert str(caught.value) == (
        f"there is no checkpoint 'bset' in {run / 'checkpoints'}; did you mean @best?\n"
        "  hint:     there are best.ckpt, last.ckpt"
    )


OWN_MEMORY = """
import sys, threading, torch
from torch import nn
from builder.config.origin import Origins
from builder.weights.load import load, plan, read_load

def own():
    return int(next(line for line in open('/proc/self/status') if line.startswith('RssAnon')).split()[1]) * 1024

def watch():
    global peak
    while True:
        peak = max(peak, own())
        watched.wait(0.0005)

def copy(tensor, other):
    global peak
    peak = max(peak, own())
    return copied(tensor, other)

peak, watched = 0, threading.Event()
copied, torch.Tensor.copy_ = torch.Tensor.copy_, copy
threading.Thread(target=watch, daemon=True).start()
width, *paths = sys.argv[1:]
model = nn.ModuleDict({f'l{i}': nn.Linear(int(width), int(width), bias=False) for i in range(8)})
model['big'] = nn.Linear(2 * int(width), 2 * int(width), bias=False)
for path in paths:
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    peak = before = own()
    load(plan(read_load({'path': path}, Origins()), model), model)
    print(peak - before)
    assert not any(parameter.any() for parameter in model.parameters())
"""

BESIDES = 4 << 20
"""Bytes that loading may take besides the tensor that it has in hand, a quarter of the largest: the block that is
hashed, what copying in another dtype takes, and the allocator's arenas of a busy machine's threads."""


def every_format(folder, width):
    """Files of eight tensors and one of four times their size, of each format, and in float64; the paths."""
    folder.mkdir()
    state = {f"l{number}.weight": torch.zeros(width, width) for number in range(8)}
    state["big.weight"] = torch.zeros(2 * width, 2 * width)
    double = {name: value.double() for name, value in state.items()}
    torch.save(state, folder / "a.pt")
    save_file(state, folder / "a.safetensors")
    np.savez(folder / "a.npz", **{name: value.numpy() for name, value in state.items()})
    torch.save(double, folder / "double.pt")
    save_file(double, folder / "double.safetensors")
    np.savez(folder / "double.npz", **{name: value.numpy() for name, value in double.items()})
    places = {}
    for suffix, write in (("safetensors", save_file), ("bin", torch.save)):
        for number, name in enumerate(state):
            places[name] = f"{number // 3}.{suffix}"
        for place in set(places.values()):
            write({name: state[name] for name in state if places[name] == place}, folder / place)
        (folder / f"{suffix}.index.json").write_text(json.dumps({"weight_map": places}))
    mapped = ["a.pt", "a.safetensors", "double.pt", "double.safetensors", "safetensors.index.json", "bin.index.json"]
    return [str(folder / name) for name in (*mapped, "a.npz", "double.npz")]


def memory_of_loading(folder, width):
    """The bytes that are taken at most while each file is loaded, beyond the model's own, in a process by itself."""
    command = [sys.executable, "-c", OWN_MEMORY, str(width), *every_format(folder, width)]
    unchanging = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # else freed memory is kept, and isn't counted again
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=unchanging)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="counts memory as Linux does")
def test_loading_takes_no_more_memory_than_the_largest_tensor(tmp_path):
    running = [memory_of_loading(tmp_path / str(width), width) for width in (1, 1024)]
    ended = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    baseline, taken = ([int(line) for line in out.split()] for out, _ in ended)
    largest = 4 * 2048 * 2048  # of 48 MiB in all; what is mapped takes no memory by itself
    allowed = [0] * 6 + [largest, 2 * largest]
    beyond = [size - small - most for size, small, most in zip(taken, baseline, allowed, strict=True)]
    assert max(beyond) <= BESIDES and max(baseline) <= BESIDES, (baseline, taken)
