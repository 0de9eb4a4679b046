"""A metric learnt from past experiments, with the validation on those that were held out.

The verb `learn_metric` reads the experiments table, fits one of `objectives.NAMED`, and judges it
by `validation`; `write` stores the result.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from mopl_jax.io import storage
from mopl_jax.io.files import finite
from mopl_jax.metrics import (
    drift,
    exchange,
    learnt_reward,
    metric_json,
    objectives,
    past,
    rules,
    scorecards,
)
from mopl_jax.metrics.objectives import History
from mopl_jax.metrics.validation import Validation, validate
from mopl_jax.numerics.check import check_alpha, choose
from mopl_jax.numerics.progress import Advance, silent

CLOSED = objectives.CLOSED | exchange.NAMED
NAMED = objectives.NAMED | exchange.NAMED
FEW = 3  # known winners a metric: a rule of thumb, no study chose it
IMPLAUSIBLE = 0.5  # standard deviations of a user between arms: a medium effect (Cohen, 1988)


@dataclasses.dataclass(frozen=True)
class JudgedObjective:
    """An objective, by name, and how the metric that it learns does on experiments held out."""

    objective: str
    validation: Validation


@dataclasses.dataclass(frozen=True, repr=False)
class LearntMetric:
    """A linear combination of metrics with unit variance over users, k of them.

    `metrics`, `weights`: names of the metrics, and their weights.
    `standard_weights`: weights times the metrics' standard deviations over users.
    `user_correlation`: of the metrics over users, k rows.
    `north_star`: the metric that it stands for.
    `objective`, `l1`, `alpha`: what was minimised, its penalty, the level of the tests.
    `north_star_per_unit`: North Star units for one unit of the metric's effect.
    `proxy_quality`: correlation with the North Star's true effects, median over experiments.
    `direct_effects`: p-value of the test that no test moved the North Star but by the signals.
    `returns`: what decision rules would have earned, where that was asked for.
    `reward`: the log that was given the metric as reward, if one was.
    `compared`: the validation of this objective and of those it was compared with.
    `warnings`: reasons to distrust it, a sentence each.
    `provenance`: versions, device and tables that it comes from.
    """

    metrics: tuple[str, ...]
    weights: tuple[float, ...]
    standard_weights: tuple[float, ...]
    user_correlation: tuple[tuple[float, ...], ...]
    north_star: str
    objective: str
    l1: float
    alpha: float
    north_star_per_unit: float
    proxy_quality: float
    direct_effects: float
    returns: tuple[rules.Return, ...]
    reward: learnt_reward.Rewarded | None
    compared: tuple[JudgedObjective, ...]
    warnings: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def validation(self) -> Validation:
        """The validation of the objective itself."""
        return self.compared[0].validation

    def __repr__(self) -> str:
        terms = zip(self.weights, self.metrics, strict=True)
        told = " ".join(f"{weight:+.3g} {name}" for weight, name in terms if weight)
        return f"LearntMetric({told}; factor {self.validation.factor:.2f} on the North Star)"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl metric --json`."""
        judged = {each.objective: dataclasses.asdict(each.validation) for each in self.compared}
        more = {"validation": judged[self.objective], "compared": judged}
        more["returns"] = [dataclasses.asdict(each) for each in self.returns]
        more["reward"] = None if self.reward is None else self.reward.to_dict()
        return finite(vars(self) | more)

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`, one row a metric."""
        import pyarrow as pa

        columns = ("metrics", "weights", "standard_weights")
        return pa.table({name: list(getattr(self, name)) for name in columns})


def learn_metric(
    tables: Path | str | Sequence[Path | str],
    north_star: str,
    *,
    objective: str | None = None,
    compare: bool = False,
    l1: float = 0.0,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    with_north_star: bool = False,
    rule: bool = False,
    apply: Path | None = None,
    rewarded: Path | None = None,
    alpha: float = 0.05,
    advance: Advance = silent,
    **reading: Any,
) -> LearntMetric:
    """Learn a metric from the experiments in `tables`, and validate it leaving each one out.

    `objective` is one of `NAMED`, `gls` by default, or `proxy` where the table has no labels;
    `compare` validates the others as well. Metrics named `positive` or `negative` may not have
    weights of the other sign. The North Star does not enter the metric unless `with_north_star`.
    `rule`: also what rules that launch by the metric would have earned. With `apply` the log there
    is written to `rewarded` with the metric as reward (`learnt_reward.apply`). `advance` is told of
    each validation; `reading` are the fields of `scorecards.Reading`. ValueError in one line for
    whatever cannot be learnt from.
    """
    check_alpha(alpha)
    paths = scorecards.paths_of(tables)
    tests = past.past(paths, north_star, scorecards.Reading(**reading))
    history, labels = labelled(tests, alpha)
    objective = objective or ("gls" if tests.labelled else "proxy")
    chosen = _objective(objective, history, l1, positive, negative)
    _check(history)
    allowed = objectives.signals_only(history) | with_north_star
    weights = _weights(history, objective, chosen, allowed)
    left = {objective} if history.halves is not None else {objective, "cross_fold"}
    others = {name: x for name, x in NAMED.items() if compare and name not in left}
    tried = {objective: chosen} | others
    judged = []
    for name, function in tried.items():
        judged.append(JudgedObjective(name, validate(history, function, allowed, alpha)))
        advance("validating", 1, len(tried))
    users = np.asarray(history.user_covariance)
    spread = np.sqrt(np.diagonal(users))
    return LearntMetric(
        metrics=history.names,
        weights=tuple(map(float, weights)),
        standard_weights=tuple(map(float, weights * spread)),
        user_correlation=tuple(map(tuple, (users / np.outer(spread, spread)).tolist())),
        north_star=north_star,
        objective=objective,
        l1=l1,
        alpha=alpha,
        north_star_per_unit=float(objectives.exchange_rate(weights, history)),
        proxy_quality=float(np.median(objectives.proxy_quality(weights, history))),
        direct_effects=float(exchange.p_value(history, allowed)),
        returns=tuple(rules.of_history(history, chosen, allowed, alpha)) if rule else (),
        reward=_rewarded(apply, rewarded, history, weights),
        compared=tuple(judged),
        warnings=(
            *tests.warnings,
            *labels,
            *_implausible(history),
            *_drifted(weights, history),
            *_warnings(judged[0].validation, int(allowed.sum()), alpha),
        ),
        provenance=storage.provenance(tables=[path.name for path in paths]),
    )


def write(path: Path, learnt: LearntMetric) -> Path:
    """Store a metric as `metric_json.read_metric` reads it, with what is known of it."""
    document = learnt.to_dict()
    for key in ("metrics", "weights", "compared"):
        del document[key]
    return metric_json.write_metric(path, learnt.metrics, np.array(learnt.weights), document)


def _rewarded(log, out, history, weights):
    if log is None or out is None:
        return None
    north_star = history.names[history.north_star]
    return learnt_reward.apply(Path(log), Path(out), history.names, np.asarray(weights), north_star)


def _weights(history, name, objective, allowed):
    weights = objectives.learn(history, objective, allowed=allowed)
    if not np.any(weights):
        raise ValueError(f"objective {name!r}: every weight is zero{_why_none(name)}")
    return weights


def _why_none(name):
    if name in objectives.LOSSES:
        return "; lower --l1, loosen signs or try another objective"
    what = "the winners" if name == "gls" else "the North Star beyond noise"
    return f", because no signal moves with {what}; add tests, or larger ones"


def labelled(tests: past.Past, alpha: float) -> tuple[History, list[str]]:
    """The history; without labels in the table, the winners of the North Star's own test."""
    history = tests.history
    if tests.labelled:
        return history, []
    north = objectives.z_scores(jnp.eye(len(history.names))[history.north_star], history)
    sign = jnp.where(jnp.abs(north) > norm.isf(alpha / 2), jnp.sign(north), 0.0)
    said = (
        f"the table has no labels: winners and losers are the {int(jnp.sum(sign != 0))} treatments"
        " with a significant North Star, which flatters the North Star in what follows"
    )
    return dataclasses.replace(history, sign=sign), [said]


def _check(history):
    """ValueError unless there is something to learn from and something left to check it on."""
    known = np.asarray(history.experiment)[np.asarray(history.sign) != 0]
    if len(set(known.tolist())) < 2:
        raise ValueError(
            "label: expected a known winner in at least two experiments, got"
            f" {len(set(known.tolist()))}; label winner or loser where the outcome is known"
        )


def _objective(name, history, l1, positive, negative):
    """The objective of a name, with its penalty and signs; ValueError for what it does not take."""
    choose([name], NAMED, "objective")
    names = history.names
    positive, negative = (
        choose(some, dict.fromkeys(names), "metric") for some in (positive, negative)
    )
    if both := set(positive) & set(negative):
        raise ValueError(
            f"--positive and --negative: expected different metrics, got {', '.join(both)} in both"
        )
    if not (np.isfinite(l1) and l1 >= 0):
        raise ValueError(f"--l1: expected a number ≥ 0, got {l1}")
    if name in CLOSED:
        if l1 or positive or negative:
            raise ValueError(
                f"--l1, --positive, --negative: expected one of {', '.join(objectives.LOSSES)}, got"
                f" {name}"
            )
        if name == "cross_fold" and history.halves is None:
            raise ValueError(
                "cross_fold: expected splits of the users (column fold) or snapshots (time)"
            )
        return CLOSED[name]
    signs = tuple((metric in positive) - (metric in negative) for metric in names)
    return objectives.descent(objectives.LOSSES[name], l1=l1, signs=signs)


def _implausible(history):
    """A question where arms differ by as much as single users do.

    Effects on means are hundredths of a user's standard deviation. With the covariance of the means
    for that of the users they come out near √2 of it, whatever the effect.
    """
    spread = np.sqrt(np.diagonal(np.asarray(history.user_covariance)))
    typical = float(np.median(np.abs(np.asarray(history.effect)) / spread))
    if typical > IMPLAUSIBLE:
        yield (
            f"arms differ by {typical:.2g} standard deviations of a user in the median: is"
            " `covariance` that of the means? it should be that over users, n times as large"
        )


def _drifted(weights, history):
    """A warning where the North Star followed the signals otherwise before some test."""
    found = drift.drift(np.asarray(weights), history)
    if found.p_value < drift.LEVEL:
        yield (
            f"{history.names[history.north_star]} follows the signals otherwise from about test"
            f" {found.first + 1} of {found.of} on (p = {found.p_value:.1g}; a unit of the metric"
            f" was worth {found.before:.3g} before and {found.after:.3g} after): if the table is in"
            " the order of time, learn from the later tests"
        )


def _warnings(found, num_metrics, alpha):
    """Reasons to distrust the metric, a sentence each."""
    if found.known < FEW * num_metrics:
        yield (
            f"{found.known} known winners for {num_metrics} metrics: fewer than three a metric,"
            " expect overfitting"
        )
    if found.metric.type_iii > found.north_star.type_iii + alpha / 2:
        yield (
            "the metric contradicts known winners significantly more often than the North Star does"
        )
    if found.false_positives_low > alpha:
        yield (
            "A/A tests are significant too often: the covariances are too small, or users are not"
            " independent"
        )
    if found.nulls == 0:
        yield "no A/A test in the table: the false-positive rate was not checked"
