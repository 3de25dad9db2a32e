"""What tests of all rooms share: it makes `command_line` importable, and runs without colours, and without haste."""

import pytest
from hypothesis import HealthCheck, settings

# A machine that is shared may stop for a while: how long an example takes says nothing about what is tested.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def no_colour():
    """Messages as they are where no terminal is, whatever the shell says that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        yield
