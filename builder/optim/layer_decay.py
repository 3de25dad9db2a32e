"""What `layer_decay:` says, read and checked without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.config.origin import Origins
from builder.errors import Fault, Origin, Path, nearest
from builder.select import Selector, read_selector

KEYS = ("rate", "layers")
"""What a mapping may say."""
RATE = "a number above 0, at most 1"


@dataclass(frozen=True, slots=True)
class LayerDecay:
    """The learning rate is multiplied by `rate` from a layer to the one below; `layers` from the bottom up, if said."""

    rate: float
    layers: tuple[Selector, ...]
    path: Path
    origin: Origin


def read_layer_decay(raw: Any, path: Path, origins: Origins) -> tuple[LayerDecay | None, list[Fault]]:
    """The decay written at `path`, None for null, and what is wrong with it."""
    if raw is None:
        return None, []
    values = raw if isinstance(raw, Mapping) else {"rate": raw}
    faults = _check_rate(raw, path, origins)
    selectors: list[Selector] = []
    layers, place = values.get("layers"), (*path, "layers")
    if layers is not None and (not isinstance(layers, list | tuple) or not layers):
        faults.append(Fault("layers are a list", place, origins.of(place), layers, "selectors from the bottom up"))
        layers = ()
    for index, item in enumerate(layers or ()):
        selector, more = read_selector(item, (*place, index), origins.of)
        faults += more
        selectors += [selector] if selector is not None else []
    if faults:
        return None, faults
    return LayerDecay(float(values["rate"]), tuple(selectors), path, origins.of(path)), []


def _check_rate(raw: Any, path: Path, origins: Origins) -> list[Fault]:
    """The faults of the rate, which may stand alone, and of other keys than those that are known."""
    if not isinstance(raw, Mapping):
        expected = RATE + ", or {rate: …, layers: [selectors from the bottom up]}"
        return [] if _is_rate(raw) else [Fault("layer_decay can't be used", path, origins.of(path), raw, expected)]
    places = [(*path, key) for key in raw if key not in KEYS]
    faults = [
        Fault(f"layer_decay has no key {place[-1]!r}", place, origins.of(place), None, ", ".join(KEYS),
              nearest(place[-1], KEYS))
        for place in places
    ]  # fmt: skip
    if "rate" in raw and not _is_rate(raw["rate"]):
        place = (*path, "rate")
        faults.append(Fault("this rate can't be used", place, origins.of(place), raw["rate"], RATE))
    elif "rate" not in raw and not faults:
        faults.append(Fault("layer_decay has no rate", path, origins.of(path), raw, f"rate: {RATE}"))
    return faults


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
