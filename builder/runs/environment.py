"""What a run ran on: enough to tell why a later one differs, and never the environment's variables."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from builder.runs.command import command_line
from builder.runs.git import Repository

DISTRIBUTION = "builder"


def environment(
    extra: Mapping[str, Any] | None = None,
    *,
    repository: Repository | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Facts of this process and machine, as `environment.json` holds them.

    Args:
        extra: more facts under names of their own, e.g. `{"torch": {…}, "device": …}`.
        repository: what `git.repository()` found; `git` is null without it.
        command: the command line; by default this process's.
    """
    facts: dict[str, Any] = {
        "command": command_line() if command is None else list(command),
        "folder": os.getcwd(),
        "host": platform.node(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": {"model": _cpu_model(), "count": os.cpu_count(), "usable": _usable_cpus()},
        "memory_bytes": _memory(),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": packages(),
        "git": None if repository is None else repository.facts(),
    }
    taken = facts.keys() & (extra or {}).keys()
    assert not taken, f"facts given twice: {sorted(taken)}"
    return {**facts, **(extra or {})}


def packages(distribution: str = DISTRIBUTION) -> dict[str, str]:
    """Installed versions of a distribution and of what it and its extras require, by name; empty if not installed.

    They are read once in a process, which goes on with what it has imported.
    """
    return dict(_packages(distribution))


@functools.cache
def _packages(distribution: str) -> dict[str, str]:
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return {}
    names = {distribution} | {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}
    versions: dict[str, str] = {}
    for name in sorted(names, key=str.lower):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _cpu_model() -> str | None:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor() or None
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
