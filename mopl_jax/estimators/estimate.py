"""`Estimate`: a value and what its intervals need."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Batch, PerRow, Scalar


@pytree_dataclass()
class Estimate:
    """A value and what its intervals need, for n rows.

    `value` () · `influence` (n,): n ∂value/∂multiplicity of each row, mean zero · `log_weight`
    (n,): log of the size of the coefficient with which a row's reward enters, up to a constant ·
    `residual` (n,): what that coefficient multiplies, so that n p residual is the influence up
    to a constant (p the normalised weights) · `reward` (n,).
    """

    value: Scalar
    influence: PerRow
    log_weight: PerRow
    residual: PerRow
    reward: PerRow


def influence_variance(estimate: Estimate) -> Scalar:
    """Σψ²/n², which is Σp²e² for SNIPS."""
    return jnp.sum(jnp.square(estimate.influence / estimate.influence.shape[0]))


_STEPS = 16  # rewards one rounding apart give an error of at most half of one, and t is not far


def varies(variance: Batch, value: Batch) -> Bool[Array, "*batch"]:
    """Whether a variance of a value is more than rounding makes of equal rewards.

    Its root must exceed 16 roundings of the value; where rewards differ by less, an interval would
    be that of their last digits, next to nothing wide.
    """
    rounding = _STEPS * jnp.finfo(value.dtype).eps * jnp.abs(value)
    return (variance > 0) & (jnp.sqrt(jnp.maximum(variance, 0)) > rounding)
