"""Changes of the outcomes that guardrails guard: what is estimated of them, and what is certain."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mopl_jax.learning.certification import Certificate
from mopl_jax.learning.guardrails import Guardrail
from mopl_jax.numerics.pytree import entries
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture


class Change(NamedTuple):
    """The change of an outcome from its value under `production`, in the outcome's own sign.

    `change`: as estimated
    `certain`, `allowed`: at least, or at most where the outcome may rise
    """

    production: float
    change: float
    certain: float
    allowed: float


class JudgedGuardrail(NamedTuple):
    """A guardrail, by its text, and what is certain of its outcome.

    `binds`, `promised_without`: whether more could be promised without the guardrail, and what
    `holds`, `change`: whether it certainly holds, and what it holds of; None without rows that
        certify
    """

    guardrail: str
    binds: bool
    promised_without: float
    holds: bool | None = None
    change: Change | None = None

    def to_dict(self) -> dict[str, Any]:
        """One entry of `guardrails` in `mopl learn --json`."""
        found = self._asdict()
        del found["change"]
        if self.change is not None:
            return found | self.change._asdict()
        del found["holds"]
        return found


class TradedPolicy(NamedTuple):
    """A policy that trades one outcome for the reward, and the changes of the outcomes by name."""

    policy: Gaussian | Mixture
    gain: float
    certified_gain: float
    outcomes: dict[str, Change]

    def to_dict(self) -> dict[str, Any]:
        """What an entry of `front` in `mopl learn --json` says of the policy."""
        outcomes = {name: made._asdict() for name, made in self.outcomes.items()}
        gains = {"gain": self.gain, "certified_gain": self.certified_gain}
        return gains | {"outcomes": outcomes}


def holds(guard: Certificate) -> bool:
    """Whether a guardrail's outcome certainly loses no more than it may."""
    return bool(guard.gain_bound + guard.room >= 0)


def change(limit: Guardrail, guard: Certificate) -> Change:
    """The change of the outcome that a guardrail limits, by the certificate of the guardrail."""
    level = limit.sign * float(guard.value - guard.gain)
    return Change(
        level, *(limit.sign * float(x) for x in (guard.gain, guard.gain_bound, -guard.room))
    )


def traded(
    limits: Sequence[Guardrail], policy: Gaussian | Mixture, certificates: Certificate
) -> TradedPolicy:
    """A policy with what its certificates (1 + g,) say of the reward and of g guardrails."""
    first, *others = (entries(certificates, k) for k in range(1 + len(limits)))
    outcomes = {each.name: change(each, made) for each, made in zip(limits, others, strict=True)}
    return TradedPolicy(policy, float(first.gain), float(first.gain_bound), outcomes)
