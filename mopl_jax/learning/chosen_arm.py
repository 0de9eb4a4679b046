"""`ChosenArm`: what `arms.choose_arm` found, from the arms to the advice on them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.diagnostics.verdicts import VERDICTS, grave_first, gravest
from mopl_jax.io import storage
from mopl_jax.learning.guardrails import Change, Guardrail, JudgedGuardrail
from mopl_jax.policies.discrete import Discrete


class Arm(NamedTuple):
    """One arm against what is played now.

    `number`: its place among the arms, from 1
    `action`: its weights
    `value`, `ess`: its value, and the effective sample size of that
    `gain`, `certified_gain`: over what is played now, and the lower bound, which holds for all arms
        at once
    `more`: rows or users more until a gain as estimated would be seen; inf where that is not known
    `verdict`: trust, caution or refuse, for `reasons`
    `changes`: what is certain of the outcome of each guardrail, NaN where it is refused
    """

    number: int
    action: tuple[float, ...]
    value: float
    ess: float
    gain: float
    certified_gain: float
    more: float
    verdict: str
    reasons: tuple[str, ...]
    changes: tuple[Change, ...] = ()


@dataclasses.dataclass(frozen=True, repr=False)
class ChosenArm:
    """The arms of a log, each against what is played now, and the one that may be promised.

    `log`, `objectives`, `reward`: what things are called
    `note`: what the log says of the reward, for the provenance, see `reward_note`
    `estimator`: of the values
    `alpha`: one minus the confidence that all bounds hold
    `n`, `units`: rows, and independent ones
    `now`, `value_now`: what is played now, and its value
    `arms`: those that it may be changed to
    `minimise`: whether the reward is a cost, so that gains are savings
    `doubts`: verdicts, each with its text, on the log and on what is played now
    `guardrails`: what other outcomes may lose
    `warnings`: what was done to read the log that one may not expect
    """

    log: str
    note: Mapping[str, Any]
    objectives: tuple[str, ...]
    reward: str
    estimator: str
    alpha: float
    n: int
    units: int
    now: str
    value_now: float
    arms: tuple[Arm, ...]
    doubts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()
    minimise: bool = False
    guardrails: tuple[Guardrail, ...] = ()

    @property
    def guess(self) -> Arm:
        """The arm of the largest value (of a cost the smallest), of those that are not refused, and
        of which no guardrail is estimated to be broken, if there are any.
        """
        sign = -1 if self.minimise else 1

        def rank(arm):
            pairs = zip(self.guardrails, arm.changes, strict=True)
            kept = all(made.holds(limit.sign, made.change) for limit, made in pairs)
            return _answered(arm), kept, np.nan_to_num(sign * arm.value, nan=-np.inf)

        return max(self.arms, key=rank)

    @property
    def chosen(self) -> Arm:
        """The arm with the largest gain that is certain, of those whose guardrails certainly hold
        if there are any.
        """
        return self._best(lambda arm: not self.broken_by(arm))

    def _best(self, kept: Callable[[Arm], bool]) -> Arm:
        def rank(arm):
            gain = np.nan_to_num(arm.gain, nan=-np.inf)
            return _answered(arm), kept(arm), arm.certified_gain, gain

        return max(self.arms, key=rank)

    def broken_by(self, arm: Arm) -> tuple[str, ...]:
        """The guardrails that are not certain to hold under an arm."""
        pairs = zip(self.guardrails, arm.changes, strict=True)
        return tuple(str(limit) for limit, made in pairs if not made.holds(limit.sign))

    @property
    def broken(self) -> tuple[str, ...]:
        """The guardrails that are not certain to hold under the chosen arm."""
        return self.broken_by(self.chosen)

    @property
    def judged_guardrails(self) -> list[JudgedGuardrail]:
        """Each guardrail under the chosen arm, and what could be promised without it."""
        promised = -math.inf if self.broken else self.chosen.certified_gain
        return [
            JudgedGuardrail(
                text,
                (other := self._without(text)) > max(promised, 0),
                other,
                text not in self.broken,
                made,
            )
            for text, made in zip(map(str, self.guardrails), self.chosen.changes, strict=True)
        ]

    def _without(self, text: str) -> float:
        """The largest certain gain of the arms under which all other guardrails hold."""
        gains = [
            arm.certified_gain
            for arm in self.arms
            if _answered(arm) and not set(self.broken_by(arm)) - {text}
        ]
        return max(gains, default=-math.inf)

    @property
    def policy(self) -> Discrete:
        """The policy that always plays the chosen arm."""
        return Discrete.of(np.asarray([self.chosen.action]), np.ones(1))

    @property
    def played(self) -> Discrete:
        """What to serve: the chosen arm."""
        return self.policy

    @property
    def keep(self) -> bool:
        """Whether what is played now is to be kept: where no gain is certain, or a guardrail is not
        certain to hold.
        """
        unsure = not self.chosen.certified_gain > 0 or bool(self.broken)
        return unsure or self.verdict == "refuse"

    @property
    def verdict(self) -> str:
        """The gravest on the log, on what is played now and on the chosen arm."""
        return gravest(self.chosen.verdict, *(level for level, _ in self.doubts))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not trust, the grave ones first."""
        own = [(self.chosen.verdict, text) for text in self.chosen.reasons]
        return tuple(dict.fromkeys(grave_first([*self.doubts, *own])))

    @property
    def advice(self) -> str:
        """Whether to change anything."""
        return "keep what is played now" if self.keep else f"change to arm {self.chosen.number}"

    @property
    def reason(self) -> str:
        """Why: what is certain of the gain."""
        if self.verdict == "refuse":
            return f"refused: {self.reasons[0]}"
        verb = "save" if self.minimise else "gain"
        made, confidence = self.chosen, f"with confidence {1 - self.alpha:.4g}"
        if not self.keep:
            return (
                f"it ({self._weights(made)}) {verb}s at least {made.certified_gain:.4g} over"
                f" {self.now}, {confidence} for all arms at once (estimate {made.gain:.4g})"
            )
        gainful = self._best(lambda arm: arm.certified_gain > 0)
        if gainful.certified_gain > 0 and self.broken_by(gainful):
            return (
                f"no arm is certain to {verb} over {self.now} and to keep to all guardrails (arm"
                f" {gainful.number} {verb}s at least {gainful.certified_gain:.4g} {confidence};"
                f" {self.broken_by(gainful)[0]} is not certain to hold)"
            )
        least = f"at least {made.certified_gain:.4g} {confidence}"
        bound = least if math.isfinite(made.certified_gain) else "no bound"
        text = f"no arm is certain to {verb} over {self.now} (arm {made.number}: {bound})"
        if not (self.guess.gain > 0 and math.isfinite(self.guess.more)):
            return text
        units = "rows" if self.units == self.n else "users"
        return (
            f"{text}; if arm {self.guess.number} {verb}s {self.guess.gain:.4g} as estimated, about"
            f" {self.guess.more:,.0f} more {units} would show it"
        )

    def _weights(self, arm: Arm) -> str:
        pairs = zip(self.objectives, arm.action, strict=True)
        return ", ".join(f"{name} {x:.4g}" for name, x in pairs)

    def __repr__(self) -> str:
        return f"ChosenArm({self.advice}: {self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl learn --json` for arms, also what its artifact says."""
        guarded = {}
        if self.guardrails:
            guarded = {"guardrails": [each.to_dict() for each in self.judged_guardrails]}
        return guarded | {
            "advice": self.advice,
            "reason": self.reason,
            "objectives": list(self.objectives),
            "reward": self.reward,
            "estimator": self.estimator,
            "alpha": self.alpha,
            "minimise": self.minimise,
            "baseline": {"policy": self.now, "value": self.value_now},
            "best_guess": self.guess.number,
            "certified": self.chosen.number,
            "gain": self.chosen.gain,
            "certified_gain": self.chosen.certified_gain,
            "arms": [self._arm(arm) for arm in self.arms],
            "rows": self.n,
            "units": self.units,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "provenance": storage.provenance(log=self.log, **self.note),
        }

    def _arm(self, arm: Arm) -> dict[str, Any]:
        about = arm._asdict() | {"action": list(arm.action), "reasons": list(arm.reasons)}
        pairs = zip(self.guardrails, about.pop("changes"), strict=True)
        outcomes = {str(limit): made._asdict() for limit, made in pairs}
        return about | ({"outcomes": outcomes} if outcomes else {})


def _answered(arm: Arm) -> bool:
    """Whether the log can answer for an arm."""
    return arm.verdict != VERDICTS[-1]
