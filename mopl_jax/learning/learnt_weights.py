"""`LearntWeights`: what `pipeline.learn` found, from the policy to the advice on it."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.io import storage
from mopl_jax.learning.certification import Certificate
from mopl_jax.learning.optimise import Learnt
from mopl_jax.learning.plan import Plan
from mopl_jax.learning.response_surface import Surface
from mopl_jax.logs import Logs
from mopl_jax.policies.gaussian import Gaussian


class Tried(NamedTuple):
    """A scale that was tried: its `score`, the gain on rows that did not propose it in standard
    errors, and whether it was `accepted`.
    """

    scale: float
    score: float
    accepted: bool


class Names(NamedTuple):
    """What things are called, and how the rows were split: for documents, no number depends on it.

    `log`: the path, or "memory"
    `objectives`, `reward`: the weights and the reward
    `estimator`, `interval`, `certificate`: the methods that learn, are maximised and are certified
    `seed`, `folds`, `share`: of the split
    """

    log: str
    objectives: tuple[str, ...]
    reward: str
    estimator: str
    interval: str
    certificate: str
    seed: int
    folds: int
    share: float


@dataclasses.dataclass(frozen=True, repr=False)
class LearntWeights:
    """New weights: a normal policy, what it was learnt from, and what is certain of it.

    `search`: the policy, its optimistic bound, and how the last search went
    `surface`: the reward model, fitted on the learning rows
    `whitening`: mean and covariance of the logged actions
    `by_half` (2, d): the means that two halves of the learning rows propose
    `tried`: the scales, coarse to fine; fewer than were asked for after an interrupt
    `surface_p`: the p-value of rewards being quadratic towards the maximum
    `plan`, `names`: how it was made
    `logs`, `held`: the rows that were learnt from, and those that certify; None if there are none
    `certificate`: against the logging mean; None without rows that certify
    `production` (d,), `against_production`: the current weights, and the certificate against them
    `mixture`: the certificate of the policy that plays the folds' policies in turn
    `interrupted`: whether it is only the best policy so far
    `outside`: the share of the policy's draws that constraints forbid, which bind its mean
    `checks`: what `mopl check` finds of the log
    """

    search: Learnt
    surface: Surface
    whitening: Gaussian
    by_half: Float[np.ndarray, "2 d"]
    tried: tuple[Tried, ...]
    surface_p: float
    plan: Plan
    names: Names
    logs: Logs
    held: Logs | None = None
    certificate: Certificate | None = None
    production: Float[np.ndarray, " d"] | None = None
    against_production: Certificate | None = None
    mixture: Certificate | None = None
    interrupted: bool = False
    outside: float = 0.0
    checks: LogReport | None = None

    @property
    def policy(self) -> Gaussian:
        """The learnt policy."""
        return self.search.policy

    @property
    def deciding(self) -> Certificate | None:
        """The certificate that decides: against production where that is known."""
        return self.certificate if self.against_production is None else self.against_production

    @property
    def keep(self) -> bool:
        """Whether the current weights are to be kept: where no gain is certain."""
        return self.deciding is None or bool(self.deciding.keep) or self.verdict == "refuse"

    @property
    def verdict(self) -> str:
        """The gravest of what the checks of the log and the weights that certify say."""
        judged = [judge.verdict for judge in (self.checks, self.deciding) if judge is not None]
        return max(judged, key=VERDICTS.index, default="trust")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not trust, the grave ones first."""
        found = () if self.checks is None else self.checks.findings
        said = [(x.level, f"{x.check}: {x.found}") for x in found if x.level != "trust"]
        if self.deciding is not None:
            said += [(self.deciding.verdict, text) for text in self.deciding.reasons]
        return tuple(text for _, text in sorted(said, key=lambda x: -VERDICTS.index(x[0])))

    @property
    def advice(self) -> str:
        """Whether to change anything."""
        return "keep the current weights" if self.keep else "change to the learnt weights"

    @property
    def reason(self) -> str:
        """Why: what is certain of the gain over what is played now."""
        made = self.deciding
        if self.verdict == "refuse":
            return f"the log is refused: {self.reasons[0]}"
        if made is None:
            return "no rows were held out to certify a gain; certify it on other users"
        over = "the logging mean" if self.against_production is None else "production"
        least, gain = float(made.gain_bound), float(made.gain)
        confidence = f"with confidence {1 - self.plan.alpha:.4g}"
        if not self.keep:
            return f"they gain at least {least:.4g} over {over}, {confidence} (estimate {gain:.4g})"
        certain = f"at least {least:.4g} {confidence}" if np.isfinite(least) else "no bound"
        return f"no gain over {over} is certain ({certain}, estimate {gain:.4g})"

    @property
    def converged(self) -> bool | None:
        """Whether the last search ended where a step gained nothing; None where there was none."""
        searched = any(scale.accepted for scale in self.tried)
        return bool(self.search.converged) if searched else None

    def __repr__(self):
        weights = ", ".join(
            f"{name}={mean:.4g}"
            for name, mean in zip(self.names.objectives, self.policy.mean.tolist(), strict=True)
        )
        return f"LearntWeights({weights}; {self.advice}: {self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl learn --json`, also what its artifact says about the policy."""
        names, search, rows = self.names, self.search, {"learning": len(self.logs.reward)}
        if self.held is not None:
            rows |= {"certification": len(self.held.reward)}
        about: dict[str, Any] = {
            "advice": self.advice,
            "reason": self.reason,
            "objectives": list(names.objectives),
            "reward": names.reward,
            "estimator": names.estimator,
            "interval": names.interval,
            "alpha": self.plan.alpha,
            "optimistic_lower_bound": float(search.bound),
            "learning_value": float(search.value),
        }
        if self.certificate is not None:
            about |= _without(self.certificate.to_dict(), *JUDGED)
        about |= {
            "baseline": np.asarray(self.whitening.mean).tolist(),
            "interrupted": self.interrupted,
            "diverged": bool(search.diverged),
            "converged": self.converged,
            "feasible": bool(search.feasible),
            "surface_p": self.surface_p if math.isfinite(self.surface_p) else None,
            "scales": [scale._asdict() for scale in self.tried],
            "rows": rows,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "outside_constraints": self.outside,
        }
        if self.production is not None:
            about |= {"production": self.production.tolist()}
        if self.against_production is not None:
            about |= {
                "gain_over_production": float(self.against_production.gain),
                "certified_gain_over_production": float(self.against_production.gain_bound),
            }
        if self.mixture is not None:
            about |= {"mixture": _without(self.mixture.to_dict(), *JUDGED, "ess", "gain")}
        made = {name: getattr(names, name) for name in ("log", "certificate", "seed", "folds")}
        return about | {"provenance": storage.provenance(**made, share=names.share)}


JUDGED = ("keep", "verdict", "reasons")  # of a certificate; said once, of the whole


def _without(document, *keys):
    return {key: value for key, value in document.items() if key not in keys}


def spread(policy: Gaussian) -> Float[np.ndarray, " d"]:
    """The scale of each weight, (d,)."""
    return np.sqrt(np.diagonal(np.asarray(policy.covariance)))
