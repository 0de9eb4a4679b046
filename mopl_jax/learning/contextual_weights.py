"""`ContextualWeights`: what personalising would gain over the learnt global weights."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from mopl_jax.diagnostics.verdicts import VERDICTS, gravest
from mopl_jax.intervals.reward_range import between, gains
from mopl_jax.learning.certification import Certificate, possible, withdrawn
from mopl_jax.policies.contextual import Level, shown

REFUSE = VERDICTS[-1]
BY_CONTEXT = "the current weights by context"


class Segment(NamedTuple):
    """What weights of its own change in a segment.

    `values`: its levels of the columns of the context
    `share`: of the rows that certify
    `change` (d,): of the mean weights, from the global ones
    `gain`, `lower`, `upper`: over the global weights for a row of the segment; intervals of all
        segments hold at once
    `ess`: of the weights of the contrast, in rows or users
    """

    values: tuple[Level, ...]
    share: float
    change: tuple[float, ...]
    gain: float
    lower: float
    upper: float
    ess: float


@dataclasses.dataclass(frozen=True, repr=False)
class ContextualWeights:
    """Weights that depend on the context beside the learnt global ones, and what is certain of the
    difference.

    `learnt`: the global `LearntWeights`, with all that is certain of them
    `columns`, `mean`: of the context, and what its means are: table, linear or network
    `policy`: the contextual policy, which was certified
    `over_global`: its certificate against the global means played with its scale, so that the gain
        is that of personalising
    `over_played`: against the global policy as it is played, whose scale may be another; the gain
        over both must be certain
    `over_current`: against the current weights with its scale: production, or the logging mean
    `interval`: of the gain over the global policy, at both ends
    `segments`: of a table, those with weights of their own; the largest first
    `others`: how many segments have too few rows for any, and are played the global weights
    `forbidden`: the share of the contextual policy's draws that constraints forbid
    `global_over_current`: the certificate of the global policy over the current weights where these
        depend on the context; None where they do not, as `learnt` has it
    """

    learnt: Any
    columns: tuple[str, ...]
    mean: str
    policy: Any
    over_global: Certificate
    over_played: Certificate
    over_current: Certificate
    interval: tuple[float, float]
    segments: tuple[Segment, ...] = ()
    others: int = 0
    forbidden: float = 0.0
    global_over_current: Certificate | None = None

    @property
    def outside(self) -> float:
        """The share of what is served that constraints forbid, which bind means."""
        return self.forbidden if self.personalise else self.learnt.outside

    @property
    def personalise(self) -> bool:
        """Whether the gain over the global weights is certain."""
        refused = REFUSE in (self.over_global.verdict, self.learnt.verdict)
        return self.least > 0 and not refused

    @property
    def judged(self) -> "ContextualWeights":
        """The same with bounds cut to what the reward range leaves possible, and without those of a
        log, or of weights, that are refused.
        """
        fields = ("over_global", "over_played", "over_current")
        fields += () if self.global_over_current is None else ("global_over_current",)
        if REFUSE not in (self.over_global.verdict, self.learnt.verdict):
            return self._within(self.learnt.reward_range, fields)
        gone = {name: jax.device_get(withdrawn(getattr(self, name), True)) for name in fields}
        unknown = tuple(x._replace(lower=-math.inf, upper=math.inf) for x in self.segments)
        ends = (-math.inf, math.inf) if self.moved else self.interval
        return dataclasses.replace(self, **gone, segments=unknown, interval=ends)

    def _within(self, reward_range, fields) -> "ContextualWeights":
        """With bounds and intervals cut."""
        made = {
            name: jax.device_get(possible(getattr(self, name), reward_range)) for name in fields
        }

        def inside(lower, upper):
            ends = jax.device_get(between(lower, upper, gains(reward_range)))
            return float(ends.lower), float(ends.upper)

        each = [(x, inside(x.lower, x.upper)) for x in self.segments]
        segments = tuple(x._replace(lower=low, upper=high) for x, (low, high) in each)
        return dataclasses.replace(self, **made, segments=segments, interval=inside(*self.interval))

    @property
    def least(self) -> float:
        """What personalising certainly gains, over the global means with whichever scale."""
        return min(float(self.over_global.gain_bound), float(self.over_played.gain_bound))

    @property
    def played(self) -> Any:
        """What to serve: the contextual policy where its gain is certain, else the global one."""
        return self.policy if self.personalise else self.learnt.played

    @property
    def keep(self) -> bool:
        """Whether the current weights are to be kept: no gain over them is certain."""
        if self.personalise:
            return not float(self.over_current.gain_bound) > 0
        if self.global_over_current is None:
            return self.learnt.keep
        return bool(self.global_over_current.keep) or self.learnt.verdict == REFUSE

    @property
    def verdict(self) -> str:
        """The gravest on the log, on the global weights and on the contextual ones where these are
        what is served.
        """
        own = [self.over_global.verdict] if self.personalise else []
        return gravest(self.learnt.verdict, *own)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not trust."""
        own = self.over_global.reasons if self.personalise else ()
        return tuple(dict.fromkeys((*self.learnt.reasons, *own)))

    @property
    def advice(self) -> str:
        """Whether to change anything."""
        if self.keep:
            return "keep the current weights"
        which = "contextual" if self.personalise else "learnt"
        return f"change to the {which} weights"

    @property
    def reason(self) -> str:
        """Why: what is certain of personalising, and of the gain over what is played now."""
        if not self.personalise:
            return f"{self._of_global}; {self._none}"
        verb, _ = self.learnt.names.gains
        over = "production" if self.learnt.against_production is not None else "the logging mean"
        over = over if self.global_over_current is None else BY_CONTEXT
        made = self.over_current
        return (
            f"weights by {', '.join(self.columns)} {verb} at least"
            f" {self.least:.4g} over the learnt global weights"
            f" {self._sure}; over {over} played with the same scale at least"
            f" {float(made.gain_bound):.4g} (estimate {float(made.gain):.4g})"
        )

    @property
    def _of_global(self):
        """What is certain of the global weights over what is played now."""
        made = self.global_over_current
        if made is None or self.learnt.verdict == REFUSE:
            return self.learnt.reason
        least, gain = float(made.gain_bound), float(made.gain)
        verb, noun = self.learnt.names.gains
        sure = f"with confidence {1 - self.learnt.plan.alpha:.4g}, estimate {gain:.4g}"
        if self.keep:
            return f"no {noun} over {BY_CONTEXT} is certain (at least {least:.4g} {sure})"
        over = f"{BY_CONTEXT} played with the same scale"
        return f"they {verb} at least {least:.4g} over {over} ({sure})"

    @property
    def _sure(self):
        alpha, gain = self.learnt.plan.alpha, float(self.over_global.gain)
        return f"with confidence {1 - alpha:.4g} (estimate {gain:.4g})"

    @property
    def _none(self):
        """Why there is no personalising."""
        by = f"weights by {', '.join(self.columns)}"
        if self.over_global.verdict == REFUSE:
            return f"{by} are refused: {self.over_global.reasons[0]}"
        if not self.moved:
            return f"{by} promise nothing over the learnt global weights: nothing is personalised"
        noun = self.learnt.names.gains[1]
        bound = f"at least {self.least:.4g}" if np.isfinite(self.least) else "no bound"
        return (
            f"no {noun} of {by} over the learnt global weights is certain ({bound} {self._sure}):"
            " nothing is personalised"
        )

    @property
    def moved(self) -> bool:
        """Whether any weights were found to differ from the global ones."""
        return self.interval != (0.0, 0.0)

    def __repr__(self) -> str:
        return f"ContextualWeights({self.advice}: {self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl learn --context`: that of the global weights, and `personal`."""
        made, now = self.over_global, self.over_current
        segments = [
            each._asdict() | {"values": list(each.values), "change": list(each.change)}
            for each in self.segments
        ]
        personal = {
            "columns": list(self.columns),
            "mean_of": self.mean,
            "personalise": self.personalise,
            "gain": float(made.gain),
            "certified_gain": self.least,
            "interval": list(self.interval),
            "value": (-1 if self.learnt.names.minimise else 1) * float(made.value),
            "ess": float(made.ess),
            "gain_over_played": float(self.over_played.gain),
            "gain_over_current": float(now.gain),
            "certified_gain_over_current": float(now.gain_bound),
            "by_segment": segments,
            "other_segments": self.others,
            "verdict": made.verdict,
            "reasons": list(made.reasons),
        }
        shared = self.global_over_current
        if shared is not None:
            of_global = float(shared.gain), float(shared.gain_bound)
            names = "global_gain_over_current", "certified_global_gain_over_current"
            personal |= dict(zip(names, of_global, strict=True))
        about = self.learnt.to_dict() | {"advice": self.advice, "reason": self.reason}
        if shared is not None:
            about |= {"needed": None}  # what is known of it is over the mean of all weights
        about |= {"verdict": self.verdict, "reasons": list(self.reasons)}
        about |= {"outside_constraints": self.outside}
        return about | {"personal": personal}


def labelled(segment: Segment) -> str:
    """The levels of a segment as text."""
    return shown(segment.values)
