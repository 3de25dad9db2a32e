"""`builder show`: what a config comes to, before anything is trained."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import show_diff, show_graph, show_model, show_select
from builder.cli.options import Common, Json, Overrides, compose_of, takes_common
from builder.cli.output import print_json, styled
from builder.errors import Path, dotted

if TYPE_CHECKING:
    from builder.config.compose import Composed

app = typer.Typer(help="Show what a config comes to.", rich_markup_mode=None)

PLAIN_IN_LIST = re.compile(r"[\w.=][\w.=+*/() -]*", re.ASCII)
"""Texts that need no quotes between the brackets of a list, where more characters have a meaning than elsewhere."""

WIDEST = 48
"""The column beyond which an origin isn't moved to the right for the sake of one long line."""


def config(
    common: Common,
    overrides: Overrides = None,
    origins: Annotated[bool, typer.Option("--origins", help="Show where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """Print the config as YAML, everything filled in."""
    composed = _settled(compose_of(common, overrides))
    if as_json and origins:
        places = {dotted(path): str(composed.origins.of(path)) for path, _ in leaves(composed.values)}
        print_json({"config": composed.values, "origins": places})
    elif as_json:
        print_json(composed.values)
    else:
        lines = list(yaml_lines(composed.values))
        column = min(max((len(text) for path, text in lines if path is not None), default=0), WIDEST)
        for path, text in lines:
            origin = f"# {composed.origins.of(path)}" if origins and path is not None else ""
            print(f"{text.ljust(column)}  {styled(origin, dim=True)}" if origin else text)


def _settled(composed: Composed) -> Composed:
    """The config as it is trained: with what suits the data, without the arguments that a changed type doesn't take."""
    if composed.open:
        from builder.explored import fitted

        composed, _, chosen = fitted(composed)
        for line in chosen:
            print(f"note: {line}", file=sys.stderr)
    if not composed.superseded:
        return composed
    from builder.settle import settle

    composed, dropped = settle(composed)
    for argument in dropped:
        print(argument, file=sys.stderr)
    return composed


@app.callback(invoke_without_command=True)
def _show(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("config")(takes_common(config))
app.command("model")(takes_common(show_model.model))
app.command("code")(takes_common(show_model.code))
app.command("diff")(takes_common(show_diff.diff))
app.command("graph")(takes_common(show_graph.graph))
app.command("select")(takes_common(show_select.select))


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The values of a config that hold no others, each with its path."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def yaml_lines(value: Any, path: Path = (), indent: int = 0) -> Iterator[tuple[Path | None, str]]:
    """A config as lines of YAML, each with the path of the key that stands on it; None for lines of a longer text."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        here, head = (*path, key), " " * indent + ("-" if isinstance(value, list) else f"{_on_one_line(key)}:")
        if _is_short(item):
            yield here, f"{head} {_on_one_line(item)}"
        elif isinstance(item, str):
            first, *rest = _dumped(item).split("\n")
            yield here, f"{head} {first}"
            yield from ((None, " " * indent + line if line else "") for line in rest)
        elif isinstance(value, list):
            (first_path, first), *others = yaml_lines(item, here, indent + 2)
            yield first_path, f"{head} {first.lstrip()}"
            yield from others
        else:
            yield here, head
            yield from yaml_lines(item, here, indent + 2)


def _is_short(value: Any) -> bool:
    """Whether a value stands on the line of its key: a scalar, or a list of such."""
    if isinstance(value, list):
        return all(map(_is_short, value))
    return not value if isinstance(value, dict) else "\n" not in _dumped(value)


def _on_one_line(value: Any, in_list: bool = False) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_on_one_line(item, in_list=True) for item in value)}]"
    text = _dumped(value)
    is_plain = isinstance(value, str) and text == value
    if in_list and is_plain and not PLAIN_IN_LIST.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    return text


def _dumped(value: Any) -> str:
    """A value as it stands after `key: `."""
    from builder.config.saved import dump_yaml

    text = dump_yaml({"k": value}).removeprefix("k:").removeprefix(" ").removesuffix("\n")
    return text.removesuffix("\n...")  # the end of a document, after a text that ends in empty lines
