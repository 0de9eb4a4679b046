"""Normal weights that stay between bounds: drawn until they do, or set to the bound."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp, ndtr, ndtri
from jax.scipy.stats import norm

from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

FAR = 30.0  # standard deviations beyond which nothing is played
TAIL = 10.0  # standard deviations from which draws are found by log Φ
LEFT_OUT = 40.0  # by moments: where the density is e⁻⁴⁰ = 4e-18 of its largest
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_GAUSS_LEGENDRE = (_NODES + 1) / 2, _WEIGHTS / 2  # on 0 to 1


def _standard(policy):
    """The bounds in standard deviations."""
    return tuple(
        (end - policy.normal.mean) / policy.normal.scale for end in (policy.low, policy.high)
    )


def _in_tail(low, high, u):
    """The level u of a standard normal between low and high < −TAIL, where Φ may be no float.

    By Newton on log Φ, from z² that is exponential, as it nearly is.
    """
    outside = jnp.exp(log_ndtr(low) - log_ndtr(high))
    log_share = jnp.log(outside + u * (1 - outside))
    z = -jnp.sqrt(jnp.square(high) - 2 * log_share)
    for _ in range(2):
        miss = log_ndtr(z) - log_ndtr(high) - log_share
        z = z - miss * jnp.exp(log_ndtr(z) - norm.logpdf(z))
    return z


def _log_densities(normal: Gaussian, action: Vector) -> Vector:
    return norm.logpdf(action, normal.mean, normal.scale)


@pytree_dataclass()
class TruncatedNormal:
    """Independent normals of which only draws between bounds are played.

    `normal`: before it is cut, with a diagonal scale.
    `low`, `high`: the bounds (d,), ±inf where there is none.
    """

    normal: Gaussian
    low: Vector
    high: Vector

    @property
    def dim(self) -> int:
        """d."""
        return self.normal.dim

    def _ends(self):
        """The bounds in standard deviations, on the side where Φ keeps its digits, and that side's
        sign.
        """
        low, high = _standard(self)
        above = low > 0
        return jnp.where(above, -high, low), jnp.where(above, -low, high), jnp.where(above, -1, 1)

    @property
    def log_mass(self) -> Vector:
        """Log probability of each weight of the normal between its bounds, (d,)."""
        low, high, _ = self._ends()
        return log_ndtr(high) + jnp.log1p(-jnp.exp(log_ndtr(low) - log_ndtr(high)))

    def _between(self):
        """What is played beside the likeliest of all z between the bounds, at the points (d, p) of
        a Gauss-Legendre sum, and their shares of the mass, (d, p).

        A difference of Φ or φ at both bounds would leave no digits far out, or between near bounds.
        """
        low, high, _ = self._ends()
        width = (self.high - self.low) / self.normal.scale
        mode = jnp.minimum(high, 0)
        reach = 2 * LEFT_OUT / (jnp.sqrt(jnp.square(mode) + 2 * LEFT_OUT) - mode)
        begin = jnp.where(high < 0, -jnp.minimum(width, reach), jnp.maximum(low, -reach))
        stop = jnp.minimum(high - mode, reach)
        points, weights = (jnp.asarray(x, begin.dtype)[None, :] for x in _GAUSS_LEGENDRE)
        away = begin[:, None] + (stop - begin)[:, None] * points
        mass = weights * jnp.exp(-away * (away / 2 + mode[:, None]))
        return away, mass / jnp.sum(mass, axis=1, keepdims=True)

    @property
    def mean(self) -> Vector:
        """The mean action (d,)."""
        away, share = self._between()
        _, high, sign = self._ends()
        nearest = jnp.where(sign > 0, self.high, self.low)
        mode = jnp.where(high < 0, nearest, self.normal.mean)
        return mode + self.normal.scale * sign * jnp.sum(share * away, axis=1)

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d)."""
        away, share = self._between()
        beside = away - jnp.sum(share * away, axis=1, keepdims=True)
        variance = jnp.sum(share * jnp.square(beside), axis=1)
        return jnp.diag(jnp.square(self.normal.scale) * variance)

    def sample(self, key: OneKey) -> Vector:
        """One action (d,), by the inverse distribution function."""
        low, high, sign = self._ends()
        u = random.uniform(key, self.dim).astype(low.dtype)
        near = ndtri(ndtr(low) + u * (ndtr(high) - ndtr(low)))
        z = jnp.where(high < -TAIL, _in_tail(low, high, u), near)
        action = self.normal.mean + self.normal.scale * sign * z
        return jnp.clip(action, self.low, self.high)

    def levels(self, action: Vector) -> Vector:
        """The distribution function at each weight of an action, (d,)."""
        low, high, sign = self._ends()
        z = sign * (action - self.normal.mean) / self.normal.scale
        share, outside = (jnp.exp(log_ndtr(x) - log_ndtr(high)) for x in (z, low))
        level = (share - outside) / (1 - outside)
        return jnp.where(sign > 0, level, 1 - level)

    def log_density(self, action: Vector) -> Scalar:
        """Log density with respect to Lebesgue measure, −inf outside of the bounds."""
        inside = jnp.all((action >= self.low) & (action <= self.high))
        each = _log_densities(self.normal, action) - self.log_mass
        return jnp.where(inside, jnp.sum(each), -jnp.inf)


def pooled(
    normal: Gaussian,
    log_size: Vector | Scalar,
    log_atoms: tuple[Vector, Vector],
    low: Vector,
    high: Vector,
) -> tuple[Vector, Vector, Vector]:
    """Log size, mean and variance, each (d,), of what is `log_size` times independent normals
    between the bounds, and has masses at them, −inf where there is none.
    """
    near = jnp.clip(normal.mean, low, high)
    ends = (-FAR, low), (FAR, high)
    cut = [jnp.where(jnp.isfinite(x), x, near + z * normal.scale) for z, x in ends]
    inner = TruncatedNormal(normal, *cut)
    places = jnp.stack([inner.mean, *cut])
    masses = jnp.stack([log_size + inner.log_mass, *log_atoms])
    total = logsumexp(masses, axis=0)
    share = jnp.exp(masses - total[None])
    mean = jnp.sum(share * places, axis=0)
    within = share[0] * jnp.diagonal(inner.covariance)
    return total, mean, within + jnp.sum(share * jnp.square(places - mean[None]), axis=0)


@pytree_dataclass()
class ClippedNormal:
    """Independent normals of which draws beyond a bound are set to it.

    The bounds have a probability: the density is with respect to Lebesgue measure and a unit mass
    at each bound, so that it compares with that of a policy with the same bounds.

    `normal`: before it is clipped, with a diagonal scale.
    `low`, `high`: the bounds (d,), ±inf where there is none.
    """

    normal: Gaussian
    low: Vector
    high: Vector

    @property
    def dim(self) -> int:
        """d."""
        return self.normal.dim

    @property
    def mean(self) -> Vector:
        """The mean action (d,)."""
        return self._moments()[1]

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d)."""
        return jnp.diag(self._moments()[2])

    def _moments(self):
        return pooled(self.normal, jnp.zeros(()), self.log_atoms, self.low, self.high)

    @property
    def log_atoms(self) -> tuple[Vector, Vector]:
        """Log probability of each weight at its lower and at its upper bound, −inf without one."""
        ends = (1, self.low), (-1, self.high)
        at = [sign * (end - self.normal.mean) / self.normal.scale for sign, end in ends]
        found = [log_ndtr(jnp.where(jnp.isfinite(z), z, 0)) for z in at]
        low, high = (
            jnp.where(jnp.isfinite(z), x, -jnp.inf) for z, x in zip(at, found, strict=True)
        )
        return low, high

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        return jnp.clip(self.normal.sample(key), self.low, self.high)

    def log_density(self, action: Vector) -> Scalar:
        """log Φ at a bound, the normal's log density between them, −inf outside."""
        low, high = _standard(self)
        between = _log_densities(self.normal, action)
        each = jnp.where(action <= self.low, log_ndtr(low), between)
        each = jnp.where(action >= self.high, log_ndtr(-high), each)
        inside = jnp.all((action >= self.low) & (action <= self.high))
        return jnp.where(inside, jnp.sum(each), -jnp.inf)
