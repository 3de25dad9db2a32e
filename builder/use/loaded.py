"""`builder.load`: a trained model in one line, with what belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from builder.config.compose import Composed
from builder.errors import RunError, UsageError
from builder.model.spec import Definition
from builder.opened import OpenedRun, config_of, definition_of, model_of, reopen
from builder.use.answers import Answers, read_answers
from builder.use.asking import Ask, Runner, make_runner, read_ask
from builder.use.form import Batch, Chunk, Form, Reading, TensorSpec
from builder.use.generate import continued, text_of
from builder.use.samples import read_samples, sample_rows, sample_tensors

SIZE = 1024
"""Samples that are asked about at a time."""
GIVEN = {
    "Table": ("x", "categories"), "SklearnDataset": ("x",), "ImageFolder": ("x",), "Text": ("ids",),
    "Sequences": ("ids", "mask", "lengths"),
}  # fmt: skip
"""The tensors of a batch, without the target, of data sets that leave a state."""


def load(
    run: str | Path,
    /,
    *,
    checkpoint: str | Path | None = None,
    weights: str = "tested",
    device: torch.device | str | None = None,
) -> Loaded:
    """A trained model with its weights, in evaluation mode, and what new samples need to be given to it.

    The weights stay in the file, mapped into memory, until they are used. Modules with layers of one's own have to be
    imported before.

    Args:
        run: the run's folder, the last part of its name, or `NAME/latest`.
        checkpoint: `best`, `last`, another of the run's, or the path of any file of weights; None for the best one, or
            the last where none was kept.
        weights: `tested` (the moving average, where one was kept, else the weights), `ema` or `raw`.
        device: where the model is to be; None for the CPU.

    Raises:
        UsageError: there is no such run.
        RunError: its files aren't those that it left.
        WeightsError: the checkpoint can't be read, or isn't of this model.
        ConfigError: the model can't be made here.
    """
    opened = reopen(run, checkpoint=checkpoint, weights=weights)
    return Loaded(opened, model_of(opened, device))


@dataclass(eq=False, repr=False)
class Loaded:
    """A trained model, and what belongs to it.

    Attributes:
        run: the run, and the checkpoint whose weights these are.
        model: the `nn.Module` itself, in evaluation mode.
    """

    run: OpenedRun
    model: nn.Module

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return f"<{type(self.model).__name__} with {count:,} parameters, {self.run.checkpoint}>"

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The model's output for tensors in the form that it was trained on, without gradients."""
        with torch.inference_mode():
            return self.model(*inputs, **named)

    def place(self, device: torch.device | str | None = None) -> None:
        """Put the model on a device; None: on that on which it would be trained on this machine.

        Raises:
            UsageError: there is no such device.
        """
        self.__dict__["runner"] = make_runner(self.model, self.config.values["trainer"], device)

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, in the order of the model's output; None if there are none."""
        return self.run.classes

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was found about the data that the model was trained on."""
        return self.run.facts

    @cached_property
    def definition(self) -> Definition:
        """The model's definition."""
        return definition_of(self.run)

    @cached_property
    def config(self) -> Composed:
        """The run's config."""
        return config_of(self.run)

    @cached_property
    def runner(self) -> Runner:
        """The model, called in the numbers in which it was trained, where it is."""
        tensor = next((tensor for tensor in (*self.model.parameters(), *self.model.buffers())), None)
        return make_runner(self.model, self.config.values["trainer"], tensor.device if tensor is not None else "cpu")

    @cached_property
    def ask(self) -> Ask:
        """Which tensors the model takes, and what it predicts."""
        known = GIVEN.get(self.kind, ())
        return read_ask(self.config.values["task"], self.definition, known, self.facts)

    @cached_property
    def answers(self) -> Answers:
        """How its predictions are to be read."""
        values = self.config.values
        return read_answers(values["task"], self.facts, self.run.state, values["data"])

    @property
    def kind(self) -> str:
        """The type of the data set that the model was trained on, `tensors` if nothing is known of new samples."""
        return "tensors" if self.run.state is None else str(self.run.state["type"])

    @cached_property
    def form(self) -> Form:
        """What is known of the samples that the model takes."""
        dtypes = (self.run.state or {}).get("dtypes") or {}
        specs = {
            name: TensorSpec(getattr(torch, dtypes.get(name, item.dtype)), _shape(item.shape))
            for name, item in zip(self.ask.inputs, self.definition.inputs, strict=True)
            if name in self.ask.required and hasattr(torch, item.dtype)
        }
        names, length = self.facts.get("feature_names"), self.facts.get("length")
        return Form(self.run.state, specs, names, length if isinstance(length, int) else 0)

    def read(self, given: Any, *, size: int = SIZE, kind: str | None = None) -> Reading:
        """New samples in the form that the model takes, in chunks of up to `size`.

        Args:
            given: a file or folder, `-` for standard input, records (mappings of columns to values), a text or
                a list of texts for language models, arrays by name, or one array.
            size: of a chunk.
            kind: of a file, where its name doesn't say it: csv, jsonl, parquet or text.

        Raises:
            UsageError: it is nothing of the kind.
            Refusal: a column or an array is missing.
        """
        if isinstance(given, Path) or (isinstance(given, str) and self.kind != "Text"):
            return read_samples(self.form, str(given), size, kind)
        if isinstance(given, str):
            return sample_rows(self.form, [{"text": given}], size)
        if isinstance(given, Mapping):
            return sample_tensors(self.form, given, size)
        if isinstance(given, Tensor | np.ndarray):
            return sample_tensors(self.form, {next(iter(self.form.tensors)): given}, size)
        return sample_rows(self.form, _rows(given, self.kind), size)

    def batch(self, given: Any) -> Batch:
        """New samples as the tensors that the model takes, by name.

        Raises:
            RunError: one of them is bad; says which and why.
        """
        chunks = [_whole(chunk) for chunk in self.read(given).chunks]
        names = chunks[0].batch if chunks else {}
        return {name: torch.cat([chunk.batch[name] for chunk in chunks]) for name in names}

    def predict(self, given: Any, *, proba: bool = False) -> list[dict[str, Any]]:
        """What the model predicts for new samples, a mapping for each: `prediction` and, with `proba`, probabilities.

        Classes are given by name, and numbers in the target's own unit. See `read` for what can be given.

        Raises:
            RunError: a sample is bad; says which and why.
        """
        rows: list[dict[str, Any]] = []
        for columns in (self.columns(_whole(chunk), proba=proba) for chunk in self.read(given).chunks):
            rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return rows

    def columns(
        self, chunk: Chunk, *, proba: bool = False, tokens: int = 64, seed: int | None = None
    ) -> dict[str, list[Any]]:
        """What the model predicts for a chunk of samples, in columns.

        Args:
            chunk: the samples.
            proba: whether probabilities of classes are asked for.
            tokens: how much a language model adds to a text.
            seed: by which it draws; None: it takes what is most likely.
        """
        if not chunk.places:
            return {}
        if self.kind == "Text" and "ids" in chunk.batch:
            return self._text(chunk, tokens, seed, proba)
        output, predicted = self.outputs(chunk.batch)
        tagged = self.answers.tags is not None and isinstance(output, Tensor) and output.dim() == 3
        predicted, lengths = (output, chunk.batch.get("lengths")) if tagged else (predicted, None)
        return self.answers.columns(predicted, len(chunk.places), proba, lengths)

    def outputs(self, batch: Batch) -> tuple[Any, Any]:
        """The model's output for a batch, and what of it is the prediction."""
        arguments = self.ask.arguments(batch)
        output = self.runner(arguments)
        placed = {name: tensor.to(self.runner.device) for name, tensor in batch.items()}
        with torch.inference_mode():
            return output, self.ask.predicted(placed, output)

    def _text(self, chunk: Chunk, tokens: int, seed: int | None, proba: bool) -> dict[str, list[Any]]:
        if proba:
            raise UsageError("there are no probabilities of a text: predict goes on with it")
        assert self.run.state is not None
        ids = continued(self.logits, chunk.batch["ids"][0], tokens, context=self.form.length or tokens, seed=seed)
        return {"prediction": [text_of(self.run.state, ids)]}

    def logits(self, ids: Tensor) -> Tensor:
        """The logits [B, T, V] of what follows ids [B, T], of a language model."""
        found: Tensor = self.outputs({"ids": ids})[1]
        return found


def _shape(dims: Any) -> tuple[int | None, ...] | None:
    """A shape without the batch dimension, with None for what is free."""
    return None if not dims else tuple(dim if isinstance(dim, int) else None for dim in dims[1:])


def _rows(given: Iterable[Any], kind: str) -> Iterator[Mapping[str, Any]]:
    for item in given:
        if isinstance(item, Mapping):
            yield item
        elif isinstance(item, str) and kind in ("Text", "Sequences"):
            yield {"text": item, "tokens": item.split()}
        elif isinstance(item, list | tuple) and kind == "Sequences":
            yield {"tokens": list(item)}
        else:
            raise UsageError(f"a sample is a {type(item).__name__}; give a mapping of columns to values")


def _whole(chunk: Chunk) -> Chunk:
    """A chunk of which nothing is bad.

    Raises:
        RunError: something is.
    """
    if chunk.bad:
        place, reason = chunk.bad[0]
        raise RunError(f"sample {place} can't be used: {reason}")
    return chunk
