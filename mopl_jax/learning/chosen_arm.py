"""`ChosenArm`: what `arms.choose_arm` found, from the arms to the advice on them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.diagnostics.verdicts import VERDICTS, grave_first, gravest
from mopl_jax.io import storage
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

    @property
    def guess(self) -> Arm:
        """The arm of the largest value (of a cost the smallest), of those that are not refused if
        there are any.
        """
        sign = -1 if self.minimise else 1
        return max(
            self.arms,
            key=lambda arm: (_answered(arm), np.nan_to_num(sign * arm.value, nan=-np.inf)),
        )

    @property
    def chosen(self) -> Arm:
        """The arm with the largest gain that is certain."""
        return max(
            self.arms,
            key=lambda arm: (
                _answered(arm),
                arm.certified_gain,
                np.nan_to_num(arm.gain, nan=-np.inf),
            ),
        )

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
        """Whether what is played now is to be kept: where no gain is certain."""
        return not self.chosen.certified_gain > 0 or self.verdict == "refuse"

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
        arms = [arm._asdict() | {"reasons": list(arm.reasons)} for arm in self.arms]
        return {
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
            "arms": [arm | {"action": list(arm["action"])} for arm in arms],
            "rows": self.n,
            "units": self.units,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "provenance": storage.provenance(log=self.log, **self.note),
        }


def _answered(arm: Arm) -> bool:
    """Whether the log can answer for an arm."""
    return arm.verdict != VERDICTS[-1]
