"""The checkpoint of trials that train together: one file of all, from which they, or some of them, go on."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.durable import write_file
from builder.errors import BuilderError
from builder.opened import data_of
from builder.runs import attempts
from builder.sweep.vmap_group import Member
from builder.training.checkpoint import check_plain
from builder.training.positions import NOT_AN_ARCHIVE, dump

if TYPE_CHECKING:
    from builder.sweep.vmap_fit import Fit
    from builder.sweep.vmap_model import Together

FILE = Path("checkpoints", ".together.ckpt")
"""Where it lies in the folder of the group's first run; a hidden file is none of what a run leaves behind."""


@dataclass(frozen=True, slots=True)
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

    members: Sequence[Member]
    runs: Sequence[Path]
    known: Sequence[Mapping[str, Any]]
    ended: Sequence[Ended]
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


def save(fit: Fit, key: str, epoch: int) -> None:
    """Write the checkpoint of a group after an epoch, in the place of the one before; `key` is the group's.

    Raises:
        RunError: it can't be written, or something of it isn't a tensor or a plain value.
    """
    together, leader = fit.together, fit.trainees[0].run.path
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
        "key": key, "epoch": epoch + 1, "step": fit.step, "number": together.number, "params": together.params,
        "state": together.state, "members": members,
    }  # fmt: skip
    check_plain(tree)
    write_file(leader / FILE, partial(dump, tree))


def file_of(run: Path | None) -> Path | None:
    """The checkpoint of the group that a run was trained in at last; None if there is none."""
    if run is None or not (run / "config.yaml").is_file():
        return None
    leader = (attempts.attempts(run) or [{}])[-1].get("together")
    file = run / leader / FILE if isinstance(leader, str) else None
    return file.resolve() if file is not None and file.is_file() else None


def begun(file: Path, key: str, members: Sequence[Member], runs: Sequence[Path]) -> Begun | None:
    """What trainings with these run folders go on from; None where they can't: the file is damaged, or not of them."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return None
        tree = torch.load(file, map_location="cpu", weights_only=True)
        leader = file.parent.parent
        known = {(leader / each["run"]).resolve(): each for each in tree["members"]}
        if tree["key"] != key or not all(run.resolve() in known for run in runs):
            return None
        for member, run in zip(members, runs, strict=True):
            if data_of(run).get("fingerprint") != member.ready.data.fingerprint():
                return None
    except (OSError, KeyError, TypeError, BuilderError, *NOT_AN_ARCHIVE):
        return None
    every = [(member, run, known[run.resolve()]) for member, run in zip(members, runs, strict=True)]
    on = [each for each in every if "place" in each[2]]
    ended = [Ended(member, run, each["ended"], each["failed"]) for member, run, each in every if "place" not in each]
    return Begun([each[0] for each in on], [each[1] for each in on], [each[2] for each in on], ended, tree, file)
