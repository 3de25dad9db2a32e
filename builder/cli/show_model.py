"""`builder show model` and `builder show code`: a model layer by layer, and as plain PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.options import Common, Json, compose_of, load_plugins_of
from builder.cli.output import print_json, styled, terminal_width
from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.config.compose import Composed
    from builder.config.model_file import ModelFile

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE.yaml] OVERRIDES", show_default=False,
        help="Changes to the config: model=mlp model.args.width=8. After a model's own file, to what it holds: "
        "args.width=8 'inputs.x=[B,3,224,224]'",
    ),
]  # fmt: skip
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, metavar="N", help="Samples in a batch; data.batch_size, for a file 1."),
]
Depth = Annotated[int | None, typer.Option("--depth", min=0, metavar="N", help="Show layers down to this depth only.")]


def model(common: Common, words: Words = None, batch: Batch = None, depth: Depth = None, as_json: Json = False) -> None:
    """Show a model layer by layer: shapes, parameters, FLOPs, and the memory that training it takes.

    Free dimensions of the inputs stand in the shapes by name. FLOPs are those of a forward pass of one batch: matrix
    products, convolutions and attention, a multiply-add counted as 2. Nothing is allocated, so that any size of model
    can be shown.
    """
    chosen = chosen_model(common, words)
    from builder.preview import describe_model

    summary = describe_model(chosen, batch=batch)
    from builder.inspect.summary import as_json as plain
    from builder.inspect.table import lines

    if as_json:
        print_json(plain(summary, depth))
    else:
        head, *rest = lines(summary, depth, terminal_width())
        print(styled(head, bold=True), *rest, sep="\n")


def code(common: Common, words: Words = None) -> None:
    """Print a model as one Python file that needs nothing but PyTorch.

    It has the same keys in its state_dict, the same initial weights under the same seed, and the same outputs.
    """
    chosen = chosen_model(common, words)
    from builder.preview import model_code

    print(model_code(chosen), end="")


def chosen_model(common: Common, words: list[str] | None) -> Composed | ModelFile:
    """The config that the words say; if a YAML file is among them, the model in it under the others as overrides.

    Raises:
        ConfigError: the config can't be composed.
        UsageError: there are two files.
    """
    files = [word for word in words or () if word.endswith((".yaml", ".yml")) and "=" not in word]
    if not files:
        return compose_of(common, words)
    if len(files) > 1:
        raise UsageError(f"one model at a time: {' and '.join(files)} are {len(files)}")
    from builder.config.model_file import ModelFile

    load_plugins_of(common)
    return ModelFile(Path(files[0]), [word for word in words or () if word not in files], common.config_dir)
