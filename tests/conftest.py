"""Strict settings for every test: 64-bit numbers on, no implicit dtype promotion, no implicit rank
promotion.
"""

import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

# Most of the time of these tests is the compiler's, which optimises in the nightly form alone.
LITTLE = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, version("jax").split(".")[:2])) < (0, 11):  # of which 0.12 knows no such option
    LITTLE += " --xla_cpu_use_fusion_emitters=false"
if "--nightly" not in sys.argv and "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ.setdefault("XLA_FLAGS", LITTLE)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


MAPS = Path("/proc/self/maps")
MOST_MAPS = 30_000  # of the 65,530 that Linux allows a process; beyond them a compilation crashes


@pytest.fixture(autouse=True, scope="module")
def compiled_functions_are_let_go():
    """Every compiled function maps memory; a process that has many of them forgets them."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="also run the long statistical tests")


def pytest_configure(config):
    """Compiled functions are kept in .pytest_cache: workers share them, and a second run starts
    warm.
    """
    if getattr(config, "cache", None) is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        config.addinivalue_line(
            "filterwarnings", "ignore:Error (reading|writing) persistent compilation cache"
        )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--nightly"):
        return
    skip = pytest.mark.skip(reason="long; run with --nightly")
    for item in items:
        if "nightly" in item.keywords:
            item.add_marker(skip)
