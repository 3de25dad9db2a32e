"""What 16 trials of the digits MLP are made of, and the loop by hand beside them."""

from __future__ import annotations

import copy
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from by_hand import Mlp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from builder.errors import Origin
from builder.sweep.book import Book
from builder.sweep.jobs import Executor, TrialJob
from builder.sweep.objectives import Objective
from builder.sweep.settings import Source
from builder.sweep.space import Axis, Choices
from builder.sweep.storage import url_of
from builder.sweep.vmap import _members
from builder.sweep.vmap_fit import Fit

TRIALS, BATCH = 16, 64
RATES = [10 ** (-1.5 - 2 * index / TRIALS) for index in range(TRIALS)]
MONITOR = "val/accuracy"


def jobs(folder: Path, count: int, hidden: int, epochs: int) -> list[TrialJob]:
    """Trials that differ in their learning rates, waiting in a study of their own."""
    book = Book.create(url_of(None, folder), "s", ["max"], {})
    texts = tuple(map(repr, RATES[:count]))
    axis = Axis("optimizer.lr", Choices(tuple(RATES[:count]), texts), "", Origin())
    book.fill([axis], count, grid=True)
    for _ in range(count):
        book.claim(abandoned=False)
    words = (
        "experiment=digits_mlp", "trainer=cpu", f"model.args.hidden={hidden}", "model.args.dropout=0.0",
        f"trainer.max_epochs={epochs}", "report=false", f"output_dir={folder}",
    )  # fmt: skip
    return [
        TrialJob(number, (*words, f"optimizer.lr={text}"), ((),), Source(), book.url, book.name,
                 (Objective(MONITOR, "max"),), MONITOR, "max", None, os.getcwd())
        for number, text in enumerate(texts)
    ]  # fmt: skip


class Turns(Fit):
    """A training of several that lets others have their turn after each epoch, and times all."""

    others: Sequence[Callable[[], object]]
    taken: Sequence[list[float]]

    def _epoch(self, epoch: int) -> None:
        sides = (lambda: super(Turns, self)._epoch(epoch), *self.others)
        for side, taken in zip(sides, self.taken, strict=True):
            taken.append(_seconds(side))


def together(folder: Path, hidden: int, epochs: int, compiles: bool) -> list[tuple[float, ...]]:
    """The processor's seconds of each epoch: of trials that train together, of loops by hand, of matrix products alone.

    The first two of each don't count: the step is compiled there.
    """
    members = [member for job in jobs(folder, TRIALS, hidden, epochs + 2) for member in _members(job)]
    fit = Turns(members, lambda one, epoch, values: None, compiles=compiles)
    splits = members[0].ready.data.splits
    fit.others = (by_hand(splits["train"], splits["val"], hidden), products(splits["train"], splits["val"], hidden))
    fit.taken = [[] for _ in range(1 + len(fit.others))]
    fit.run()
    return [tuple(taken[2:]) for taken in fit.taken]


def products(train: Mapping[str, Tensor], val: Mapping[str, Tensor], hidden: int) -> Callable[[], None]:
    """The matrix products alone that an epoch of all models takes: forward and backward, and forward on val."""
    sizes = ((64, hidden), (hidden, hidden), (hidden, 10))
    weights = [torch.randn(TRIALS, after, before) for before, after in sizes]
    given = {rows: [torch.randn(TRIALS, rows, size) for size, _ in sizes] for rows in (BATCH, *_rests(train, val))}
    grads = {rows: [torch.randn(TRIALS, rows, size) for _, size in sizes] for rows in given}

    def forward(rows: int) -> None:
        for x, weight in zip(given[rows], weights, strict=True):
            torch.bmm(x, weight.transpose(1, 2))

    def epoch() -> None:
        for rows in _batches(train):
            forward(rows)
            for x, grad in zip(given[rows], grads[rows], strict=True):
                torch.bmm(grad.transpose(1, 2), x)
            for grad, weight in zip(grads[rows][1:], weights[1:], strict=True):  # none for what the model is given
                torch.bmm(grad, weight)
        for rows in _batches(val):
            forward(rows)

    return epoch


def _batches(split: Mapping[str, Tensor]) -> list[int]:
    """The numbers of samples of its batches."""
    return [len(rows) for rows in split["target"].split(BATCH)]


def _rests(*splits: Mapping[str, Tensor]) -> set[int]:
    return {_batches(split)[-1] for split in splits}


def by_hand(train: Mapping[str, Tensor], val: Mapping[str, Tensor], hidden: int) -> Callable[[], None]:
    """An epoch of each model, one after the other: trained, validated, its best weights kept."""
    torch.manual_seed(0)
    models = [_without_dropout(Mlp(hidden=hidden)) for _ in range(TRIALS)]
    optimizers = [torch.optim.AdamW(model.parameters(), lr) for model, lr in zip(models, RATES, strict=True)]
    best: list[tuple[float, dict[str, Tensor]]] = [(-1.0, {})] * TRIALS

    def epoch() -> None:
        for index, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            model.train()
            losses, right = 0.0, 0
            for rows in torch.randperm(len(train["x"])).split(BATCH):
                x, target = train["x"][rows], train["target"][rows]
                output = model(x)
                loss = cross_entropy(output, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses += loss.item() * len(rows)
                right += int((output.argmax(dim=1) == target).sum())
            accuracy = _accuracy(model, val)
            if accuracy > best[index][0]:
                best[index] = (accuracy, copy.deepcopy(model.state_dict()))

    return epoch


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@torch.no_grad()
def _accuracy(model: nn.Module, val: Mapping[str, Tensor]) -> float:
    model.eval()
    output = model(val["x"])
    cross_entropy(output, val["target"]).item()
    return float((output.argmax(dim=1) == val["target"]).float().mean())


def _seconds(side: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    start = time.process_time()
    try:
        side()
    finally:
        gc.enable()
    return time.process_time() - start


def run_all(executor: Executor, given: list[TrialJob]) -> tuple[float, float]:
    """Run trials to their end: the seconds that pass, and the processor's, those of worker processes with them."""
    before = _processor(executor)
    start, waiting, running = time.perf_counter(), list(given), 0
    while waiting or running:
        while waiting and running < executor.slots:
            executor.submit(waiting.pop(0))
            running += 1
        for _, outcome in executor.poll(1.0):
            assert outcome.state == "complete", outcome.reason
            running -= 1
    return time.perf_counter() - start, _processor(executor) - before


def _processor(executor: Executor) -> float:
    """The processor's seconds of this process, and of the executor's workers, which are no children of it."""
    workers = [worker.process.pid for worker in getattr(executor, "_workers", ()) if worker is not None]
    ticks = 0
    for pid in workers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def emptied() -> Iterator[Path]:
    """A folder for run folders and studies, deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
