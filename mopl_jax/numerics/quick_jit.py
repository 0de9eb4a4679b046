"""`quick_jit`: compiled with the effort that the rows are worth, and by a command once for all.

Most of the seconds that a verb takes on a small log are the compiler's, and what it gains by
optimising is less than it takes. For up to `FEW` numbers a function is therefore compiled with
little effort (on a CPU), and a command (`executables`) loads it as it was compiled the last time,
without tracing it again.

`wide_jit`: compiled to the widest vectors of a CPU.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from mopl_jax.numerics import executables

# Numbers in the largest argument until which optimised code does not pay for itself: `propose` for
# 250,000 rows of four weights runs 3.4 instead of 3.0 s and compiles in 3 instead of 7 (one core of
# two); at 30,000 rows both run .6 s.
FEW = 2**20
LITTLE = {  # options of XLA's compiler for CPUs
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11):  # of which 0.12 has no other way, and refuses the option
    LITTLE["xla_cpu_use_fusion_emitters"] = False


class QuickJit:
    """A compiled function that looks at the size of its arguments first."""

    def __init__(self, function: Callable, static: tuple[str, ...]):
        def run(traced, fixed):
            return function(**traced, **dict(fixed))

        functools.update_wrapper(self, function)
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.static, self.signature = static, inspect.signature(function)
        self.full = jax.jit(function, static_argnames=static)
        self.little = jax.jit(run, static_argnums=1, compiler_options=LITTLE)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _few((args, kwargs)):
            return self.full(*args, **kwargs)
        given = self.signature.bind(*args, **kwargs).arguments
        traced = {name: x for name, x in given.items() if name not in self.static}
        fixed = tuple((name, x) for name, x in given.items() if name in self.static)
        return executables.call(self.little, self.name, traced, fixed)


def quick_jit(*static: str) -> Callable[[Callable], QuickJit]:
    """`jax.jit` with the arguments `static` by name, for functions of the rows of a log."""
    return lambda function: QuickJit(function, static)


WIDE = {"xla_cpu_prefer_vector_width": 512}  # bits; XLA's own choice is 256


def wide_jit(*static: str) -> Callable[[Callable], Callable]:
    """`jax.jit` with the arguments `static` by name, and wide vectors on a CPU that has them.

    For elementwise functions with much arithmetic, whose bits depend on no width. Drawing is 1.8
    times as fast with AVX-512, and would be slower without it (`python -m benchmarks draws`).
    """

    def compiled(function):
        plain = jax.jit(function, static_argnames=static)
        wide = jax.jit(function, static_argnames=static, compiler_options=WIDE)

        @functools.wraps(function)
        def call(*args, **kwargs):
            return (wide if jax.default_backend() == "cpu" and has_wide() else plain)(
                *args, **kwargs
            )

        return call

    return compiled


@functools.cache
def has_wide() -> bool:
    """Whether the processor has AVX-512."""
    import pyarrow as pa

    return pa.runtime_info().detected_simd_level == "avx512"


def _few(arguments) -> bool:
    """Whether these are numbers, not many, that a CPU is to work on."""
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, Tracer) for leaf in leaves) or jax.default_backend() != "cpu":
        return False
    return max((np.size(leaf) for leaf in leaves), default=0) <= FEW
