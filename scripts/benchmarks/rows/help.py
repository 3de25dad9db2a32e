"""How fast the command line is there."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Effort, Row
from processes import BUILDER, PYTHON, compare_commands

TITLE = "builder --help / python -c pass"


def rows(effort: Effort) -> Iterator[Row]:
    """One comparison of two processes."""
    command = (*BUILDER, "--help")
    yield compare_commands("builder --help", command, (PYTHON, "-c", "pass"), bound=12, effort=effort, pairs=31)
