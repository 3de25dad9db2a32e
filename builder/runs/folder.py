"""A run's folder: opened before the trainer, sealed after it."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from builder import durable
from builder.errors import DEFAULT, BuilderError, ConfigError, Fault, Origin
from builder.runs import manifest, status
from builder.runs.command import command_line
from builder.runs.lock import Lock
from builder.runs.status import Ending

_STOPPED = {130: "interrupted (Ctrl-C)", 138: "stopped by SIGUSR1", 143: "terminated"}
"""Exit codes of a process that was asked to stop (128 + SIGINT, SIGUSR1, SIGTERM), and how that is said."""
_REASON_LENGTH = 500
_NAME_BYTES = 200


class Run:
    """An open run folder, locked by this process until it is sealed.

    As a context manager it seals itself when an exception leaves the block: as interrupted on Ctrl-C or a request to
    stop, else as failed. Nothing but `seal("finished")` makes it a finished one.
    """

    def __init__(self, path: pathlib.Path, command: Sequence[str], *, again: bool = False) -> None:
        """Lock the folder and write that it is running; `again` for one that is there already.

        Raises:
            RunError: another process is in it, it holds no run, or the system refuses.
        """
        self.path = path
        self._lock = Lock(path)
        self._began = time.monotonic()
        self._epoch: int | None = None
        self._step: int | None = None
        self._hashes: dict[str, str] = {}
        self._afterwards: list[Callable[[pathlib.Path], None]] = []
        try:
            self.before = status.status(path) if again else None
            self._status = status.begun(self.before, command)
            status.write(path, self._status)
        except BaseException:
            self._lock.release()
            raise

    @property
    def state(self) -> status.State:
        """How the run stands."""
        return self._status.state

    def write_text(self, name: str, text: str) -> pathlib.Path:
        """Write a text file, durably; `name` may lie in folders (`reports/load.txt`).

        Raises:
            RunError: the system refuses.
        """
        return self.write_bytes(name, durable.encoded(text))

    def write_json(self, name: str, value: Any) -> pathlib.Path:
        """Write a value as JSON, durably; numbers that aren't finite are written as text.

        Raises:
            RunError: the system refuses.
        """
        path = self._inside(name)
        durable.write_json(path, value)
        return path

    def write_bytes(self, name: str, data: bytes) -> pathlib.Path:
        """Write a file, durably.

        Raises:
            RunError: the system refuses.
        """
        path = self._inside(name)
        durable.write_bytes(path, data)
        return path

    def keep_hash(self, weights: str, sha256: str) -> None:
        """Note the hash of some weights, for the manifest."""
        self._hashes[weights] = sha256

    def afterwards(self, call: Callable[[pathlib.Path], None]) -> None:
        """Call `call` with the folder once the run is sealed, however it ended."""
        self._afterwards.append(call)

    def reach(self, epoch: int, step: int) -> None:
        """Note the last completed epoch and step, so that the seal names them however the run ends; writes nothing."""
        self._epoch, self._step = epoch, step

    def seal(
        self,
        state: Ending,
        *,
        reason: str | None = None,
        epoch: int | None = None,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Say for good how the run ended, and unlock its folder; once.

        Args:
            state: `finished`, `failed` or `interrupted`.
            reason: why it didn't finish, in a line.
            epoch: the last completed one; by default the one noted by `reach`.
            step: the last completed one; likewise.
            metrics: final values by name, plain numbers.
            seconds: how long it took; by default since it was opened.

        Raises:
            RunError: the system refuses; if so, the folder is not taken for a finished run.
        """
        assert self.state == "running", f"{self.path} is sealed already, as {self.state}"
        taken = time.monotonic() - self._began if seconds is None else seconds
        taken += (self.before.seconds or 0.0) if self.before is not None else 0.0
        epoch, step = self._epoch if epoch is None else epoch, self._step if step is None else step
        result = {"epoch": epoch, "step": step, "metrics": dict(metrics or {})}
        try:
            manifest.write(self.path, self._hashes)
        except BuilderError as error:
            self._end(status.sealed(self._status, "failed", taken, reason=one_line(error), **result))
            raise
        self._end(status.sealed(self._status, state, taken, reason=reason and _cut(reason), **result))

    def restore(self) -> None:
        """Leave a run that was opened again as it was, and unlock its folder."""
        assert self.before is not None
        self._afterwards.clear()
        self._end(self.before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state != "running":
            return
        if error is None:
            self.seal("failed", reason="it ended without a result")
            return
        stopped = _stopped(error)
        try:
            self.seal("interrupted" if stopped else "failed", reason=stopped or one_line(error))
        except BuilderError as second:
            error.add_note(f"and the run folder could not be sealed: {second}")
        finally:
            self.unlock()

    def unlock(self) -> None:
        """Let other processes into the folder; `seal` does."""
        self._lock.release()

    def _end(self, final: status.Status) -> None:
        status.write(self.path, final)
        self._status = final
        self.unlock()
        for call in self._afterwards:
            call(self.path)

    def _inside(self, name: str) -> pathlib.Path:
        path = pathlib.PurePosixPath(name)
        assert path.parts and not path.is_absolute() and ".." not in path.parts, f"{name!r} lies outside the run folder"
        return self.path / path


def open_run(
    output_dir: pathlib.Path | str,
    name: str,
    *,
    config_yaml: str,
    overrides: Sequence[str],
    environment: Mapping[str, Any],
    patch: bytes | None = None,
    command: Sequence[str] | None = None,
    name_origin: Origin = DEFAULT,
) -> Run:
    """Make `<output_dir>/<name>/<date>_<time>_<short hash>` with the files that say what the run is, and lock it.

    Args:
        output_dir: where runs lie, made if missing.
        name: the experiment's; the folder's name.
        config_yaml: the composed config, `${oc.env:…}` unresolved.
        overrides: as given on the command line.
        environment: what `environment.environment` returned.
        patch: what the code differs by from its commit, if it does.
        command: the command line; by default this process's.
        name_origin: where `name` was written.

    Raises:
        ConfigError: `name` can't name a folder.
        RunError: the system refuses; nothing is then left in `output_dir` that could be taken for a run.
    """
    check_name(name, name_origin)
    _refuse_within_a_run(pathlib.Path(output_dir), name)
    path = _new_folder(pathlib.Path(output_dir) / name, config_yaml, *overrides)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, path, ignore_errors=True)
        run = Run(path, command_line() if command is None else command)
        undo.callback(run.unlock)
        run.write_text("config.yaml", config_yaml)
        run.write_text("overrides.txt", "".join(f"{override}\n" for override in overrides))
        run.write_json("environment.json", environment)
        if patch:
            run.write_bytes("git.patch", patch)
        undo.pop_all()
    return run


def _refuse_within_a_run(output_dir: pathlib.Path, name: str) -> None:
    """A run's folder can't be that of another one, or hold it.

    Raises:
        ConfigError: runs would be made in one.
    """
    for folder in (output_dir / name, output_dir):
        if (folder / status.FILE).is_file():
            message = f"{folder} is a run's folder already"
            hint = f"to go on with that run: builder resume {folder}"
            raise ConfigError(Fault(message, ("output_dir",), found=str(output_dir), hint=hint))


def check_name(name: str, origin: Origin = DEFAULT) -> None:
    """Refuse what can't be the name of a folder of runs.

    Raises:
        ConfigError: it is empty, hidden, too long, or holds a separator or a control character.
    """
    bad = (
        not isinstance(name, str)
        or not name
        or name != name.strip()
        or name.startswith(".")
        or len(durable.encoded(name)) > _NAME_BYTES
    )
    if bad or any(char in "/\\" or not char.isprintable() for char in name):
        expected = f"a folder name: no / or \\, no leading dot, at most {_NAME_BYTES} bytes"
        raise ConfigError(Fault("this can't name a run folder", ("name",), origin, name, expected))


def one_line(error: BaseException) -> str:
    """An exception in a line: its type and first line, or the first line alone of an error meant for users."""
    first = (str(error).strip().splitlines() or [""])[0].strip()
    if isinstance(error, BuilderError) and first:
        return _cut(first)
    return _cut(f"{type(error).__name__}: {first}" if first else type(error).__name__)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"


def _stopped(error: BaseException) -> str | None:
    """How it is said that the process was asked to stop, if this is that."""
    if isinstance(error, KeyboardInterrupt):
        return _STOPPED[130]
    return _STOPPED.get(error.code) if isinstance(error, SystemExit) and isinstance(error.code, int) else None


def _new_folder(parent: pathlib.Path, *content: str) -> pathlib.Path:
    """A folder that wasn't there before, named for now and for a hash that no other run is likely to have."""
    with durable.told("open a run in", parent):
        durable.make_folder(parent)
        for attempt in itertools.count():
            moment = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
            path = parent / f"{moment}_{_short_hash(*content, str(time.time_ns()), str(attempt))}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                durable.sync_folder(parent)
                return path
    raise AssertionError("unreachable")


def _short_hash(*parts: str) -> str:
    return hashlib.sha256(durable.encoded("\0".join(parts))).hexdigest()[:8]
