"""`builder export`: a trained model in the form in which others take it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Common, Json, load_plugins_of
from builder.cli.output import print_json
from builder.errors import UsageError, nearest

TARGETS = ("onnx", "torch-export", "safetensors", "state-dict", "python")

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run: its folder, its name, or NAME/latest.")]
To = Annotated[str, typer.Option("--to", metavar="|".join(TARGETS), help="In which form.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to; exports/NAME_FORM if not said.")
]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", metavar="best|last|PATH", help="Which weights of the run; the best.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="tested|ema|raw", help="Where an average was kept: it, or the others.")
]
Dynamic = Annotated[
    str | None,
    typer.Option("--dynamic", metavar="B,H,W", help="Dimensions that must stay free; none; if not said, all that can."),
]
Rows = Annotated[int, typer.Option("--rows", min=3, metavar="N", help="Rows of the run's data to compare on.")]
Opset = Annotated[int | None, typer.Option("--opset", metavar="N", help="The version of ONNX's operators.")]


def export(
    common: Common,
    run: Run,
    to: To,
    output: Output = None,
    checkpoint: Checkpoint = None,
    weights: Weights = "tested",
    dynamic: Dynamic = None,
    rows: Rows = 32,
    opset: Opset = None,
    as_json: Json = False,
) -> None:
    """Export the model of a run, load it again where it is to run, and compare on real rows.

    A README beside it says what it is and how it is loaded. Free dimensions of the model's inputs stay free.
    """
    if to not in TARGETS:
        near = nearest(to, TARGETS)
        asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(f"no form {to!r}: there are {', '.join(TARGETS)}{asked}")
    if opset is not None and to != "onnx":
        raise UsageError(f"--opset says nothing here: {to} has no such versions")
    load_plugins_of(common)
    from builder.export.subject import subject
    from builder.export.write import export as write
    from builder.opened import reopen

    found = subject(reopen(run, checkpoint=checkpoint, weights=weights), rows)
    folder = output or Path("exports") / f"{found.run.path.parent.name}_{to}"
    names = None if dynamic is None else [name.strip() for name in dynamic.split(",") if name.strip()]
    result = write(found, to, folder, dynamic=names, opset=opset)
    if as_json:
        print_json(result.to_json())
        return
    for path in result.files:
        print(path)
    if result.dynamic or result.fixed:
        fixed = ", ".join(f"{name}={size}" for name, size in result.fixed.items())
        print(f"free: {', '.join(result.dynamic) or 'none'}" + (f"; fixed: {fixed}" if fixed else ""))
    for one in result.agreements:
        print(f"compared with the model: {one}")
    for note in result.notes:
        print(f"note: {note}")
