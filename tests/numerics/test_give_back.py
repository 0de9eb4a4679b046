"""Freed memory goes back to the system."""

import sys

import numpy as np
import pytest

from mopl_jax.numerics.memory import give_back

PAGES, MEBIBYTE = "/proc/self/statm", 2**20


def held():
    """Bytes of the process that are in memory."""
    with open(PAGES) as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_what_small_freed_pieces_took_is_given_back():
    """Of 100 MiB in pieces below what the C library maps by itself, behind one that stays."""
    pieces = [np.ones(8000) for _ in range(1600)]
    stays = np.ones(8000)
    full = held()
    del pieces
    give_back()
    assert held() < full - 80 * MEBIBYTE
    assert stays.sum() == 8000
