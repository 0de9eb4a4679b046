"""How many past tests until a learnt metric beats the North Star at 95 %? What do wrong labels, and
a relation that changed half-way, do?

Histories of `benchmarks/_history.py`'s platform, of which the shorter ones are the first tests of
the longest; metrics are judged on 2,000 fresh tests of known truth, after the change where there is
one. A metric beats the North Star where its mean z on them is larger. After a change the North Star
follows the drivers in another way: the second and third for the first.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _history, _study
from benchmarks.metrics import judged
from mopl_jax.metrics import drift, learnt_metric, objectives

SIZES = {"experiments": (5, 10, 20, 40, 80, 160, 320), "histories": 100, "fresh": 2000}
QUICK = {"experiments": (10, 20), "histories": 4, "fresh": 100}
WAYS = ("gls", "log_p", "proxy", "tested", "liml", "total_covariance")
OTHER = np.array([0.05, 0.35, 0.35, -0.2])  # how the North Star responds after a change
AIM = 0.95


def run(options) -> list[dict]:
    """A row for each kind of history, its length and way to learn."""
    jax.config.update("jax_enable_x64", True)
    kinds = {"right labels": (0.0, False), "one label in ten wrong": (0.1, False)}
    kinds |= {"changed half-way": (0.0, True)}
    return [row for name, kind in kinds.items() for row in _rows(name, *kind, options)]


def _rows(kind, wrong, changes, options) -> Iterator[dict[str, Any]]:
    with _responding(changes):
        fresh = _history.draw(np.random.default_rng(7), options.fresh)
    for size in options.experiments:
        longest = options.experiments[-1]
        pasts = [_past(i, size, longest, wrong, changes) for i in range(options.histories)]
        batch = jax.tree.map(lambda *x: jnp.stack(x), *pasts)
        include = (jnp.arange(longest) < size).astype(float)
        shorter = [_first(past, size) for past in pasts]
        for way in WAYS:
            weights = np.asarray(_learn(batch, include, way))
            about = {"history": kind, "experiments": size, "metric": way}
            yield about | _summary(weights, shorter, fresh)


@functools.partial(jax.jit, static_argnames="way")
def _learn(batch, include, way):
    objective = learnt_metric.NAMED[way]
    return jax.lax.map(lambda past: objectives.learn(past, objective, include), batch)


def _past(number, size, longest, wrong, changes):
    """A history of the longest, of which the first `size` are looked at: their later half is of the
    changed platform.
    """
    rng = np.random.default_rng(10_000 + number)
    drawn = _history.draw(rng, longest, wrong)
    if changes:
        with _responding(True):
            other = _history.draw(rng, longest, wrong)
        place = (np.arange(longest) >= size - size // 2) & (np.arange(longest) < size)
        drawn = {
            key: np.where(place.reshape(-1, *[1] * (x.ndim - 1)), other[key], x)
            for key, x in drawn.items()
        }
    return _history.history(drawn)


def _first(past, size):
    """The first `size` tests of a history."""
    names = ("effect", "covariance", "size", "sign", "null", "experiment")
    return dataclasses.replace(past, **{name: getattr(past, name)[:size] for name in names})


class _responding:
    """The North Star's response to the drivers, changed within the block if `changed`."""

    def __init__(self, changed):
        self.changed, self.before = changed, _history.RESPONSE[-1].copy()

    def __enter__(self):
        if self.changed:
            _history.RESPONSE[-1] = OTHER

    def __exit__(self, *_):
        _history.RESPONSE[-1] = self.before


def _summary(weights, pasts, fresh):
    each = [judged(w, fresh) for w in weights]
    factor = np.array([one["factor"] for one in each])
    better = float(np.mean(factor > 1))
    said = [
        drift.drift(w, past, drift.second_half(past)).p_value
        for w, past in zip(weights, pasts, strict=True)
    ]
    return {
        "beats": better,
        "beats_se": float(np.sqrt(better * (1 - better) / len(factor))),
        "factor": float(factor.mean()),
        "factor_se": float(factor.std(ddof=1) / len(factor) ** 0.5),
        "type_iii": float(np.mean([one["type_iii"] for one in each])),
        "drift_told": float(np.mean(np.array(said) < drift.LEVEL)),
    }


def table(rows: list[dict]) -> str:
    """The share of histories whose metric beats the North Star; how many tests that takes."""
    parts = _study.grouped(rows, "history").items()
    return "\n\n".join(f"## {name}\n\n{_part(some)}" for (name,), some in parts)


def _part(some):
    sizes = sorted({row["experiments"] for row in some})
    head = ("metric", *(f"{size} tests" for size in sizes), f"tests for {AIM:.0%}")
    lines = [_line(of, sizes) for of in _study.grouped(some, "metric").values()]
    last = [row for row in some if row["experiments"] == sizes[-1]]
    told = ", ".join(f"{row['metric']} {row['drift_told']:.0%}" for row in last)
    return (
        "Share of histories whose metric beats the North Star ± standard error; mean factor on its"
        f" users.\n\n{_study.markdown(head, lines)}\n\nA change is told (p < {drift.LEVEL:g}) in"
        f" these shares of histories of {sizes[-1]} tests: {told}."
    )


def _line(of, sizes):
    by_size = {row["experiments"]: row for row in of}
    cells = [
        f"{by_size[n]['beats']:.1%} ± {by_size[n]['beats_se']:.1%}; {by_size[n]['factor']:.1f}"
        for n in sizes
    ]
    enough = [n for n in sizes if all(by_size[m]["beats"] >= AIM for m in sizes if m >= n)]
    return (of[0]["metric"], *cells, enough[0] if enough else f"more than {sizes[-1]}")
