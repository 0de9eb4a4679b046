"""The Student quantile for real degrees of freedom, also below one, with gradients."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_SHIFT = 12  # steps of the gamma recurrence; the first omitted term of the series is then below 1e-10
_NORMAL = 1e12  # degrees of freedom beyond which t is normal to 12 digits
_STEPS = 12  # Newton steps on a concave function from a point near the root; 8 suffice for 1e-3 ≤ df ≤ 1e12


def student_quantile(tail: ArrayLike, df: ArrayLike) -> Float[Array, "..."]:
    """t with P(T > t) = `tail` for T Student with `df` > 0 degrees of freedom, 0 < tail < ½; NaN if df ≤ 0, normal if inf.

    With t = √df sinh u the density is proportional to cosh^−df(u), smooth for every df; its tail is inverted by Newton's
    method on its logarithm, which is concave. Iterations carry no gradient; one last step does, and has the derivative
    of the implicit function. Relative error against scipy below 1e-8 in float64 and 1e-4 in float32 (tail ≥ 0.005).
    """
    return _quantile(*_floats(tail, df))


@jnp.vectorize
def _quantile(tail, df):
    normal, df = df > _NORMAL, jnp.minimum(df, _NORMAL)
    held = lax.stop_gradient((tail, df))
    start = jnp.arcsinh(-ndtri(held[0]) / jnp.sqrt(held[1]))
    u = lax.fori_loop(0, _STEPS, lambda _, u: _newton(u, *held), start)
    student = jnp.sqrt(df) * jnp.sinh(_newton(lax.stop_gradient(u), tail, df))
    return jnp.where(normal, -ndtri(tail), student)


def _floats(*values):
    dtype = jnp.result_type(float, *values)
    return tuple(jnp.asarray(value, dtype) for value in values)


def _newton(u, tail, df):
    """One step for log P(U > u) = log tail."""
    log_scale = jnp.log(_density_at_zero(df))
    log_beyond = jnp.where((u > 1) & (df < 40), _log_far_tail(u, df), _log_near_tail(u, df, tail)) + log_scale
    log_density = log_scale - df * _log_cosh(u)
    slope = lax.stop_gradient(jnp.exp(log_beyond - log_density))
    return u + slope * (log_beyond - jnp.log(tail))


def _log_near_tail(u, df, tail):
    """log ∫ᵤ^∞ cosh^−df from the central mass, integrated by Gauss–Legendre; rounding must not make it negative."""
    nodes, weights = (jnp.asarray(x, u.dtype) for x in (0.5 * (_NODES + 1), 0.5 * _WEIGHTS))
    central = u * jnp.sum(weights * jnp.exp(-df * _log_cosh(u * nodes)))
    half = 0.5 / _density_at_zero(df)
    return jnp.log(jnp.maximum(half - central, 0.5 * tail * half))


def _log_far_tail(u, df):
    """The same by splitting off e^−df·u, whose integral is exact: no cancellation, however far out.

    What is left, ∫ e^−df·x ((1 + q e^−2x)^−df − 1) dx with q = e^−2u, is smooth in y = e^−x/2.
    """
    nodes, weights = (jnp.asarray(x, u.dtype) for x in (0.5 * (_NODES + 1), 0.5 * _WEIGHTS))
    bend = jnp.expm1(-df * jnp.log1p(jnp.exp(-2 * u) * nodes**4))
    rest = jnp.sum(2 * weights / nodes * nodes ** (2 * df) * bend)
    return df * (math.log(2) - u) + jnp.log(jnp.where(u > 1, 1 / df + rest, 1))


def _log_cosh(u):
    """log cosh u for u ≥ 0, without the cancellation near 0 or the overflow far out that either form alone would have."""
    near = jnp.log1p(2 * jnp.square(jnp.sinh(0.5 * jnp.minimum(u, 1))))
    return jnp.where(u < 1, near, u + jnp.log1p(jnp.exp(-2 * u)) - math.log(2))


def _density_at_zero(df):
    """Γ((df+1)/2) / (√π Γ(df/2)): a recurrence, then the asymptotic series (DLMF 5.11.13); no cancelling log-gammas."""
    x = df / 2
    steps = x + jnp.arange(_SHIFT, dtype=x.dtype)
    down = jnp.prod(steps / (steps + 0.5))
    y = 1 / (x + _SHIFT)
    series = 1 + y * (-1 / 8 + y * (1 / 128 + y * (5 / 1024 + y * (-21 / 32768 - y * 399 / 262144))))
    return down * jnp.sqrt((x + _SHIFT) / math.pi) * series
