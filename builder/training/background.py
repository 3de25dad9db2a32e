"""Writes checkpoints in a thread, from a copy in memory, while training goes on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Write = Callable[[dict[str, Any]], object]


class BackgroundWriter:
    """Copies a checkpoint and has it written by a thread; one at a time.

    What the thread raises is raised by the next call of any method. The memory of the copy is kept for the next one.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._copies = Copies()

    def begin(self, checkpoint: dict[str, Any], write: Write) -> None:
        """Copy `checkpoint`, have `write(copy)` called, and return; a former one is waited for.

        Raises:
            RunError: the former one couldn't be written.
        """
        self.wait()
        copied = self._copies.of(checkpoint)
        self._thread = threading.Thread(target=self._run, args=(write, copied), name="checkpoint")
        self._thread.start()

    def _run(self, write: Write, copied: dict[str, Any]) -> None:
        try:
            write(copied)
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        """Raise what the thread raised, if it did; waits for nothing.

        Raises:
            RunError: a checkpoint couldn't be written.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            RunError: it couldn't be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()


class Copies:
    """Copies of nested values whose tensors lie in main memory; memory of the last copy is used again for the next."""

    def __init__(self) -> None:
        self._mine: dict[int, list[Tensor]] = {}

    def of(self, value: Any) -> Any:
        """A copy that shares no memory with `value`. Tensors that share memory with each other do so in it too."""
        spare, self._mine = self._mine, {}
        return self._copy(value, {}, spare)

    def _copy(self, value: Any, done: dict[Any, Tensor], spare: dict[int, list[Tensor]]) -> Any:
        if isinstance(value, dict):
            copied = copy.copy(value)  # a state_dict has versions of its layers as an attribute
            copied.update((key, self._copy(item, done, spare)) for key, item in value.items())
            return copied
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item, done, spare) for item in value)
        return self._tensor(value.detach(), done, spare) if isinstance(value, Tensor) else value

    def _tensor(self, tensor: Tensor, done: dict[Any, Tensor], spare: dict[int, list[Tensor]]) -> Tensor:
        storage = tensor.untyped_storage()
        key = (storage.device, storage.data_ptr(), storage.nbytes())
        if key not in done:
            size = storage.nbytes()
            memory = spare[size].pop() if spare.get(size) else torch.empty(size, dtype=torch.uint8)
            memory.untyped_storage().copy_(storage)
            self._mine.setdefault(size, []).append(memory)
            done[key] = memory
        copied = torch.empty(0, dtype=tensor.dtype)
        return copied.set_(done[key].untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
