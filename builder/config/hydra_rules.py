"""By which of its versions' rules Hydra works for us."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_BASE = "1.3"
"""The version of Hydra whose rules hold, whatever version is installed."""


@contextmanager
def hydra_rules() -> Iterator[None]:
    """Hydra without its warnings and by one version's rules; both as they were afterwards."""
    from hydra import version

    base = version.VersionBase.instance()
    before = base.version_base
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version.setbase(_BASE)
        try:
            yield
        finally:
            base.version_base = before
