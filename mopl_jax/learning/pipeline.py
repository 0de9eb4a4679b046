"""From a log to certified new weights: what `mopl learn` does, stage by stage, so that an interrupt
finds the best policy so far.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.estimators.importance import beta_ips, snips
from mopl_jax.evaluation.smoothing import smoothing_bias
from mopl_jax.intervals.registry import bind
from mopl_jax.io import log_reader, read
from mopl_jax.io.policy_json import read_policy
from mopl_jax.learning import certification
from mopl_jax.learning.certification import Certificate
from mopl_jax.learning.constraints import (
    Bounds,
    Projection,
    check_projection,
    share_outside,
    unconstrained,
)
from mopl_jax.learning.learnt_weights import LearntWeights, Names, Served, spread
from mopl_jax.learning.objective import doubly_robust, importance_weighted
from mopl_jax.learning.plan import RADIUS, Plan, check_plan
from mopl_jax.learning.proposal import propose
from mopl_jax.logs import Logs, check, check_unsampled, folds_of, split
from mopl_jax.numerics.check import check_alpha, choose

SHARE = 0.5  # of the users: as many certify as teach


def snips_of(surface):
    """SNIPS, which has no use for a surface."""
    return importance_weighted(snips)


def beta_ips_of(surface):
    """β-IPS, which has no use for a surface."""
    return importance_weighted(beta_ips)


VALUE_ESTIMATORS: dict[str, Any] = {
    "doubly_robust": doubly_robust,
    "snips": snips_of,
    "beta_ips": beta_ips_of,
}


def learn(
    log: Any,
    *,
    constraints: Projection | Bounds = unconstrained,
    production: Any = None,
    estimator: str = "doubly_robust",
    certificate: str = "ess_skew",
    alpha: float = 0.05,
    radius: float = RADIUS,
    share: float | None = None,
    folds: int = 0,
    seed: int = 0,
    watch: Callable[[int, int], None] = lambda done, stages: None,
    stop: Callable[[], bool] = lambda: False,
    **roles: Any,
) -> LearntWeights:
    """New weights from a log, and what they certainly gain over the current ones: a best guess by
    the surface, and the policy with the largest gain that can be certified.

    `log` is `Logs`, or whatever `read_logs` takes, with its roles by keyword (`action`, `reward`,
    `logging`, `cluster`, …). `share` of the users (rows, without users) are held out to certify
    what the others teach: a half by default where the log is read, and none of `Logs` in memory,
    which you have split already (`logs.split`); `certification.certify` then has the certificate on
    the other part. `folds` ≥ 2 cross-fits instead: every fold certifies what the others teach, at
    alpha over the number of folds, so that all certificates hold at once; the best is returned.

    `constraints` is a projection of `learning.constraints`, or `Bounds`. `production` are the
    current weights: numbers (d,), a policy, or the path of its JSON. `radius` bounds the means, in
    logged standard deviations from the logging mean. `watch(done, stages)` hears of progress; where
    `stop()` is true after a stage, or on KeyboardInterrupt, the best policy so far is certified and
    returned.

    ValueError in one line, before anything is compiled, for a log that cannot teach and for options
    that leave nothing to search. What `check_log` finds and the weights that certify are the
    verdict.
    """
    reader, logs, names, target, place = _read(log, roles)
    check_log(logs, names=names, reward=target, place=place)
    check_alpha(alpha)
    choose([estimator], VALUE_ESTIMATORS, "estimator")
    current = _production(production, names)
    bounded = isinstance(constraints, Bounds)
    plan = Plan(
        certificate=bind(certificate),
        alpha=alpha,
        value_estimator=VALUE_ESTIMATORS[estimator],
        project=constraints.projection(logs.action.shape[1], current) if bounded else constraints,
        radius=radius,
    )
    check_plan(plan)
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}; 0 is the default")
    check_projection(plan.project, logs.action.shape[1])
    if share is None and not isinstance(log, Logs):
        share = SHARE
    called = Names(
        place if isinstance(log, Logs) else _path(log),
        tuple(names),
        target,
        estimator,
        certificate,
        seed,
        folds,
        share or 0.0,
    )
    parts = _parts(logs, share, folds, seed)
    found = _run(parts, plan, current, called, watch, stop)
    outside = 0.0
    if plan.project is not unconstrained:
        outside = share_outside(plan.project, found.policy)
    return dataclasses.replace(
        found,
        outside=outside,
        checks=check_rows(reader, target=found.policy),
        served=_served(production, names, found),
    )


# Options.


def _read(log, roles) -> tuple[log_reader.LogReader, Logs, list[str], str, str]:
    """The log, its rows, the names of weights and reward, and the place for complaints."""
    if isinstance(log, Logs):
        if roles:
            raise ValueError(f"expected a path to go with {sorted(roles)[0]!r}, got Logs in memory")
        names = [f"action[{k}]" for k in range(log.action.shape[1])]
        rows = check_unsampled(check(jax.tree.map(np.asarray, log)), "learn")
        return read.open_log(rows), rows, names, "reward", "memory"
    reader = read.open_log(log, **roles)
    logs = check_unsampled(read.read_logs(reader), "learn")
    log_reader.check_densities(reader, None)
    target = reader.columns.reward or "reward"
    return reader, logs, _objectives(reader, logs), target, reader.source.name


def _path(log):
    return log.source.name if isinstance(log, log_reader.LogReader) else str(log)


def _objectives(reader, logs) -> list[str]:
    """The names of the weights, in the order of the columns."""
    names, d = reader.columns.action, logs.action.shape[1]
    if not isinstance(names, str) and len(names) == d:
        return list(names)
    return [f"{names}[{k}]" for k in range(d)]


def _parts(logs, share, folds, seed) -> list[tuple[Logs, Logs | None]]:
    """Pairs of rows that teach and rows that certify."""
    if folds:
        return list(folds_of(logs, folds, seed))
    return [(logs, None)] if share is None else [split(logs, share, seed)]


def _production(given, names):
    """The current weights, (d,), in the order of the `names`."""
    if given is None:
        return None
    weights = np.asarray(certification.weights_of(_policy(given, names)), float)
    if weights.shape != (len(names),):
        raise ValueError(
            f"production: expected {len(names)} weights, as many as the log has, got {weights.size}"
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"production: expected finite numbers, got {weights.tolist()}")
    return weights


def _policy(given, names) -> Any:
    return read_policy(given, names)[0] if isinstance(given, str | Path) else given


SURFACED = 2**18  # rows that tell what production has more


def _served(given, names, found) -> Served | None:
    """What production has more as it is played, at one point or with a spread of its own."""
    if given is None:
        return None
    policy, rows = _policy(given, names), found.logs if found.held is None else found.held
    own = spread(policy) if hasattr(policy, "covariance") else np.zeros(len(names))
    known = rows.action[:SURFACED], rows.reward[:SURFACED], found.production
    added = [
        smoothing_bias(*map(jnp.asarray, (*known, width))) for width in (own, spread(found.policy))
    ]
    return Served(float(added[0][0] - added[1][0]), float(added[1][1]))


# Logs that cannot teach.


def check_log(
    logs: Logs,
    *,
    names: Sequence[str] | None = None,
    reward: str = "reward",
    place: str = "log",
) -> None:
    """ValueError for a log that cannot teach: one reward, one action, too few rows.

    `names` of the weights, `reward` the name of its column and `place` that of the file are for
    the complaint.
    """
    check(logs)
    n, d = logs.action.shape
    if np.ptp(logs.reward) == 0:
        raise ValueError(
            f"{place}: column {reward!r}: all {n} rewards are {logs.reward[0]:g}: nothing can be"
            " learnt; name a reward that varies"
        )
    for k, name in enumerate(names or [f"action[{k}]" for k in range(d)]):
        if np.ptp(logs.action[:, k]) == 0:
            raise ValueError(
                f"{place}: weight {name!r}: all {n} rows played {logs.action[0, k]:g}: "
                "randomise it, or leave the column out"
            )
    least = 4 * (d + 1) * (d + 2)
    if n < least:
        raise ValueError(
            f"{place}: expected at least {least} rows to learn {d} weights, got {n}; collect more"
        )
    spread = np.linalg.svd(np.cov(logs.action.T).reshape(d, d), compute_uv=False)
    if spread[-1] < 1e-10 * spread[0]:
        raise ValueError(
            f"{place}: the logged weights are linearly dependent (do they add up to a constant?): "
            f"{', '.join(names or ['action'])}; leave one column out"
        )


# Running, stage by stage.


def _run(parts, plan, current, names, watch, stop) -> LearntWeights:
    """Learn and certify each part; the best certified gain wins.

    With several parts each certificate is at alpha over their number, so that all hold at once,
    that of the best included.
    """
    interrupted, done, stages = False, [], 2 * len(parts)
    watch(0, stages)
    for number, (learning, held) in enumerate(parts):
        try:
            found = _proposed(_floats(learning), held, plan, current, names)
        except KeyboardInterrupt:
            if not done:
                raise
            interrupted = True
            break
        watch(2 * number + 1, stages)
        interrupted = stop()
        done.append(_certified(found, held, plan.alpha / len(parts), current))
        watch(2 * number + 2, stages)
        if interrupted:
            break
    made = [found.certificate for found in done]
    best = done[0] if len(done) == 1 else max(done, key=lambda x: float(x.certificate.gain_bound))
    mixture = certification.combine(made) if len(made) > 1 else None
    return dataclasses.replace(best, mixture=mixture, interrupted=interrupted)


def _floats(logs):
    """Rows in JAX's default precision."""
    return jax.tree.map(jnp.asarray, logs)


def _proposed(logs, held, plan, current, names) -> LearntWeights:
    """What to certify on the rows held out, or on as many as taught, and what to believe in."""
    rows = len(logs.reward if held is None else held.reward)
    settings = {"project": plan.project, "radius": plan.radius, "alpha": plan.alpha}
    baseline = None if current is None else jnp.asarray(current, logs.action.dtype)
    proposal = jax.block_until_ready(propose(logs, float(rows), baseline, **settings))
    return LearntWeights(proposal, plan, names, logs)


def _certified(found: LearntWeights, held, level, current) -> LearntWeights:
    """With its certificates against the logging mean and against production."""
    if held is None:
        return dataclasses.replace(found, production=current)
    held = _floats(held)

    def against(baseline) -> Certificate:
        return certification.certified(found, held, baseline, alpha=level)

    return dataclasses.replace(
        found,
        held=held,
        certificate=against(found.whitening.mean),
        production=current,
        against_production=None if current is None else against(current),
    )
