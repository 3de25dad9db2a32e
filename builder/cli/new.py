"""`builder new`: a small project of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Common

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; its last part is the project's name.")]


def new(common: Common, folder: Folder) -> None:
    """Write a small project: a network, a layer of its own, an experiment, tests, a README.

    It trains and passes its tests as it is.
    """
    from builder.starter.write import write_project

    written = write_project(folder)
    from builder.cli.schema import write_schemas
    from builder.plugins import load_plugins

    configs = folder / "configs"
    load_plugins(config_dir=configs)
    written += write_schemas(configs, configs)
    for path in written:
        print(path)
    print(f"\ncd {folder}\nbuilder train experiment=first")
