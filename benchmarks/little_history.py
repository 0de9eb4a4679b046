"""How many past tests until a learnt metric beats the North Star, and what do wrong labels and a
relation that changes half-way do?

Metrics learnt from the first E tests of `benchmarks/_history.py`'s platform, by objectives old and
new, are judged on fresh tests of known truth: *beats* is the share of histories whose metric needs
fewer users than the North Star for the same mean z, *shown* the share whose own leave-one-out
validation says so with 95 % confidence (factor less 1.645 standard errors above 1). Where the
relation changes, the North Star of the later half of the tests follows other drivers, and the fresh
tests are of that later kind; how often that is noticed is `python -m benchmarks drift`.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _history, _study
from benchmarks.metrics import judged
from mopl_jax.metrics import learnt_metric, objectives, validation

SIZES = {"experiments": (10, 14, 20, 28, 40, 80, 160, 320), "histories": 200, "fresh": 2000}
QUICK = {"experiments": (10, 20), "histories": 3, "fresh": 100}
OBJECTIVES = ("gls", "log_p", "proxy", "total_covariance", "liml", "cross_fold", "tested")
LABELLED = ("gls", "log_p")  # the others read no label
CHANGES = ("none", "half-way", "half-way, later half alone")
CONFIDENT = 1.645


def run(options) -> list[dict]:
    """A row for each objective, share of wrong labels, change and length of history."""
    jax.config.update("jax_enable_x64", True)
    return [row for name, wrong, change in _cells() for row in _rows(name, wrong, change, options)]


def _cells():
    for name, wrong, change in itertools.product(OBJECTIVES, _history.WRONG, CHANGES):
        if not wrong or (change == "none" and name in LABELLED):
            yield name, wrong, change


def _rows(name, wrong, change, options):
    later = change != "none"
    fresh = _history.draw(np.random.default_rng(7), options.fresh, later=later)
    for size in options.experiments:
        each = [_history.past(i, size, wrong, changing=later) for i in range(options.histories)]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *each)
        half = jnp.arange(size) >= (size // 2 if change == CHANGES[2] else 0)
        weights = np.asarray(_learn(stacked, half, name))
        about = {"objective": name, "wrong": wrong, "change": change, "experiments": size}
        about |= {"histories": options.histories}
        said = [judged(one, fresh) for one in weights]
        factor = np.array([one["factor"] for one in said])
        row = _mean("factor", factor) | _mean("beats", factor > 1)
        row |= {"shown": None, "shown_se": None}
        row |= _mean("type_iii", np.array([one["type_iii"] for one in said]))
        if change == "none":
            row |= _mean("shown", np.array([_shown(past, name) for past in each]))
        yield about | row


@functools.partial(jax.jit, static_argnames="name")
def _learn(histories, include, name):
    objective = learnt_metric.NAMED[name]
    learn = functools.partial(objectives.learn, objective=objective)
    return jax.lax.map(lambda past: learn(past, include=include.astype(float)), histories)


def _mean(name, values):
    values = np.asarray(values, float)
    return {name: values.mean(), f"{name}_se": values.std(ddof=1) / len(values) ** 0.5}


def _shown(past, name):
    """Whether the history itself shows it, by its labels; NaN for descents, of which each would
    take as many as there are tests.
    """
    if name not in learnt_metric.CLOSED:
        return np.nan
    known = np.asarray(past.sign) != 0
    if known.sum() < 2:
        return False
    z = validation.held_out(past, learnt_metric.NAMED[name])
    north = np.asarray(objectives.z_scores(jnp.eye(len(past.names))[past.north_star], past))
    sign, index = np.asarray(past.sign)[known], np.asarray(past.experiment)[known]
    ours, theirs = sign * z[known], sign * north[known]
    error = validation._resampled(validation.mean_factor, ours, theirs, index)
    return validation.mean_factor(ours, theirs) - CONFIDENT * error > 1


def table(rows: list[dict]) -> str:
    """How surely each metric beats the North Star; what a change of the relation does."""
    steady = [row for row in rows if row["change"] == "none"]
    changed = [row for row in rows if row["change"] == "half-way"]
    sizes = dict.fromkeys(row["experiments"] for row in rows)
    head = ("objective", "wrong labels", *(f"{size} tests" for size in sizes))
    blocks = [
        ("Share of histories whose metric beats the North Star:", head, _lines(steady, "beats")),
        ("… that show it themselves:", head, _lines(steady, "shown")),
        ("Times fewer users than the North Star:", head, _lines(steady, "factor")),
        ("The same where the relation changed half-way:", head, _lines(changed, "factor")),
        ("… learnt from the later half alone:", head, _lines(_alone(rows), "factor")),
    ]
    return "\n\n".join(f"{text}\n\n{_study.markdown(top, some)}" for text, top, some in blocks)


def _alone(rows):
    return [row for row in rows if row["change"] == CHANGES[2]]


def _lines(rows, key):
    for (name, wrong), some in _study.grouped(rows, "objective", "wrong").items():
        if not np.isnan(some[0][key]):
            yield (name, f"{wrong:.0%}", *(_with_error(row, key) for row in some))


def _with_error(row, key):
    value, error = row[key], row[f"{key}_se"]
    if key == "factor":
        return f"{value:.1f} ± {error:.2f}"
    return f"{value:.1%} ± {error:.1%}"
