"""Evaluates a trained model: the task's loss and metrics, the same bits as at the end of training, and more of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from builder.data.facts import SPLITS
from builder.data.load import Data
from builder.data.load import load as load_data
from builder.data.loader import TensorLoader
from builder.data.sources import TensorSource
from builder.errors import Origin, UsageError, dotted, nearest
from builder.opened import epoch_of
from builder.seeding import reseed, reseed_step, undisturbed
from builder.training.phase import Phase
from builder.training.task import Task, read_task
from builder.use.labelled import labelled
from builder.use.loaded import Loaded

SHOWN = 12
"""Samples whose reconstructions are kept."""


@dataclass(frozen=True, slots=True)
class Set:
    """Samples to evaluate a model on: their loader, the facts of their data, and what is to be said of them."""

    name: str
    phase: str
    loader: TensorLoader
    facts: Any
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Gathered:
    """What was gathered: metrics by name, and on the CPU what pictures are drawn of.

    `shares` [N, C] are probabilities of classes, `truth` [N] true classes (or [N, C] labels); `predicted` and `target`
    [N] numbers; `given` and `rebuilt` the first samples and what was made of them.
    """

    metrics: dict[str, float]
    samples: int
    shares: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    target: list[Tensor] = field(default_factory=list)
    given: Tensor | None = None
    rebuilt: Tensor | None = None


def open_set(loaded: Loaded, split: str, overrides: Sequence[str] = (), file: str | None = None) -> Set:
    """A split of the run's own data, under overrides, or the samples of another file with their targets.

    Raises:
        UsageError: there is no such split, or the overrides change what the model's inputs are made by.
        ConfigError: the data can't be read.
        Refusal: a file isn't of the form that the model was trained on.
    """
    if file is not None:
        values = loaded.config.values["data"]
        tensors = labelled(loaded.run.state, file, values, loaded.facts)
        size = values.get("eval_batch_size") or values["batch_size"]
        loader = TensorLoader(TensorSource(tensors), size)
        facts = _Facts(loaded.facts, tensors)
        return Set(file, "test", loader, facts)
    if split not in SPLITS:
        near = nearest(split, SPLITS)
        raise UsageError(
            f"no split {split!r}; there are {', '.join(SPLITS)}" + (f"; did you mean {near[0]}?" if near else "")
        )
    data, notes = _data(loaded, overrides)
    if split not in data.sources:
        raise UsageError(f"the data has no split {split}; it has {', '.join(data.sources)}")
    name = f"{split}" + (f" ({' '.join(overrides)})" if overrides else "")
    return Set(name, split, _evaluated(data, split), data.facts, (*notes, *_unlike(loaded, data, split)))


@dataclass(frozen=True, slots=True)
class _Facts:
    """The run's facts, and the tensors of a file."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def _evaluated(data: Data, split: str) -> TensorLoader:
    """A loader of a split as evaluation sees it; the train split too."""
    if split != "train":
        return data.loader(split)
    return replace(data, sources={"val": data.sources["train"]}).loader("val")


def _data(loaded: Loaded, overrides: Sequence[str]) -> tuple[Data, tuple[str, ...]]:
    """The run's data, read again.

    Raises:
        UsageError: what the model's inputs are made by isn't as it was.
    """
    from builder.opened import config_of

    composed = config_of(loaded.run, overrides) if overrides else loaded.config
    data = load_data(composed.values["data"], composed.values["seed"], composed.origins)
    known, found = loaded.run.state, data.state
    if known is not None and found is not None and _plain(known) != _plain(found):
        parts = [key for key in known if _plain(known.get(key)) != _plain(found.get(key))]
        what = "these overrides change" if overrides else "the data changed since, and with it"
        hint = "give another file of the same form by --data FILE: it is brought into the form the model was trained on"
        raise UsageError(f"{what} what the model's inputs are made by ({', '.join(parts)})\n  hint:     {hint}")
    return data, ()


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _unlike(loaded: Loaded, data: Data, split: str) -> list[str]:
    """That the samples aren't those that were there in training."""
    known = loaded.run.fingerprint.get(split)
    if known is None or known == data.sources[split].fingerprint():
        return []
    return [f"the samples of {split} aren't those that the run had"]


def evaluate(loaded: Loaded, chosen: Set) -> Gathered:
    """The loss and the metrics of a set: what the test at the end of training computes, for the same samples.

    Raises:
        ConfigError: the task doesn't fit the data.
    """
    composed, runner = loaded.config, loaded.runner
    seed, epoch = composed.values["seed"], _epoch(loaded, chosen.phase)
    phase: Phase | None = None
    task: Task | None = None
    found = Gathered({}, 0)
    with undisturbed(), _deterministic(composed.values["trainer"]), runner.calling():
        reseed(seed, chosen.phase, epoch)
        for index, batch in enumerate(chosen.loader):
            reseed_step(seed, chosen.phase, epoch, index, 0)
            placed = {name: runner.moved(tensor) for name, tensor in batch.items()}
            if task is None:
                task = _task(loaded, chosen, placed)
                phase = Phase(chosen.phase, task)
                phase.to(runner.device)
                if task.loss.module is not None:
                    task.loss.module.to(runner.device)
                reseed_step(seed, chosen.phase, epoch, index, 0)  # as if the model hadn't run
            values = task.names(placed, runner.model(*task.arguments(placed)))
            loss = task.loss.function(values)
            count = len(next(iter(placed.values())))
            assert phase is not None
            phase.add(loss, values, count)
            found.samples += count
            _gather(found, loaded, placed, values)
        if phase is not None:
            found.metrics = {name: float(value) for name, value in phase.compute().items()}
    return found


def _epoch(loaded: Loaded, phase: str) -> int:
    """The epoch from which follows what is drawn: a test comes after the last, a validation within one."""
    trained, ended = epoch_of(loaded.run), loaded.run.status.epoch
    return (ended if phase == "test" else trained) or trained or ended or 0


def _task(loaded: Loaded, chosen: Set, batch: dict[str, Tensor]) -> Task:
    """The task of the run's config, for the tensors of these samples; the model runs once, to see what it gives."""
    composed = loaded.config
    inputs = {item.name: not item.optional for item in loaded.definition.inputs}
    missing = [
        name for name in ("target",) if name not in chosen.facts.tensors and "target" in repr(composed.values["task"])
    ]
    if missing:
        raise UsageError(f"{chosen.name} has no target, without which nothing can be said of the model")
    output = loaded.runner.model(*loaded.ask.arguments(dict(batch)))
    outputs = tuple(map(str, output)) if isinstance(output, Mapping) else ()
    return read_task(composed.values["task"], chosen.facts, inputs, composed.origins, outputs=outputs)


@contextlib.contextmanager
def _deterministic(trainer: Mapping[str, Any]) -> Iterator[None]:
    """PyTorch as the trainer sets it: with deterministic algorithms, if it was to use them."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    wish = trainer.get("deterministic")
    torch.use_deterministic_algorithms(bool(wish), warn_only=wish == "warn")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _gather(found: Gathered, loaded: Loaded, batch: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Keep what pictures are drawn of."""
    predicted, target = values["prediction"], batch.get("target")
    if not isinstance(predicted, Tensor):
        return
    shares = loaded.answers.probabilities(predicted)
    if shares is not None and target is not None:
        truth = target.cpu() if loaded.answers.several else target.flatten().cpu()
        if len(truth) == len(shares) and (loaded.answers.several or not truth.is_floating_point()):
            counted = slice(None) if loaded.answers.several else truth >= 0  # what is below is padding
            found.shares.append(shares[counted])
            found.truth.append(truth[counted].long())
    elif target is not None and predicted.shape == target.shape and target.is_floating_point() and target.dim() == 1:
        found.predicted.append(predicted.detach().double().cpu() * loaded.answers.std + loaded.answers.mean)
        found.target.append(target.double().cpu() * loaded.answers.std + loaded.answers.mean)
    elif found.given is None:
        x = batch.get("x")
        if x is not None and x.shape == predicted.shape and x.dim() > 1:
            found.given, found.rebuilt = x[:SHOWN].float().cpu(), predicted[:SHOWN].detach().float().cpu()


def overrides_of(words: Sequence[str]) -> list[str]:
    """Overrides of the data as those of a config: `path=new.csv` and `data.path=new.csv` are one.

    Raises:
        UsageError: one is of another section.
    """
    found = []
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        start = word[: len(word) - len(word.lstrip("+~"))]
        if key.split(".")[0] in ("model", "task", "optimizer", "trainer", "scheduler", "callbacks", "logger"):
            origin = Origin(override=word)
            raise UsageError(f"{origin}: {dotted((key,))} isn't of the data, and a trained model stays as it is")
        found.append(word if key.split(".")[0] == "data" else f"{start}data.{word.lstrip('+~')}")
    return found
