"""An optimiser's state by the names of its parameters: saved with them, and loaded to where they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from builder.errors import RunError, nearest

IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")
"""What of a group says how a step is computed, not what: it is this machine's matter."""
SHAPED = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "sum", "exp_inf")
"""State of PyTorch's optimisers that has the shape of its parameter."""
SHOWN = 8
"""Troubles that are told before they are only counted."""

Aliases = Mapping[str, Sequence[str]]


def keep_by_name(optimizer: Optimizer, aliases: Aliases) -> None:
    """Let an optimiser, whose groups have `name`, `type` and `param_names`, save and load its state by these.

    `aliases` has all names of each parameter by the first one. Hooks of the optimiser do it, so that whoever calls
    `state_dict` and `load_state_dict` gets it.
    """
    optimizer.register_state_dict_post_hook(_with_shapes)
    optimizer.register_load_state_dict_pre_hook(partial(_placed, aliases=aliases))


def _with_shapes(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The state with the shape of each parameter."""
    groups = [
        {**saved, "param_shapes": [list(parameter.shape) for parameter in group["params"]]}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def _placed(optimizer: Optimizer, saved: dict[str, Any], aliases: Aliases) -> dict[str, Any]:
    """The saved state as this optimiser's groups need it.

    A group's hyperparameters are those that were saved of the group of that name; of a new group they stay.

    Raises:
        RunError: a parameter's state can't be placed; names all of them.
    """
    if any("param_names" not in group for group in saved["param_groups"]):
        return _by_position(optimizer, saved)
    ids = {name: key for group in saved["param_groups"] for name, key in _zipped(group, "params")}
    shapes = {name: shape for group in saved["param_groups"] for name, shape in _zipped(group, "param_shapes")}
    found = _find(optimizer, ids, aliases)
    types = {name: group.get("type") for group in saved["param_groups"] for name in group["param_names"]}
    troubles = [*_unplaced(optimizer, found, ids), *_reshaped(optimizer, found, ids, shapes, saved["state"])]
    troubles += _of_another_type(optimizer, found, types)
    if isinstance(optimizer, torch.optim.LBFGS) and list(found.values()) != list(ids):
        troubles.append("LBFGS keeps one state for all parameters: their order can't change")
    _refuse(troubles)
    by_name = {group.get("name"): group for group in saved["param_groups"]}
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    state = {
        index: saved["state"][ids[found[name]]]
        for index, name in enumerate(names)
        if ids[found[name]] in saved["state"]
    }
    return {"state": state, "param_groups": _numbered(optimizer, by_name)}


def _zipped(group: Mapping[str, Any], key: str) -> zip[tuple[str, Any]]:
    return zip(group["param_names"], group.get(key, ()), strict=False)


def _find(optimizer: Optimizer, saved: Mapping[str, Any], aliases: Aliases) -> dict[str, str]:
    """The saved name of each parameter of the optimiser: its first name, or another one if it is tied."""
    found = {}
    for group in optimizer.param_groups:
        for name in group["param_names"]:
            name_then = next((each for each in (name, *aliases.get(name, ())) if each in saved), None)
            if name_then is not None:
                found[name] = name_then
    return found


def _unplaced(optimizer: Optimizer, found: Mapping[str, str], saved: Mapping[str, Any]) -> list[str]:
    """What is only here or only there."""
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    missing = [name for name in names if name not in found]
    left = [name for name in saved if name not in found.values()]
    return [f"{name} has no state in the checkpoint{_near(name, left)}" for name in missing] + [
        f"{name} of the checkpoint is no parameter that is trained here{_near(name, missing)}" for name in left
    ]


def _near(name: str, names: Sequence[str]) -> str:
    close = nearest(name, names, limit=1)
    return f" (there is {close[0]!r})" if close else ""


def _reshaped(
    optimizer: Optimizer,
    found: Mapping[str, str],
    ids: Mapping[str, Any],
    shapes: Mapping[str, Any],
    state: Mapping[Any, Any],
) -> list[str]:
    """Parameters of another shape than when the state was saved."""
    troubles = []
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            then = shapes.get(found.get(name, ""))
            if then is None and name in found:
                then = _shape_of(state.get(ids[found[name]], {}), parameter)
            if then is not None and list(then) != list(parameter.shape):
                troubles.append(f"{name} has the shape {list(parameter.shape)}, its state that of {list(then)}")
    return troubles


def _of_another_type(optimizer: Optimizer, found: Mapping[str, str], types: Mapping[str, str | None]) -> list[str]:
    """Parameters that another optimiser trained."""
    troubles = []
    for group in optimizer.param_groups:
        for name in group["param_names"]:
            then = types.get(found.get(name, ""))
            if then is not None and then != group["type"]:
                troubles.append(f"{name} has state of {then}, and is trained by {group['type']}")
    return troubles


def _shape_of(state: Mapping[str, Any], parameter: Tensor) -> list[int]:
    """The shape that state without names tells of, which is the parameter's if it tells nothing."""
    known = [value.shape for key, value in state.items() if key in SHAPED and isinstance(value, Tensor)]
    return list(next((shape for shape in known if shape != parameter.shape), parameter.shape))


def _by_position(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """State that was saved without names, if the groups are those of this optimiser one by one.

    Raises:
        RunError: they aren't.
    """
    now, then = optimizer.param_groups, saved["param_groups"]
    troubles = []
    if [len(group["params"]) for group in now] != [len(group["params"]) for group in then]:
        sizes = [" + ".join(str(len(group["params"])) for group in groups) for groups in (then, now)]
        troubles.append(f"it is that of {sizes[0]} parameters, and here there are {sizes[1]}")
    else:
        names = [name for group in now for name in group["param_names"]]
        keys = [key for group in then for key in group["params"]]
        ids = dict(zip(names, keys, strict=True))
        troubles += _reshaped(optimizer, {name: name for name in names}, ids, {}, saved["state"])
    _refuse(troubles, " without names")
    keys = [key for group in then for key in group["params"]]
    state = {index: saved["state"][key] for index, key in enumerate(keys) if key in saved["state"]}
    by_name = {group["name"]: old for group, old in zip(now, then, strict=True)}
    return {"state": state, "param_groups": _numbered(optimizer, by_name)}


def _numbered(optimizer: Optimizer, saved: Mapping[Any, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The optimiser's groups as a state has them: parameters by number, and hyperparameters as they were saved."""
    groups, start = [], 0
    for group in optimizer.param_groups:
        own = ("params", "param_names", "param_shapes", "name", "type", *IMPLEMENTATION)
        old = {key: value for key, value in saved.get(group["name"], {}).items() if key not in own}
        end = start + len(group["params"])
        groups.append({**group, **old, "params": list(range(start, end))})
        start = end
    return groups


def _refuse(troubles: Sequence[str], kind: str = "") -> None:
    if troubles:
        more = [f"and {len(troubles) - SHOWN} more"] if len(troubles) > SHOWN else []
        lines = "\n".join(f"  {trouble}" for trouble in [*troubles[:SHOWN], *more])
        raise RunError(f"the optimiser's state{kind} doesn't fit this model:\n{lines}")
