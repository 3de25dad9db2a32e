"""Settings for the tests of shipped models."""

import pytest

from command_line import one_thread


@pytest.fixture(autouse=True, scope="session")
def calm():
    """Small tensors gain nothing from threads, and lose much where other processes have the cores."""
    with one_thread():
        yield
