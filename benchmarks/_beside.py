"""Cells of a study beside each other: a process for each core, each computing with one thread.

Cells of small logs have little for several threads to share, which wait for one another instead:
the learner takes half the processor time with one of them. What a cell answers is the same to
rounding, as far as no search turns elsewhere by it (five of twenty learnt policies by context did:
their gains are 10⁻⁴ apart at most), and in order.
"""

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

FEW = 8  # cells, which do not pay for compiling once in each process
ALONE = {"NPROC": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # NPROC: XLA's


def beside(function: Callable[..., Any], cells: Iterable[tuple]) -> Iterator[Any]:
    """What the function, of a module, gives of the arguments of each cell, in float64."""
    cells = list(cells)
    if len(cells) <= FEW:
        yield from itertools.starmap(function, cells)
        return
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    with mock.patch.dict(os.environ, ALONE | {"XLA_FLAGS": flags.strip()}):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context, _start) as pool:
            yield from pool.map(_call, itertools.repeat(function), cells)


def _start():
    import jax

    jax.config.update("jax_enable_x64", True)


def _call(function, cell):
    return function(*cell)
