"""`builder features`: what the layers of a trained model give for samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common
from builder.cli.run_options import Checkpoint, Device, Run, Size, Weights, loaded_run, say
from builder.errors import UsageError, nearest, printable

if TYPE_CHECKING:
    from builder.use.loaded import Loaded

Select = Annotated[
    str,
    typer.Option("--select", "-s", metavar="SELECTOR", help="As in a config: layer4, 'trunk.*', '{type: Linear}'."),
]
Output = Annotated[
    list[str],
    typer.Option("--output", "-o", metavar="FILE", help=".npz, .parquet or .safetensors; with --project, .png too."),
]
Data = Annotated[str | None, typer.Option("--data", metavar="SPLIT", help="val, test or train of the run's data; val.")]
Input = Annotated[
    str | None, typer.Option("--input", "-i", metavar="PATH", help="New samples instead, as predict takes them.")
]
Pool = Annotated[
    str, typer.Option("--pool", metavar="HOW", help="Over places and steps: mean, max, last (of a sequence) or none.")
]
Project = Annotated[str | None, typer.Option("--project", metavar="HOW", help="pca or tsne: a picture of the samples.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of t-SNE.")]


def features(
    common: Common,
    run: Run,
    select: Select,
    output: Output,
    data: Data = None,
    given: Input = None,
    pool: Pool = "mean",
    project: Project = None,
    checkpoint: Checkpoint = None,
    weights: Weights = "tested",
    device: Device = None,
    batch_size: Size = 1024,
    seed: Seed = 0,
) -> None:
    """Write what layers of a trained model give for samples, with their labels; as a picture too.

    A layer that is called several times is written as NAME, NAME#2, and so on.
    """
    pictures = _pictures(output, pool, project, data, given)
    loaded = loaded_run(common, run, checkpoint, weights, device)
    from builder.use.features import project as draw
    from builder.use.features import take, write_features

    found = take(loaded, select, pool, _samples(loaded, data, given, batch_size, common))  # type: ignore[arg-type]
    for place, reason in found.bad:
        print(printable(f"{place}: {reason}"), file=sys.stderr)
    if not found.places:
        raise UsageError("there are no samples that can be used")
    for path in output:
        if path in pictures:
            draw(loaded, found, project or "pca", Path(path), seed)
        else:
            write_features(found, Path(path))
    if not common.quiet:
        for name, array in found.arrays().items():
            print(f"{name}  {list(array.shape)}")
        print(", ".join(output))


def _pictures(output: list[str], pool: str, project: str | None, data: str | None, given: str | None) -> list[str]:
    """Which of the outputs are pictures.

    Raises:
        UsageError: options don't fit together, or one is unknown.
    """
    for option, value, known in (
        ("--pool", pool, ("mean", "max", "last", "none")), ("--project", project, ("pca", "tsne")),
    ):  # fmt: skip
        if value is not None and value not in known:
            near = nearest(value, known)
            raise UsageError(
                f"{option} {value}: there are {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")
            )
    if data is not None and given is not None:
        raise UsageError("--data is a split of the run's data, --input other samples: one of them")
    pictures = [path for path in output if path.lower().endswith(".png")]
    if project is not None and not pictures:
        raise UsageError("--project draws a picture: name it by -o FILE.png")
    if project is None and pictures:
        raise UsageError(f"{pictures[0]} is a picture: say by --project pca or tsne how features become points")
    wrong = [path for path in output if not path.lower().endswith((".png", ".npz", ".parquet", ".safetensors"))]
    if wrong:
        raise UsageError(
            f"the format of {wrong[0]} isn't known by its name: end it in .npz, .parquet, .safetensors or .png"
        )
    return pictures


def _samples(loaded: Loaded, data: str | None, given: str | None, size: int, common: Common) -> Any:
    from builder.data.facts import Refusal
    from builder.use.evaluate import open_set
    from builder.use.form import refused

    if given is None:
        usual = "val" if loaded.facts.get("num_val") else "train"
        chosen = open_set(loaded, data or usual)
        say(chosen.notes, common)
        return chosen
    try:
        reading = loaded.read(Path(given) if given != "-" and loaded.kind == "Text" else given, size=size)
    except Refusal as error:
        raise refused(error, given) from error
    say(reading.notes, common)
    return reading
