"""The command `mopl`. Thin: it reads, calls the library, prints and writes; no mathematics.

Exit codes: 0 done · 2 bad input or usage, one line on standard error says what, where, what was
expected and the remedy · 3 the verdict on a log is refuse: what is printed should not be used ·
4 another process of the run was lost · 130 interrupted · 143 terminated.
"""

import gc
import os
import sys

from mopl_jax.cli import interrupt, pipe, plain

# Objects between looks for garbage. Imports and tracing make many that stay, and a look at them all
# every 700, which is usual, takes a twentieth of a command on a small log.
OBJECTS = 100_000


def main() -> None:
    """Run the command; it takes seconds to import, and an interrupt until then is one line too.

    A console that lacks a character gets another. Figures are files: the backend of a notebook,
    whose environment this process may have inherited, is not asked for. Matrices of a few hundred
    are factorised by one thread, unless the environment says otherwise: several wait for each
    other, which on a busy machine takes longer than all the rest.
    """
    gc.set_threshold(OBJECTS)
    os.environ["MPLBACKEND"] = "agg"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    pipe.install()
    plain.install(sys.stdout, sys.stderr)
    interrupt.heed("interrupted before it started")
    from mopl_jax.cli.app import run

    run()
