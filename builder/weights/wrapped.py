"""Finds the state dict in what a checkpoint holds besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from builder.errors import nearest
from builder.weights.entries import WeightsError

RAW = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
"""Where checkpoints keep the weights."""

EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "model_ema_state_dict", "ema")
"""Where they keep the moving average of them."""

LIGHTNING = "pytorch-lightning_version"
"""The key that says that Lightning wrote a checkpoint."""

AVERAGED, CURRENT = "state_dict", "current_model_state"
"""Where Lightning's WeightAveraging puts the averaged weights and those that were trained, while it averages."""

ASIDE = ("optim", "sched", "scaler", "averaging_state", "callbacks", "loops")
"""Parts of names that hold tensors which are no weights."""

DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict, where it lay (empty: it is the whole file), and what there is to say of it."""

    state: Mapping[Any, Any]
    place: tuple[str, ...]
    notes: tuple[str, ...]


def find_state(tree: Any, key: str | None, weights: str) -> Found:
    """The state dict in what was read from a file.

    Args:
        tree: mappings and lists of tensors and plain values.
        key: where it lies, dotted; None: where checkpoints have it.
        weights: `raw`, `ema`, or `tested`: the average in a checkpoint of Lightning's that was averaging, else `raw`.

    Raises:
        WeightsError: there is none, or several that may be meant; names them.
    """
    if not isinstance(tree, Mapping):
        kind = "a tensor without a name" if isinstance(tree, Tensor) else f"a {type(tree).__name__}"
        raise WeightsError(f"holds {kind}, not tensors by their names")
    if key is not None:
        return _found(tree, _named(tree, key), ())
    if weights == "ema":
        return _found(tree, _ema(tree), ("the EMA weights",))
    notes = []
    if weights == "tested" and _is_averaging(tree):
        return _found(tree, (AVERAGED,), ("the average of the weights, which was tested",))
    if _is_averaging(tree):
        return _found(tree, (CURRENT,), ("the raw weights; 'weights: ema' takes their average",))
    if any(_holds(tree.get(name)) for name in EMA):
        notes.append("the raw weights; 'weights: ema' takes their average")
    return _found(tree, _raw(tree), tuple(notes))


def tensors_in(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict that can be copied, by name: dense ones, under text keys."""
    return {name: value for name, value in state.items() if isinstance(name, str) and _is_dense(value)}


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized and not value.is_meta


def _found(tree: Mapping[Any, Any], place: tuple[str, ...], notes: tuple[str, ...]) -> Found:
    state: Any = tree
    for name in place:
        state = state[name]
    where = (f"the state dict lies under {'.'.join(place)!r}",) if place else ()
    return Found(state, place, (*where, *notes))


def _is_averaging(tree: Mapping[Any, Any]) -> bool:
    return LIGHTNING in tree and _holds(tree.get(CURRENT)) and _holds(tree.get(AVERAGED))


def _ema(tree: Mapping[Any, Any]) -> tuple[str, ...]:
    if _is_averaging(tree):
        return (AVERAGED,)
    names = [name for name in EMA if _below(tree.get(name))]
    if len(names) > 1:
        raise _ambiguous([(name,) for name in names])
    if not names:
        raise WeightsError("holds no EMA weights", _listing("what it holds", list(_candidates(tree))))
    return (names[0], *_raw(tree[names[0]]))


def _raw(tree: Mapping[Any, Any], depth: int = 0) -> tuple[str, ...]:
    """Where the state dict lies in a mapping, which may hold itself."""
    names = [name for name in RAW if _below(tree.get(name))] if depth < DEEPEST else []
    if len(names) > 1:
        raise _ambiguous([(name,) for name in names])
    if names:
        return (names[0], *_raw(tree[names[0]], depth + 1))
    if _holds(tree):
        return ()
    places = list(_candidates(tree))
    if len(places) > 1:
        raise _ambiguous(places)
    if not places:
        keys = ", ".join(map(repr, list(tree)[:8])) or "nothing"
        raise WeightsError(f"holds no tensors by their names; it holds {keys}")
    return places[0]


def _holds(value: Any) -> bool:
    """Whether a value is a mapping with tensors in it, as a state dict is."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()
    )


def _below(value: Any) -> bool:
    return isinstance(value, Mapping) and any(True for _ in _candidates(value))


def _candidates(tree: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the state dicts lie in a mapping, the outer ones only."""
    if not isinstance(tree, Mapping) or len(place) > DEEPEST:
        return
    if _holds(tree) and not any(_holds(tree.get(name)) for name in (*RAW, *EMA)):
        yield place
        return
    for name, value in tree.items():
        if isinstance(name, str) and not any(part in name for part in ASIDE):
            yield from _candidates(value, (*place, name))


def _named(tree: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    """The path that a dotted key means, whose parts may have dots of their own."""
    place = _walk(tree, tuple(key.split(".")))
    if place is not None:
        return place
    places = list(_candidates(tree))
    near = nearest(key, map(".".join, places))
    asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise WeightsError(f"has no tensors under {key!r}{asked}", _listing("what it holds", places))


def _walk(tree: Any, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    if not parts:
        return () if _holds(tree) else None
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if isinstance(tree, Mapping) and name in tree:
            rest = _walk(tree[name], parts[end:])
            if rest is not None:
                return (name, *rest)
    return None


def _ambiguous(places: list[tuple[str, ...]]) -> WeightsError:
    names = [".".join(place) for place in places]
    return WeightsError(
        f"holds {len(names)} sets of weights: {', '.join(map(repr, names))}", f"say which by 'key: {names[0]}'"
    )


def _listing(what: str, places: list[tuple[str, ...]]) -> str | None:
    return f"{what}: {', '.join('.'.join(place) or 'tensors' for place in places)}" if places else None
