"""The straight line: the order in which a config becomes a trained model; its first half stands in `preview.py`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from builder.config.changes import fixed
from builder.config.compose import Composed
from builder.config.folders import blocks
from builder.config.saved import dump_yaml, may_hold_secrets, pinned, saved_yaml, with_references
from builder.data.load import Data
from builder.data.module import DataModule
from builder.errors import BuilderError, ConfigError, LayerError, RunError, Stopped, dotted
from builder.errors import Path as ConfigPath
from builder.follower import Follower, end_with_leader, followed
from builder.inspect.graph.svg import svg
from builder.inspect.summary import as_json
from builder.model.build import construct
from builder.model.explain import explain
from builder.model.filled import filled
from builder.model.infer import Exploration
from builder.model.source import source
from builder.optim.optimizer import build_optimizer
from builder.optim.scheduler import Schedule, build_scheduler
from builder.plans import Plans, length, make_plans
from builder.preview import Explored, drawing_of, explored, summary_of
from builder.report.config import ORIGINS
from builder.report.model import DRAWING, SUMMARY
from builder.report.run import REPORT, write_report
from builder.runs import attempts
from builder.runs.environment import environment
from builder.runs.folder import Run, check_name, one_line, open_run
from builder.runs.git import repository
from builder.runs.status import now
from builder.seeding import reseed
from builder.training.fingerprint import CannotGoOn, Context
from builder.training.fit import FitResult, fit
from builder.training.freezing import Freezing
from builder.training.hooks.callback import Hooks
from builder.training.hooks.plan import PlannedHook, plan_hooks
from builder.training.phase import try_out
from builder.training.positions import Position
from builder.training.rates import GroupRates
from builder.training.sharding import Sharding, read_sharding
from builder.training.task import Task, read_task
from builder.training.trainer import read_trainer
from builder.weights.digest import tensors_sha256
from builder.weights.init_report import InitReport, init_report
from builder.weights.init_report import lines as init_lines
from builder.weights.initialise import Touched
from builder.weights.load import LoadReport
from builder.weights.load import load as load_weights

if TYPE_CHECKING:
    import pytorch_lightning as pl


@dataclass(frozen=True, slots=True)
class Prepared(Explored):
    """What stands before training: the data, the model's tree and sizes, the task, and the plans for the weights."""

    task: Task
    plans: Plans
    hooks: tuple[PlannedHook, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found; that it exists means that nothing is wrong."""

    name: str
    model: str
    parameters: int
    trainable: int
    layers: int
    train: int
    val: int
    test: int
    steps_per_epoch: int
    reports: Mapping[str, Any]
    plans: Sequence[str] = ()

    def __str__(self) -> str:
        head = (
            f"{self.name}: fine. {self.model} with {self.parameters:,} parameters ({self.trainable:,} trainable) in "
            f"{self.layers} layers; {self.train} / {self.val} / {self.test} samples to train / validate / test, "
            f"{self.steps_per_epoch} steps an epoch"
        )
        return "\n".join([head, *self.plans])


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How a training ended, and where its run lies."""

    run: Path
    state: str
    metrics: Mapping[str, float]
    epoch: int
    step: int
    seconds: float


def prepare(composed: Composed, *, quiet: bool = False) -> Prepared:
    """All stations before training, up to the task and the optimiser of the model on the meta device.

    Unless `quiet`, what in the config says nothing, though it is no error, is noted on standard error.

    Raises:
        ConfigError: something is wrong with the config.
    """
    check_name(composed.values["name"], composed.origins.of(("name",)))
    ready = explored(composed)
    composed, data, definition, found = ready.composed, ready.data, ready.definition, ready.found
    values, origins = composed.values, composed.origins
    inputs = {item.name: not item.optional for item in definition.inputs}
    task = read_task(values["task"], data.facts, inputs, origins, outputs=_outputs(found))
    _try_out(task, data, found)
    plans = make_plans(found.model, values, origins, length(values["trainer"], len(data.loader("train"))))
    schedule = build_scheduler(
        build_optimizer(found.model, values["optimizer"], origins, trainable=plans.frozen.ever_trainable),
        values["scheduler"] or None, origins, metrics=task.metric_names(), steps=_steps(values["trainer"], plans.steps),
    )  # fmt: skip
    unused = _unused(data, task, values["task"])
    notes = (*data.notes, *ready.chosen, *unused, *plans.notes(), *(schedule.notes if schedule else ()))
    for note in () if quiet else notes:
        print(f"note: {note}", file=sys.stderr)
    return Prepared(composed, data, definition, found, ready.chosen, task, plans, _hooks(ready, plans))


def _hooks(ready: Explored, plans: Plans) -> tuple[PlannedHook, ...]:
    """The hooks of the config, laid beside its model."""
    found, values = ready.found, ready.composed.values
    if not values["hooks"]:
        return ()
    sizes = [len(value) for value in found.inputs.values() if isinstance(value, torch.Tensor) and value.dim()]
    return plan_hooks(
        values, ready.composed.origins, found.model,
        given={call.path: call.outputs for call in found.calls} if found.ran else None,
        trainable=plans.frozen.ever_trainable, growth=ready.data.batch_size / max(sizes, default=1),
    )  # fmt: skip


def _unused(data: Data, task: Task, section: Mapping[str, Any]) -> list[str]:
    """Tensors of the data that neither the model nor the task takes, each as a note."""
    named = {"target", *task.inputs, *re.findall(r"\w+", repr(section))}
    named |= {name for name, fact in data.facts.tensors.items() if 0 in fact.shape}  # which hold nothing
    return [f"data: neither the model nor the task takes {name!r}" for name in data.facts.tensors if name not in named]


def _steps(trainer: Mapping[str, Any], known: Mapping[str, int]) -> dict[str, int]:
    """The numbers that a scheduler's formulas may use: of those that are known, what Lightning tells when it trains."""
    epochs = trainer.get("max_epochs")
    withheld = {"steps_per_epoch"} if trainer.get("max_steps", -1) >= 0 else set()
    withheld |= {"max_epochs"} if withheld and (epochs or -1) < 0 else set()
    return {name: number for name, number in known.items() if name not in withheld}


def _outputs(found: Exploration) -> tuple[str, ...] | None:
    """The keys of the model's output, none for one that isn't a mapping; None where the model wasn't run."""
    if not found.ran:
        return None
    return tuple(map(str, found.outputs)) if isinstance(found.outputs, dict) else ()


def _try_out(task: Task, data: Data, found: Exploration) -> None:
    """Compute loss and metrics once, for the first samples and an output of the shapes that the model gives.

    Raises:
        ConfigError: they can't be computed.
    """
    sizes = {len(value) for value in found.inputs.values() if isinstance(value, torch.Tensor) and value.dim()}
    samples = {name: tensor[: max(sizes)] for name, tensor in data.splits["train"].items()} if found.ran else {}
    if len(sizes) == 1 and {len(tensor) for tensor in samples.values()} == sizes and _is_plain(found.outputs):
        fault = try_out(task, samples, _stand_in(found.outputs))
        if fault is not None:
            raise ConfigError(fault)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of tensors, mappings, lists and tuples."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    return isinstance(value, torch.Tensor) or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def _stand_in(value: Any) -> Any:
    """An output with numbers in it, of the shapes and dtypes of one on the meta device."""
    if isinstance(value, torch.Tensor):
        made = torch.zeros(value.shape, dtype=value.dtype)
        return made.uniform_(generator=torch.Generator().manual_seed(0)) if made.is_floating_point() else made
    if isinstance(value, Mapping):
        return {key: _stand_in(item) for key, item in value.items()}
    return type(value)(map(_stand_in, value))


def check(composed: Composed) -> CheckReport:
    """Everything up to the first training step, without training.

    Raises:
        ConfigError: something is wrong with the config; all faults of a station at once.
    """
    ready = prepare(composed)
    composed = ready.composed
    read_trainer(composed.values, ready.task, composed.origins)
    read_sharding(composed.values["trainer"], ready.found.model, composed.origins)
    model, data, initial = ready.found.model, ready.data, _planned(ready)
    named, trainable = dict(model.named_parameters()), set(ready.plans.frozen.ever_trainable)
    sizes = {split: len(next(iter(data.splits[split].values()))) if split in data.splits else 0
             for split in ("train", "val", "test")}  # fmt: skip
    return CheckReport(
        name=composed.values["name"],
        model=ready.definition.name,
        parameters=sum(parameter.numel() for parameter in named.values()),
        trainable=sum(parameter.numel() for name, parameter in named.items() if name in trainable),
        layers=sum(1 for module in model.modules() if not list(module.children())),
        steps_per_epoch=len(data.loader("train")),
        reports={"init": initial.to_json(), **ready.plans.to_json()},
        plans=[*_init_lines(ready, initial), *ready.plans.lines()],
        **sizes,
    )


def _planned(ready: Prepared) -> InitReport:
    """Which rule fills which parameter, without any values."""
    touched = Touched()
    model = construct(
        ready.definition, {}, ready.data.facts.values, ready.found.sizes, torch.device("meta"), touched=touched
    )
    return init_report(model, touched)


def train(
    composed: Composed,
    *,
    quiet: bool = False,
    ready: Prepared | None = None,
    callbacks: Sequence[pl.Callback] = (),
    on_open: Callable[[Path], object] | None = None,
) -> TrainReport:
    """Check the config, train the model in a new run folder, and seal that folder however it ends.

    `ready` is what `prepare` made of the config, where that was done already. `callbacks` are called before those of
    the config, `on_open` with the run folder before training begins.

    Raises:
        Stopped: a callback ended training on purpose; the run is sealed as interrupted.
        ConfigError: something is wrong with the config; no run folder is made.
        LayerError: a layer raised; the run is sealed as failed.
        RunError: the run folder can't be written.
        KeyboardInterrupt: the user stopped it; the run is sealed as interrupted.
    """
    started = time.perf_counter()
    ready = prepare(composed, quiet=quiet) if ready is None else ready
    composed = ready.composed
    values = composed.values
    rank = read_trainer(values, ready.task, composed.origins).rank
    quiet = quiet or rank > 0
    sharding = read_sharding(values["trainer"], ready.found.model, composed.origins)
    model, initial, loaded = initialised(ready) if sharding is None or rank == 0 else _without_values(ready)
    if not quiet:
        for line in (*_init_lines(ready, initial), *ready.plans.lines()):
            print(line, file=sys.stderr)
        for note in loaded.notes:
            if note not in ready.plans.load.report().notes:  # what only the values tell
                print(f"note: {note}", file=sys.stderr)
    if sharding is not None:
        sharding = replace(sharding, values=model if rank == 0 else None)
        model = construct(ready.definition, {}, ready.data.facts.values, ready.found.sizes, torch.device("meta"))
    with open_folder(ready) if rank == 0 else follow() as run:
        if rank == 0:
            attempts.add(run.path, {"started": now(), "command": sys.argv, "from": None})
        describe(run, ready, initial, loaded)
        if on_open is not None:
            on_open(run.path)
        return trained(run, ready, model, started, quiet=quiet, callbacks=callbacks, sharding=sharding)


def initialised(ready: Prepared) -> tuple[nn.Module, InitReport, LoadReport]:
    """The model with the weights that training begins with, and how it got them.

    Raises:
        ConfigError: weights can't be loaded.
    """
    values = ready.composed.values
    seed = values["seed"] if values["init_seed"] is None else values["init_seed"]
    reseed(seed, "init")
    touched = Touched()
    model = construct(ready.definition, {}, ready.data.facts.values, ready.found.sizes, touched=touched)
    initial = init_report(model, touched)
    return model, initial, load_weights(ready.plans.load, model)


def _without_values(ready: Prepared) -> tuple[nn.Module, InitReport, LoadReport]:
    """The model on the meta device, and what would be done for its weights: the first process makes them for all."""
    touched = Touched()
    facts, sizes = ready.data.facts.values, ready.found.sizes
    model = construct(ready.definition, {}, facts, sizes, torch.device("meta"), touched=touched)
    return model, init_report(model, touched), ready.plans.load.report()


def trained(
    run: Run | Follower,
    ready: Prepared,
    model: nn.Module,
    started: float,
    *,
    quiet: bool,
    context: Context | None = None,
    position: Position | None = None,
    callbacks: Sequence[pl.Callback] = (),
    sharding: Sharding | None = None,
) -> TrainReport:
    """Train a model in its run folder, from a position on if there is one, and seal the folder however it ends."""
    if ready.composed.values["report"]:
        run.afterwards(_write_page)
    try:
        result = _fit(ready, model, run, quiet, context or context_of(ready), position, callbacks, sharding)
    except (KeyboardInterrupt, SystemExit, CannotGoOn):
        raise
    except Stopped as stop:
        run.seal("interrupted", reason=str(stop))
        raise
    except BaseException as error:
        told = _explained(error)
        told.add_note(f"run:      {run.path}")
        run.seal("failed", reason=one_line(told))
        if told is error:
            raise
        raise told from error
    seconds = time.perf_counter() - started
    if sharding is None:  # else each process has parts of them
        run.keep_hash("tested", tensors_sha256(model.state_dict()))
    run.seal(
        result.state, reason=result.reason, epoch=result.epoch, step=result.step,
        metrics=result.metrics, seconds=seconds,
    )  # fmt: skip
    return TrainReport(run.path, result.state, result.metrics, result.epoch, result.step, seconds)


def context_of(ready: Prepared, **options: Any) -> Context:
    """What of a run has to stay the same for it to go on bit for bit."""
    config = hashlib.sha256(json.dumps(fixed(ready.composed.unresolved), sort_keys=True, default=str).encode())
    return Context(ready.data.fingerprint(), config.hexdigest()[:16], ready.composed.values["seed"], **options)


def _fit(
    ready: Prepared,
    model: nn.Module,
    run: Run | Follower,
    quiet: bool,
    context: Context,
    position: Position | None,
    others: Sequence[pl.Callback],
    sharding: Sharding | None,
) -> FitResult:
    values, origins = ready.composed.values, ready.composed.origins
    section, frozen = values["scheduler"] or None, ready.plans.frozen
    callbacks = [*([Freezing(frozen)] if frozen.rules else []), GroupRates(), *others]
    if ready.hooks:
        callbacks.append(Hooks(ready.hooks, values["seed"], run.path))

    def optimizer(module: nn.Module) -> Optimizer:
        with frozen.unfrozen(module):  # a selector may ask for what requires a gradient
            return build_optimizer(module, values["optimizer"], origins, trainable=frozen.ever_trainable)

    def scheduler(optimizer: Optimizer, steps: Mapping[str, int]) -> Schedule | None:
        return build_scheduler(optimizer, section, origins, steps=steps)

    return fit(
        model, ready.task, DataModule(ready.data),
        optimizer=optimizer,
        scheduler=scheduler if section else None,
        config=values, origins=origins, run_dir=run.path, seed=values["seed"], quiet=quiet, on_position=run.reach,
        callbacks=callbacks, context=context, position=position, sharding=sharding,
        on_lost=lambda reason: run.seal("failed", reason=reason),
    )  # fmt: skip


def open_folder(ready: Prepared) -> Run:
    """The run folder, with what says where the run comes from."""
    composed = ready.composed
    code = repository()
    return open_run(
        composed.values["output_dir"], composed.values["name"],
        config_yaml=saved_yaml(pinned(composed, ready.plans.runs)), overrides=composed.overrides,
        environment=environment({"torch": _torch_facts()}, repository=code),
        patch=code.patch if code is not None else None, name_origin=composed.origins.of(("name",)),
    )  # fmt: skip


def follow() -> Follower:
    """Stands for the run folder in a process that another one leads."""
    folder = followed()
    if folder is not None:
        end_with_leader()
    return Follower(folder)


def describe(run: Run | Follower, ready: Prepared, initial: InitReport, loaded: LoadReport) -> None:
    """What was found about the model, and how its weights begin, for the run folder."""
    composed = ready.composed
    model = filled(
        composed.values["model"], ready.definition, {}, ready.data.facts.values, ready.found,
        blocks(composed.search_path),
    )  # fmt: skip
    run.write_text("model.yaml", dump_yaml(with_references(model, composed)))
    data = ready.data
    run.write_json("data.json", {"facts": data.facts.values, "fingerprint": data.fingerprint(), "state": data.state})
    origins = {dotted(path): str(composed.origins.of(path)) for path in _paths(composed.unresolved)}
    run.write_json(ORIGINS, origins)
    if composed.values["report"]:
        _picture(run, ready)
    if not may_hold_secrets(composed):  # code has values only, no references
        with contextlib.suppress(ConfigError):  # what plain code can't say is told by `show code`
            run.write_text("model.py", source(ready.definition, {}, ready.data.facts.values, ready.found))
    _report(run, ready.plans, initial, loaded)


def _picture(run: Run | Follower, ready: Prepared) -> None:
    """The drawing of the model and the table of its layers, for the report alone: no run fails for their sake."""
    try:
        run.write_text(DRAWING, svg(drawing_of(ready.definition, ready.found, ready), graphviz=False))
        run.write_json(SUMMARY, as_json(summary_of(ready.definition, ready.found, ready)))
    except RunError:
        raise
    except Exception as error:  # whatever it is, the model itself is fine
        print(f"note: the report will not show the model: {one_line(error)}", file=sys.stderr)


def _paths(value: Any, path: ConfigPath = ()) -> Iterator[ConfigPath]:
    """The paths of all values in a config."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _write_page(run: Path) -> None:
    """The run's report. It is made of what lies in the folder, at any time again, so that no run fails for its sake."""
    try:
        write_report(run)
    except Exception as error:  # whatever it is, the run is sealed, and has its end to tell
        print(f"note: no {REPORT} was written: {one_line(error)}", file=sys.stderr)


def _init_lines(ready: Prepared, initial: InitReport) -> list[str]:
    """How the weights begin, for people; nothing if there are no rules."""
    return ["", *init_lines(initial)] if ready.definition.rules else []


def _report(run: Run | Follower, plans: Plans, initial: InitReport, loaded: LoadReport) -> None:
    """How the weights began, what was loaded, what is frozen when, and the groups, for the run folder."""
    reports = {"init": initial.to_json(), **plans.to_json()}
    if loaded.sources:
        reports["load"] = loaded.to_json()
    for name, report in reports.items():
        run.write_json(f"reports/{name}.json", report)


def current_facts() -> dict[str, Any]:
    """What a run that began now would run on: `environment.json`, and under `patch` what the code differs by."""
    code = repository()
    facts = environment({"torch": _torch_facts()}, repository=code)
    return {**facts, "patch": None if code is None else code.patch}


def _torch_facts() -> dict[str, Any]:
    """What of PyTorch's build and of this machine decides a run's bits."""
    cuda = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "git_version": torch.version.git_version,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if cuda
        else ["cpu"],
        "threads": torch.get_num_threads(),
    }


def _explained(error: BaseException) -> BaseException:
    """An exception of a layer as one that says the YAML line it came from; any other as it is."""
    told = explain(error)
    if isinstance(error, BuilderError) or not told.path:
        return error
    lines = [f"{told.origin}: {dotted(told.path)}: {type(error).__name__}: {error}"]
    if told.raised_at:
        lines.append(f"  raised at: {told.raised_at}")
    lines += [f"  {value}" for value in told.values]
    return LayerError("\n".join(lines))
