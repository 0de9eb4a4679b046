"""Where a policy plays: with a density in all weights, on the simplex, or with atoms."""

from typing import Any

from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.context_normal import ContextNormal
from mopl_jax.policies.contextual import Segmented
from mopl_jax.policies.deterministic import Deterministic
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product
from mopl_jax.policies.transformed import SHARES, Transformed
from mopl_jax.policies.uniform import Uniform

ARMS, SIMPLEX, ATOMS = "arms", "simplex", "atoms"


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


def shapes_of(policy: Any) -> frozenset[str]:
    """What a policy is known to play that has no density in all weights: arms, shares that add up
    to a constant, a bound; of one that is made of others what any of them plays.
    """
    parts = _parts(policy)
    if parts is not None:
        return frozenset().union(*map(shapes_of, parts))
    if on_simplex(policy):
        return frozenset([SIMPLEX])
    kinds = {Discrete: ARMS, Deterministic: ARMS, ClippedNormal: ATOMS}
    return frozenset(kinds[kind] for kind in kinds if isinstance(policy, kind))


def _parts(policy):
    if isinstance(policy, Mixture):
        return policy.components
    if isinstance(policy, Segmented):
        return (policy.table,)
    return policy.parts if isinstance(policy, Product) else None
