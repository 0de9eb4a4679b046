"""How little history is enough for a learnt metric? Power gain against the number of past
experiments, by objective.

A platform with seven user signals and a North Star. An experiment changes four latent drivers of
the experience; signals and North Star respond linearly, the North Star mostly to one, weakly and
through wide user noise. A third of the experiments are A/A. A winner is known where the North
Star's true effect is among the larger half, as if by a longer test: labels do not look at the
measured difference. A share of them is wrong. Elsewhere the label is unknown.

Metrics learnt from E experiments are judged on 2,000 fresh experiments of the same platform,
whose truth is known, and beside it stands what the leave-one-out validation would have said from
the E alone.
"""

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mopl_jax.io import storage
from mopl_jax.metrics import experiments, objectives, validation

RESULTS = Path(__file__).parent / "results"
SIGNALS = ("sessions", "likes", "shares", "long_views", "watch_minutes", "comments", "skips")
NAMES = (*SIGNALS, "retention")
NULLS, WRONG, KNOWN = (
    0.33,
    (0.0, 0.1),
    0.5,
)  # shares: A/A; wrong labels; largest effects that are labelled
SIZES, HISTORIES, FRESH = (10, 20, 40, 80, 160, 320), 100, 2000
ALPHA = 0.05

# Rows: response to the four drivers (quality, novelty, sociality, load), in user standard
# deviations × 1e-2 for a usual change.
RESPONSE = np.array(
    [
        [1.2, 0.2, 0.2, -0.2],
        [0.3, 0.9, 0.8, 0.0],
        [0.2, 0.1, 1.2, 0.1],
        [0.9, -0.3, 0.0, 0.3],
        [0.4, -0.8, 0.1, 1.0],
        [0.0, 0.2, 0.9, 0.3],
        [-0.6, 0.3, 0.0, 0.9],
        [0.45, 0.0, 0.1, -0.2],
    ]
)
USER_LOAD = np.array(
    [0.5, 0.4, 0.3, 0.6, 0.7, 0.3, -0.2, 0.4]
)  # one factor of activity correlates all metrics over users


def covariance() -> np.ndarray:
    """Over users: one common factor, unit variances."""
    return np.outer(USER_LOAD, USER_LOAD) + np.diag(1 - USER_LOAD**2)


def draw(rng: np.random.Generator, count: int, wrong: float = 0.0) -> dict[str, np.ndarray]:
    """True and estimated effects of `count` experiments, users, labels."""
    users = np.exp(rng.uniform(np.log(20_000), np.log(400_000), count)).astype(int)
    null = rng.random(count) < NULLS
    drivers = stats.t(5).rvs((count, 4), random_state=rng) * 0.6
    effect = np.where(null[:, None], 0, 1e-2 * drivers @ RESPONSE.T)
    noise = rng.normal(size=(count, len(NAMES))) @ np.linalg.cholesky(covariance()).T
    large = np.abs(effect[:, -1]) > np.quantile(np.abs(effect[~null, -1]), 1 - KNOWN)
    flip = np.where(rng.random(count) < wrong, -1, 1)
    sign = np.where(~null & large, flip * np.sign(effect[:, -1]), 0.0)
    return {
        "users": users,
        "null": null,
        "effect": effect,
        "sign": sign,
        "truth": np.sign(effect[:, -1]),
        "estimate": effect + noise * np.sqrt(2 / users)[:, None],
    }


def history(drawn: dict[str, np.ndarray]) -> objectives.History:
    """The record that an experiments table of these differences becomes."""
    count, users = drawn["users"].size, drawn["users"]
    each = covariance() * (2 / users)[:, None, None]
    columns = (
        drawn["estimate"],
        each,
        users / 2,
        drawn["sign"],
        drawn["null"],
        np.arange(count),
        covariance(),
    )
    effect, noise, size, sign, null, index, over_users = (jnp.asarray(column) for column in columns)
    return objectives.History(
        effect, noise, size, sign, null, index, over_users, NAMES, len(NAMES) - 1
    )


def table(drawn: dict[str, np.ndarray]) -> Iterator[dict]:
    """The same experiments as rows of an experiments table, the control's means at zero."""
    labels = np.select(
        [drawn["null"], drawn["sign"] > 0, drawn["sign"] < 0], ["aa", "winner", "loser"], "unknown"
    )
    for i, (n, label) in enumerate(zip(drawn["users"], labels, strict=True)):
        for arm, tag, means in (
            ("A", "control", np.zeros(len(NAMES))),
            ("B", str(label), drawn["estimate"][i]),
        ):
            yield experiments.row(
                f"e{i:03}", arm, tag, n, dict(zip(NAMES, means, strict=True)), covariance()
            )


def best_weights() -> np.ndarray:
    """The metric that a platform would use if it knew everything: ω ∝ (Λ + S̄)⁻¹ Λ e_N without the
    North Star itself.
    """
    fresh = draw(np.random.default_rng(10**6), 200_000)
    true = np.cov(fresh["effect"][~fresh["null"]].T, bias=True)
    noise = covariance() * np.mean(2 / fresh["users"])
    k = len(SIGNALS)
    return np.append(np.linalg.solve((true + noise)[:k, :k], true[:k, -1]), 0)


def judged(weights: np.ndarray, fresh: dict[str, np.ndarray]) -> dict[str, float]:
    """Power, type-III rate and equivalent sample-size factor on fresh experiments, against the
    *true* sign of the North Star.
    """
    scale = (
        np.sqrt(2 / fresh["users"] * (weights @ covariance() @ weights))
        if np.any(weights)
        else np.inf
    )
    some = ~fresh["null"]
    z = (fresh["truth"] * (fresh["estimate"] @ weights) / scale)[some]
    expected = (fresh["truth"] * (fresh["effect"] @ weights) / scale)[some]
    north = (fresh["truth"] * fresh["effect"][:, -1] / np.sqrt(2 / fresh["users"]))[some]
    critical = stats.norm.isf(ALPHA / 2)
    return {
        "power": float(np.mean(z > critical)),
        "type_iii": float(np.mean(z < -critical)),
        "factor": float(max(expected.mean(), 0) / north.mean()) ** 2,
    }


def learnt(objective: str, wrong: float) -> np.ndarray:
    """Weights (histories, sizes, k): the shorter histories are the first experiments of the
    longest.
    """
    histories = [_past(i, wrong) for i in range(HISTORIES)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *histories)
    return np.asarray(_learn(stacked, objective))


def _past(i, wrong):
    return history(draw(np.random.default_rng(100 + i), SIZES[-1], wrong))


@functools.partial(jax.jit, static_argnames="objective")
def _learn(histories, objective):
    first = (jnp.arange(SIZES[-1])[None] < jnp.asarray(SIZES)[:, None]).astype(float)
    return jax.lax.map(
        lambda past: jax.vmap(
            lambda include: objectives.learn(past, objectives.NAMED[objective], include)
        )(first),
        histories,
    )


def rows_for(objective: str, wrong: float, fresh: dict[str, np.ndarray]) -> list[dict]:
    """Mean, standard error and 10 % quantile over histories of what the metric is worth, at each
    length of history.
    """
    weights = learnt(objective, wrong)
    return [
        {"objective": objective, "wrong": wrong, "experiments": size, "histories": HISTORIES}
        | _summary([judged(one, fresh) for one in weights[:, i]])
        for i, size in enumerate(SIZES)
    ]


def _summary(each):
    row = {}
    for key in each[0]:
        values = np.array([one[key] for one in each])
        row |= {key: values.mean(), f"{key}_se": values.std(ddof=1) / len(values) ** 0.5}
        row |= {f"{key}_q10": np.quantile(values, 0.1)}
    return row


def validated(objective: str, wrong: float) -> dict:
    """One long history: held-out p-values and errors, and A/A false positives, as `mopl metric`
    reports them.
    """
    past = _past(-1, wrong)
    z = validation.held_out(past, objectives.NAMED[objective])
    found = validation.judge(z, past, ALPHA)
    north = np.asarray(objectives.z_scores(jnp.eye(len(NAMES))[-1], past))
    sign, null = np.asarray(past.sign), np.asarray(past.null)
    return {
        "objective": objective,
        "wrong": wrong,
        "experiments": SIZES[-1],
        "known": found.known,
        "nulls": found.nulls,
        "p": stats.norm.sf((sign * z)[sign != 0]).tolist(),
        "p_north": stats.norm.sf((sign * north)[sign != 0]).tolist(),
        "p_null": (2 * stats.norm.sf(np.abs(z[null]))).tolist(),
        "factor": found.factor,
        "factor_se": found.factor_se,
        "power": found.metric.power,
        "power_north": found.north_star.power,
        "power_tandem": found.tandem.power,
        "type_iii": found.metric.type_iii,
        "type_iii_north": found.north_star.type_iii,
        "agreement": found.metric.agreement,
        "agreement_north": found.north_star.agreement,
        "false_positives": found.false_positives,
        "false_positives_low": found.false_positives_low,
        "false_positives_high": found.false_positives_high,
    }


def main() -> None:
    """Write results/metrics.parquet and results/metrics_validation.parquet."""
    jax.config.update("jax_enable_x64", True)
    started = time.perf_counter()
    fresh = draw(np.random.default_rng(7), FRESH)
    rows = [
        row
        for wrong in WRONG
        for objective in objectives.NAMED
        for row in rows_for(objective, wrong, fresh)
    ]
    for name, weights in (("north star", np.eye(len(NAMES))[-1]), ("best", best_weights())):
        rows += [
            {
                "objective": name,
                "wrong": wrong,
                "experiments": SIZES[-1],
                "histories": 1,
                **judged(weights, fresh),
            }
            for wrong in WRONG
        ]
    checked = [validated(objective, wrong) for wrong in WRONG for objective in objectives.NAMED]
    config = {
        "sizes": SIZES,
        "histories": HISTORIES,
        "fresh": FRESH,
        "nulls": NULLS,
        "wrong": WRONG,
        "known": KNOWN,
    }
    about = storage.provenance(study=config, seconds=time.perf_counter() - started)
    storage.write_results(RESULTS / "metrics.parquet", rows, about)
    storage.write_results(RESULTS / "metrics_validation.parquet", checked, about)
    for row in rows:
        print(
            f"{row['objective']:11} wrong {row['wrong']:.0%} E={row['experiments']:4} power"
            f" {row['power']:.3f} type III {row['type_iii']:.4f} factor {row['factor']:.2f}"
        )


if __name__ == "__main__":
    main()
