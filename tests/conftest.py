"""What tests of all rooms share: it makes `command_line` importable, and runs without colours."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_colour():
    """Messages as they are where no terminal is, whatever the shell says that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        yield
