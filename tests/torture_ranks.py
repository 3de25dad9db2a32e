"""Several processes that train together, forked beforehand in the place of those that `builder` starts."""

import contextlib
import json
import os
import sys
import time
import traceback

from builder.follower import VARIABLE
from builder.training import ranks


class Ranks:
    """Waiting processes for ranks 1 and up; `do(rank)` is what each does once the first one would start it."""

    def __init__(self, count, do):
        self.pids, self._pipes = {}, {}
        for rank in range(1, count):
            read, write = os.pipe()
            pid = os.fork()
            if not pid:
                _follow(read, [write, *self._pipes.values()], rank, do)
            os.close(read)
            self.pids[rank], self._pipes[rank] = pid, write
        ranks._start, ranks.GRACE = self._start, 2.0

    def _start(self, count, shared, run_dir):
        folder = run_dir / ranks.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        logs = {rank: open(folder / f"{rank}.log", "wb") for rank in range(1, count)}
        for rank, pipe in self._pipes.items():
            own = {**shared, "LOCAL_RANK": str(rank), VARIABLE: str(run_dir.absolute())}
            with contextlib.suppress(BrokenPipeError):  # one that was killed already
                os.write(pipe, json.dumps({"environment": own, "log": logs[rank].name}).encode() + b"\n")
        return ranks.Others({rank: Forked(pid) for rank, pid in self.pids.items()}, logs)


def _follow(read, others, rank, do):
    """In the new process: wait to be started, do the work, and never return."""
    try:
        for pipe in others:  # which tell that the first process ended, when nobody else holds them
            os.close(pipe)
        os.dup2(read, 0)
        sys.stdin = open(0, closefd=False)
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(0, 1)
            if not part:
                os._exit(1)
            line += part
        told = json.loads(line)
        os.dup2(os.open(told["log"], os.O_WRONLY | os.O_APPEND), 2)
        os.environ.update(told["environment"])
        do(rank)
        os._exit(0)
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(99)


class Forked:
    """A forked process, as `subprocess.Popen` shows one."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout if timeout is not None else 60)
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.returncode

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, 9)
