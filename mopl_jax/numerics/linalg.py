"""Products of short vectors, written out term by term.

Logged actions have few entries (d, the objectives) and many rows. A reduction over a short axis
under `vmap` becomes a strided loop; written out, it becomes one fused elementwise loop over the
rows (measured: 2–4 times faster on CPU). Gradients of what is written out would scatter every
term into a vector of its own, d times the work: they are sums. Vectors of more than `SHORT` entries
are left to the compiler, which would take minutes over what is written out of them.

Factorisations run one after the other under `vmap` (`sequential_vmap`): jaxlib's batched LAPACK
on CPU spreads a batch over the thread pool that waits for it, and from d = 10 on stops for ever.
Each is far less work than the rows it stands for.
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular
from jaxtyping import Array, Float

from mopl_jax.numerics.shapes import Matrix, Scalar, Vector

SHORT = 32  # entries; a covariance of 50 weights took 19 s to compile, written out


@jax.custom_jvp
def dot(a: Vector, b: Vector) -> Scalar:
    """aᵀb."""
    if a.shape[0] > SHORT:
        return jnp.sum(a * b)
    return sum((a[i] * b[i] for i in range(1, a.shape[0])), start=a[0] * b[0])


@dot.defjvp
def _dot_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return dot(a, b), jnp.sum(da * b + a * db)


def square(a: Vector) -> Scalar:
    """aᵀa."""
    return dot(a, a)


def scale_times(scale: Float[Array, "d *d"], z: Vector) -> Vector:
    """scale · z, for standard deviations (d,) or a lower Cholesky factor (d, d)."""
    if scale.ndim == 1:
        return scale * z
    if z.shape[0] > SHORT:
        return jnp.sum(jnp.tril(scale) * z[None, :], axis=1)
    return jnp.stack([dot(row[: i + 1], z[: i + 1]) for i, row in enumerate(scale)])


def scale_solve(scale: Float[Array, "d *d"], x: Vector) -> Vector:
    """scale⁻¹ · x: the whitened vector."""
    if scale.ndim == 1:
        return x / scale
    return scale_times(invert_lower(scale), x)


def log_determinant(scale: Float[Array, "d *d"]) -> Scalar:
    """log |scale|."""
    return jnp.sum(jnp.log(scale if scale.ndim == 1 else jnp.diagonal(scale)))


@jax.custom_jvp
@sequential_vmap
def invert_lower(factor: Matrix) -> Matrix:
    """factor⁻¹ of a lower triangular matrix."""
    return solve_triangular(factor, jnp.eye(factor.shape[0], dtype=factor.dtype), lower=True)


@invert_lower.defjvp
def _invert_lower_jvp(primals, tangents):
    inverse = invert_lower(*primals)
    multiply = functools.partial(jnp.matmul, precision="highest")
    return inverse, -multiply(multiply(inverse, jnp.tril(tangents[0])), inverse)


@sequential_vmap
def cholesky(matrix: Matrix) -> Matrix:
    """The lower factor of a symmetric positive definite matrix; without derivatives."""
    return jnp.linalg.cholesky(matrix)


@sequential_vmap
def solve_positive(matrix: Matrix, right: Float[Array, "d *k"]) -> Float[Array, "d *k"]:
    """matrix⁻¹ right, of a symmetric positive definite matrix; without derivatives."""
    return cho_solve(cho_factor(matrix), right)


@jax.custom_jvp
@sequential_vmap
def invert_positive(matrix: Matrix) -> Matrix:
    """matrix⁻¹ of a symmetric positive definite matrix."""
    return cho_solve(cho_factor(matrix), jnp.eye(matrix.shape[0], dtype=matrix.dtype))


@invert_positive.defjvp
def _invert_positive_jvp(primals, tangents):
    inverse = invert_positive(*primals)
    multiply = functools.partial(jnp.matmul, precision="highest")
    return inverse, -multiply(multiply(inverse, tangents[0]), inverse)


@sequential_vmap
def eigh(matrix: Matrix) -> tuple[Vector, Matrix]:
    """Ascending eigenvalues, and eigenvectors as columns, of a symmetric matrix; no derivatives."""
    return tuple(jnp.linalg.eigh(matrix))


@sequential_vmap
def eigvalsh(matrix: Matrix) -> Vector:
    """Ascending eigenvalues of a symmetric matrix; without derivatives."""
    return jnp.linalg.eigvalsh(matrix)
