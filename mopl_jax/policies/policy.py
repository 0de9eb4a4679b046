"""The contract of a policy over scalarisation weights: the action is the weight vector in R^d.

Any object with `dim = d`, `sample(key) -> action (d,)` and `log_density(action (d,)) -> ()` is a
policy.
Functions are written for one action; `jax.vmap` makes them act on a log.
"""

from typing import Any, Protocol

from mopl_jax.numerics.shapes import OneKey, Scalar, Vector


class Policy(Protocol):
    """What every policy offers."""

    @property
    def dim(self) -> int: ...

    def sample(self, key: OneKey) -> Vector: ...

    def log_density(self, action: Vector) -> Scalar: ...


def check_policy(given: Any, what: str) -> Any:
    """`given`; ValueError unless it is a policy, with a density or of one action."""
    if not hasattr(given, "log_density") and not hasattr(given, "action"):
        raise ValueError(
            f"{what}: expected a policy or the path of one, got a {type(given).__name__}; weights"
            " alone are Deterministic(weights), and read_policy(path)[0] is the policy of a file"
        )
    return given


def sample_with_density(policy: Policy, key: OneKey) -> tuple[Vector, Scalar]:
    """One action (d,) and its log density: what is served, and what must be logged with it."""
    action = policy.sample(key)
    return action, policy.log_density(action)
