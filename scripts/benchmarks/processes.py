"""Times processes: what the processor spends on one from its start to its end, children of its own included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import Effort, Row

HERE = Path(__file__).parent
PYTHON = sys.executable
BUILDER = (PYTHON, "-m", "builder")
KEPT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment, in which Python keeps what it compiles, as it does for users: what isn't kept would be compiled by
ours alone, since installed packages are compiled when they are installed."""
ENVIRONMENT = KEPT | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}


def seconds(command: Sequence[str], folder: Path) -> float:
    """The processor's seconds that a command takes.

    Raises:
        SystemExit: it fails; with what it said.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{output.read().decode()}")
    return usage.ru_utime + usage.ru_stime


def compare_commands(
    what: str, ours: Sequence[str], theirs: Sequence[str], *, bound: float, effort: Effort, pairs: int
) -> Row:
    """Run two commands by turns in an empty folder, theirs once more in each pair, after one run that isn't counted.

    With less than full effort each is run just to see that it runs.
    """
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    sides = [(ours, times[0]), (theirs, times[1]), (theirs, times[2])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in (ours, theirs) if effort.full else ():
            seconds(command, folder)
        for index in range(min(pairs, effort.pairs) if effort.full else 1):
            for command, taken in sides if index % 2 else reversed(sides):
                taken.append(seconds(command, folder))
    return Row(what, bound, *map(tuple, times))
