import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Models of a few hundred weights train faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
