import sys

import pytest

from builder.runs.command import command_line, without_password
from builder.runs.environment import environment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:secret@host:5432/sweeps", "postgresql://ann:…@host:5432/sweeps"),
        ("logger.url=https://ann:s%40cret@host/x?y=1", "logger.url=https://ann:…@host/x?y=1"),
        ("a=http://x:y@b c=redis://:secret@d", "a=http://x:…@b c=redis://:…@d"),
        ("sqlite:////tmp/study.db", "sqlite:////tmp/study.db"),
        ("postgresql://ann@host/sweeps", "postgresql://ann@host/sweeps"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("time: 3@4", "time: 3@4"),
    ],
)
def test_passwords_of_urls_are_left_out(text, shown):
    assert without_password(text) == shown


def test_what_is_written_down_of_the_command_line_has_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["builder", "sweep", "join", "postgresql://ann:secret@host/sweeps"])
    assert command_line()[-1] == environment()["command"][-1] == "postgresql://ann:…@host/sweeps"
