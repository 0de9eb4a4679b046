"""What a coverage study runs on: a synthetic platform with known truth, and the grid of what is
evaluated on its logs.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

from mopl_jax import intervals
from mopl_jax.intervals.facts import Facts
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.simulation.environments import Environment


class World(NamedTuple):
    """A synthetic platform: an environment, a logging policy, named targets, and pairs of
    targets to contrast.

    `smoothed` names the targets that stand for the deterministic policy at their mean, whose
    value is reported as well.
    """

    name: str
    d: int
    environment: Environment
    logging: Policy
    targets: Mapping[str, Gaussian | Mixture]
    differences: tuple[tuple[str, str], ...] = ()
    smoothed: tuple[str, ...] = ()

    @property
    def estimands(self) -> dict[str, tuple[str, ...]]:
        """What is estimated: each target's value, and each pair's difference (first minus
        second).
        """
        return {name: (name,) for name in self.targets} | {
            f"{a} - {b}": (a, b) for a, b in self.differences
        }

    def truth(self, estimand: str) -> float:
        """The exact value of an estimand."""
        values = [
            float(self.environment.policy_value(self.targets[name]))
            for name in self.estimands[estimand]
        ]
        return values[0] - sum(values[1:])

    def facts(self, estimand: str) -> Facts:
        """What is known before a row is seen; nothing for a difference."""
        first, *others = self.estimands[estimand]
        if others:
            return Facts()
        return intervals.policy_facts(
            self.logging, self.targets[first], self.environment.reward_range
        )

    def truths(self, estimand: str) -> dict[str, float]:
        """What the estimand's intervals are held against, by name: its value; and V at the mean for
        a `smoothed` target.
        """
        found = {estimand: self.truth(estimand)}
        if estimand in self.smoothed:
            found[f"{estimand}, unsmoothed"] = float(
                self.environment.mean_reward(cast(Gaussian, self.targets[estimand]).mean)
            )
        return found


class Grid(NamedTuple):
    """What is evaluated on each log: sample sizes (ascending), estimators and intervals by name,
    and alpha.
    """

    n: tuple[int, ...]
    estimators: tuple[str, ...]
    intervals: tuple[str, ...]
    alpha: float
