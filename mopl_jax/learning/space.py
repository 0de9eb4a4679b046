"""Where policies are learnt: normal ones, of which the weights are a known function.

Of log-normal weights that are the logarithms, of shares the log ratios to the last one (Aitchison
1982), of truncated weights what a smooth map keeps between their bounds, and of clipped ones what
they were before they were clipped. Density, surface, search and certificate are those of what is
normal, and what is served is the function of it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.io.refusals import within
from mopl_jax.logs import Logs
from mopl_jax.policies.bounded import ClippedNormal
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.policies.transformed import EXP, ON_SIMPLEX, SHARES, Map, Transformed

Weights = Float[np.ndarray, " d"]
DRAWS = 2**14  # that stand for a policy of another kind; its mean has an error of 0.008 scales


class Space(NamedTuple):
    """What is learnt of.

    `name`: in documents
    `label`: of a coordinate, by the name of its weight and that of the last
    `kind`: of the policies that it is for, in words
    `where`: their weights are
    `map`: from what is learnt to the weights; None where these are the same, or clipped
    `clipped`: the policy that was logging, where weights are clipped
    """

    name: str
    label: str
    kind: str
    where: str
    map: Map | SoftClip | None = None
    clipped: ClippedNormal | None = None

    def labels(self, objectives: tuple[str, ...]) -> tuple[str, ...]:
        """What the coordinates are called."""
        names = objectives[: len(objectives) - (self.map.grows if self.map else 0)]
        return tuple(self.label.format(name, objectives[-1]) for name in names)

    def rows(self, logs: Logs) -> Logs:
        """The log with these actions and their log densities; ValueError for a row that no policy
        of the kind plays.
        """
        if self.clipped is not None:
            from mopl_jax.learning.unclipped import unclipped  # on demand: scipy

            return unclipped(logs, self.clipped)
        if self.map is None:
            return logs
        action = jnp.asarray(logs.action)
        gained = np.asarray(jax.vmap(self.map.log_jacobian)(action))
        if not np.isfinite(gained).all():
            row = int(np.argmin(np.isfinite(gained)))
            raise ValueError(
                f"row {row}: expected weights that a {self.kind} policy plays, got"
                f" {np.asarray(action[row]).tolist()}"
            )
        return dataclasses.replace(
            logs,
            action=np.asarray(self.backward(action)),
            log_propensity=np.asarray(logs.log_propensity) - gained,
        )

    def served(self, policy: Gaussian | Mixture) -> Any:
        """The policy of the weights."""
        if isinstance(policy, Mixture):
            each = tuple(map(self.served, policy.components))
            return dataclasses.replace(policy, components=each)
        if self.clipped is not None:
            scale = policy.scale if policy.scale.ndim == 1 else jnp.diagonal(policy.scale)
            return dataclasses.replace(self.clipped, normal=Gaussian(policy.mean, scale))
        return policy if self.map is None else Transformed(policy, self.map)

    def weights(self, point: Weights) -> Weights:
        """What is played in the middle of a policy, (d,)."""
        if self.clipped is not None:
            return np.clip(point, self.clipped.low, self.clipped.high)
        return point if self.map is None else np.asarray(self.map.forward(jnp.asarray(point)))

    def place(self, given: Any) -> Any:
        """Where production, weights (d,) or a policy, is in this space: the normal policy of which
        a policy of the kind plays the function, or one with the moments of a policy's draws.
        ValueError for what has no place in it.
        """
        if self == WEIGHTS:
            return given
        if hasattr(given, "action") or not hasattr(given, "log_density"):
            with within("production"):
                return self.point(np.asarray(getattr(given, "action", given), float))
        behind = self.behind(given)
        if behind is not None:
            return behind
        draws = np.asarray(jax.vmap(given.sample)(jax.random.split(jax.random.key(0), DRAWS)))
        if not self._plays(draws, at_bounds=True):
            raise ValueError(
                f"production: expected weights or a {self.kind} policy beside a {self.kind} log,"
                " got a policy of another kind"
            )
        at = np.asarray(self.backward(draws))
        return Gaussian.full(at.mean(axis=0), np.cov(at.T).reshape(2 * at.shape[1:]))

    def point(self, weights: Weights) -> Weights:
        """Where weights (d,) are in this space; ValueError for those that no policy of it plays."""
        if self == WEIGHTS:
            return weights
        if not self._plays(weights[None]):
            raise ValueError(
                f"expected weights {self.where}, as those of the log, got {weights.tolist()}"
            )
        return np.asarray(self.backward(weights[None]))[0]

    def behind(self, policy: Any) -> Gaussian | None:
        """The normal policy of which a policy plays the function; None for one of another kind."""
        if isinstance(policy, Transformed):
            return policy.base if policy.map == self.map else None
        if isinstance(policy, ClippedNormal):
            return policy.normal if self._clips_as(policy) else None
        return policy if isinstance(policy, Gaussian) and self == WEIGHTS else None

    def ends(self, low: Weights, high: Weights) -> tuple[Weights, Weights]:
        """Bounds of the weights as those of what is learnt, open where no weights are beyond."""
        if self == WEIGHTS:
            return low, high
        least, most = self._inside
        found = np.asarray(self.backward(np.clip(np.stack([low, high]), least, most)))
        for name, gone in (("high", high <= least), ("low", low >= most)):
            if gone.any():
                raise ValueError(
                    f"{name}: expected bounds {self.where}, as the weights of the log are"
                )
        return np.where(low <= least, -np.inf, found[0]), np.where(high >= most, np.inf, found[1])

    @property
    def _inside(self):
        """The bounds of the weights, one for all or (d,)."""
        if self.clipped is not None:
            return np.asarray(self.clipped.low), np.asarray(self.clipped.high)
        if isinstance(self.map, SoftClip):
            return np.asarray(self.map.low), np.asarray(self.map.high)
        return 0.0, 1.0 if self.map is SHARES else np.inf

    def backward(self, action: Float[Any, "n d"]) -> Float[Any, "n k"]:
        """What is learnt of, of each action between the bounds."""
        return action if self.map is None else jax.vmap(self.map.backward)(action)

    def _clips_as(self, policy):
        """Whether a policy is clipped at the same bounds."""
        ends = policy.low, policy.high
        return self.clipped is not None and all(map(np.array_equal, ends, self._inside))

    def _plays(self, weights, at_bounds=False):
        """Whether all weights (n, d) are inside of the bounds; those that are clipped may be at
        them, and draws.
        """
        least, most = self._inside
        at = self.clipped is not None or (at_bounds and isinstance(self.map, SoftClip))
        below, above = weights - least, most - weights
        inside = (np.minimum(below, above) >= 0) if at else (np.minimum(below, above) > 0)
        whole = self.map is not SHARES or np.abs(weights.sum(axis=1) - 1) <= ON_SIMPLEX
        return bool(np.all(inside) and np.all(whole))


WEIGHTS = Space("weights", "{}", "normal", "")
LOGARITHMS = Space("logarithms", "log {}", "log-normal", "above 0", EXP)
LOG_RATIOS = Space(
    "log ratios", "log {}/{}", "logistic-normal", "above 0 that add up to one", SHARES
)
