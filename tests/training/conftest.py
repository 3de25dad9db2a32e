import pytest

from command_line import one_thread


@pytest.fixture(autouse=True)
def calm():
    """Models of a few hundred weights train faster on one thread."""
    with one_thread():
        yield
