"""The name of a checkpoint vouches for all that is in it."""

import hashlib
import random
import zipfile

import pytest
import torch

from builder.errors import RunError
from builder.training import positions

VALUE = {"weights": {"a": torch.arange(300.0), "b": torch.ones(3, dtype=torch.int64)}, "step": 3, "name": "x" * 40}


def saved(folder, value=VALUE):
    return positions.save(value, folder / "000000000003.ckpt")


def same(ours, theirs):
    if isinstance(theirs, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    return ours == theirs


def test_it_is_what_torch_save_writes(tmp_path):
    path = saved(tmp_path)
    assert same(torch.load(path, weights_only=True), VALUE) and positions.is_intact(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_one_name_is_of_one_content(tmp_path):
    other = {**VALUE, "weights": {**VALUE["weights"], "a": torch.arange(300.0).index_fill(0, torch.tensor(7), 8.0)}}
    names = [saved(tmp_path / str(index), value).name for index, value in enumerate([VALUE, VALUE, other])]
    assert names[0] == names[1] != names[2]
    (tmp_path / "0" / names[0]).rename(tmp_path / "0" / names[2])
    assert not positions.is_intact(tmp_path / "0" / names[2])


def test_whatever_byte_is_damaged_it_is_found_or_harms_nothing(tmp_path):
    path = saved(tmp_path)
    whole, chance, found = path.read_bytes(), random.Random(0), 0
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        if positions.is_intact(path):  # the bytes between the members, and what the list says too
            assert same(torch.load(path, weights_only=True), VALUE), position
            assert same(torch.load(path, weights_only=True, mmap=True), VALUE), position
        else:
            found += 1
    assert found > len(whole) / 2


@pytest.mark.parametrize("step", [1, 97])
def test_wherever_it_is_cut_it_is_found(tmp_path, step):
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), step) if step > 1 else range(len(whole) - 200, len(whole)):
        path.write_bytes(whole[:length])
        assert not positions.is_intact(path)
    path.write_bytes(whole + b"more")
    assert not positions.is_intact(path)


def test_a_bit_of_a_large_tensor_is_found(tmp_path):
    path = saved(tmp_path, {"w": torch.zeros(3 << 20)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert not positions.is_intact(path)


def test_checksums_are_written_whoever_switched_them_off(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        assert positions.is_intact(saved(tmp_path)) and not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)


def test_files_with_a_hash_of_their_whole_content_are_still_read(tmp_path):
    path = saved(tmp_path)
    name = f"000000000003-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.ckpt"
    older = path.rename(tmp_path / name)
    assert positions.is_intact(older)
    older.write_bytes(older.read_bytes()[:-1])
    assert not positions.is_intact(older)


def test_what_is_no_archive_is_damaged(tmp_path):
    for content in (b"", b"PK", b"x" * 1000, b"PK\5\6" + b"\xff" * 18):
        path = tmp_path / f"000000000003-{'0' * 32}.ckpt"
        path.write_bytes(content)
        assert not positions.is_intact(path)


def test_what_cannot_be_read_back_gets_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda value, file: file.write(b"half"))
    with pytest.raises(RunError, match=r"cannot write .*000000000003\.ckpt: what PyTorch wrote can't be read back"):
        saved(tmp_path)
    assert list(tmp_path.iterdir()) == []
