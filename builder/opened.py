"""A run on disk, opened again: what it found about its data, its config, its model with its weights. No Lightning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from builder.config.compose import Composed, compose
from builder.config.folders import blocks, search_path, shown
from builder.config.interpolation import resolve
from builder.config.origin import Origins
from builder.config.tree import has_interpolation
from builder.config.yaml_file import read_yaml
from builder.durable import told
from builder.errors import RunError, UsageError
from builder.model.build import construct
from builder.model.classes import DefinedModule
from builder.model.infer import find_sizes
from builder.model.read import read_definition
from builder.model.spec import Definition, class_name
from builder.runs import manifest
from builder.runs.find import find_run
from builder.runs.status import Status, status
from builder.seeding import reseed, undisturbed
from builder.weights.assign import assign, unset
from builder.weights.entries import WeightsError
from builder.weights.files import WeightsFile, open_weights
from builder.weights.pickled import load_tree
from builder.weights.sources import CHECKPOINTS, located
from builder.weights.wrapped import find_state

BEST, LAST = "best", "last"
WEIGHTS = ("tested", "ema", "raw")
"""Which weights of a checkpoint: those that were tested (the average, where one was kept), the average, the others."""
CHEAP = 1 << 26
"""Files of up to so many bytes are compared with the run's checksums; of larger ones only the size is."""


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that was found, and the checkpoint chosen of it.

    `facts` are what formulas see as `data.<name>`, `fingerprint` the hashes of the splits, `state` what new samples
    need to be brought into the form that the model was trained on. `notes` say what is unusual about the run.
    """

    path: Path
    status: Status
    checkpoint: Path
    weights: str
    facts: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    state: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, in the order of the model's output; None if there are none."""
        names = self.facts.get("class_names")
        return list(map(str, names)) if names else None

    def file(self) -> WeightsFile:
        """The checkpoint's weights; no tensor is read yet.

        Raises:
            WeightsError: it can't be read, or needs more than tensors.
        """
        return open_weights(self.checkpoint, weights=self.weights)


def reopen(
    name: str | Path,
    *,
    checkpoint: str | Path | None = None,
    weights: str = "tested",
    output_dir: Path | str = "outputs",
) -> OpenedRun:
    """The run that is meant by a folder, a name or a part of one, and one of its checkpoints.

    Args:
        name: as `find_run` takes it.
        checkpoint: `best`, `last`, the name of another in its folder, or the path of any file of weights; None for the
            best, or the last where no best one was kept.
        weights: `tested`, `ema` or `raw`.
        output_dir: where runs lie.

    Raises:
        UsageError: there is no such run, or no such choice of weights.
        RunError: it isn't whole, or its files aren't those that it left.
        WeightsError: it has no such checkpoint.
    """
    if weights not in WEIGHTS:
        raise UsageError(f"unknown weights {weights!r}; there are {', '.join(WEIGHTS)}")
    path = find_run(str(name), output_dir)
    found = status(path)
    chosen, notes = _checkpoint(path, checkpoint)
    if found.state == "running":
        notes += (f"{path} is still running; its weights are those of {chosen.name} as it is now",)
    elif found.state != "finished":
        said = f": {found.reason}" if found.reason else ""
        notes += (f"{path} isn't finished, it is {found.state}{said}",)
    if found.state in ("finished", "failed", "interrupted"):
        within = [chosen.relative_to(path).as_posix()] if chosen.is_relative_to(path) else []
        manifest.check(path, "config.yaml", "model.yaml", *within, cheap=CHEAP)
    known = data_of(path)
    return OpenedRun(
        path, found, chosen, weights, known["facts"], known.get("fingerprint") or {}, known.get("state"), notes
    )


def _checkpoint(path: Path, which: str | Path | None) -> tuple[Path, tuple[str, ...]]:
    if which is None:
        best = path / CHECKPOINTS / f"{BEST}.ckpt"
        if best.is_file():
            return best, ()
        return _located(path, LAST), (f"{path} kept no best checkpoint; the last one is taken",)
    if Path(which).is_file() or Path(which).name != str(which):
        return Path(which), ()
    return _located(path, str(which)), ()


def _located(path: Path, which: str) -> Path:
    return located(f"run:{path}@{which}", lambda _: path)


def data_of(path: Path) -> dict[str, Any]:
    """What a run found about its data: `facts`, `fingerprint`, `state`.

    Raises:
        RunError: its folder doesn't say.
    """
    file = path / "data.json"
    if not file.is_file():
        raise RunError(f"{path} holds no {file.name}: it ended before its data was described")
    with told("read", file):
        text = file.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found["facts"], dict):
            return found
    except (ValueError, KeyError):
        pass
    raise RunError(f"cannot read {file}: it is damaged")


def epoch_of(run: OpenedRun) -> int | None:
    """The epoch in which the checkpoint was written, from 0; None if it doesn't say.

    Raises:
        WeightsError: it can't be read.
    """
    if run.checkpoint.suffix != ".ckpt":
        return None
    tree = load_tree(run.checkpoint, lists=False)
    epoch = tree.get("epoch") if isinstance(tree, Mapping) else None
    return epoch if isinstance(epoch, int) else None


def config_of(run: OpenedRun, overrides: Sequence[str] = ()) -> Composed:
    """The config of a run, under overrides.

    Raises:
        ConfigError: an override is wrong, or a value from the environment is missing.
    """
    return compose(overrides, config_name="config", config_dir=run.path)


def definition_of(run: OpenedRun) -> Definition:
    """The model's definition, with its sizes filled in.

    Raises:
        ConfigError: it can't be read here: a layer of the user's isn't imported, or a variable isn't set.
    """
    file = run.path / "model.yaml"
    document = read_yaml(file, shown(file.resolve()))
    origins, raw = Origins(document.origins), document.value
    if has_interpolation(file.read_text(encoding="utf-8")):
        raw = _resolved(run, raw)
    return read_definition(raw, origins, (), blocks(search_path()), class_name("model"))


def _resolved(run: OpenedRun, raw: Any) -> Any:
    """A definition whose references to the config around it and to the environment are resolved."""
    config = read_yaml(run.path / "config.yaml").value
    return resolve({**config, "model": raw}, Origins())["model"]


def model_of(run: OpenedRun, device: torch.device | str | None = None) -> nn.Module:
    """The model with the checkpoint's weights, in evaluation mode.

    It is made without memory, and given the checkpoint's tensors, mapped from the file, as its own: what isn't used is
    never read. A model with layers of the user's, whose constructors may do anything, is made as training made it.

    Args:
        run: the run.
        device: where it is to be; None: the CPU, with its tensors mapped.

    Raises:
        ConfigError: the definition can't be read here.
        WeightsError: the checkpoint can't be read, or isn't of this model.
    """
    definition = definition_of(run)
    file = run.file()
    sizes = find_sizes(definition, {}, run.facts, {})
    model = _without_memory(definition, run, sizes, file)
    if model is None:
        model = _as_trained(definition, run, sizes)
        assign(file, model)
        _extra_state(model, run)
    model.eval()
    return model if device is None else model.to(device)


def _without_memory(definition: Definition, run: OpenedRun, sizes: Any, file: WeightsFile) -> nn.Module | None:
    """The model made on the meta device, with a file's tensors; None if it needs more than these to be whole."""
    drawn = torch.get_rng_state()
    model = construct(definition, {}, run.facts, sizes, "meta", keeps=True)
    if not torch.equal(drawn, torch.get_rng_state()):  # for a buffer that no checkpoint has
        torch.set_rng_state(drawn)
        return None
    if not all(_is_ours(module) for module in model.modules()):
        return None
    assign(file, model)
    return None if unset(model) else model


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, DefinedModule) or type(module).__module__.partition(".")[0] == "torch"


def _as_trained(definition: Definition, run: OpenedRun, sizes: Any) -> nn.Module:
    """The model with its initial values, drawn from the seed of the run; the caller's generator stays as it was."""
    config = read_yaml(run.path / "config.yaml").value
    seed = config["seed"] if config.get("init_seed") is None else config["init_seed"]
    with undisturbed():
        reseed(seed, "init")
        return construct(definition, {}, run.facts, sizes)


def _extra_state(model: nn.Module, run: OpenedRun) -> None:
    """Give modules what they saved beside their tensors."""
    own = {name: module for name, module in model.named_modules() if _saves_more(module)}
    if not own:
        return
    state = find_state(load_tree(run.checkpoint), None, run.weights).state
    for name, module in own.items():
        key = f"{name}._extra_state" if name else "_extra_state"
        held = [state[each] for each in (key, f"model.{key}") if each in state]
        if not held:
            raise WeightsError(f"{run.checkpoint} lacks what {name or 'the model'} saves beside its tensors")
        module.set_extra_state(held[0])


def _saves_more(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state
