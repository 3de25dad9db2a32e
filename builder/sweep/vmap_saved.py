"""The checkpoint of trials that train together: one file of all, from which they, or some of them, go on."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.durable import write_file
from builder.errors import RunError
from builder.opened import data_of
from builder.runs import attempts
from builder.runs.status import status
from builder.sweep.jobs import PRUNED
from builder.sweep.vmap_group import Member
from builder.training.checkpoint import check_plain
from builder.training.positions import NOT_AN_ARCHIVE, dump

if TYPE_CHECKING:
    from builder.sweep.vmap_fit import Fit
    from builder.sweep.vmap_model import Together

FILE = Path("checkpoints", ".together.ckpt")
"""Where it lies in the folder of the group's first run; a hidden file is none of what a run leaves behind."""


@dataclass(slots=True, eq=False)
class Ended:
    """A training that ended before the others did: pruned, or failed."""

    member: Member
    run: Path
    ended: str
    failed: bool
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Begun:
    """What trainings go on from. Of the `members` that do, `known` says what each had, `runs` are the folders."""

    members: list[Member]
    runs: list[Path]
    known: list[Mapping[str, Any]]
    ended: list[Ended]
    tree: Mapping[str, Any]
    file: Path

    @property
    def epoch(self) -> int:
        """The epochs that are done."""
        return int(self.tree["epoch"])

    @property
    def step(self) -> int:
        """The steps that are done."""
        return int(self.tree["step"])

    @property
    def seconds(self) -> float:
        """How long that took."""
        return float(self.tree["seconds"])

    @property
    def is_whole(self) -> bool:
        """Whether all go on that trained then: nobody else needs the file."""
        return len(self.tree["members"]) == len(self.members) + len(self.ended)

    def put_in(self, together: Together) -> None:
        """Give models and optimisers what they had."""
        places = torch.tensor([known["place"] for known in self.known])
        pairs = [(together.params, self.tree["params"])]
        pairs += [(tensors, self.tree["state"][kind]) for kind, tensors in together.state.items()]
        for tensors, saved in pairs:
            for name, tensor in tensors.items():
                tensor.copy_(saved[name][places])  # in place: each model's parameters are parts of it
        for optimizer, known in zip(together.optimizers, self.known, strict=True):
            optimizer.load_state_dict(known["optimizer"])
        together.number = int(self.tree["number"])


def save(fit: Fit, key: str, epoch: int, seconds: float) -> None:
    """Write the checkpoint of a group after an epoch, in the place of the one before.

    Args:
        fit: the group's training.
        key: what its members have in common.
        epoch: the one that is over.
        seconds: how long it has taken so far.

    Raises:
        RunError: it can't be written, or something of it isn't a tensor or a plain value.
    """
    together, leader = fit.together, fit.file.parent.parent
    places = {id(one): place for place, one in enumerate(fit.active) if not one.ended}
    members = []
    for one in fit.trainees:
        known: dict[str, Any] = {"run": os.path.relpath(one.run.path, leader)}
        if id(one) in places:
            place = places[id(one)]
            known |= {"place": place, "history": one.history, "optimizer": together.optimizers[place].state_dict()}
            known["schedule"] = one.schedule.scheduler.state_dict() if one.schedule else None
            known["best"] = (
                None if one.best is None else dict(zip(("value", "epoch", "weights"), one.best, strict=True))
            )
        else:
            known |= {"ended": one.ended, "failed": one.failed}
        members.append(known)
    for each in fit.ended:
        members.append({"run": os.path.relpath(each.run, leader), "ended": each.ended, "failed": each.failed})
    tree = {
        "key": key, "epoch": epoch + 1, "step": fit.step, "seconds": seconds, "number": together.number,
        "params": together.params, "state": together.state, "members": members,
    }  # fmt: skip
    check_plain(tree)
    write_file(fit.file, partial(dump, tree))


def file_of(run: Path | None) -> Path | None:
    """The checkpoint of the group that a run was trained in at last; None if there is none."""
    if run is None or not (run / "config.yaml").is_file():
        return None
    last = (attempts.attempts(run) or [{}])[-1]
    # What it went on from is there until a checkpoint of its own is.
    files = [run / last[key] for key in ("together", "from") if isinstance(last.get(key), str)]
    return next((file.resolve() for file in files if file.is_file()), None)


def place_of(leader: Path, begun: Begun | None) -> Path:
    """Where a group keeps its checkpoint: not in the place of one that others may still go on from."""
    files = (leader / FILE.with_name(f".together{number}.ckpt") for number in ("", *range(2, 1000)))
    return next(file for file in files if not file.exists() or begun is None or begun.is_whole)


def begun(file: Path, key: str, members: Sequence[Member], runs: Sequence[Path]) -> Begun:
    """What trainings with these run folders go on from.

    Raises:
        RunError: the file is damaged, or not of them as they are now.
    """
    tree = _read(file)
    leader = file.parent.parent
    known = {(leader / each["run"]).resolve(): each for each in tree["members"]}
    if tree["key"] != key or not all(run.resolve() in known for run in runs):
        raise RunError("they aren't the trials that it was written for, or their configs have changed")
    for member, run in zip(members, runs, strict=True):
        if data_of(run).get("fingerprint") != member.ready.data.fingerprint():
            raise RunError("their data have changed")
    going = Begun([], [], [], [], tree, file)
    for member, run in zip(members, runs, strict=True):
        each, stood = known[run.resolve()], status(run)
        if (stood.reason or "").startswith(PRUNED):  # since then; judged again, it might not be
            going.ended.append(Ended(member, run, str(stood.reason), failed=False))
        elif "place" not in each:
            going.ended.append(Ended(member, run, each["ended"], each["failed"]))
        else:
            going.members.append(member)
            going.runs.append(run)
            going.known.append(each)
    return going


def _read(file: Path) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        tree = torch.load(file, map_location="cpu", weights_only=True) if damaged is None else None
    except (OSError, pickle.UnpicklingError, *NOT_AN_ARCHIVE):
        tree = None
    if not isinstance(tree, Mapping) or not {"key", "members"} <= tree.keys():
        raise RunError("it is damaged")
    return tree
