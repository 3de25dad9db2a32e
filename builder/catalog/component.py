"""A registered component as a config names it: `{type: AdamW, lr: 0.001}`, checked before it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from builder.catalog.arguments import check_arguments
from builder.errors import ConfigError, Fault, MissingExtra, Origin, Path, UnknownName, dotted
from builder.registry import Registry


@dataclass(frozen=True, slots=True)
class Component:
    """What is to be made: the registered object, the arguments that the config gives it, and where they stand."""

    kind: str
    name: str
    target: Any
    arguments: Mapping[str, Any]
    path: Path
    origin: Origin

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object with the config's arguments and those given here.

        Raises:
            ConfigError: it refuses them.
            MissingExtra: it needs a package that isn't installed.
        """
        try:
            return self.target(*args, **self.arguments, **kwargs)
        except MissingExtra:
            raise
        except ModuleNotFoundError as error:
            told = f"{self.kind} {self.name!r} needs a package that isn't installed: {error}"
            raise MissingExtra(told) from error
        except Exception as error:  # whatever a constructor raises, a user's among them
            raise self.refused(error) from error

    def refused(self, error: Exception) -> ConfigError:
        """The error to raise where the object refuses its arguments with `error`."""
        said = str(error) if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
        message = f"{self.kind} {self.name!r} can't be made: {said}"
        return ConfigError(Fault(message, self.path, self.origin))


def read_component(
    registry: Registry,
    section: Any,
    path: Path,
    origin_of: Callable[[Path], Origin],
    *,
    provided: Collection[str] = (),
    withheld: Collection[str] = (),
    reserved: Collection[str] = (),
) -> tuple[Component | None, list[Fault]]:
    """The component that `section` at `path` names, and what is wrong with it; the component is None only with faults.

    `provided` are arguments that the caller of `make` adds where the section leaves them out, `withheld` those that it
    always adds, `reserved` keys of the section that aren't arguments.
    A name alone (`ReLU`) is short for a mapping with `type` only.
    """
    section = {"type": section} if isinstance(section, str) else section
    if not isinstance(section, Mapping) or not isinstance(section.get("type"), str):
        expected = f"a mapping with the `type` of a registered {registry.kind}"
        return None, [Fault(f"{dotted(path)} names no type", path, origin_of(path), section, expected)]
    name = section["type"]
    try:
        target = registry.get(name)
    except UnknownName as error:
        place = (*path, "type") if "type" in section else path
        message = f"unknown {registry.kind} {name!r}"
        return None, [Fault(message, place, origin_of(place), nearest=error.nearest)]
    arguments = {key: value for key, value in section.items() if key != "type" and key not in reserved}
    faults = check_arguments(
        registry.kind,
        name,
        target,
        arguments,
        path=path,
        origin_of=lambda key: origin_of((*path, key)),
        provided=provided,
        withheld=withheld,
    )
    return Component(registry.kind, name, target, arguments, path, origin_of(path)), faults
