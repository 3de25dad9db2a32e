"""Keeps the garbage collector away from imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it no garbage is collected, and what was made within it is never looked at again.

    It is for imports: the collector goes through all modules, classes and functions made so far again and again, which
    takes a tenth of the time of `import torch`, and none of them is garbage. Later collections are shorter too.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
