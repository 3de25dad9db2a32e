"""Runs on disk, and the one that is meant by a name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from builder.durable import told
from builder.errors import UsageError, nearest
from builder.runs import status

LATEST = "latest"
"""`NAME/latest` is the newest finished run of the experiment of that name; the newest in any state for `resume`."""

_SHOWN = 5


def runs_in(output_dir: pathlib.Path | str, *, only: str | None = None) -> list[pathlib.Path]:
    """All run folders `<output_dir>/<experiment>/<run>`, oldest first; none if the folder isn't there.

    `only` is the one experiment whose runs are looked for. A link to a run, such as a sweep's `best`, is no run.

    Raises:
        RunError: a folder can't be read.
    """
    root = pathlib.Path(output_dir)
    if not root.is_dir():
        return []
    experiments = _folders(root) if only is None else [root / only]
    there = [run for experiment in experiments for run in _folders(experiment) if not run.is_symlink()]
    runs = [run for run in there if (run / status.FILE).is_file()]
    return sorted(runs, key=lambda run: (run.name, str(run)))


def find_run(name: str, output_dir: pathlib.Path | str = "outputs", *, finished: bool = True) -> pathlib.Path:
    """The run that is meant by a folder, by the last part of its name, or by a beginning of either that no other has.

    `name` may be a path to the run, `<date>_<time>_<hash>`, its `<hash>`, or either one cut short; or
    `<experiment>/latest`, the newest finished run of that experiment; without `finished` the newest in any state.

    Raises:
        UsageError: there is none, or more than one; names the nearest, or those that fit.
        RunError: a folder can't be read.
    """
    given = pathlib.Path(name)
    if given.name == LATEST:
        return _latest(name, output_dir, finished)
    if name and (given / status.FILE).is_file():
        return given
    runs = runs_in(output_dir)
    names = {run: (run.name, run.name.rsplit("_", 1)[-1], f"{run.parent.name}/{run.name}") for run in runs}
    fitting = [run for run in runs if name in names[run]]
    if not fitting:
        fitting = [run for run in runs if any(one.startswith(name) for one in names[run])]
    if len(fitting) == 1:
        return fitting[0]
    if name and not fitting and given.is_dir():
        raise UsageError(f"{name} is not a run folder: it holds no {status.FILE}")
    raise UsageError(_several(name, fitting) if fitting else _none(name, output_dir, names))


def _latest(name: str, output_dir: pathlib.Path | str, finished: bool) -> pathlib.Path:
    """The newest run, or finished one, of the experiment that stands before `/latest`: its name, or its folder."""
    experiment = pathlib.Path(name).parent
    folders = [experiment, pathlib.Path(output_dir) / experiment] if experiment.name else []
    held = {
        folder: [run for run in runs_in(folder.parent) if run.parent == folder] for folder in folders if folder.is_dir()
    }
    folder = next((folder for folder, runs in held.items() if runs), experiment)
    found = {run: status.status(run) for run in held.get(folder, ())}
    started = {run: of.started for run, of in found.items() if of.state == "finished" or not finished}
    if started:
        return max(started, key=lambda run: started[run])  # names tell runs of one second apart by a hash alone
    if found:
        raise UsageError(f"no run {name!r}: none of the runs in {folder} is finished")
    experiments = dict.fromkeys(run.parent.name for run in runs_in(output_dir))
    near = nearest(str(experiment), experiments)
    asked = f"; did you mean {' or '.join(repr(f'{one}/{LATEST}') for one in near)}?" if near else ""
    raise UsageError(f"no run {name!r}: nothing of that name was trained into {output_dir} yet{asked}")


def _several(name: str, fitting: list[pathlib.Path]) -> str:
    shown = "\n".join(f"  {run}" for run in fitting[-_SHOWN:])
    newest = f", the newest {_SHOWN} being" if len(fitting) > _SHOWN else ""
    return f"{len(fitting)} runs fit {name!r}{newest}:\n{shown}"


def _none(name: str, output_dir: pathlib.Path | str, names: Mapping[pathlib.Path, Sequence[str]]) -> str:
    if not names:
        return f"no run {name!r}: there are no runs in {output_dir}"
    latest = dict.fromkeys(f"{run.parent.name}/{LATEST}" for run in names)
    near = nearest(name, [*latest, *(one for some in names.values() for one in some)])
    asked = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
    return f"no run {name!r} in {output_dir}{asked}"


def _folders(root: pathlib.Path) -> Iterator[pathlib.Path]:
    with told("read", root), os.scandir(root) as entries:
        found = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return (root / name for name in found)
