"""Products of short vectors, written out term by term.

Logged actions have few entries (d, the objectives) and many rows. A reduction over a short axis under `vmap` becomes a
strided loop; written out, it becomes one fused elementwise loop over the rows (measured: 2–4 times faster on CPU). Gradients
of what is written out would scatter every term into a vector of its own, d times the work: they are sums.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float


@jax.custom_jvp
def dot(a: Float[Array, " d"], b: Float[Array, " d"]) -> Float[Array, ""]:
    """aᵀb."""
    return sum((a[i] * b[i] for i in range(1, a.shape[0])), start=a[0] * b[0])


@dot.defjvp
def _dot_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return dot(a, b), jnp.sum(da * b + a * db)


def square(a: Float[Array, " d"]) -> Float[Array, ""]:
    """aᵀa."""
    return dot(a, a)


def scale_times(scale: Float[Array, "d *d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
    """scale · z, for standard deviations (d,) or a lower Cholesky factor (d, d)."""
    return scale * z if scale.ndim == 1 else jnp.stack([dot(row[: i + 1], z[: i + 1]) for i, row in enumerate(scale)])


def scale_solve(scale: Float[Array, "d *d"], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """scale⁻¹ · x: the whitened vector."""
    if scale.ndim == 1:
        return x / scale
    inverse = solve_triangular(scale, jnp.eye(scale.shape[0], dtype=scale.dtype), lower=True)
    return scale_times(inverse, x)


def log_determinant(scale: Float[Array, "d *d"]) -> Float[Array, ""]:
    """log |scale|."""
    return jnp.sum(jnp.log(scale if scale.ndim == 1 else jnp.diagonal(scale)))
