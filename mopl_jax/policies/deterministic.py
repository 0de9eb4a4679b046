"""Policies that always play one action, and the Gaussian smoothing that gives them a density."""

from jaxtyping import ArrayLike

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import OneKey, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian


@pytree_dataclass()
class Deterministic:
    """Always play `action` (d,). It has no density: `smooth` gives the policy that an importance
    weight can speak of.
    """

    action: Vector

    @property
    def dim(self) -> int:
        """d."""
        return self.action.shape[-1]

    def sample(self, key: OneKey) -> Vector:
        """The action."""
        return self.action

    def log_density(self, action: Vector) -> Scalar:
        """ValueError: there is none."""
        raise ValueError(
            "a deterministic policy has no density; smooth it: policies.smooth(action, bandwidth)"
        )


def smooth(action: ArrayLike, bandwidth: ArrayLike) -> Gaussian:
    """Gaussian smoothing of the deterministic policy that plays `action` (d,), with standard
    deviation `bandwidth`.

    Kernel off-policy evaluation with a Gaussian kernel is importance weighting for this policy
    (Kallus & Zhou, AISTATS 2018); an interval for it covers the value of the smoothed policy,
    not that of `action`.
    """
    return Gaussian.diagonal(action, bandwidth)
