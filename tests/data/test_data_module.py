from types import SimpleNamespace

import pytest
import torch

from builder.config.origin import Origins
from builder.data.load import load
from builder.data.module import DataModule

DIGITS = {"type": "SklearnDataset", "name": "digits", "batch_size": 64}


def module(rank=0, world_size=1, **section):
    made = DataModule(load({**DIGITS, **section}, 0, Origins()))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    made.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=strategy, overfit_batches=0)
    return made


def test_each_process_takes_its_part_of_every_batch():
    parts = [list(module(rank, 2, batch_size=32).train_dataloader()) for rank in range(2)]
    whole = list(module().train_dataloader())
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for first, second, batch in zip(*parts, whole, strict=True):
        assert torch.equal(torch.cat([first["x"], second["x"]])[: len(batch["x"])], batch["x"])


def test_no_sample_is_evaluated_twice_by_several_processes():
    targets = [
        torch.cat([b["target"] for b in module(rank, 2, eval_batch_size=16).val_dataloader()]) for rank in range(2)
    ]
    assert sum(map(len, targets)) == 270 == len(module().data.splits["val"]["target"])


def test_samples_lie_on_the_device_if_they_are_to():
    made = module(device=True)
    loader = made.train_dataloader()
    assert loader.device == torch.device("cpu")
    plain = module().train_dataloader()
    for here, there in zip(plain, loader, strict=True):
        assert torch.equal(here["x"], there["x"])


def test_a_position_outlasts_lightnings_asking_anew():
    made = module()
    made.train_dataloader().set_position(3, 15)
    assert len(list(made.train_dataloader())) == 5


def test_where_batches_are_to_be_overfitted_they_are_always_the_same():
    made = module()
    made.trainer.overfit_batches = 2
    loader = made.train_dataloader()
    first = next(iter(loader))["x"]
    loader.set_epoch(1)
    assert torch.equal(next(iter(loader))["x"], first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_samples_stay_there_and_transforms_draw_by_place():
    augment = {
        "train": [{"type": "RandomCrop", "size": 8, "padding": 1}, {"type": "Noise", "std": 0.1}, "Mixup"],
        "eval": ["OneHot"],
    }
    made = module(device=True, transforms=augment)
    made.trainer.strategy.root_device = torch.device("cuda", 0)
    loader = made.train_dataloader()
    batches = [batch["x"] for batch in loader]
    assert all(batch.is_cuda for batch in batches)
    loader.set_position(0, 5)
    assert all(torch.equal(a, b) for a, b in zip(batches[5:], [batch["x"] for batch in loader], strict=True))
