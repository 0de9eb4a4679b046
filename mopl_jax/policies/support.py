"""Where a policy plays: with a density in all weights, on the simplex, or with atoms."""

from typing import Any

from mopl_jax.policies.bounded import TruncatedNormal
from mopl_jax.policies.context_normal import ContextNormal
from mopl_jax.policies.contextual import Segmented
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product
from mopl_jax.policies.transformed import SHARES, Transformed
from mopl_jax.policies.uniform import Uniform


def is_continuous(policy: Any) -> bool:
    """Whether a policy is known to have a density, so that it plays no action twice.

    False for a policy of the user's own, whose density may be of another measure.
    """
    parts = _parts(policy)
    if parts is not None:
        return all(map(is_continuous, parts))
    known = Gaussian | Uniform | TruncatedNormal | Dirichlet | Transformed | ContextNormal
    return isinstance(policy, known)


def on_simplex(policy: Any) -> bool:
    """Whether a policy is known to play shares that add up to a constant."""
    parts = _parts(policy)
    if parts is not None:
        return all(map(on_simplex, parts))
    shares = isinstance(policy, Transformed) and policy.map == SHARES
    return shares or isinstance(policy, Dirichlet)


def _parts(policy):
    if isinstance(policy, Mixture):
        return policy.components
    if isinstance(policy, Segmented):
        return (policy.table,)
    return policy.parts if isinstance(policy, Product) else None
