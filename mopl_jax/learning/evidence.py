"""Empirical Bayes on a Gram matrix: coefficients in groups, each group with a prior variance of its
own, all chosen by the marginal likelihood (MacKay 1992, "Bayesian interpolation").

Rows enter by their products alone, so that nothing here grows with their number; fewer rows than
effective coefficients leave those at their prior mean 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.numerics.shapes import Scalar

FLAT = 1e4  # prior variance of the first group, over the mean square: its level is not shrunk
RANGE = 1e-8, 1e3  # of the other prior variances, likewise
ROUNDING = 8.0  # units in the last place of the trace
STEP = 1.5  # largest change of a log variance in a step


class Posterior(NamedTuple):
    """What is known of the coefficients.

    `mean` (f,), `root` (f, f): of a normal distribution with covariance root rootᵀ
    `noise`: the variance of the noise
    `variances` (g,): the prior variance of each group
    """

    mean: Float[Array, " f"]
    root: Float[Array, "f f"]
    noise: Scalar
    variances: Float[Array, " g"]


def most_evident(
    products: Float[Array, "f f+1"],
    square: Scalar,
    n: ArrayLike,
    group: Int[np.ndarray, " f"],
    inflation: ArrayLike = 1.0,
    steps: ArrayLike = 20,
) -> Posterior:
    """The posterior for the prior variances of largest evidence.

    `products`: FᵀF and Fᵀr of n rows with features F, their `square` rᵀr
    `group`: the number of each coefficient's group; the first group is hardly shrunk
    `inflation`: of the noise variance, where rows of a user say the same
    A group's function has the prior variance; its coefficients share it.

    λ ← Σβ² / γ with γ the group's effective number of coefficients: the fixed point of the
    evidence, whose steps are bounded, so that a group of no use fades.
    """
    gram, moment = products[:, :-1], products[:, -1]
    members = np.eye(group.max() + 1)[group]
    share = np.where(group < 3, 1.0, 2.0 / members.sum(axis=0)[group])
    unit, of_group = jnp.asarray(share, gram.dtype), jnp.asarray(members, gram.dtype)
    level = square / n

    def solve(variances, noise):
        prior = (of_group @ variances) * unit
        root = jnp.sqrt(prior)
        inner = root[:, None] * gram * (root / noise)[None]
        # beside 1, what rounding may have taken: in float32 a million rows would be indefinite
        ridge = 1 + ROUNDING * jnp.finfo(gram.dtype).eps * jnp.trace(inner)
        factor = jnp.linalg.cholesky(inner + ridge * jnp.eye(len(gram), dtype=gram.dtype))
        posterior = solve_triangular(factor, jnp.diag(root), lower=True).T
        return prior, posterior, posterior @ (posterior.T @ moment) / noise

    def step(_, now):
        variances, noise, _ = now
        prior, root, mean = solve(variances, noise)
        known = of_group.T @ (1 - jnp.sum(jnp.square(root), axis=1) / prior)
        size = of_group.T @ (jnp.square(mean) / unit)
        ratio = jnp.log(jnp.maximum(size, 1e-30)) - jnp.log(variances * jnp.maximum(known, 1e-9))
        moved = variances * jnp.exp(jnp.clip(ratio, -STEP, STEP))
        moved = jnp.clip(moved, RANGE[0] * level, RANGE[1] * level).at[0].set(variances[0])
        left = square - 2 * (mean @ moment) + mean @ gram @ mean
        freedom = jnp.maximum(n - jnp.sum(known), 1)
        larger = jnp.maximum(left / freedom, 1e-9 * level) * inflation
        return moved, larger, Posterior(mean, root, noise, variances)

    begun = jnp.full(members.shape[1], 0.1, gram.dtype).at[0].set(FLAT) * level
    none = Posterior(jnp.zeros_like(moment), jnp.zeros_like(gram), level * inflation, begun)
    return lax.fori_loop(0, steps, step, (begun, none.noise, none))[-1]
