"""Functions compiled with little effort for few rows, and kept by a command under all that they
were compiled from.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mopl_jax.estimators.divergence import product
from mopl_jax.numerics import compiled, executables, quick_jit, random
from mopl_jax.policies import Gaussian, Uniform

WIDE = quick_jit.FEW + 1


@quick_jit.quick_jit("power")
def total(values, power, shift=0.0):
    """Σ (x + shift)^power."""
    return jnp.sum((values + shift) ** power)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of compiled functions, as a command has one."""
    monkeypatch.setattr(compiled, "kept", tmp_path)
    monkeypatch.setattr(executables, "_here", {})
    return tmp_path


def _call(values, power, shift=0.0, jitted=None):
    """As `total` asks for it, by a name of the package."""
    fixed = (("power", power),)
    return executables.call(
        jitted or total.little, "mopl_jax.total", {"values": values, "shift": shift}, fixed
    )


@pytest.mark.parametrize(("size", "full"), [(3, False), (WIDE, True)])
def test_many_numbers_are_worth_the_effort(size, full, monkeypatch):
    """The size of the largest argument decides, and never the answer."""
    used = []
    monkeypatch.setattr(total, "full", lambda *given, **named: used.append(given) or 7.0)
    found = total(jnp.ones(size), 2, shift=1.0)
    assert float(found) == (7.0 if full else 4.0 * size)
    assert bool(used) == full


def test_transformations_see_the_function():
    """Under `vmap` and `grad` there are no numbers to look at."""
    values = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert np.allclose(jax.vmap(lambda x: total(x, 2))(values), [5, 25])
    assert np.allclose(jax.grad(lambda x: total(x, 3))(values[0]), [3, 12])


def test_what_is_kept_is_found_without_tracing(kept):
    """The second process has only the file; what was asked of it is the answer again."""
    values = jnp.asarray([1.0, 2.0, 3.0])
    first = _call(values, 2)
    assert len(list(kept.iterdir())) == 1
    executables._here.clear()
    again = _call(2 * values, 2, jitted=lambda *given: pytest.fail("traced"))
    assert (float(first), float(again)) == (14, 56)


@pytest.mark.parametrize(
    "changed",
    [
        {"power": 3},
        {"values": jnp.ones(4)},
        {"values": jnp.ones(3, jnp.float32)},
        {"shift": jnp.float32(0)},
        {"values": Gaussian(jnp.ones(3), jnp.ones(3))},
        {"values": Uniform(jnp.ones(3), jnp.ones(3))},
    ],
    ids=["static", "shape", "dtype", "weak", "tree", "tree of another class"],
)
def test_another_question_is_another_key(changed):
    """No two of these may run one another's code."""
    asked = {"values": jnp.ones(3), "power": 2, "shift": 0.0}

    def key(values, power, shift):
        return executables._key("name", {"values": values, "shift": shift}, (("power", power),))

    assert key(**asked) == key(**{**asked, "values": jnp.zeros(3)})
    others = {key(**asked | changed), key(**asked)}
    assert len(others) == 2
    assert None not in others


def test_classes_of_as_many_fields_are_told_apart():
    """Where jaxlib takes their trees for one another a compiled function would be the wrong one."""
    keys = {
        executables._key("name", kind(jnp.ones(3), jnp.ones(3)), ()) for kind in (Gaussian, Uniform)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("own", [lambda x: x, _call], ids=["made on the way", "of a user"])
def test_functions_that_a_name_does_not_describe_are_not_kept(own, kept):
    """They may be other functions the next time."""
    assert executables._key("name", {}, (("function", own),)) is None
    assert executables._key("name", {}, (("function", product),)) is not None
    jitted = jax.jit(lambda traced, fixed: traced + 1, static_argnums=1)
    assert float(executables.call(jitted, "name", jnp.ones(()), own)) == 2
    assert not list(kept.iterdir())


def test_a_damaged_file_is_made_anew(kept):
    """And a folder that cannot be written costs nothing but time."""
    _call(jnp.ones(3), 2)
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    executables._here.clear()
    assert float(_call(jnp.ones(3), 2)) == 3
    executables._here.clear()
    assert float(_call(jnp.ones(3), 2, jitted=lambda *given: pytest.fail("traced"))) == 3


def test_what_a_link_leads_to_is_not_written(kept):
    """Under the executable's own name, or one that can be guessed while it is under way."""
    _call(jnp.ones(3), 2)
    (path,) = kept.iterdir()
    path.unlink()
    other, guess = kept / "other", path.with_name(f"{path.name}.{os.getpid()}")
    other.write_text("mine")
    for link in (path, guess):
        link.symlink_to(other)
    executables._here.clear()
    assert float(_call(jnp.ones(3), 2)) == 3
    assert (other.read_text(), path.is_symlink()) == ("mine", False)
    assert sorted(kept.iterdir()) == sorted([other, path, guess])  # no part is left


def test_a_folder_that_is_gone_costs_time_alone(kept):
    """As one that cannot be written."""
    kept.rmdir()
    assert float(_call(jnp.ones(3), 2)) == 3


SOLVE = """
from pathlib import Path
import sys
from mopl_jax.numerics import compiled
compiled.kept = Path(sys.argv[1])
import jax, jax.numpy as jnp
from mopl_jax.numerics import executables
jitted = jax.jit(lambda x, fixed: jnp.linalg.cholesky(x), static_argnums=1)
print(float(executables.call(jitted, "name", 4 * jnp.eye(2), ())[0, 0]))
"""


def test_another_process_has_what_the_code_calls(tmp_path):
    """LAPACK's functions are known to a process once one was lowered, which the second never does:
    without them it crashes.
    """
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SOLVE, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert float(done.stdout) == 2
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("wide", [False, True])
def test_no_bit_of_a_draw_depends_on_the_width_of_vectors(wide, monkeypatch):
    """The logarithm, the root and the polynomials of Box–Muller are the same in every lane."""
    monkeypatch.setattr(quick_jit, "has_wide", lambda: wide)

    def draw(key, n):
        return jax.vmap(lambda row: random.normal(row, 3))(random.row_keys(key, n))

    drawn = quick_jit.wide_jit("n")(draw)(jax.random.key(0), n=1001)
    expected = jax.jit(draw, static_argnames="n")(jax.random.key(0), 1001)
    np.testing.assert_array_equal(drawn, expected)
