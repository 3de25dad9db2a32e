"""`builder show`: what a config comes to, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from builder.cli.options import Common, Json, Overrides, compose_of, takes_common
from builder.cli.output import print_json, styled
from builder.errors import Path, dotted

app = typer.Typer(help="Show what a config comes to.", rich_markup_mode=None)

WIDEST = 48
"""The column beyond which an origin isn't moved to the right for the sake of one long line."""


def config(
    common: Common,
    overrides: Overrides = None,
    origins: Annotated[bool, typer.Option("--origins", help="Show where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """Print the config as YAML, everything filled in."""
    composed = compose_of(common, overrides)
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


@app.callback(invoke_without_command=True)
def _show(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("config")(takes_common(config))


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
        here, head = (*path, key), " " * indent + ("- " if isinstance(value, list) else f"{_scalar(key)}:")
        if _is_nested(item) and isinstance(value, list):
            inner = list(yaml_lines(item, here, indent + 2))
            yield inner[0][0], head + inner[0][1].lstrip()
            yield from inner[1:]
        elif _is_nested(item):
            yield here, head
            yield from yaml_lines(item, here, indent + 2)
        else:
            first, *rest = _leaf(item, indent + 2)
            yield here, f"{head}{first}" if isinstance(value, list) else f"{head} {first}"
            yield from ((None, line) for line in rest)


def _is_nested(value: Any) -> bool:
    """Whether a value takes lines of its own: a mapping with keys, or a list of such."""
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, dict | list) and item for item in value)


def _leaf(value: Any, indent: int) -> list[str]:
    if isinstance(value, str) and "\n" in value and value == value.lstrip():
        lines = value.rstrip("\n").split("\n")
        ends = len(value) - len(value.rstrip("\n"))
        return ["|" + {0: "-", 1: ""}.get(ends, "+")] + [
            " " * indent + line if line else "" for line in lines + [""] * (ends - 1)
        ]
    return [_scalar(value)]


def _scalar(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").rstrip("\n")
