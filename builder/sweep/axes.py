"""What a sweep varies: the keys of its file and of its command line, with the conditions between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from builder.config.origin import Origins
from builder.errors import DEFAULT, ConfigError, Fault, Origin, nearest
from builder.sweep.space import Axis, read_axis
from builder.sweep.values import written


def read_axes(
    varied: Sequence[str], section: Mapping[str, Any], origins: Origins, folders: Sequence[Path],
    pinned: Mapping[str, str],
) -> tuple[Axis, ...]:  # fmt: skip
    """The axes of the command line, then those of the file that it doesn't name.

    `varied` are the overrides with several values, `pinned` the values of those with one: what these name isn't varied.
    Each axis stands after those that its conditions depend on.

    Raises:
        ConfigError: an axis is wrong, or there is none; all faults at once.
    """
    faults: list[Fault] = []
    axes: dict[str, Axis] = {}
    seed = section["seed"]
    for word in varied:
        key, _, text = word.partition("=")
        name, origin = key.lstrip("+"), Origin(override=word)
        if name in axes or name in pinned:
            faults.append(Fault("said twice", (name,), origin, hint="give all values at once"))
            continue
        _add(axes, faults, partial(read_axis, key, text, origin, folders, seed=seed))
    for key, part in (section["space"] or {}).items():
        place = ("sweep", "space", str(key))
        name = str(key).lstrip("+")
        if name in axes or name in pinned:
            continue
        origin = origins.of(place)
        said, when = _of_file(part, place, origin, faults)
        if said is not None:
            _add(axes, faults, partial(read_axis, str(key), said, origin, folders, seed=seed, path=place))
        if name in axes and when:
            axes[name] = replace(axes[name], when=when)
    ordered = _conditions([*axes.values()], pinned, faults)
    if faults:
        raise ConfigError(*faults)
    if not ordered:
        hint = "give a key several values: optimizer.lr=1e-2,1e-3"
        raise ConfigError(Fault("nothing is varied", ("sweep", "space"), DEFAULT, hint=hint))
    return tuple(ordered)


def _add(axes: dict[str, Axis], faults: list[Fault], read: Callable[[], Axis]) -> None:
    try:
        axis = read()
    except ConfigError as error:
        faults.extend(error.faults)
        return
    axes[axis.name] = axis


def _of_file(
    part: Any, path: tuple[str, ...], origin: Origin, faults: list[Fault]
) -> tuple[str | None, dict[str, tuple[str, ...]]]:
    """What a key of `space:` says: text of the grammar, a list, one value, or these under `over` with a `when`."""
    when: dict[str, tuple[str, ...]] = {}
    if isinstance(part, Mapping):
        for key in part:
            if key not in ("over", "when"):
                near = nearest(key, ("over", "when"))
                faults.append(Fault(f"unknown key {key!r}", (*path, str(key)), origin, expected="over and when",
                                    nearest=near))  # fmt: skip
        if "over" not in part:
            faults.append(Fault("missing", (*path, "over"), origin, expected="what it may be"))
            return None, when
        conditions = part.get("when") or {}
        if not isinstance(conditions, Mapping):
            faults.append(Fault("no condition", (*path, "when"), origin, conditions, "a mapping: {model: cnn}"))
        else:
            when = {str(name): tuple(map(written, value if isinstance(value, list) else [value]))
                    for name, value in conditions.items()}  # fmt: skip
        part = part["over"]
    if isinstance(part, list):
        return f"choice({','.join(map(written, part))})", when
    return part if isinstance(part, str) else written(part), when


def _conditions(axes: Sequence[Axis], pinned: Mapping[str, str], faults: list[Fault]) -> list[Axis]:
    """The axes that can exist, each after those that it depends on; conditions on pinned keys are settled."""
    ordered: dict[str, Axis] = {}
    waiting = list(axes)
    while waiting:
        ready = [axis for axis in waiting if all(n in ordered or n in pinned or not _known(n, axes) for n in axis.when)]
        if not ready:
            for axis in waiting:
                faults.append(Fault("conditions that depend on each other", ("sweep", "space", axis.key), axis.origin))
            break
        axis = ready[0]
        waiting.remove(axis)
        open_, holds = {}, True
        for name, texts in axis.when.items():
            place = ("sweep", "space", axis.key, "when", name)
            if name in pinned:
                holds = holds and pinned[name] in texts
            elif name not in ordered:
                if not _known(name, axes):
                    near = nearest(name, [one.name for one in axes])
                    faults.append(Fault("nothing of that name is varied or given", place, axis.origin, nearest=near))
                holds = False
            else:
                listed = ordered[name].choices()
                known = listed.texts if listed is not None else ()
                for text in texts:
                    if text not in known:
                        near, expected = nearest(text, known), f"one of {', '.join(known)}" if known else "a choice"
                        faults.append(Fault("never so", place, axis.origin, text, expected, near))
                open_[name] = texts
        if holds:
            ordered[axis.name] = replace(axis, when=open_)
    return list(ordered.values())


def _known(name: str, axes: Sequence[Axis]) -> bool:
    return any(axis.name == name for axis in axes)
