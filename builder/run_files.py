"""What a run folder gets besides what training writes: where the run comes from, the model, its data, the reports."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from builder.config.folders import blocks
from builder.config.saved import dump_yaml, may_hold_secrets, pinned, saved_yaml, with_references
from builder.errors import ConfigError, RunError, dotted
from builder.errors import Path as ConfigPath
from builder.follower import Follower, end_with_leader, followed
from builder.inspect.graph.svg import svg
from builder.inspect.summary import as_json
from builder.model.filled import filled
from builder.model.source import source
from builder.plans import Plans
from builder.prepare import Prepared
from builder.preview import drawing_of, summary_of
from builder.report.config import ORIGINS
from builder.report.model import DRAWING, SUMMARY
from builder.report.predictions import FILE as PREDICTIONS
from builder.report.run import REPORT, write_report
from builder.runs.environment import environment
from builder.runs.folder import Run, one_line, open_run
from builder.runs.git import repository
from builder.weights.init_report import InitReport
from builder.weights.load import LoadReport


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


def write_predictions(run: Run | Follower, ready: Prepared, model: nn.Module) -> None:
    """Some samples with what the trained model says of them, for the report alone: no run fails for their sake."""
    from builder.use.shown import sample_predictions

    try:
        found = sample_predictions(model, ready.task, ready.data, ready.composed.values)
        if found is not None:
            run.write_json(PREDICTIONS, found)
    except RunError:
        raise
    except Exception as error:  # whatever it is, the model is trained
        print(f"note: the report will show no predictions: {one_line(error)}", file=sys.stderr)


def write_page(run: Path) -> None:
    """The run's report. It is made of what lies in the folder, at any time again, so that no run fails for its sake."""
    try:
        write_report(run)
    except Exception as error:  # whatever it is, the run is sealed, and has its end to tell
        print(f"note: no {REPORT} was written: {one_line(error)}", file=sys.stderr)


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
