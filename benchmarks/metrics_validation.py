"""Does the validation of a learnt metric keep its promises? Held-out p-values of one long history.

Leave-one-out, as `mopl metric` reports it: p-values towards known winners, errors, and A/A false
positives, on a history of `benchmarks/_history.py`'s platform. It sees noise and labels alone;
what the metric is worth on fresh experiments is `python -m benchmarks metrics`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import _study
from benchmarks._history import ALPHA, NAMES, WRONG, past
from mopl_jax.metrics import learnt_metric, objectives, validation

SIZES = {"experiments": 320}
QUICK = {"experiments": 40}


def run(options) -> list[dict]:
    """One row for each share of wrong labels and objective."""
    jax.config.update("jax_enable_x64", True)
    cells = itertools.product(WRONG, learnt_metric.NAMED)
    return [validated(name, wrong, options.experiments) for wrong, name in cells]


def validated(objective: str, wrong: float, experiments: int) -> dict:
    """Held-out p-values and errors of one history."""
    history = past(-1, experiments, wrong)
    z = validation.held_out(history, learnt_metric.NAMED[objective])
    found = validation.judge(z, history, ALPHA)
    north = np.asarray(objectives.z_scores(jnp.eye(len(NAMES))[-1], history))
    sign, null = np.asarray(history.sign), np.asarray(history.null)
    return {
        "objective": objective,
        "wrong": wrong,
        "experiments": experiments,
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


def table(rows: list[dict]) -> str:
    """All but the p-values."""
    return _study.columns(
        rows, tuple(name for name in rows[0] if not name.startswith("p_") and name != "p")
    )
