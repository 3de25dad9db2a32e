"""Runs that are killed with SIGKILL wherever they may be, resumed, and compared with one that was never stopped.

A process is forked for each attempt from one that has imported all and prepared the config. It counts places in training:
every hook of every callback, every write, sync and rename of a file; and kills itself at the one it is given. Or it is
killed after some time. Of several processes that train together one is killed so, or all are.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback

from builder import pipeline, resume
from builder.config.compose import compose
from builder.runs import attempts
from builder.training import fit, metric_log, positions
from torture_ranks import Ranks

HOOKS = [
    name for name in dir(Callback) if name.startswith("on_") and name not in ("on_exception", "on_load_checkpoint")
]  # fmt: skip
BASE = (
    "model=mlp", "model.args.hidden=16", "model.args.dropout=0.2", "trainer=cpu", "trainer.max_epochs=3", "data.batch_size=256",
    "report=false", "trainer.log_every_n_steps=1", "callbacks.progress=null", "callbacks.resume.every_n_steps=2", "data.eval_batch_size=128",
    "data.transforms={train:[{type:Noise,std:0.1}]}",
)  # fmt: skip

SMALL_BATCHES = ("data.batch_size=64", "callbacks.resume.every_n_steps=7")
RANKS = ("trainer=ddp", "trainer.accelerator=cpu")
ROWS = {
    "a checkpoint every other step": (),
    "every step": ("callbacks.resume.every_n_steps=1", "callbacks.resume.every_n_epochs=null"),
    "every 7 steps, validation twice an epoch": (*SMALL_BATCHES, "trainer.val_check_interval=0.5"),
    "every 10 steps, of 3 batches": (
        *SMALL_BATCHES, "callbacks.resume.every_n_steps=10", "trainer.accumulate_grad_batches=3",
    ),
    "each epoch": ("callbacks.resume.every_n_steps=null", "callbacks.resume.every_n_epochs=1"),
    "two workers that persist": (*SMALL_BATCHES, "data.num_workers=2"),
    "plateau by epoch": (
        "scheduler={type:ReduceLROnPlateau,patience:0,threshold:0.2,monitor:val/loss}", "trainer.max_epochs=5",
    ),
    "plateau by step, validation twice an epoch": (
        *SMALL_BATCHES, "trainer.val_check_interval=0.5",
        "scheduler={type:ReduceLROnPlateau,patience:0,threshold:0.2,monitor:val/loss,interval:step,frequency:10}",
    ),
    "early stopping": (
        "trainer.max_epochs=20", "+callbacks.stop={type:EarlyStopping,patience:1,min_delta:0.05}", "optimizer.lr=0.01",
    ),
    "averaged weights": (
        "+callbacks.ema={type:EMAWeightAveraging,decay:0.9,update_starting_at_step:3}", "scheduler={type:CosineAnnealingLR,T_max:15,interval:step}",
    ),
    "mean of the last epochs": ("+callbacks.swa={type:MeanWeightAveraging,start:0.3}",),
    "thawed by epoch and step": (
        "freeze=[{select:body.0,until:{step:7}},{select:body.1,until:{epoch:1}}]",
    ),
    "written in the background": ("callbacks.resume.background=true",),
    "written in the background, each step, two workers": (
        "callbacks.resume.background=true", "callbacks.resume.every_n_steps=1", "data.num_workers=2",
    ),
    "two processes": (*RANKS, "trainer.devices=2"),
    "two processes, of 3 batches, written in the background": (
        *RANKS, "trainer.devices=2", "trainer.accumulate_grad_batches=3", "callbacks.resume.background=true",
    ),
    "three processes, static buckets": (*RANKS, "trainer.devices=3", "trainer.strategy=ddp_find_unused_parameters_true"),
    "pictures, BatchNorm, clipping": (
        "model=cnn", "model.args.channels=4", "model.args.depth=1", "trainer.gradient_clip_val=0.5", "trainer.max_epochs=2",
    ),
}  # fmt: skip
"""Configs under torture."""


@dataclass(frozen=True)
class Kill:
    """At which place, and of which process; None for all of them."""

    at: int
    rank: int | None = 0


@dataclass
class Chaos:
    """Counts places, and kills the process at number `at`."""

    at: int | None = None
    places: list[str] = field(default_factory=list)
    on: bool = False
    with_it: list[int] = field(default_factory=list)
    """Processes that are killed before this one."""

    def __call__(self, place):
        if not self.on:
            return
        self.places.append(place)
        if self.at is not None and len(self.places) == self.at:
            for pid in (*self.with_it, os.getpid()):
                os.kill(pid, signal.SIGKILL)


class Places(Callback):
    """Tells of every hook."""

    def __init__(self, chaos, name):
        self.chaos, self.name = chaos, name

    @property
    def state_key(self):
        return f"Places.{self.name}"


def _hook(name):
    def hook(self, *args, **kwargs):
        self.chaos(f"{name} {self.name}")

    return hook


for _name in HOOKS:
    setattr(Places, _name, _hook(_name))


@contextlib.contextmanager
def watched(chaos):
    """Within it, all that a run does is told to `chaos`. For a process that ends soon: nothing is put back."""
    begun, make = attempts.add, fit.make_trainer

    def add(*args):
        chaos.on = True
        chaos("attempt begins")
        result = begun(*args)
        chaos("attempt noted")
        return result

    def make_trainer(parts, task, run_dir, origins, *, quiet=False, callbacks=()):
        chaos.on = True
        trainer = make(parts, task, run_dir, origins, quiet=quiet, callbacks=callbacks)
        trainer.callbacks.insert(0, Places(chaos, "first"))
        trainer.callbacks.append(Places(chaos, "last"))
        return trainer

    attempts.add, fit.make_trainer = add, make_trainer
    for name in ("fsync", "replace", "link", "ftruncate"):
        setattr(os, name, _around(name, getattr(os, name), chaos))
    positions._Synced.write = _around("part of a checkpoint", positions._Synced.write, chaos)
    metric_log.os = _HalfWrites(chaos)
    yield


def _around(name, function, chaos):
    def call(*args, **kwargs):
        chaos(f"before {name}")
        result = function(*args, **kwargs)
        chaos(f"after {name}")
        return result

    return call


class _HalfWrites:
    """The module `os` for the log: a line is written in two halves."""

    def __init__(self, chaos):
        self.chaos = chaos

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, file, data):
        half = len(data) // 2
        os.write(file, data[:half])
        self.chaos("half a line")
        os.write(file, data[half:])
        self.chaos("a line")
        return len(data)


class Row:
    """A config under torture: its reference run, and the places of that, of each process."""

    def __init__(self, folder, name, *overrides):
        self.folder, self.name = Path(folder) / name, name
        self.folder.mkdir(parents=True)
        other = any(override.startswith("model=") for override in overrides)
        self.overrides = (*(each for each in BASE if not (other and each.startswith("model"))), *overrides)
        torch.set_num_threads(1)
        self.composed = compose((*self.overrides, f"output_dir={self.folder / 'reference'}"))
        self.ready = pipeline.prepare(self.composed, quiet=True)
        devices = self.composed.values["trainer"].get("devices")
        self.count = devices if isinstance(devices, int) else 1
        begun = time.monotonic()
        code = self._wait(self._fork(self.folder / "reference", tell=True))
        self.seconds = time.monotonic() - begun
        assert code == 0, self._said()
        self.reference = one_run(self.folder / "reference")
        self.places = [json.loads((self.folder / f"places_{rank}.json").read_text()) for rank in range(self.count)]
        self.kills = 0

    def killed(self, *kills):
        """What differs after these kills, each resumed; None for nothing."""
        output = self.folder / f"killed_{random.getrandbits(64):x}"
        for kill in (*kills, None):
            code = self._wait(self._fork(output, kill), kill)
            if code == 0:
                break
            lost = isinstance(kill, Kill) and kill.rank and code in (1, 99) and "SIGKILL" in self._said()
            if code != -signal.SIGKILL and not lost:
                return f"exit {code}: " + self._said()[-2000:]
            self.kills += 1
        return "; ".join(differences(self.reference, one_run(output))) or None

    def _said(self):
        return (self.folder / "output.txt").read_text()

    def _fork(self, output, kill=None, tell=False):
        pid = os.fork()
        if pid:
            return pid
        try:
            file = os.open(self.folder / "output.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            self._attempt(output, kill, tell)
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            os._exit(99)

    def _attempt(self, output, kill, tell):
        again, chaos = one_run(output) is not None, self._chaos(kill, 0)
        if self.count > 1:
            ranks = Ranks(self.count, lambda rank: self._do(output, again, self._chaos(kill, rank), rank, tell))
            chaos.with_it = list(ranks.pids.values()) if isinstance(kill, Kill) and kill.rank is None else []
        self._do(output, again, chaos, 0, tell)

    @staticmethod
    def _chaos(kill, rank):
        return Chaos(kill.at if isinstance(kill, Kill) and rank == (kill.rank or 0) else None)

    def _do(self, output, again, chaos, rank, tell):
        """What one process does."""
        pipeline.prepare = resume.prepare = lambda composed, quiet=False: self.ready
        with watched(chaos):
            if again:
                resume.resume(one_run(output), quiet=True)
            else:
                values = {**self.composed.values, "output_dir": str(output)}
                composed = type(self.composed)(**{**_fields(self.composed), "values": values})
                ready = type(self.ready)(**{**_fields(self.ready), "composed": composed})
                pipeline.prepare = lambda _, quiet=False: ready
                pipeline.train(composed, quiet=True)
        if tell:
            (self.folder / f"places_{rank}.json").write_text(json.dumps(chaos.places))

    @staticmethod
    def _wait(pid, kill=None):
        """The exit code; a kill that is a number is a time in seconds."""
        end = time.monotonic() + kill if isinstance(kill, float) else None
        while end is not None and time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        if end is not None:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fields(value):
    return {name: getattr(value, name) for base in type(value).__mro__ for name in getattr(base, "__slots__", ())}


def one_run(output):
    """The run in an output folder, if one was begun."""
    found = sorted(path.parent for path in Path(output).glob("*/*/attempts") if any(path.glob("*.json")))
    return found[0] if found else None


def differences(reference, run):
    """What of two runs isn't the same to the last bit."""
    found = []
    for name in ("metrics.jsonl", "metrics.csv"):
        if (reference / name).read_bytes() != (run / name).read_bytes():
            found.append(name)
    ours, theirs = (newest_position(path) for path in (reference, run))
    found += [f"checkpoint: {place}" for place in unequal(ours, theirs)]
    best, other = (torch.load(path / "checkpoints/best.ckpt", weights_only=True) for path in (reference, run))
    found += [f"best: {place}" for place in unequal(best["state_dict"], other["state_dict"])]
    if events(reference) != events(run):
        found.append("events")
    for key in ("state", "epoch", "step", "metrics"):
        if (
            json.loads((reference / "status.json").read_text())[key]
            != json.loads((run / "status.json").read_text())[key]
        ):
            found.append(f"status: {key}")
    names = [sorted(path.name for path in (each / "checkpoints").glob("*.ckpt")) for each in (reference, run)]
    if names[0] != names[1]:
        found.append(f"files: {names}")
    return found


def newest_position(run):
    """The last checkpoint, without where it lies."""
    folder = run / "checkpoints"
    saved = torch.load(positions.in_folder(folder / "resume")[0], weights_only=True)
    state = saved[positions.KEY] = positions.taken_out(saved)
    state.pop("files")
    state["logged"].pop("events")
    return _without(saved, str(folder.resolve()))


def _without(value, text):
    if isinstance(value, str):
        return value.replace(text, "")
    if isinstance(value, dict):
        return {_without(key, text): _without(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without(item, text) for item in value]
    return value


def unequal(first, second, place=""):
    """Where two values differ, tensors bit by bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        if set(first) != set(second):
            yield f"{place}: {set(first) ^ set(second)}"
            return
        for key in first:
            yield from unequal(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from unequal(*pair, f"{place}[{index}]")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape
        if (
            not same
            or first.contiguous().view(-1).view(torch.uint8).ne(second.contiguous().view(-1).view(torch.uint8)).any()
        ):
            yield place
    elif first != second and not (first != first and second != second):
        yield f"{place}: {first!r} {second!r}"


def events(run):
    """All scalars for TensorBoard, in the order of their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in sorted(read.Tags()["scalars"])}


def choose(row, count, chains, seed=0, kinds=True):
    """Kills: one at a place of each kind, `count` at random places, half as many at random times, chains of three."""
    chance = random.Random(seed)
    by_kind = {}
    for number, place in enumerate(row.places[0], 1):
        by_kind.setdefault(place, []).append(number)
    chosen = [(Kill(chance.choice(numbers)),) for numbers in by_kind.values()] if kinds else []
    turns = [None, *range(row.count)] if row.count > 1 else [0]
    for number in range(count + 3 * chains):
        rank = turns[number % len(turns)]
        most = len(row.places[rank or 0]) // (1 if number < count else 2)
        chosen.append((Kill(chance.randint(1, most), rank),))
    chained = [kill for (kill,) in chosen[len(chosen) - 3 * chains :]] if chains else []
    chosen = chosen[: len(chosen) - len(chained)] + [(chance.uniform(0.1, 1) * row.seconds,) for _ in range(count // 2)]
    return chosen + [tuple(chained[index : index + 3]) for index in range(0, len(chained), 3)]


def tortured(name, seed=0, full=True):
    """How a row of `ROWS` does: scenarios, kills, those that ended the same, and what was wrong with the others."""
    with tempfile.TemporaryDirectory() as folder:
        row = Row(folder, "row", *ROWS[name])
        todo = choose(row, *((12, 6) if full else (1, 1)), seed, kinds=full and seed == 0)
        wrong = [f"{_told(row, kills)}: {found}" for kills in todo if (found := row.killed(*kills))]
        return len(todo), row.kills, len(todo) - len(wrong), wrong


def _told(row, kills):
    """Where it was killed, in words."""
    said = [
        f"after {kill:.2f} s" if isinstance(kill, float) else
        f"{'all' if kill.rank is None else f'process {kill.rank}'} at {kill.at} {row.places[kill.rank or 0][kill.at - 1]}"
        for kill in kills
    ]  # fmt: skip
    return f"killed {', then '.join(said)}"
