"""`LearntWeights`: what `pipeline.learn` found, from the policy to the advice on it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mopl_jax.diagnostics.verdicts import grave_first, gravest
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.intervals.reward_range import Range
from mopl_jax.io import storage
from mopl_jax.io.policy_json import document
from mopl_jax.learning.certification import Certificate, possible, withdrawn
from mopl_jax.learning.constraints import share_outside
from mopl_jax.learning.exploration import Exploration, next_exploration
from mopl_jax.learning.guardrails import Change, Guardrail, JudgedGuardrail, TradedPolicy
from mopl_jax.learning.plan import Plan
from mopl_jax.learning.proposal import Proposal
from mopl_jax.learning.response_surface import Surface
from mopl_jax.learning.space import LOGARITHMS, WEIGHTS, Space
from mopl_jax.learning.teachable import thin
from mopl_jax.logs import Logs, num_units
from mopl_jax.numerics.pytree import entries
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class Names(NamedTuple):
    """What things are called, and how the rows were split: for documents, no number depends on it.

    `log`: the path, or "memory"
    `objectives`, `reward`: the weights and the reward
    `estimator`, `certificate`: the method that estimates, and the interval that is certified
    `seed`, `folds`, `share`: of the split
    `space`: of what was learnt, of which the weights are a function
    `note`: what the log says of the reward, for the provenance, see `reward_note`
    `minimise`: whether the reward is a cost, of whose negative all is learnt
    """

    log: str
    objectives: tuple[str, ...]
    reward: str
    estimator: str
    certificate: str
    seed: int
    folds: int
    share: float
    space: Space = WEIGHTS
    note: Mapping[str, Any] = {}
    minimise: bool = False

    @property
    def gains(self) -> tuple[str, str]:
        """Verb and noun of what is better: less of a cost is saved."""
        return ("save", "saving") if self.minimise else ("gain", "gain")

    @property
    def labels(self) -> tuple[str, ...]:
        """The coordinates that were learnt."""
        return self.space.labels(self.objectives)

    @property
    def logarithms(self) -> bool:
        """Whether they are the logarithms of the weights."""
        return self.space == LOGARITHMS


class Served(NamedTuple):
    """What production as it is played has more than played with the learnt policy's scale.

    `added`, `error`: by a quadratic surface of the rewards, and its standard error
    """

    added: float
    error: float

    @property
    def sentence(self) -> str:
        """Why a gain over production with the learnt scale may be none over what is played."""
        return (
            f"production as it is played is better by about {self.added:+.3g} ± {self.error:.1g}"
            " than with the scale of the learnt policy, by the surface: over that nothing is"
            " certain"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class LearntWeights:
    """New weights: a best guess, the policy that can be certified, and what is certain of it.

    `proposal`: both policies, what is predicted of them, and the reward model of the learning rows
    `plan`, `names`: how it was made
    `policy`: what is certified: normal, or the mixture of what folds taught
    `logs`, `held`: the rows that were learnt from, and those that certify; None if there are none
    `certifying`: the number of rows that certify, which are not held where the log is a long one
    `certificate`: against the logging mean; None without rows that certify
    `production` (d,), `against_production`: the current weights, and the certificate against them
    `guardrails`, `guards`: what other outcomes may lose, and their certificates, over production
        where that is known; all bounds hold at once
    `front`: policies that trade the first guardrail's outcome for the reward, each with its
        certificates (1 + g,), which all hold at once
    `interrupted`: whether it is only the best policy so far
    `outside`: the share of the policy's draws that constraints forbid, which bind its mean
    `checks`: the `LogReport` of `check_log` on the log
    `served`: of production, which is compared with the scale of the learnt policy, as it is played
    `made`: what each fold certifies, or the one part that does
    `in_log`: the certificate that decides, were each row of the log to count alike, where rows
        weigh by their time and it is for the next period; else None
    """

    proposal: Proposal
    plan: Plan
    names: Names
    logs: Logs
    policy: Gaussian | Mixture
    held: Logs | None = None
    certifying: int = 0
    certificate: Certificate | None = None
    production: Float[np.ndarray, " d"] | None = None
    against_production: Certificate | None = None
    guardrails: tuple[Guardrail, ...] = ()
    guards: tuple[Certificate, ...] = ()
    front: tuple[tuple[Gaussian | Mixture, Certificate], ...] = ()
    interrupted: bool = False
    outside: float = 0.0
    checks: Any = None
    served: Served | None = None
    made: tuple[Proposal, ...] = ()
    in_log: Certificate | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done to read the log that one may not expect, and whether few rows teach."""
        found = () if self.checks is None else self.checks.findings
        few = thin(*np.shape(self.logs.action))
        read = tuple(x.found for x in found if x.check == "read" and x.level == "trust")
        return read if few is None else (few, *read)

    @property
    def played(self) -> Policy:
        """The policy of the weights: that of a log-normal log plays exponentials."""
        return self.names.space.served(self.policy)

    @property
    def middle(self) -> Gaussian:
        """The normal policy with mean and covariance of the one that is certified."""
        if isinstance(self.policy, Gaussian):
            return self.policy
        return Gaussian.full(self.policy.mean, self.policy.covariance)

    @functools.cached_property
    def exploration(self) -> Exploration:
        """What to explore with next, by as many rows as this log has, after its own exploration:
        over what is then played, the certified policy unless the current weights are kept.
        Constraints bind its mean; guardrails do not bind it.
        """
        rows = len(self.logs.reward) + (0 if self.names.folds else self.certifying)
        current = self.whitening.mean if self.production is None else self.production
        baseline = current if self.keep else self.policy.mean
        given = self.proposal, self.whitening, float(rows), np.asarray(baseline)
        made = next_exploration(*given, self.plan.alpha, self.plan.project)
        return jax.device_get(made)

    @functools.cached_property
    def explored_outside(self) -> float:
        """The share of the draws of what to explore with next that constraints forbid."""
        return share_outside(self.plan.project, self.exploration.policy)

    @property
    def surface(self) -> Surface:
        """The reward model, fitted on the learning rows."""
        return self.proposal.surface

    @property
    def whitening(self) -> Gaussian:
        """Mean and covariance of the logged actions."""
        return self.proposal.whitening

    @property
    def reward_range(self) -> Range:
        """In which lies what was learnt of: rewards, or the negative of a cost."""
        low, high = self.plan.reward_range
        return (-high, -low) if self.names.minimise else (low, high)

    @property
    def deciding(self) -> Certificate | None:
        """The certificate that decides: against production where that is known."""
        return self.certificate if self.against_production is None else self.against_production

    @property
    def keep(self) -> bool:
        """Whether the current weights are to be kept: where no gain is certain."""
        unsure = self.deciding is None or bool(self.deciding.keep) or bool(self.broken)
        return unsure or self.outplayed or self.verdict == "refuse"

    @property
    def outplayed(self) -> bool:
        """Whether production as it is played is worth so much more than with the learnt scale, by
        two errors of the surface, that nothing of a certain gain is left.
        """
        made, more = self.against_production, self.served
        if made is None or more is None:
            return False
        return float(made.gain_bound) - more.added < -2 * more.error

    @property
    def broken(self) -> tuple[str, ...]:
        """The guardrails that are not certain to hold."""
        pairs = zip(self.guardrails, self.guards, strict=bool(self.guards))
        return tuple(str(each) for each, made in pairs if not holds(made))

    @property
    def binding(self) -> tuple[str, ...]:
        """The guardrails without which more could be promised, by `BINDS` of it."""
        promised, *others = np.asarray(self.proposal.without).tolist()
        more = [other > promised + BINDS * abs(other) for other in others]
        return tuple(str(each) for each, yes in zip(self.guardrails, more, strict=True) if yes)

    @property
    def judged_guardrails(self) -> list[JudgedGuardrail]:
        """Each guardrail, and whether it holds."""
        _, *without = np.asarray(self.proposal.without).tolist()
        found = [
            JudgedGuardrail(str(limit), str(limit) in self.binding, other)
            for limit, other in zip(self.guardrails, without, strict=True)
        ]
        if not self.guards:
            return found
        return [
            each._replace(holds=holds(made), change=change(limit, made))
            for each, limit, made in zip(found, self.guardrails, self.guards, strict=True)
        ]

    @property
    def traded(self) -> list[TradedPolicy]:
        """The policies of the front."""
        return [_traded(self.guardrails, *each) for each in self.front]

    @property
    def verdict(self) -> str:
        """The gravest of what the checks of the log and the weights that certify say."""
        judged = [judge.verdict for judge in (self.checks, self.deciding) if judge is not None]
        judged += ["caution"] if self._doubt else []
        return gravest(*judged)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not trust, the grave ones first."""
        found = () if self.checks is None else self.checks.findings
        said = [(x.level, f"{x.check}: {x.found}") for x in found if x.level != "trust"]
        if self.deciding is not None:
            said += [(self.deciding.verdict, text) for text in self.deciding.reasons]
        said += [("caution", text) for text in self._doubt]
        return grave_first(said)

    @property
    def _doubt(self) -> tuple[str, ...]:
        """Why a gain that is certain may be none over production as it is played."""
        made = self.against_production
        if made is None or self.served is None or not float(made.gain_bound) > 0:
            return ()
        added, error = self.served
        if float(made.gain_bound) - added > 2 * error:
            return ()
        return (self.served.sentence,)

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
        verb, noun = self.names.gains
        if made is None:
            return f"no rows were held out to certify a {noun}; certify it on other users"
        over = "the logging mean" if self.against_production is None else "production"
        over += " played with the same scale"
        least, gain = float(made.gain_bound), float(made.gain)
        confidence = f"with confidence {1 - self.plan.alpha:.4g}"
        if not self.keep:
            return (
                f"they {verb} at least {least:.4g} over {over}, {confidence} (estimate {gain:.4g})"
            )
        if self.served is not None and self.outplayed and least > 0:
            return f"{self.served.sentence} (over {over} at least {least:.4g})"
        if self.broken and least > 0:
            return f"guardrail {self.broken[0]} is not certain to hold; {self._more(gain)}"
        certain = f"at least {least:.4g} {confidence}" if np.isfinite(least) else "no bound"
        return (
            f"no {noun} over {over} is certain ({certain}, estimate {gain:.4g}); {self._more(gain)}"
        )

    @property
    def judged(self) -> "LearntWeights":
        """The same with bounds cut to what the reward range leaves possible, and without those that
        a verdict refuses: they are −inf.
        """
        known = self._with(lambda made: possible(made, self.reward_range))
        gone = known.verdict == "refuse"
        guards = tuple(jax.device_get(withdrawn(made, gone)) for made in self.guards)
        return dataclasses.replace(known._with(lambda made: withdrawn(made, gone)), guards=guards)

    def _with(self, change: Callable[[Certificate], Certificate]) -> "LearntWeights":
        """The same with another certificate in the place of each of the reward."""
        names = ("certificate", "against_production", "in_log")
        there = {name: made for name in names if (made := getattr(self, name)) is not None}
        changed = {name: jax.device_get(change(made)) for name, made in there.items()}
        front = tuple((policy, jax.device_get(change(made))) for policy, made in self.front)
        return dataclasses.replace(self, **changed, front=front)

    @property
    def needed(self) -> float:
        """How many units, users or rows, would make a gain as large as estimated just certain, in
        all: the bound's distance from the estimate shrinks with their root. Where the rows that
        certify estimate no gain, as large as the surface expects of the best guess less its error;
        infinite where that is none either, and where the verdict refuses. Guardrails that are not
        certain to hold count alike.
        """
        made, guessed = self.deciding, self.proposal.guessed
        if made is None or self.verdict == "refuse":
            return math.inf
        gain, short = float(made.gain), made.short
        if not (gain > 0 and math.isfinite(short)):
            gain = float(guessed.gain - guessed.error)
            short = -NormalDist().inv_cdf(self.plan.alpha) * float(guessed.noise)
        units = num_units(self.logs) + (0 if self.names.folds else int(made.units))
        unsure = [guard for guard in self.guards if not holds(guard)]
        pairs = [(gain, short)]
        pairs += [(float(x.gain + x.room), x.short) for x in unsure]
        return units * max((lack / size) ** 2 if size > 0 else math.inf for size, lack in pairs)

    def _more(self, gain: float) -> str:
        units = "rows" if self.logs.cluster is None else "users"
        if not math.isfinite(self.needed):
            none = f"no {self.names.gains[1]} is estimated"
            what = "it is estimated to be broken" if self.broken else none
            if self.binding and not self.broken:
                what += f" within guardrail {self.binding[0]}, without which more could be promised"
            return f"how many more {units} would do is not known, because {what}"
        how = "as estimated" if gain > 0 else "what the surface expects of the best guess"
        return f"if it is {how}, about {self.needed:,.0f} {units} in all bring the bound to zero"

    def __repr__(self) -> str:
        weights = ", ".join(
            f"{name}={mean:.4g}"
            for name, mean in zip(self.names.labels, self.policy.mean.tolist(), strict=True)
        )
        return f"LearntWeights({weights}; {self.advice}: {self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl learn --json`, also what its artifact says about the policy."""
        names, made, rows = self.names, self.proposal, {"learning": len(self.logs.reward)}
        if self.certifying:
            rows |= {"certification": self.certifying}
        about: dict[str, Any] = {
            "advice": self.advice,
            "reason": self.reason,
            "objectives": list(names.objectives),
            "space": names.space.name,
            "reward": names.reward,
            "estimator": names.estimator,
            "alpha": self.plan.alpha,
            "best_guess": _predicted(made.guess, made.guessed, names.space),
            "certified": _predicted(made.certified, made.promised, names.space),
            "explore_next": _explored(self),
        }
        if self.certificate is not None:
            about |= _without(self.certificate.to_dict(), *JUDGED)
        if names.minimise:
            about |= {"minimise": True} | _costs(about)
        about |= {
            "baseline": np.asarray(self.whitening.mean).tolist(),
            "interrupted": self.interrupted,
            "needed": self.needed if math.isfinite(self.needed) else None,
            "rows": rows,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "outside_constraints": self.outside,
        }
        if self.production is not None:
            about |= {"production": names.space.weights(self.production).tolist()}
        if self.against_production is not None:
            if self.served is not None:
                about |= {"served": self.served._asdict()}
            about |= {
                "gain_over_production": float(self.against_production.gain),
                "certified_gain_over_production": float(self.against_production.gain_bound),
            }
        if self.in_log is not None:
            of_all = float(self.in_log.gain), float(self.in_log.gain_bound)
            about |= {"in_log": dict(zip(("gain", "certified_gain"), of_all, strict=True))}
        if self.guardrails:
            about |= {"guardrails": [each.to_dict() for each in self.judged_guardrails]}
        if self.front:
            about |= {"front": [_moments(x.policy) | x.to_dict() for x in self.traded]}
        made = {name: getattr(names, name) for name in ("log", "certificate", "seed", "folds")}
        if self.plan.reward_range != UNBOUNDED:
            made |= {"reward_range": list(self.plan.reward_range)}
        return about | {"provenance": storage.provenance(**made, share=names.share, **names.note)}


BINDS = 0.02
JUDGED = ("keep", "verdict", "reasons")  # of a certificate; said once, of the whole


def _costs(about):
    """Value and bound of a cost, in the place of those of its negative."""
    if "value" not in about:
        return {}
    bound = about.pop("certified_lower_bound")
    return {"value": -about["value"], "certified_upper_bound": -bound}


def _predicted(policy, promise, space):
    """A policy as plain numbers, with what the surface predicts of it, and what its mean plays."""
    named = {name: float(x) for name, x in promise._asdict().items() if name != "room"}
    predicted = {f"predicted_{name}": x for name, x in named.items()}
    covariance = np.asarray(policy.covariance).tolist()
    if space != WEIGHTS:
        predicted |= {"weights": space.weights(np.asarray(policy.mean)).tolist()}
    return _moments(policy) | {"covariance": covariance} | predicted


def _explored(learnt):
    """What to explore with next: the document of a policy, and what is expected of it."""
    made, names = learnt.exploration, learnt.names
    return document(
        names.space.served(made.policy),
        objectives=list(names.objectives),
        expected_certified_gain=float(made.worth),
        expected_of_repeating=float(made.repeated),
        outside_constraints=learnt.explored_outside,
    )


def _moments(policy):
    return {"mean": np.asarray(policy.mean).tolist(), "scale": spread(policy).tolist()}


def _without(document, *keys):
    return {key: value for key, value in document.items() if key not in keys}


def spread(policy: Gaussian | Mixture) -> Float[np.ndarray, " d"]:
    """The scale of each weight, (d,)."""
    return np.sqrt(np.diagonal(np.asarray(policy.covariance)))


def holds(guard: Certificate) -> bool:
    """Whether a guardrail's outcome certainly loses no more than it may."""
    return bool(guard.gain_bound + guard.room >= 0)


def change(limit: Guardrail, guard: Certificate) -> Change:
    """The change of the outcome that a guardrail limits, by the certificate of the guardrail."""
    level = limit.sign * float(guard.value - guard.gain)
    return Change(
        level, *(limit.sign * float(x) for x in (guard.gain, guard.gain_bound, -guard.room))
    )


def _traded(limits, policy, certificates) -> TradedPolicy:
    """A policy with what its certificates (1 + g,) say of the reward and of g guardrails."""
    first, *others = (entries(certificates, k) for k in range(1 + len(limits)))
    outcomes = {each.name: change(each, made) for each, made in zip(limits, others, strict=True)}
    return TradedPolicy(policy, float(first.gain), float(first.gain_bound), outcomes)
