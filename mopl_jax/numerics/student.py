"""The Student quantile for real degrees of freedom, also below one, with gradients."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics.roots import implicit, newton

# Gauss–Legendre on [0, 1]
_NODES, _WEIGHTS = (0.5 * x for x in np.polynomial.legendre.leggauss(24) + np.array([[1.0], [0.0]]))
# Steps of the gamma recurrence; the first omitted term of the series is then below 1e-10
_SHIFT = 12
_NORMAL = 1e12  # degrees of freedom beyond which t is normal to 12 digits
# Newton steps on a concave function from a point near the root; of 1e-3 ≤ df ≤ 1e12 and tails of at
# least 0.005 three give 12 digits
_STEPS = 12


def student_quantile(tail: ArrayLike, df: ArrayLike) -> Float[Array, "..."]:
    """t with P(T > t) = `tail` in (0, ½) for a Student variable T with `df` degrees of freedom.

    NaN if df ≤ 0, the normal quantile if df is inf. With t = √df sinh u the density is
    proportional to cosh^−df(u), smooth for every df; its tail is inverted by Newton's method on
    its logarithm, which is concave. Iterations carry no gradient; one last step does, and has the
    derivative of the implicit function. Relative error against scipy below 1e-8 in float64 and
    1e-4 in float32 (tail ≥ 0.005).
    """
    return _quantile(*_floats(tail, df))


@jnp.vectorize
def _quantile(tail, df):
    normal, df = df > _NORMAL, jnp.minimum(df, _NORMAL)
    log_scale = jnp.log(_density_at_zero(df))
    beyond = functools.partial(_beyond, log_tail=jnp.log(tail), df=df, log_scale=log_scale)
    start = jnp.arcsinh(-ndtri(tail) * lax.rsqrt(df))
    u = implicit(beyond, newton(beyond, start, _STEPS))
    return jnp.where(normal, -ndtri(tail), jnp.sqrt(df) * jnp.sinh(u))


def _floats(*values):
    dtype = jnp.result_type(float, *values)
    return tuple(jnp.asarray(value, dtype) for value in values)


def _beyond(u, log_tail, df, log_scale):
    """log P(U > u) − log tail, and its slope in u."""
    log_beyond = jnp.where(
        (u > 1) & (df < 40),
        _log_far_tail(u, df) + log_scale,
        _log_near_tail(u, df, log_tail, log_scale),
    )
    return log_beyond - log_tail, -jnp.exp(log_scale - log_beyond - df * _log_cosh(u))


def _log_near_tail(u, df, log_tail, log_scale):
    """log (½ − central mass), integrated by Gauss–Legendre; rounding must not make it negative."""
    nodes, weights = jnp.asarray(_NODES, u.dtype), jnp.asarray(_WEIGHTS, u.dtype)
    central = u * jnp.sum(weights * jnp.exp(log_scale - df * _log_cosh(u * nodes)))
    return jnp.log(jnp.maximum(0.5 - central, 0.25 * jnp.exp(log_tail)))


def _log_far_tail(u, df):
    """log ∫ᵤ^∞ cosh^−df without cancellation, however far out.

    The part e^−df·u has an exact integral. What is left, ∫ e^−df·x ((1 + q e^−2x)^−df − 1) dx with
    q = e^−2u, is smooth in y = e^−x/2.
    """
    log_nodes, fourth, weights = (
        jnp.asarray(x, u.dtype) for x in (np.log(_NODES), _NODES**4, 2 * _WEIGHTS / _NODES)
    )
    bend = jnp.expm1(-df * jnp.log1p(jnp.exp(-2 * u) * fourth))
    rest = jnp.sum(weights * jnp.exp(2 * df * log_nodes) * bend)
    return df * (math.log(2) - u) + jnp.log(jnp.where(u > 1, 1 / df + rest, 1))


def _log_cosh(u):
    """log cosh u for u ≥ 0, without cancellation near 0 and without overflow far out."""
    near = jnp.log1p(2 * jnp.square(jnp.sinh(0.5 * jnp.minimum(u, 1))))
    return jnp.where(u < 1, near, u + jnp.log1p(jnp.exp(-2 * u)) - math.log(2))


def _density_at_zero(df):
    """Γ((df+1)/2) / (√π Γ(df/2)) without log-gammas, which would cancel.

    A recurrence, then the asymptotic series (DLMF 5.11.13).
    """
    x = df / 2
    steps = x + jnp.arange(_SHIFT, dtype=x.dtype)
    down = jnp.prod(steps / (steps + 0.5))
    y = 1 / (x + _SHIFT)
    series = 1 + y * (
        -1 / 8 + y * (1 / 128 + y * (5 / 1024 + y * (-21 / 32768 - y * 399 / 262144)))
    )
    return down * jnp.sqrt((x + _SHIFT) / math.pi) * series
