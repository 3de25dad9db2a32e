"""Calls what the command line names, and the model that it gives."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from builder.config.yaml_file import parse_yaml
from builder.errors import BuilderError, UsageError, nearest


class ImportFailed(BuilderError):
    """The code that was named raised, or gave no module."""


def made(named: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The module that `MODULE:FACTORY` gives for these arguments; a module may be the path of a Python file.

    Raises:
        UsageError: there is no such module or factory, or it takes no such arguments.
        ImportFailed: it raised, or gave something else.
    """
    module, colon, attribute = named.partition(":")
    if not colon or not module or not attribute:
        raise UsageError(f"{named!r} names no factory\n  expected: MODULE:FACTORY, as torchvision.models:resnet18")
    factory = _factory(_module(module), attribute, named)
    _check(factory, arguments, named)
    try:
        found = factory(**arguments)
    except Exception as error:  # whatever the user's code raises
        raise ImportFailed(f"{named} raised {type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise ImportFailed(f"{named} gave a {type(found).__name__}, not a torch.nn.Module")
    return found


def _module(name: str) -> Any:
    if name.endswith(".py"):
        file = Path(name)
        if not file.is_file():
            raise UsageError(f"there is no file {name}")
        sys.path.insert(0, str(file.parent.resolve()))
        name = file.stem
    elif str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name!r}") from None
        raise ImportFailed(f"importing {name} failed: {error}") from error
    except Exception as error:  # a user's module may raise anything
        raise ImportFailed(f"importing {name} failed: {type(error).__name__}: {error}") from error


def _factory(module: Any, attribute: str, named: str) -> Any:
    found = module
    for name in attribute.split("."):
        known = [one for one in vars(found) if not one.startswith("_")]
        if not hasattr(found, name):
            near = nearest(name, known)
            asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"{named}: there is no {name!r} in it{asked}")
        found = getattr(found, name)
    if not callable(found):
        raise UsageError(f"{named} is a {type(found).__name__}, which can't be called")
    return found


def _check(factory: Any, arguments: Mapping[str, Any], named: str) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = list(signature.parameters)
        near = [one for key in arguments if key not in known for one in nearest(key, known)]
        asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(f"{named} {error}{asked}\n  takes:    {', '.join(known) or 'nothing'}") from None


def arguments_of(words: Sequence[str]) -> dict[str, Any]:
    """`width=8 depths=[2,2]` as values, each read as YAML.

    Raises:
        UsageError: a word has no `=`.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--args {word!r} isn't NAME=VALUE")
        value = parse_yaml(f"value: {text}", "--args").value
        found[name] = value["value"]
    return found


def examples_of(words: Sequence[str]) -> dict[str, torch.Tensor]:
    """`x=2,3,224,224` and `ids=2,16:int64` as tensors: numbers between 0 and 1, or zeros and ones.

    Raises:
        UsageError: a word says no shape, or an unknown dtype.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        sizes, _, kind = text.partition(":")
        dtype = getattr(torch, kind or "float32", None)
        parts = sizes.split(",")
        if not name.isidentifier() or not all(part.isdigit() for part in parts) or not isinstance(dtype, torch.dtype):
            raise UsageError(f"--input {word!r} says no input\n  expected: as x=2,3,224,224 or ids=2,16:int64")
        drawn = torch.rand([int(part) for part in parts], generator=generator)
        found[name] = drawn.to(dtype) if dtype.is_floating_point else (drawn * 2).to(dtype)
    return found
