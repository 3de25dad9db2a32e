"""Which packages the registries are filled from; with others the schema may say something else."""

from __future__ import annotations

from importlib.metadata import version

PACKAGES = ("torch", "torchmetrics", "pytorch-lightning")


def versions() -> dict[str, str]:
    """The version of each, without the build that follows `+`."""
    return {package: version(package).partition("+")[0] for package in PACKAGES}
