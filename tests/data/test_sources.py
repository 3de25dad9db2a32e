import numpy as np
import pytest
import torch

from builder.config.origin import Origins
from builder.data.load import load
from builder.data.sources import ItemSource, TensorSource
from builder.errors import RunError
from made_files import arrays_of, make_arrays


def test_a_source_is_sliced_like_tensors_and_reads_no_more_than_that():
    asked = []

    class Items:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            asked.append(index)
            return {"x": torch.tensor([float(index)])}

    source = ItemSource(Items(), np.array([7, 8, 9]), random=False)
    asked.clear()
    assert source["x"][1:].tolist() == [[8.0], [9.0]] and asked == [8, 9]
    assert list(source) == ["x"] and len(source["x"]) == 3
    with pytest.raises(KeyError):
        source["y"]


def test_samples_read_into_memory_are_the_same():
    items = [{"x": torch.arange(3) + i, "target": i} for i in range(50)]
    rows = np.arange(49, -1, -2)
    made, kept = ItemSource(items, rows, random=False), ItemSource(items, rows, random=False).in_memory()
    assert isinstance(kept, TensorSource)
    for name in made:
        assert torch.equal(made[name][:], kept[name][:])


@pytest.mark.parametrize("odd", [{"x": torch.zeros(1)}, {"y": torch.zeros(2)}])
def test_samples_that_are_not_alike_are_not_read_into_memory(odd):
    with pytest.raises(RunError, match="sample 1 of a split isn't like its first"):
        ItemSource([{"x": torch.zeros(2)}, odd], random=False).in_memory()


def test_a_batch_is_finished_as_it_is_taken():
    source = TensorSource({"x": torch.arange(6)}, lambda batch: {"x": batch["x"] * 2, "y": batch["x"].float()})
    assert list(source) == ["x", "y"] and source["x"][4:].tolist() == [8, 10]
    assert source.take(torch.tensor([1, 0]))["x"].tolist() == [2, 0]


def fingerprint(path, **section):
    return load({"type": "Arrays", "path": path, "batch_size": 4, **section}, 0, Origins()).fingerprint()


def test_a_fingerprint_changes_with_the_samples_and_with_nothing_else(tmp_path):
    first = make_arrays(tmp_path / "a.npz")
    changed = arrays_of()
    changed["x"][:, 0] += 1e-3
    assert fingerprint(first) == fingerprint(first, batch_size=9) == fingerprint(make_arrays(tmp_path / "b.npz"))
    assert fingerprint(make_arrays(tmp_path / "c.npz", **changed)) != fingerprint(first)
    assert fingerprint(first, seed=1)["train"] != fingerprint(first)["train"]
    x = torch.arange(200.0)
    y = x.clone()
    y[101] += 1
    assert TensorSource({"x": x}).fingerprint() != TensorSource({"x": y}).fingerprint()
    assert TensorSource({"x": x}).fingerprint() != TensorSource({"x": x.view(100, 2)}).fingerprint()
