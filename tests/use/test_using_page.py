"""docs/using.md tells of every option there is, and of no other."""

import re

import pytest
import typer

from builder.cli.main import app
from command_line import ROOT

TEXT = (ROOT / "docs/using.md").read_text(encoding="utf-8")
COMMON = {"--debug", "--quiet", "--import", "--config-name", "--config-dir"}
SHARED = TEXT.partition("## In Python")[0]
PARTS = {"predict": "Predicting", "evaluate": "Evaluating", "features": "Features"}


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


@pytest.mark.parametrize("verb", PARTS)
def test_every_option_is_told_of_and_no_other(verb):
    command = typer.main.get_command(app).commands[verb]
    there = {name for item in command.params for name in item.opts if name.startswith("--")} - COMMON
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section(PARTS[verb]) + SHARED))
    assert told - COMMON == there
