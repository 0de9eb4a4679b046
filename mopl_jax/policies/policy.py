"""The contract of a policy over scalarisation weights: the action is the weight vector in R^d.

Any object with `dim = d`, `sample(key) -> action (d,)` and `log_density(action (d,)) -> ()` is a
policy.
Functions are written for one action; `jax.vmap` makes them act on a log.
"""

from typing import Protocol

from mopl_jax.numerics.shapes import OneKey, Scalar, Vector


class Policy(Protocol):
    """What every policy offers."""

    @property
    def dim(self) -> int: ...

    def sample(self, key: OneKey) -> Vector: ...

    def log_density(self, action: Vector) -> Scalar: ...
