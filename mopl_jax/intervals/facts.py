"""What is known of a platform and of a pair of policies before a row is seen."""

import numpy as np
from jaxtyping import Array, Float

from mopl_jax.estimators.weight_facts import closed_form
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import PerRow, Scalar
from mopl_jax.policies.policy import Policy


@pytree_dataclass(static=("reward_range",))
class Facts:
    """Facts about a platform and a pair of policies; None where unknown.

    `reward_range` (low, high), one end may be infinite · `w_max` () the largest importance
    weight · `d2` () its second moment · `draws` (m, n) log weights of m simulated logs under the
    logging policy. Of a policy pair in closed form: `policy_facts`.
    """

    reward_range: tuple[float, float] | None = None
    w_max: Scalar | None = None
    d2: Scalar | None = None
    draws: Float[Array, "m n"] | None = None


def policy_facts(
    logging: Policy, target: Policy, reward_range: tuple[float, float] | None = None
) -> Facts:
    """`Facts` with w_max and d₂ of two policies where they have a closed form, None elsewhere."""
    found = closed_form(logging, target)
    return Facts(reward_range) if found is None else Facts(reward_range, found.w_max, found.d2)


def check_rewards(reward: PerRow, reward_range: tuple[float, float]) -> None:
    """ValueError that names the first reward outside the range.

    A bound for bounded rewards would not be one.
    """
    low, high = reward_range
    outside = np.flatnonzero(~((np.asarray(reward) >= low) & (np.asarray(reward) <= high)))
    if outside.size:
        row = int(outside[0])
        raise ValueError(
            f"expected rewards in [{low:g}, {high:g}], got {float(reward[row]):g} in row {row + 1}"
            f" of {len(reward)} ({outside.size} in all); give the range that the platform"
            " guarantees, or repair the rows"
        )
