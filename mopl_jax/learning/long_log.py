"""Logs whose rows are not held in memory, read in passes or left in a query engine: a sample of the
users teaches, and all others certify.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mopl_jax.diagnostics.verdicts import REFUSE
from mopl_jax.estimators.estimator import Estimator, Model
from mopl_jax.estimators.importance import snips
from mopl_jax.evaluation.answer import Answers
from mopl_jax.evaluation.answers import gather
from mopl_jax.evaluation.weighed_logs import weigh_logs
from mopl_jax.intervals.registry import bind_sums
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.source import Source
from mopl_jax.learning.certification import Certificate
from mopl_jax.learning.learnt_weights import LearntWeights
from mopl_jax.learning.objective import VALUATIONS, Valuation
from mopl_jax.learning.plan import Watch
from mopl_jax.learning.response_surface import Surface, fit_surface
from mopl_jax.learning.space import WEIGHTS, Space
from mopl_jax.logs import speaks_for
from mopl_jax.numerics import linalg
from mopl_jax.numerics.check import check_count, check_seed
from mopl_jax.numerics.memory import give_back
from mopl_jax.numerics.reduce import NOTHING
from mopl_jax.policies.gaussian import Gaussian

TAUGHT = 2**18  # rows that teach: twice as many take twice as long


class LongLog(NamedTuple):
    """How a log that is not held in memory is learnt from; what is asked for besides cannot be had
    of it.
    """

    in_memory: int
    share: float | None
    folds: int | None
    guarded: bool
    traded: int
    certificate: str
    seed: int

    def is_one(self, source: Source) -> bool:
        """Whether its rows are not to be held."""
        return source.table is not None or source.count() > self.in_memory

    def taught(self, source: Source) -> float:
        """The share of the rows that teaches; ValueError in one line."""
        n, name = source.count(), source.name
        check_count(self.in_memory, 10**12, "in_memory", "rows that are held are some thousands")
        taught = min(TAUGHT, self.in_memory, n // 2) if self.share is None else n * (1 - self.share)
        asked = ("folds", self.folds), ("guardrails", self.guarded), ("trades", self.traded)
        for option, given in asked:
            if given:
                raise ValueError(
                    f"{option}: {name} has {n:,} rows, of which one share teaches and the others"
                    " certify the reward, in passes; drop it, or hold all rows (--in-memory) of a"
                    " log that is read"
                )
        if not 0 < taught <= self.in_memory:
            raise ValueError(
                f"share: expected a share of {n:,} rows, below 1, that leaves at most"
                f" {self.in_memory:,} to learn from in memory, got {self.share}"
            )
        bind_sums(self.certificate)
        check_seed(self.seed, "seed")
        return taught / n


def given_surface(
    surface: Surface, space: Space = WEIGHTS, estimator: Estimator = snips
) -> Callable[[Any], Estimator]:
    """`objective.doubly_robust` as an estimator in passes: that of r − q(a) + E_π q, for a
    quadratic surface that was fitted on other rows, in the `space`.

    Waves would take a hundred times as long for each row, and an engine has none.
    """

    def of(target):
        expected = surface.expectation(space.place(target))

        def adjust(fitted, block):
            action = block.columns.action
            predicted = _of_rows(surface, space.backward(action))
            gap = block.columns.reward - predicted + expected
            return gap, jnp.zeros_like(gap)

        return Estimator(estimator.finish, estimator.row, Model(None, NOTHING, lambda x: x, adjust))

    return of


def _of_rows(surface, action):
    """q(a) of each action, by what a query engine can multiply and add."""
    constant, slope, curvature = surface.quadratic
    unit = linalg.scale_solve(surface.reference.scale, jnp.eye(len(slope), dtype=slope.dtype))
    z = (action - surface.reference.mean[None, :]) @ unit.T
    return constant + z @ slope + 0.5 * jnp.sum(z * (z @ curvature), axis=1)


def certify_in_passes(
    policy: Gaussian,
    reader: LogReader,
    baselines: Sequence[Any],
    *,
    surface: Surface,
    valuation: Valuation = VALUATIONS["doubly_robust"],
    certificate: str = "ess_skew",
    alpha: float = 0.05,
    space: Space = WEIGHTS,
    watch: Callable = iter,
) -> list[Certificate]:
    """The certificates of a policy on the rows of `reader` against each of the `baselines` (d,),
    played with its scale. All is as in `certification.certify` with the quadratic `surface`, in
    three passes for all of them.

    ValueError for an interval that is no formula of sums.
    """
    bind_sums(certificate)
    means = [jnp.asarray(x, policy.mean.dtype) for x in baselines]
    played = [policy, *(Gaussian(mean, policy.scale) for mean in means)]
    targets = [space.served(each) for each in played]
    own = valuation.estimator
    choice = given_surface(surface, space, own) if valuation.of_rest else own
    reader = weigh_logs(reader, targets)
    answers = gather(reader, targets, choice, in_memory=0, watch=watch)
    return [
        _certificate(answers, k, certificate, alpha, same=bool(jnp.all(mean == policy.mean)))
        for k, mean in enumerate(means)
    ]


def certified_in_passes(found: LearntWeights, others: LogReader, watch: Watch) -> LearntWeights:
    """With its certificates on the rows of `others`, against the logging mean and production."""
    n, names, logs = others.source.count(), found.names, found.logs
    known = [] if found.production is None else [found.production]

    def counted(chunks):
        give_back()  # what was compiled for the pass before
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk.reward)
            watch(done, n)

    taught = jax.tree.map(jnp.asarray, logs)
    first, *rest = certify_in_passes(
        found.proposal.certified,
        others,
        [found.whitening.mean, *known],
        surface=fit_surface(taught.action, taught.reward, found.whitening, kept=speaks_for(taught)),
        valuation=found.plan.valuation,
        certificate=names.certificate,
        alpha=found.plan.alpha,
        space=names.space,
        watch=counted,
    )
    give_back()
    return dataclasses.replace(
        found, certificate=first, against_production=rest[0] if rest else None, certifying=n
    )


def _certificate(answers: Answers, k: int, certificate: str, alpha: float, same: bool):
    """Against the baseline `k`; the contrast that was taken is the baseline's with the policy."""
    made, contrast = answers.policies[0], answers.contrasts[k]
    ends = bind_sums(certificate)
    bound: Array = ends(made.moments, 2 * alpha).lower
    gain_bound = jnp.zeros(()) if same else 0.0 - ends(contrast.moments, 2 * alpha).upper
    keep = not bool(gain_bound > 0) or int(made.diagnosis.verdict) == REFUSE
    return Certificate(
        bound=bound,
        value=made.value,
        ess=made.diagnosis.kish,
        gain=0.0 - contrast.value,
        gain_bound=gain_bound,
        keep=jnp.asarray(keep),
        diagnosis=made.diagnosis,
        units=jnp.asarray(made.units),
    )
