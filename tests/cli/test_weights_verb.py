import json
import os
import subprocess
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from builder.runs import status
from command_line import run


def blocks(layers=3, seed=0):
    torch.manual_seed(seed)
    block = lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))  # noqa: E731
    return nn.ModuleDict(
        {"blocks": nn.ModuleList([block() for _ in range(layers)]), "head": nn.Linear(4, 2)}
    ).state_dict()


def test_a_file_is_listed_with_shapes_dtypes_and_sizes_layers_that_repeat_on_one_line(tmp_path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in blocks().items()}}, tmp_path / "a.pt")
    ran = run(tmp_path, "weights", "a.pt")
    assert ran.code == 0 and ran.err == ""
    assert ran.out == (
        "a.pt: a file of torch.save, 14 tensors, 94 numbers, 376 B\n"
        "  note: the state dict lies under 'state_dict'\n"
        "  note: the prefix 'module.' of all names was taken off\n"
        "blocks.{0..2}.0.weight     [4, 4]  float32  ×3  192 B\n"
        "blocks.{0..2}.{0..1}.bias  [4]     float32  ×6  96 B\n"
        "blocks.{0..2}.1.weight     [4]     float32  ×3  48 B\n"
        "head.weight                [2, 4]  float32      32 B\n"
        "head.bias                  [2]     float32      8 B\n"
    )


def test_all_lists_each_tensor_and_json_is_for_programs(tmp_path):
    save_file(blocks(), tmp_path / "a.safetensors", metadata={"made": "here"})
    out = run(tmp_path, "weights", "a.safetensors", "--all").out
    assert len([line for line in out.splitlines() if line.startswith("blocks.")]) == 12 and "  made: here" in out
    told = json.loads(run(tmp_path, "weights", "a.safetensors", "--json").out)
    assert (told["format"], told["metadata"], told["bytes"], told["numbers"]) == (
        "safetensors",
        {"made": "here"},
        376,
        94,
    )
    assert {"name": "head.weight", "shape": [2, 4], "dtype": "float32", "bytes": 32} in told["tensors"]
    assert len(told["tensors"]) == 14


def test_two_files_with_the_same_bits_are_equal_whatever_their_formats(tmp_path):
    torch.save(blocks(), tmp_path / "a.pt")
    save_file(blocks(), tmp_path / "b.safetensors")
    np.savez(tmp_path / "c.npz", **{name: value.numpy() for name, value in blocks().items()})
    for other in ("b.safetensors", "c.npz"):
        ran = run(tmp_path, "weights", "a.pt", other)
        assert (ran.code, ran.out) == (0, "14 of 14 tensors that both have are equal, bit for bit\n")


def test_two_files_that_differ_are_told_apart_and_the_exit_code_says_so(tmp_path):
    first, second = blocks(), blocks(4)
    second |= {
        "head.weight": torch.zeros(3, 4),
        "head.bias": first["head.bias"].double() + 0.25,
        "extra": torch.ones(1),
    }
    second["blocks.0.1.bias"] = second["blocks.0.1.bias"] - 0.0
    second["blocks.1.1.bias"] = torch.tensor([0.0, 0.0, -0.0, 0.0])
    second["blocks.2.1.bias"] = torch.tensor([0.0, float("nan"), 1.0, 0.0])
    second |= {name: first[name] for name in first if name.endswith("0.weight")}
    second |= {name: first[name] for name in first if name.endswith("0.bias")}
    torch.save(first, tmp_path / "a.pt")
    torch.save(second, tmp_path / "b.pt")
    ran = run(tmp_path, "weights", "a.pt", "b.pt")
    assert ran.code == 1
    assert ran.out == (
        "only in b.pt (5):\n"
        "  blocks.3.{0..1}.weight\n"
        "  blocks.3.{0..1}.bias\n"
        "  extra\n"
        "of different shapes (1):\n"
        "  head.weight  [2, 4]  [3, 4]\n"
        "of different values (3):\n"
        "  blocks.1.1.bias  [4]  float32           by at most 0\n"
        "  blocks.2.1.bias  [4]  float32           nan in b.pt only; else by at most 1\n"
        "  head.bias        [2]  float32, float64  by at most 0.25\n"
        "10 of 14 tensors that both have are equal, bit for bit\n"
    )
    told = json.loads(run(tmp_path, "weights", "a.pt", "b.pt", "--json").out)
    assert told["same"] is False and len(told["only_second"]) == 5 and len(told["equal"]) == 10


def test_files_without_a_name_in_common_and_those_with_nan_are_told_apart(tmp_path):
    one = {"both": [np.nan, 0.0], "first": [np.nan, 1.0], "second": [1.0, 0.0], "same": [np.nan, 1.0]}
    other = {"both": [0.0, np.nan], "first": [0.5, 1.0], "second": [1.25, np.nan], "same": [np.nan, 1.0]}
    np.savez(tmp_path / "a.npz", **{name: np.array(value) for name, value in one.items()})
    np.savez(tmp_path / "b.npz", **{name: np.array(value) for name, value in other.items()})
    np.savez(tmp_path / "c.npz", **{"x/0/w": np.ones(1), "x/1/w": np.ones(1)})
    ran = run(tmp_path, "weights", "a.npz", "b.npz")
    assert (ran.code, ran.out) == (
        1,
        "of different values (3):\n"
        "  both    [2]  float64  nan in both, in different places\n"
        "  first   [2]  float64  nan in a.npz only\n"
        "  second  [2]  float64  nan in b.npz only; else by at most 0.25\n"
        "1 of 4 tensors that both have are equal, bit for bit\n",
    )
    told = json.loads(run(tmp_path, "weights", "a.npz", "b.npz", "--json").out)["different"]
    assert [(each["max_abs_difference"], each["nan_only"]) for each in told] == [
        (0.0, [True, True]), (0.0, [True, False]), (0.25, [False, True]),
    ]  # fmt: skip
    ran = run(tmp_path, "weights", "c.npz", "a.npz")
    assert ran.code == 1 and "only in c.npz (2):\n  x/{0..1}/w\n" in ran.out
    assert ran.out.endswith("\nno tensor is in both\n")


def test_a_run_s_checkpoint_and_the_weights_in_it_are_chosen(tmp_path):
    folder = tmp_path / "outputs" / "digits" / "2026-01-01_00-00-00_abcdef"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / status.FILE).write_text("{}")
    torch.save(
        {"model": {"a": torch.ones(1)}, "model_ema": {"a": torch.zeros(2)}}, folder / "checkpoints" / "best.ckpt"
    )
    assert "a  [1]" in run(tmp_path, "weights", "run:abcdef@best").out
    assert "a  [2]" in run(tmp_path, "weights", "run:abcdef@best", "--ema").out
    assert "a  [2]" in run(tmp_path, "weights", "run:abcdef@best", "--key", "model_ema").out
    ran = run(tmp_path, "weights", "run:abcdef@lost")
    assert ran.code == 2 and "there is no checkpoint 'lost' in outputs/digits/2026-01-01_00-00-00_abcdef" in ran.err


def test_what_is_wrong_is_told_in_one_line_with_the_way_out(tmp_path):
    ran = run(tmp_path, "weights", "a.pt")
    assert (ran.code, ran.out, ran.err) == (2, "", "error: there is no file a.pt\n")
    ran = run(tmp_path, "weights", "https://x.y/z.pt")
    said = "error: 'https://x.y/z.pt' can't be used: addresses aren't fetched; fetch the file, and give its path\n"
    assert (ran.code, ran.err) == (2, said)
    torch.save(nn.Linear(1, 1), tmp_path / "a.pt")
    assert run(tmp_path, "weights", "a.pt").err == (
        "error: a.pt is not opened: it needs torch.nn.modules.linear.Linear, which may run code\n"
        "  hint:     where the file comes from, save tensors only: torch.save(model.state_dict(), path), or "
        "safetensors.torch.save_file\n"
    )


def test_names_can_t_write_to_the_terminal(tmp_path):
    torch.save({"a\x1b[2J": torch.ones(1)}, tmp_path / "a.pt")
    torch.save({"b\x1b[2J": torch.ones(1)}, tmp_path / "b.pt")
    for words in (["a.pt"], ["a.pt", "b.pt"], ["a.pt", "--all"]):
        assert "\x1b" not in run(tmp_path, "weights", *words).out


def test_help_imports_no_torch(tmp_path):
    code = (
        "import sys; from builder.cli.main import main; main(['weights', '--help']); assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert ran.returncode == 0 and "--ema" in ran.stdout, ran.stderr
