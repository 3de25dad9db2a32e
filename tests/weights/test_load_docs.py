"""docs/loading.md is true: its files are made, its sections load, its commands and reports print what is shown."""

import contextlib
import copy
import io
import re

import yaml
from load_helpers import loaded

from command_line import ROOT, run

TEXT = (ROOT / "docs" / "loading.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_block_of_the_page_on_loading_does_what_it_says(tmp_path):
    names, printed, sections = {}, "", 0
    with contextlib.chdir(tmp_path):
        for language, text in BLOCKS:
            if language == "python":
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(text, names)
                printed = out.getvalue()
            elif language == "text":
                assert printed == text
            elif language == "console":
                command, _, shown = text.partition("\n")
                assert run(tmp_path, *command.removeprefix("$ builder ").split()).out == shown
            elif names:  # the first section is before its file
                loaded(copy.deepcopy(names["network"](3, 4)), yaml.safe_load(text)["load"])
                sections += 1
    assert sections == 3
