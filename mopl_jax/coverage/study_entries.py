"""What a world of a study is made of: one struct for each kind of reward, noise and policy, whose
`build(d)` makes what it stands for over d weights.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from msgspec import Meta, structs

from mopl_jax.coverage.overlap import overlapping
from mopl_jax.io import policy_entries
from mopl_jax.io.documents import ABSENT, KindEntry, Number, Numbers, Positive, full, positive
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.simulation import environments

Share = Annotated[float, Meta(gt=0, le=1)]


class RecordEntry(KindEntry):
    """A record of `environments`, with its fields in their order."""

    record: ClassVar[Callable]

    def build(self, d: int) -> Any:
        return self.record(*(_field(key, x, d) for key, x in structs.asdict(self).items()))


def _field(key, value, d):
    """A number, or a vector: where it is left out, that whose product with an action is the mean
    of the action's weights.
    """
    if value is None:
        return jnp.full(d, 1 / d, float)
    return jnp.asarray(value if isinstance(value, float) else full(value, (d,), key), float)


class LinearEntry(RecordEntry, tag="linear"):
    """A linear mean reward."""

    record = environments.Linear
    slope: Numbers = ABSENT
    intercept: Number = 0.0


class QuadraticEntry(RecordEntry, tag="quadratic"):
    """A mean reward with one optimum; `curvature` (d, d), or a number times I."""

    peak: Number = 0.0
    optimum: Numbers = np.zeros(())
    curvature: Numbers = np.ones(())

    def build(self, d: int) -> environments.Quadratic:
        peak, optimum = _field("peak", self.peak, d), _field("optimum", self.optimum, d)
        curvature = jnp.asarray(full(self.curvature, (d, d), "curvature"), float)
        return environments.Quadratic(peak, optimum, curvature)


class CosineEntry(RecordEntry, tag="cosine"):
    """A mean reward with many optima."""

    record = environments.Cosine
    frequency: Numbers = ABSENT
    amplitude: Number = 1.0
    offset: Number = 0.0


class ExponentialEntry(RecordEntry, tag="exponential"):
    """A positive mean reward."""

    record = environments.Exponential
    rate: Numbers = ABSENT
    amplitude: Number = 1.0
    offset: Number = 0.0


class ProbitEntry(RecordEntry, tag="probit"):
    """A rate that depends on the action, or a reward that saturates."""

    record = environments.Probit
    slope: Numbers = ABSENT
    intercept: Number = 0.0
    amplitude: Number = 1.0
    offset: Number = 0.0


class NormalNoiseEntry(RecordEntry, tag="normal"):
    """Normal noise."""

    record = environments.Normal
    scale: Positive = 1.0


class StudentEntry(RecordEntry, tag="student_t"):
    """Heavy tails."""

    record = environments.StudentT
    df: Positive = 3.0
    scale: Positive = 1.0


class LogNormalEntry(RecordEntry, tag="log_normal"):
    """Skewed noise."""

    record = environments.LogNormal
    shape: Positive = 1.0
    scale: Positive = 1.0


class BernoulliEntry(RecordEntry, tag="bernoulli"):
    """Clicks."""

    record = environments.Bernoulli


class ZeroInflatedEntry(RecordEntry, tag="zero_inflated"):
    """Watch time, of which `share` is not zero."""

    record = environments.ZeroInflated
    share: Share = 0.3
    shape: Positive = 1.0


class NormalEntry(policy_entries.NormalEntry, tag="normal", forbid_unknown_fields=True):
    """A normal policy; around 0 if `mean` is left out."""

    mean: Numbers = np.zeros(())


class UniformEntry(policy_entries.UniformEntry, tag="uniform", forbid_unknown_fields=True):
    """A uniform policy; on [−1, 1] if `low` and `high` are left out."""

    low: Numbers = -np.ones(())
    high: Numbers = np.ones(())


class MixtureEntry(KindEntry, tag="mixture"):
    """A mixture of k policies, and k weights."""

    weight: Numbers
    component: list["LoggingEntry"]

    def build(self, d: int) -> Mixture:
        if not self.component or self.weight.shape != (len(self.component),):
            raise ValueError(
                f"expected one weight for each component, got {self.weight.tolist()} for"
                f" {len(self.component)}"
            )
        parts = policy_entries.components_of(self.component, d)
        return Mixture.of(positive(self.weight, "weight"), parts)


class SmoothEntry(KindEntry, tag="smooth"):
    """A deterministic policy, smoothed."""

    mean: Numbers = np.zeros(())
    bandwidth: Numbers = np.full((), 0.1)

    def build(self, d: int) -> Gaussian:
        return NormalEntry(mean=self.mean, scale=self.bandwidth).build(d)


class OverlapEntry(KindEntry, tag="overlap"):
    """A target at a distance from the logging policy: ESS/n is `ess`."""

    ess: Share = 0.1
    width: str = "narrow"

    def near(self, logging: Policy) -> Gaussian:
        return overlapping(logging, self.ess, self.width)


RewardEntry = LinearEntry | QuadraticEntry | CosineEntry | ExponentialEntry | ProbitEntry
NoiseEntry = NormalNoiseEntry | StudentEntry | LogNormalEntry | BernoulliEntry | ZeroInflatedEntry
LoggingEntry = NormalEntry | UniformEntry | MixtureEntry
TargetEntry = NormalEntry | SmoothEntry | MixtureEntry | OverlapEntry
