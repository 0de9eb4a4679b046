"""Which estimator of the exchange rate of a metric, without being told whether there are direct
effects?

The worlds of Bibaut, Chou, Ejdemyr & Kallus (KDD 2024, arXiv 2402.17637; code
winston-chou/linear-proxy-metrics): β = (−0.4, 0.04), 1,000 weak tests, errors of β over draws; and
the size and power, at 5 %, of the test of direct effects that `tested` chooses by. Its level there
and Fuller's constant were chosen on another world (`OURS` of `_weak_tests.py`; `ours` in the
table).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._weak_tests import OURS, THEIRS, draws
from mopl_jax.metrics import exchange, objectives

SIZES = {"draws": 200, "tests": 1000, "users": (5000, 10_000, 20_000, 100_000)}
QUICK = {"draws": 4, "tests": 50, "users": (5000,)}
SHARES = (0.0, 0.0003, 0.001, 0.01, 0.1, 1.0)  # of the direct effects of the paper
WORLDS = {"theirs": THEIRS, "ours": OURS}
WAYS = {
    "naive": exchange.naive,
    "total covariance": exchange.total_covariance,
    "liml": exchange.liml,
    "effect_covariance": lambda history, include, allowed: _shrunk(history, include),
    "tested": exchange.tested,
}


def _shrunk(history, include):
    """The exchange rate of `objectives.effect_covariance`, shrunk and made positive."""
    true = objectives.effect_covariance(history, include)
    return jnp.concatenate([jnp.zeros(1), jnp.linalg.solve(true[1:, 1:], true[1:, 0])])


def run(options) -> list[dict]:
    """A row for each world, users in an arm, share of direct effects and estimator."""
    jax.config.update("jax_enable_x64", True)
    cells = [(name, users, share) for name in WORLDS for users in options.users for share in SHARES]
    return [row for i, cell in enumerate(cells) for row in _cell(i, *cell, options)]


@functools.partial(jax.jit, static_argnames=("name", "count", "tests"))
def _estimates(name, key, count, tests, users, share):
    history = draws(WORLDS[name], key, count, tests, users, share)
    axes = jax.tree.map(lambda _: 0, history)
    everything = jnp.ones(tests)

    def one(past):
        standard, scale = objectives._scaled(past)
        allowed = objectives.signals_only(past)
        found = [way(standard, everything, allowed) for way in WAYS.values()]
        rates = jnp.stack(found)[:, 1:] * scale[0] / scale[1:]
        return rates, exchange.direct_effects(standard, everything, allowed).p_value

    return jax.vmap(one, in_axes=(axes,))(history)


def _cell(number, name, users, share, options):
    key = jax.random.key(number)
    rates, p = map(
        np.asarray, _estimates(name, key, options.draws, options.tests, float(users), share)
    )
    error = rates - WORLDS[name].beta
    rejected = float(np.mean(p < exchange.SIGNIFICANT))
    about = {"world": name, "users": users, "direct": share, "draws": options.draws}
    for i, way in enumerate(WAYS):
        square = np.square(error[:, i])
        root = np.sqrt(square.mean(axis=0))
        yield (
            about
            | {"estimator": way, "rejected": rejected}
            | {
                "rmse": root.tolist(),
                "rmse_se": (square.std(axis=0) / options.draws**0.5 / 2 / root).tolist(),
                "bias": error[:, i].mean(axis=0).tolist(),
            }
        )


def table(rows: list[dict]) -> str:
    """Root mean square errors of β by estimator; the worst ratio of `tested` to the better one."""
    head = ("world", "users an arm", "direct effects", *WAYS, "rejects", "tested / better")
    groups = _study.grouped(rows, "world", "users", "direct").values()
    return _study.markdown(head, map(_line, groups), "lr")


def _line(some):
    first, by_name = some[0], {row["estimator"]: np.array(row["rmse"]) for row in some}
    better = np.minimum(by_name["liml"], by_name["total covariance"])
    cells = [" · ".join(f"{x:.3g}" for x in by_name[way]) for way in WAYS]
    about = (first["world"], f"{first['users']:,}", f"{first['direct']:g}")
    ratio = float(np.max(by_name["tested"] / better))
    return (*about, *cells, f"{first['rejected']:.1%}", f"{ratio:.2f}")
