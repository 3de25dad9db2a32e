"""Command lines as a user types them: run in this process, which is quick, or in one of their own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import builder
from builder.cli.main import main
from builder.registry import registries

ROOT = Path(builder.__file__).parents[1]
SMALL = ("model=mlp", "model.args.hidden=16", "trainer=cpu", "trainer.max_epochs=2")
"""Overrides for a training that takes a fraction of a second."""


@dataclass(frozen=True)
class Ran:
    """How a command line ended, and what it wrote; `folder` is where it ran."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run folder that it printed."""
        return self.folder / self.out.splitlines()[-1]


def run(folder, *words, env=None):
    """Run `builder WORDS` in `folder`, in this process, as if it were a new one with one thread."""
    out, err = io.StringIO(), io.StringIO()
    with (
        as_in_a_new_process(folder, words, env or {}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(list(words))
    return Ran(Path(folder), code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def one_thread():
    """Within it PyTorch computes on one thread: sums are split by threads, and small tensors gain nothing from them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def as_in_a_new_process(folder, words, env):
    """Settings of torch, `sys` and the environment, users' modules and what they register: all as it was afterwards."""
    import torch

    modules, path, argv, environment = set(sys.modules), list(sys.path), sys.argv, dict(os.environ)
    deterministic = torch.are_deterministic_algorithms_enabled()
    sys.argv = ["builder", *words]
    os.environ.update(env)
    try:
        with contextlib.chdir(folder), one_thread():
            yield
    finally:
        sys.argv, sys.path[:] = argv, path
        os.environ.clear()
        os.environ.update(environment)
        torch.use_deterministic_algorithms(deterministic)
        for name in set(sys.modules) - modules:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(Path(folder).resolve()):
                del sys.modules[name]
                _forget(name)


def _forget(module):
    for registry in registries.values():
        for name in [key for key, entry in registry._entries.items() if getattr(entry, "__module__", "") == module]:
            del registry._entries[name]


def start(folder, *words, site=ROOT, env=None, launcher=()):
    """Start `builder WORDS` in `folder`, in a process and a process group of its own, which Ctrl-C reaches.

    `launcher` is what Python runs instead, with all of that as its last arguments: `-m torch.distributed.run`.
    """
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **(env or {})}
    # A shell has its background jobs ignore Ctrl-C, and what they start inherits that; a handler isn't inherited.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", "builder", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, handler)


def finish(process, folder, timeout=200):
    """Wait for a process that `start` gave."""
    out, err = process.communicate(timeout=timeout)
    return Ran(Path(folder), process.returncode, out, err)
