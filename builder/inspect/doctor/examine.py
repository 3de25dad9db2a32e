"""Looks at all layers that users registered: at their source, and at what is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from builder import registry
from builder.inspect.doctor import dynamic, static
from builder.inspect.doctor.finding import Finding, Report
from builder.inspect.doctor.source import Source, is_users, source_of, user_classes

BEFORE_INIT = "before Module.__init__() call"
"""What PyTorch says of a module whose `super().__init__()` wasn't called."""


def examine(model: nn.Module | None = None, notes: Sequence[str] = ()) -> Report:
    """Look at all registered layers that are users'; those in `model` as they are there, others as they are by default.

    Args:
        model: a model that was made of a config, on any device; None for none.
        notes: what else there is to be said.
    """
    layers = _users_layers()
    known: dict[type[nn.Module], None] = {}
    for cls in layers.values():
        known.update(dict.fromkeys(user_classes(cls)))

    read: dict[type, Source | None] = {}

    def sources(cls: type) -> Source | None:
        if cls not in read:
            read[cls] = source_of(cls) if is_users(cls) else None
        return read[cls]

    found: list[Finding] = []
    for cls in known:
        source = sources(cls)
        if source is not None:
            found += static.findings(source)
    made = [module for module in (model.modules() if model is not None else ()) if is_users(type(module))]
    said = list(notes)
    for name, cls in layers.items():
        if not any(isinstance(module, cls) for module in made):
            made += _made(name, cls, sources(cls), found, said)
    for module in _each_once(made):
        if is_users(type(module)):
            found += dynamic.findings(module, sources)
    return Report(tuple(layers), tuple(_sorted(found)), tuple(said))


def _users_layers() -> dict[str, type[nn.Module]]:
    """The registered layers that are users' classes, by name."""
    entries = {name: registry.layers.get(name) for name in registry.layers}
    return {name: entry for name, entry in entries.items() if isinstance(entry, type) and is_users(entry)}


def _made(
    name: str, cls: type[nn.Module], source: Source | None, found: list[Finding], notes: list[str]
) -> Iterable[nn.Module]:
    """A layer made with its defaults, and all modules in it; why there is none is noted."""
    parameters = inspect.signature(cls).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    required = [each.name for each in named if each.default is each.empty]
    if required:
        notes.append(f"{name} was read, not made: it needs {' and '.join(required)}. Name a config that uses it")
        return []
    failed: Exception | None = None
    for device in ("meta", "cpu"):  # nothing is allocated on the first; some constructors need values
        try:
            with torch.random.fork_rng(devices=()), torch.device(device):
                return list(cls().modules())
        except Exception as error:  # whatever a constructor of users raises
            failed = error
    if BEFORE_INIT in str(failed) and source is not None:
        if not any(finding.rule == "super" and finding.layer == cls.__name__ for finding in found):
            found.append(Finding("super", cls.__name__, source.file, source.tree.lineno))
    else:
        notes.append(f"{name} was read, not made: {type(failed).__name__}: {failed}")
    return []


def _each_once(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Of modules of one class the first two: copies differ in little."""
    counts: dict[type, int] = {}
    for module in modules:
        counts[type(module)] = counts.get(type(module), 0) + 1
        if counts[type(module)] <= 2:
            yield module


def _sorted(found: Iterable[Finding]) -> list[Finding]:
    """Each thing once, whichever way it was found, in the order of files and lines."""
    once: dict[object, Finding] = {}
    for finding in found:
        once.setdefault(finding.place, finding)
    return sorted(once.values(), key=lambda finding: (finding.file, finding.line, finding.rule))
