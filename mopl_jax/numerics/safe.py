"""Quotients, logarithms and roots with finite values and gradients also where they have none.

`jnp.where` differentiates both of its branches, and the zero that the other branch hands back
times an infinite derivative is NaN. So arguments are made harmless before the operation, and
the result is chosen after it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from mopl_jax.numerics.shapes import Floats, Vector


def positive(x: Floats) -> Floats:
    """x where x > 0, else 1: harmless as a divisor, in a logarithm or under a root."""
    return jnp.where(x > 0, x, 1)


def divide(a: Floats, b: Floats, otherwise: float = 0.0) -> Floats:
    """a / b where b > 0, else `otherwise`."""
    return jnp.where(b > 0, a / positive(b), otherwise)


def reciprocal(x: Floats) -> Floats:
    """1 / x where x > 0, else 0."""
    return jnp.where(x > 0, 1 / positive(x), 0)


def log(x: Floats) -> Floats:
    """log x where x > 0, else −∞, with gradient zero."""
    return jnp.where(x > 0, jnp.log(positive(x)), -jnp.inf)


def log_shares(parts: ArrayLike) -> Vector:
    """log parts / Σ parts, (k,), of parts > 0 in any unit, however large or small they are."""
    logs = np.log(np.asarray(parts, float))
    logs -= logs.max()
    return jnp.asarray(logs - np.log(np.exp(logs).sum()))


def sqrt(x: Floats) -> Floats:
    """√x where x > 0, else 0, with gradient zero."""
    return jnp.where(x > 0, jnp.sqrt(positive(x)), 0)
