"""What every test runs under: one thread, so that results do not depend on the machine, and no deadline."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; child processes inherit it

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# A first example may compile a kernel, so a time limit on single examples would fail at random.
settings.register_profile("qanneal_opt", deadline=None)
settings.load_profile("qanneal_opt")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that a test leaves to torch would slow all later tests down, many times where cores are busy."""
    yield
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 1, f"the test leaves {threads} threads to torch"
