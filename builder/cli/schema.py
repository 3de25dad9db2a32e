"""`builder schema`: the JSON Schema of configs, for editors that complete and check YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from builder.cli.options import Common, load_plugins_of
from builder.errors import UsageError

Group = Annotated[
    str | None, typer.Argument(metavar="GROUP", help="Only for the files of a config group: model, data, …")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE|FOLDER", help="Write there; a folder of configs gets one in each."),
]


def schema(common: Common, group: Group = None, output: Output = None) -> None:
    """Print the JSON Schema (2020-12) of configs, with every registered name, argument and default.

    With `-o configs`, an existing folder, `schema.json` is written into it and into the folder of each group, where the
    line `# yaml-language-server: $schema=schema.json` in a config leads an editor to it. Your own layers are in it.
    """
    load_plugins_of(common)
    from builder.durable import write_text
    from builder.schema.document import of_group, text

    if output is not None and output.is_dir():
        if group is not None:
            raise UsageError(f"{output} is a folder, which gets the schemas of all groups; name a file for one")
        for path in write_schemas(output, common.config_dir):
            print(path)
        return
    whole = _whole(common.config_dir)
    found = text(whole if group is None else of_group(whole, group))
    if output is None:
        sys.stdout.write(found)
    else:
        write_text(output, found)
        print(output)


def write_schemas(folder: Path, config_dir: Path | None) -> list[Path]:
    """Write the schema into a folder of configs, and the way to it into the folder of each group; gives the files.

    Raises:
        RunError: a file can't be written.
    """
    from builder.durable import write_text
    from builder.schema.document import files

    written = files(_whole(config_dir), folder)
    for path, content in written.items():
        write_text(path, content)
    return list(written)


def _whole(config_dir: Path | None) -> dict[str, Any]:
    from builder.config.folders import blocks, search_path
    from builder.schema.document import schema as whole_schema
    from builder.schema.versions import versions

    return whole_schema(blocks(search_path(config_dir)).names(), versions())
