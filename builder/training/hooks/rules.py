"""Reads the section `hooks`: what each does, to what, how often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder import registry
from builder.catalog.component import Component, read_component
from builder.config.origin import Origins
from builder.errors import Fault, Origin, Path, nearest
from builder.select import Selector, read_selector
from builder.training.hooks.statistics import RECORDABLE

OF: Mapping[str, tuple[str, ...]] = {
    "record": ("activations", "gradients", "weights", "updates", "weight_gradients"),
    "save": ("activations", "gradients"),
    "print": ("shapes",),
    "clip": ("weight_gradients", "gradients"),
    "scale": ("weight_gradients", "gradients"),
    "zero": ("weight_gradients", "gradients"),
    "noise": ("weight_gradients", "gradients"),
    "type": ("activations", "gradients", "weight_gradients"),
}
"""What a hook may do, and to what it may do it; the first is meant if nothing is said.

`activations` are what modules give, `gradients` those of the loss with respect to that, `weight_gradients` those with
respect to parameters when the optimiser is about to step, `updates` what a step added to the parameters.
"""

ACTIONS = tuple(OF)
CHANGING = ("clip", "scale", "zero", "noise")
ABOUT_MODULES = ("activations", "gradients", "shapes")
COMMON = ("select", "of", "every_n_steps")
OWN = {"save": ("keep", "max_mb")}
EVERY = {"record": 100, "save": 1000}
"""After how many steps a hook is due, where nothing is said; 1 for all others."""
KEEP, MAX_MB = 10, 256


@dataclass(frozen=True, slots=True)
class Rule:
    """One hook as it is written, checked. `value` is what stands at its action."""

    name: str
    action: str
    value: Any
    of: str
    every: int
    selector: Selector | None
    path: Path
    origin: Origin
    component: Component | None = None
    keep: int = KEEP
    max_mb: float = MAX_MB


def read_hooks(section: Any, origins: Origins, path: Path = ("hooks",)) -> tuple[list[Rule], list[Fault]]:
    """The hooks of the section, in its order, and what is wrong with them; null leaves one out."""
    rules, faults = [], []
    for name, raw in named(section):
        if raw is None:
            continue
        rule, more = _read(str(name), raw, (*path, name), origins)
        faults += more
        if rule is not None:
            rules.append(rule)
    return rules, faults


def named(section: Any) -> Iterator[tuple[Any, Any]]:
    """The hooks of a mapping by their names, of a list by their places."""
    if isinstance(section, Mapping):
        yield from section.items()
    elif isinstance(section, list):
        yield from enumerate(section)


def _read(name: str, raw: Any, path: Path, origins: Origins) -> tuple[Rule | None, list[Fault]]:
    origin = origins.of(path)
    if not isinstance(raw, Mapping):
        example = "a mapping as {select: trunk, record: [mean, std], every_n_steps: 100}"
        return None, [Fault("no hook", path, origin, raw, example)]
    actions = [action for action in ACTIONS if action in raw]
    if len(actions) != 1:
        message = f"a hook does one thing: {' and '.join(actions)} are {len(actions)}" if actions else "it does nothing"
        unknown = [key for key in raw if key not in COMMON]
        near = nearest(unknown[0], ACTIONS) if unknown and not actions else ()
        return None, [Fault(message, path, origin, None, f"one of {', '.join(ACTIONS)}", near)]
    (action,) = actions
    reader = _Reader(raw, action, path, origins, [])
    component = reader.component()
    selector = reader.selector()
    of, every, value = reader.of(), reader.every(), reader.value()
    keep = reader.number("keep", KEEP, whole=True) if action == "save" else KEEP
    limit = reader.number("max_mb", MAX_MB) if action == "save" else MAX_MB
    reader.unknown()
    if reader.faults:
        return None, reader.faults
    return Rule(name, action, value, of, every, selector, path, origin, component, int(keep), limit), []


@dataclass(slots=True)
class _Reader:
    """Reads the keys of one hook; what is wrong with them is collected."""

    raw: Mapping[str, Any]
    action: str
    path: Path
    origins: Origins
    faults: list[Fault]

    def fault(self, key: str, message: str, **more: Any) -> None:
        """Note what is wrong at a key."""
        place = (*self.path, key)
        self.faults.append(Fault(message, place, self.origins.of(place), **more))

    def component(self) -> Component | None:
        """The registered function of a hook of users."""
        if self.action != "type":
            return None
        component, faults = read_component(
            registry.hooks, self.raw, self.path, self.origins.of, withheld=("value", "place"), reserved=COMMON
        )
        self.faults += faults
        return component

    def selector(self) -> Selector | None:
        """What it is about; None for all."""
        if self.raw.get("select") is None:
            return None
        selector, faults = read_selector(self.raw["select"], (*self.path, "select"), self.origins.of)
        self.faults += faults
        return selector

    def of(self) -> str:
        """To what it is done."""
        choices = OF[self.action]
        if self.action in ("save", "print"):
            said = self.raw[self.action]
            if said not in choices:
                self.fault(self.action, "wrong value", found=said, expected=f"one of {', '.join(choices)}",
                           nearest=nearest(said, choices))  # fmt: skip
            if "of" in self.raw:
                self.fault("of", f"{self.action!r} says already of what", hint=f"take it away: {self.action}: {said}")
            return str(said)
        said = self.raw.get("of", choices[0])
        if said not in choices:
            self.fault("of", f"{self.action!r} can't be done to this", found=said,
                       expected=f"one of {', '.join(choices)}", nearest=nearest(said, choices))  # fmt: skip
        return str(said)

    def every(self) -> int:
        """After how many steps it is due."""
        every = self.number("every_n_steps", EVERY.get(self.action, 1), whole=True)
        if self.action == "print" and "every_n_steps" in self.raw:
            self.fault("every_n_steps", "shapes are printed once")
        return int(every)

    def number(self, key: str, default: float, whole: bool = False) -> float:
        """A number above 0."""
        value = self.raw.get(key, default)
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
            self.fault(key, "wrong value", found=value, expected=f"a {'whole ' if whole else ''}number above 0")
            return default
        return value

    def value(self) -> Any:
        """What stands at the action."""
        value = self.raw[self.action]
        if self.action == "record":
            return self._statistics(value)
        if self.action == "clip":
            return self._pair(value, ("norm", "value"), "one bound above 0: {norm: 1.0} or {value: 0.1}")
        if self.action == "noise":
            return self._pair(value, ("std",), "{std: 0.01}, a standard deviation above 0")
        if self.action == "scale" and (not _is_number(value)):
            self.fault("scale", "wrong value", found=value, expected="a number")
        if self.action == "zero" and value is not True:
            self.fault("zero", "wrong value", found=value, expected="true, or no such hook")
        return value

    def _statistics(self, value: Any) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names:
            self.fault("record", "wrong value", found=value, expected=f"a list of {', '.join(RECORDABLE)}")
            return ()
        for name in names:
            if name not in RECORDABLE:
                self.fault("record", "no such statistic", found=name, expected=f"of {', '.join(RECORDABLE)}",
                           nearest=nearest(name, RECORDABLE))  # fmt: skip
        return tuple(dict.fromkeys(map(str, names)))

    def _pair(self, value: Any, keys: tuple[str, ...], expected: str) -> Any:
        fine = isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in keys
        if not fine or not _is_number(next(iter(value.values()))) or not next(iter(value.values())) > 0:
            self.fault(self.action, "wrong value", found=value, expected=expected)
        return value

    def unknown(self) -> None:
        """Note keys that it doesn't have; those of a hook function are its arguments."""
        if self.action == "type":
            return
        known = (*COMMON, self.action, *OWN.get(self.action, ()))
        for key in self.raw:
            if key not in known:
                self.fault(str(key), "unknown key", expected=f"one of {', '.join(known)}", nearest=nearest(key, known))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
