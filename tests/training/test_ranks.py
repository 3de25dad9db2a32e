"""Several processes: which of them is said to be the one that failed."""

import subprocess
import sys

from builder.training.ranks import Others


def ended(*codes):
    """Processes of ranks 1 and up that end so; negative codes are signals."""
    program = "import os, sys; c = int(sys.argv[1]); os.kill(os.getpid(), -c) if c < 0 else sys.exit(c)"
    processes = {
        rank: subprocess.Popen([sys.executable, "-S", "-c", program, str(code)]) for rank, code in enumerate(codes, 1)
    }
    for process in processes.values():
        process.wait()
    return Others(processes, {})


def test_one_that_was_killed_is_blamed_before_those_that_lost_it():
    assert ended(1, -9, 1).failed() == 2
    assert ended(0, 1, 1).failed() == 2
    assert ended(0, 0).failed() is None
