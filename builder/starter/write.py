"""Writes a new project into a folder."""

from __future__ import annotations

import re
from pathlib import Path

from builder.durable import told, write_text
from builder.errors import UsageError

FILES = Path(__file__).parent / "files"
SUFFIX = ".txt"
"""Ending of each file as it lies here, so that no tool takes it for a part of this package."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
RESERVED = ("builder", "torch", "layers", "tests", "configs")
"""Names that would hide a module that the project imports."""


def check_name(name: str) -> None:
    """Refuse a name that can't be that of a project.

    Raises:
        UsageError: it can't.
    """
    if NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} can't be the name of a project\n"
            "  expected: letters, digits, '-' and '_', a letter first, as my_project"
        )
    if name.lower() in RESERVED:
        raise UsageError(f"{name!r} can't be the name of a project: a module is called so")


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project into `folder`, which is made; its last part is the project's name.

    Raises:
        UsageError: the name can't be used, or there is something in the folder.
        RunError: a file can't be written.
    """
    name = folder.resolve().name
    check_name(name)
    with told("read", folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file")
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if there:
        more = ", …" if len(there) > 3 else ""
        raise UsageError(f"{folder} isn't empty: it holds {', '.join(there[:3])}{more}")
    written = []
    for source in sorted(path for path in FILES.rglob(f"*{SUFFIX}") if path.is_file()):
        target = folder / str(source.relative_to(FILES)).removesuffix(SUFFIX)
        write_text(target, source.read_text(encoding="utf-8").replace("{{name}}", name))
        written.append(target)
    return written
