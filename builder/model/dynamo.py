"""Keeps torch.compile from failing on YAML: it reads a function's file as Python, to name the function in comments.

Most YAML passes as tokens of Python; some doesn't (lines indented as no line before them), and PyTorch 2.13 takes the
exception for an error of its own. It is a private part of PyTorch that is changed here, once it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MODULE = "torch._dynamo.funcname_cache"


def tolerate_yaml() -> None:
    """Let `torch.compile` read any file, now or once it is imported; a second call does nothing."""
    if MODULE in sys.modules:
        _mend(sys.modules[MODULE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _mend(module: ModuleType) -> None:
    read: Callable[[str], None] | None = getattr(module, "_add_file", None)
    if read is None or getattr(read, "tolerant", False):
        return

    def tolerant(filename: str) -> None:
        try:
            read(filename)
        except (SyntaxError, UnicodeError):
            module.__dict__["cache"][filename] = {}

    tolerant.tolerant = True  # type: ignore[attr-defined]
    module.__dict__["_add_file"] = tolerant


class _Finder(MetaPathFinder):
    """Finds that one module as all others do, and mends it when it has been loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Mending(spec.loader)
        return spec


class _Mending(Loader):
    """A module's own loader, and the change after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _mend(module)
