"""Trains a run again from its own config, and says whether the same came out, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from builder.config.compose import Composed, compose
from builder.config.yaml_file import read_yaml
from builder.errors import UsageError
from builder.pipeline import train
from builder.prepare import Prepared, prepare
from builder.run_files import current_facts
from builder.runs.attempts import attempts
from builder.runs.compare import read_json
from builder.runs.repeat import Change, changes, metric_differences
from builder.runs.status import status
from builder.weights.compare import compare
from builder.weights.digest import sha256
from builder.weights.entries import WeightsError
from builder.weights.files import open_weights

SILENT = ("report", "description")
"""Keys of a config by which nothing comes out differently."""
LENGTH = "trainer.max_epochs"
"""A run that was trained on by this one is the run that was so long at once, unless something goes by the length."""
GOES_BY_LENGTH = ("total_steps", "max_epochs", "steps_per_epoch", "MeanWeightAveraging")
"""Words in the sections `scheduler` and `callbacks` that say so."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """What training a run again came to.

    `changes` is what differs from when the run was made. `again` is the new run folder, None if nothing was trained;
    `different` says what came out differently, and `same` what was compared and is the same, bit for bit.
    """

    run: Path
    changes: tuple[Change, ...]
    again: Path | None = None
    different: tuple[str, ...] = ()
    same: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether metrics and weights are the same in each bit; without a training, whether nothing differs."""
        return not any(one.counts for one in self.changes) if self.again is None else not self.different


def look(run: Path, config_dir: Path | None = None) -> tuple[Prepared, tuple[Change, ...]]:
    """A run's config made ready to be trained again, and all that differs from when the run was made.

    Raises:
        UsageError: the run didn't finish, so that it has no end to compare with.
        ConfigError: its config isn't right here and now.
        RunError: a file of it can't be read.
    """
    stands = status(run)
    if stands.state != "finished":
        why = f" ({stands.reason})" if stands.reason else ""
        hint = "it has no end yet" if stands.state == "running" else "it has no end to compare with"
        raise UsageError(f"{run} is {stands.state}{why}: {hint}")
    ready = prepare(_named(compose(config_name="config", config_dir=config_dir, run_dir=run), run), quiet=True)
    now = {**current_facts(), "data": ready.data.fingerprint()}
    return ready, (*_resumed(run, ready.composed.values), *changes(run, now), *_loaded(run))


def again(run: Path, ready: Prepared, found: Sequence[Change], *, quiet: bool = False) -> Rerun:
    """Train the run again in a new folder, on as many threads as then, and compare what comes out.

    Raises:
        ConfigError, LayerError, RunError, KeyboardInterrupt: as `pipeline.train`.
    """
    threads = ((read_json(run / "environment.json") or {}).get("torch") or {}).get("threads")
    before = torch.get_num_threads()
    torch.set_num_threads(threads if isinstance(threads, int) and threads > 0 else before)
    try:
        report = train(ready.composed, quiet=quiet, ready=ready)
    finally:
        torch.set_num_threads(before)
    if report.state != "finished":
        raise UsageError(f"the training was {report.state}, so that there is nothing to compare: {report.run}")
    same, different = _compared(run, report.run)
    return Rerun(run, tuple(found), report.run, tuple(different), tuple(same))


def _named(composed: Composed, run: Path) -> Composed:
    """The config with the model's class called as it was: by the file of `configs/model` that was chosen then."""
    path = run / "model.yaml"
    name = read_yaml(path).value.get("name") if path.is_file() else None
    return composed if name is None else replace(composed, choices={**composed.choices, "model": str(name)})


def _resumed(run: Path, config: Mapping[str, Any]) -> list[Change]:
    """Attempts at the run that went on with another config, or although something differed.

    Its config is the last attempt's. Where only the number of epochs was raised, that is the run in one go.
    """
    by_length = any(word in repr([config["scheduler"], config["callbacks"]]) for word in GOES_BY_LENGTH)
    found = []
    for number, attempt in enumerate(attempts(run), 1):
        changed = [str(each.get("key")) for each in attempt.get("changes") or ()]
        keys = [key for key in changed if key not in SILENT]
        how = "inexactly" if attempt.get("inexact") and attempt.get("differences") else ""
        if keys or how:
            said = " and ".join(filter(None, (f"with another {', '.join(keys)}" if keys else "", how)))
            counts = bool(how) or by_length or keys != [LENGTH]
            now = "trained in one go with the last config" + ("" if counts else ", which comes to the same")
            found.append(Change(f"attempt {number}", f"resumed {said}", now, counts=counts))
    return found


def _loaded(run: Path) -> list[Change]:
    """Files of weights that were loaded and aren't what they were."""
    report = read_json(run / "reports" / "load.json")
    sources = report.get("sources") if isinstance(report, Mapping) else None
    files = [file for source in sources or () for file in source.get("files") or ()]
    found = []
    for file in files:
        path, then = file.get("path"), file.get("sha256")
        if not isinstance(path, str) or not isinstance(then, str):
            continue
        try:
            now = sha256(Path(path))
        except WeightsError:
            now = "not there"
        if now != then:
            found.append(Change(f"weights loaded from {path}", then[:12], now[:12]))
    return found


def _compared(run: Path, other: Path) -> tuple[list[str], list[str]]:
    """What is the same in two runs, and what isn't: the model, metrics and weights."""
    same, different = metric_differences(run, other)
    hashes = [(read_json(folder / "manifest.json") or {}) for folder in (run, other)]
    for what, told in (("files", "model.yaml"), ("weights", "tested")):
        then, now = (_hash(found, what, told) for found in hashes)
        if then is not None and now is not None:
            said = "the model (model.yaml)" if what == "files" else "the weights that were tested"
            (same if then == now else different).append(said)
    for name in _checkpoints(run):
        verdict = _checkpoint(run / name, other / name)
        (same if verdict is None else different).append(name if verdict is None else f"{name}: {verdict}")
    return same, different


def _hash(manifest: Any, what: str, name: str) -> str | None:
    found = ((manifest.get(what) or {}).get(name) or {}) if isinstance(manifest, Mapping) else {}
    value = found.get("sha256") if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else None


def _checkpoints(run: Path) -> list[str]:
    return [f"checkpoints/{path.name}" for path in sorted((run / "checkpoints").glob("*.ckpt"))]


def _checkpoint(then: Path, now: Path) -> str | None:
    """How the weights of two checkpoints differ; None if they don't."""
    if not now.is_file():
        return "not written this time"
    try:
        found = compare(open_weights(str(then)), open_weights(str(now)))
    except WeightsError as error:
        return f"can't be compared: {error}"
    if found.is_same:
        return None
    count = len(found.differences) + len(found.only_first) + len(found.only_second)
    most = max((one.most for one in found.differences if one.most is not None), default=None)
    by = f", by at most {most:.3g}" if most is not None else ""
    return f"{count} of {count + len(found.equal)} tensors differ{by}"
