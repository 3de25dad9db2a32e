"""The options that every verb takes, before the verb or after it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from builder.config.compose import Composed

Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import your own layers: a module or a .py file; repeatable."),
]
ConfigName = Annotated[
    str | None, typer.Option("--config-name", "-cn", metavar="NAME", help="The config to start from instead of train.")
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", "-cd", metavar="DIR", help="Your configs folder; ./configs if there is one."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="Changes to the config: model=mlp optimizer.lr=1e-3", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every verb takes."""

    debug: bool = False
    quiet: bool = False
    imports: tuple[str, ...] = ()
    config_name: str | None = None
    config_dir: Path | None = None

    def then(self, later: Common) -> Common:
        """These options, and those given after the verb."""
        return Common(
            self.debug or later.debug,
            self.quiet or later.quiet,
            self.imports + later.imports,
            later.config_name or self.config_name,
            later.config_dir or self.config_dir,
        )


def _common(
    *,
    debug: Debug = False,
    quiet: Quiet = False,
    imports: Imports = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
) -> Common:
    return Common(debug, quiet, tuple(imports or ()), config_name, config_dir)


def takes_common(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a verb the common options: typer sees them among its own, the function gets them as one `Common` first."""
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    shared = inspect.signature(_common, eval_str=True).parameters
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @functools.wraps(function)
    def run(*, context: typer.Context, **given: Any) -> int | None:
        later = _common(**{name: given.pop(name) for name in shared})
        earlier = context.obj or Common()
        context.obj = earlier.then(later)
        return function(context.obj, **given)

    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def load_plugins_of(common: Common) -> None:
    """Import the users' modules that these options and the project name."""
    from builder.plugins import load_plugins

    load_plugins(common.imports, config_dir=common.config_dir)


def compose_of(common: Common, overrides: list[str] | None) -> Composed:
    """The config that these options and overrides say, with the users' modules imported.

    Raises:
        ConfigError: it can't be composed.
    """
    from builder.config.compose import compose

    load_plugins_of(common)
    return compose(overrides or (), config_name=common.config_name or "train", config_dir=common.config_dir)
