"""Imports run one way, and what is light stays light: the contracts of pyproject.toml."""

import subprocess
import sys

import pytest

from command_line import ROOT


def test_the_import_contracts_hold(tmp_path):
    pytest.importorskip("importlinter", reason="the dev extra isn't installed")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


LIGHT = ["builder.errors", "builder.registry", "builder.config.compose", "builder.config.validate", "builder.lang.forward",
         "builder.runs.folder", "builder.runs.find", "builder.cli.main", "builder.plugins"]  # fmt: skip


def test_the_light_rooms_import_neither_torch_nor_lightning():
    code = f"import sys, {', '.join(LIGHT)}; print([name for name in ('torch', 'pytorch_lightning', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("[]\n", "")
