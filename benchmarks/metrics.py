"""How little history is enough for a learnt metric? Power gain against the number of past
experiments, by objective.

Metrics learnt from E experiments of `benchmarks/_history.py`'s platform are judged on 2,000 fresh
experiments of the same platform, whose truth is known. `python -m benchmarks metrics_validation`
is what the leave-one-out validation says from the E alone.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import _study
from benchmarks._history import ALPHA, NAMES, SIGNALS, WRONG, covariance, draw, past
from mopl_jax.metrics import learnt_metric, objectives

SIZES = {"experiments": (10, 20, 40, 80, 160, 320), "histories": 100, "fresh": 2000}
QUICK = {"experiments": (10, 20), "histories": 4, "fresh": 100}


def run(options) -> list[dict]:
    """Each objective, share of wrong labels and length of history; then the North Star and the
    best metric of all.
    """
    jax.config.update("jax_enable_x64", True)
    fresh = draw(np.random.default_rng(7), options.fresh)
    cells = itertools.product(WRONG, learnt_metric.NAMED)
    rows = [row for wrong, name in cells for row in _rows(name, wrong, fresh, options)]
    known = {"north star": np.eye(len(NAMES))[-1], "best": best_weights()}
    for (name, weights), wrong in itertools.product(known.items(), WRONG):
        about = {"objective": name, "wrong": wrong, "experiments": options.experiments[-1]}
        rows.append(about | {"histories": 1} | judged(weights, fresh))
    return rows


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
    spread = np.sqrt(2 / fresh["users"] * (weights @ covariance() @ weights))
    scale = spread if np.any(weights) else np.inf
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


def learnt(objective: str, wrong: float, sizes: tuple[int, ...], histories: int) -> np.ndarray:
    """Weights (histories, sizes, k): the shorter histories are the first experiments of the
    longest.
    """
    each = [past(i, sizes[-1], wrong) for i in range(histories)]
    return np.asarray(_learn(jax.tree.map(lambda *x: jnp.stack(x), *each), objective, sizes))


@functools.partial(jax.jit, static_argnames=("objective", "sizes"))
def _learn(histories, objective, sizes):
    first = (jnp.arange(sizes[-1])[None] < jnp.asarray(sizes)[:, None]).astype(float)
    learn = functools.partial(objectives.learn, objective=learnt_metric.NAMED[objective])
    return jax.lax.map(
        lambda past: jax.vmap(lambda include: learn(past, include=include))(first), histories
    )


def _rows(objective, wrong, fresh, options):
    weights = learnt(objective, wrong, options.experiments, options.histories)
    for i, size in enumerate(options.experiments):
        about = {"objective": objective, "wrong": wrong, "experiments": size}
        found = _summary([judged(one, fresh) for one in weights[:, i]])
        yield about | {"histories": options.histories} | found


def _summary(each):
    """Mean, standard error and 10 % quantile over histories."""
    row = {}
    for key in each[0]:
        values = np.array([one[key] for one in each])
        row |= {key: values.mean(), f"{key}_se": values.std(ddof=1) / len(values) ** 0.5}
        row |= {f"{key}_q10": np.quantile(values, 0.1)}
    return row


def table(rows: list[dict]) -> str:
    """What each metric is worth."""
    names = ("objective", "wrong", "experiments", "power", "type_iii", "factor", "factor_se")
    return _study.columns(rows, names)
