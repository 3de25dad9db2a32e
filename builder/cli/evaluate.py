"""`builder evaluate`: how well a trained model does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common, Json
from builder.cli.output import print_json, print_table, styled
from builder.cli.run_options import Checkpoint, Device, Run, Weights, loaded_run, say
from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.use.evaluation import Evaluation

Split = Annotated[str | None, typer.Option("--split", metavar="NAME", help="test, val or train; test if there is one.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="FILE|KEY=VALUE",
        help="Another file with targets, or changes to the run's section data; repeatable.",
    ),
]  # fmt: skip
Folder = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where to write; RUN/evaluations/SPLIT-CHECKPOINT."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="By which a language model draws its samples.")]


def evaluate(
    common: Common,
    run: Run,
    split: Split = None,
    data: Data = None,
    checkpoint: Checkpoint = None,
    weights: Weights = "tested",
    device: Device = None,
    output: Folder = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Evaluate a trained model: its task's loss and metrics, and what they come to, in tables and pictures.

    On the run's own test split these are the numbers of the end of training. For classes there are scores by class,
    the confusion matrix, ROC, precision and recall, and calibration; for numbers residuals; for an autoencoder
    reconstructions; for a language model sampled text.
    """
    loaded = loaded_run(common, run, checkpoint, weights, device)
    from builder.data.facts import Refusal
    from builder.use.evaluate import evaluate as run_through
    from builder.use.evaluate import open_set, overrides_of
    from builder.use.evaluation import folder_of, report
    from builder.use.form import refused

    files = [word for word in data or () if "=" not in word]
    if len(files) > 1 or (files and (split or len(data or ()) > 1)):
        raise UsageError("--data takes one file, and then neither --split nor changes")
    usual = "test" if loaded.facts.get("num_test") else "val" if loaded.facts.get("num_val") else "train"
    try:
        chosen = open_set(loaded, split or usual, overrides_of([] if files else data or []), *files)
    except Refusal as error:
        raise refused(error, files[0] if files else "data") from error
    say(chosen.notes, common)
    evaluation = report(loaded, chosen, run_through(loaded, chosen), folder_of(loaded, chosen, output), seed)
    if as_json:
        print_json(evaluation.to_json())
        return
    _print(evaluation)


def _print(found: Evaluation) -> None:
    count = f"{found.samples:,} sample" + ("" if found.samples == 1 else "s")
    print(styled(f"{found.checkpoint}, {found.data}: {count}", bold=True))
    print_table([(name, _shown(value)) for name, value in found.metrics.items()], indent="  ")
    if found.calibration_error is not None:
        print(f"  expected calibration error  {found.calibration_error:.4g}")
    if found.errors is not None:
        print("  in the target's unit  " + ", ".join(f"{name} {_shown(value)}" for name, value in found.errors.items()))
    if found.classes:
        print()
        head = ("class", "precision", "recall", "f1", "auroc", "samples")
        rows = [tuple(_shown(getattr(score, key)) for key in ("name", *head[1:])) for score in found.classes]
        print_table([head, *rows], indent="  ")
    print(f"\n{found.folder}: {', '.join(found.files)}")


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
