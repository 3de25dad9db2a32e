"""`builder import`: a module in Python as a definition in YAML, to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Common, load_plugins_of

Named = Annotated[
    str, typer.Argument(metavar="MODULE:FACTORY", help="What gives the module: torchvision.models:resnet18, my.py:Net")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE.yaml", help="Where to; else it is printed.")
]
Arguments = Annotated[
    list[str] | None, typer.Option("--args", metavar="NAME=VALUE", help="An argument of the factory; repeatable.")
]
Examples = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="NAME=SIZES", help="An example of an input, x=2,3,224,224 or ids=2,16:int64; repeatable."
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Save its weights too, .safetensors or .pt.")
]


def import_(
    common: Common,
    named: Named,
    output: Output = None,
    args: Arguments = None,
    examples: Examples = None,
    weights: Weights = None,
) -> None:
    """Write a module of Python's as YAML, with its layers, blocks, tensors and forward. Runs the code that is named.

    With an example of each input the forward may ask for shapes, and the outputs are compared. What can't be said is
    marked, and the file refused until the marks are replaced; the exit code is then 1.
    """
    load_plugins_of(common)
    from builder.durable import write_text
    from builder.importer.factory import arguments_of, examples_of, made
    from builder.importer.write import imported, save_weights

    arguments, given = arguments_of(args or ()), examples_of(examples or ())
    if not common.quiet:
        print(f"running {named}", file=sys.stderr)
    model = made(named, arguments)
    found = imported(model, given, named)
    if output is None:
        sys.stdout.write(found.text)
    else:
        write_text(output, found.text)
    if weights is not None:
        save_weights(model, weights)
    _tell(found, output, weights)
    if found.marks:
        raise typer.Exit(1)


def _tell(found: object, output: Path | None, weights: Path | None) -> None:
    """What came of it: on standard output where that isn't the definition itself."""
    from builder.importer.write import Imported

    assert isinstance(found, Imported)
    stream = sys.stderr if output is None else sys.stdout
    for path in (output, weights):
        if path is not None:
            print(path, file=stream)
    print(found, file=stream)
    if not found.marks:
        told = "no example of its inputs, so its outputs weren't compared"
        if found.difference is not None:
            told = f"largest difference of its outputs {found.difference:.3g}"
        print(f"built again with the same keys; {told}", file=stream)
    for note in found.notes:
        print(f"note: {note}", file=stream)
    for place, why in found.marks.items():
        print(f"can't be said: {place}: {why}", file=stream)
