"""Which estimator of the exchange rate of a metric, without being told whether there are direct
effects?

The worlds of Bibaut, Chou, Ejdemyr & Kallus (KDD 2024, arXiv 2402.17637; code
winston-chou/linear-proxy-metrics): β = (−0.4, 0.04), 1,000 weak tests, errors of β over draws; and
the size and power, at 5 %, of the test of direct effects that `tested` chooses by. Its level there
and Fuller's constant are those of the smallest worst ratio on other, random worlds: the second
table, which saw none of theirs; beside it other forms of the choice, which do not do better.

The third table asks how well any choice could do. Where direct effects are of the size of their
error, what is known of them is one number z ~ N(θ, 1), and β errs by √(b + (δ(z) − θ)²): LIML takes
θ for 0, total covariance for z. `bound` is the least worst ratio to the better of the two, over
θ ≥ 0, of any δ, by the least favourable weights of θ; b is that of errors without direct effects.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy import stats

from benchmarks import _study
from benchmarks._weak_tests import OURS, THEIRS, draws, random_world
from mopl_jax.metrics import exchange, objectives

RESULTS = ("exchange_rate", "exchange_rate_choice", "exchange_rate_bound")
SIZES = {
    "draws": 1000,
    "tests": 1000,
    "users": (5000, 10_000, 20_000, 100_000),
    "worlds": 40,
    "choice_draws": 500,
    "choice_users": (5000, 10_000, 30_000),
}
QUICK = {
    "draws": 4,
    "tests": 50,
    "users": (5000,),
    "worlds": 2,
    "choice_draws": 4,
    "choice_users": (10_000,),
}
SHARES = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)  # of the direct effects of the paper
LEVELS, FULLERS = (0.1, 0.15, 0.2, 0.5), (4.0, 6.0, 8.0)
THETA, Z = np.linspace(0, 6, 121), np.linspace(-5, 11, 801)
ROUNDS = 3000  # of multiplicative weights: bounds to two decimals
WORLDS = {"theirs": THEIRS, "ours": OURS}
WAYS = {
    "naive": exchange.naive,
    "total covariance": exchange.total_covariance,
    "liml": exchange.liml,
    "effect_covariance": lambda history, include, allowed: _shrunk(history, include),
    "tested": exchange.tested,
}


def _shrunk(history, include):
    """The exchange rate of `objectives.effect_covariance`, shrunk and made positive.

    By the pseudo-inverse: signals in a direction whose eigenvalue was set to 0 have no covariance
    with the North Star either.
    """
    true = objectives.effect_covariance(history, include)
    inverse = jnp.linalg.pinv(true[1:, 1:], hermitian=True)
    return jnp.concatenate([jnp.zeros(1), inverse @ true[1:, 0]])


def stein(c):
    """James and Stein's positive part: total covariance to the share 1 − c/z²."""
    return lambda p: jnp.minimum(1.0, c / jnp.square(_evidence(p)))


def quartic(c):
    """LIML to the share 1/(1 + (z/c)⁴), near what `bound` is reached by."""
    return lambda p: 1 / (1 + (_evidence(p) / c) ** 4)


def _evidence(p):
    return jnp.maximum(norm.isf(jnp.clip(p, 1e-300, 1 - 1e-12)), 1e-3)


OTHERS = [(stein, 1.0), (stein, 1.5), (quartic, 1.3), (quartic, 1.5), (quartic, 1.7)]
CHOICES = {
    "liml": exchange.liml,
    "total covariance": exchange.total_covariance,
    **{
        ("falling", x, y): exchange.choosing(exchange.falling(x), y)
        for x, y in itertools.product(LEVELS, FULLERS)
    },
    **{(f.__name__, c, 6.0): exchange.choosing(f(c), 6.0) for f, c in OTHERS},
}


def run(options):
    """A row for each world, users in an arm, share of direct effects and estimator; one for each
    choice, on random worlds; one for each world, users and coefficient.
    """
    jax.config.update("jax_enable_x64", True)
    cells = enumerate(itertools.product(WORLDS, options.users, SHARES))
    rows = [
        row for i, (name, users, share) in cells for row in _cell(i, name, users, share, options)
    ]
    yield rows
    yield list(_choice(options))
    yield list(_bounds(rows))


@functools.partial(jax.jit, static_argnames=("ways", "count", "tests"))
def _estimates(ways, world, key, count, tests, users, share):
    history = draws(world, key, count, tests, users, share)
    axes = jax.tree.map(lambda _: 0, history)
    everything = jnp.ones(tests)

    def one(past):
        standard, scale = objectives.scaled(past)
        allowed = objectives.signals_only(past)
        found = [way(standard, everything, allowed) for way in ways]
        rates = jnp.stack(found)[:, 1:] * scale[0] / scale[1:]
        return rates, exchange.direct_effects(standard, everything, allowed).p_value

    return jax.vmap(one, in_axes=(axes,))(history)


def _choice(options):
    """The worst and the usual ratio to the better of LIML and total covariance, over worlds."""
    ways, ratios = tuple(CHOICES.values()), []
    cells = itertools.product(range(options.worlds), options.choice_users, SHARES)
    for i, (number, users, share) in enumerate(cells):
        world, key = random_world(int(number)), jax.random.key(10_000 + i)
        sizes = options.choice_draws, options.tests
        rates, _ = _estimates(ways, world, key, *sizes, float(users), share)
        root = np.sqrt(np.mean(np.square(np.asarray(rates) - world.beta), axis=0))
        ratios.append(np.max(root / np.minimum(root[0], root[1]), axis=1))
    for name, found in zip(CHOICES, np.array(ratios).T, strict=True):
        if isinstance(name, tuple):
            yield {
                "share": name[0],
                "constant": name[1],
                "fuller": name[2],
                "cells": len(found),
                "worst": float(found.max()),
                "q99": float(np.quantile(found, 0.99)),
                "q95": float(np.quantile(found, 0.95)),
            }


def _bounds(rows):
    """For each coefficient, what any choice reaches at best, and what `tested` does."""
    for (world, users), some in _study.grouped(rows, "world", "users").items():
        clean = {r["estimator"]: np.array(r["rmse"]) for r in some if r["direct"] == 0}
        ratios = np.array([r["ratio"] for r in some if r["estimator"] == "tested"])
        errors = np.array([r["ratio_se"] for r in some if r["estimator"] == "tested"])
        for k in range(ratios.shape[1]):
            least, most = clean["liml"][k] ** 2, clean["total covariance"][k] ** 2
            if most > least:
                b, worst = float(least / (most - least)), int(np.argmax(ratios[:, k]))
                about = {"world": world, "users": users, "coefficient": f"β{k + 1}", "b": b}
                reached = {"tested": ratios[worst, k], "tested_se": errors[worst, k]}
                yield about | {"bound": _bound(b)} | reached


def _bound(b):
    """A lower bound of max over θ of √((b + E(δ−θ)²)/(b + min(θ², 1))) for every δ."""
    chance = stats.norm.pdf(Z - THETA[:, None]) * (Z[1] - Z[0])
    better, weight, bound = b + np.minimum(THETA**2, 1), np.ones(THETA.size) / THETA.size, 0.0
    for i in range(1, ROUNDS + 1):
        prior = weight / better
        best = (prior * THETA) @ chance / np.maximum(prior @ chance, 1e-300)
        ratio = (b + (chance * np.square(best - THETA[:, None])).sum(axis=1)) / better
        bound = max(bound, float(weight @ ratio))
        weight = weight * np.exp(2 / i**0.5 * (ratio - ratio.max()))
        weight /= weight.sum()
    return bound**0.5


def _cell(number, name, users, share, options):
    key = jax.random.key(number)
    sizes = options.draws, options.tests
    found = _estimates(tuple(WAYS.values()), WORLDS[name], key, *sizes, float(users), share)
    rates, p = map(np.asarray, found)
    error = rates - WORLDS[name].beta
    rejected = float(np.mean(p < exchange.SIGNIFICANT))
    about = {"world": name, "users": users, "direct": share, "draws": options.draws}
    about |= _ratio(error)
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


def table(rows: list[dict], choice: list[dict], bounds: list[dict]) -> str:
    """Root mean square errors of β by estimator; the worst ratio of `tested` to the better one;
    that of other choices, and of the best of all.
    """
    head = ("world", "users an arm", "direct effects", *WAYS, "rejects", "tested / better ± SE")
    groups = _study.grouped(rows, "world", "users", "direct").values()
    blocks = [_study.markdown(head, map(_line, groups), "lr"), "Random worlds:"]
    blocks.append(_study.columns(choice, tuple(choice[0])))
    blocks += ["What any choice could do at best, and what `tested` does at worst:"]
    return "\n\n".join([*blocks, _study.columns(bounds, tuple(bounds[0]))])


def _line(some):
    first, by_name = some[0], {row["estimator"]: np.array(row["rmse"]) for row in some}
    cells = [" · ".join(f"{x:.3g}" for x in by_name[way]) for way in WAYS]
    about = (first["world"], f"{first['users']:,}", f"{first['direct']:g}")
    worst = int(np.argmax(first["ratio"]))
    ratio = f"{first['ratio'][worst]:.2f} ± {first['ratio_se'][worst]:.2f}"
    return (*about, *cells, f"{first['rejected']:.1%}", ratio)


def _ratio(error):
    """Of the root mean square errors of `tested` to those of the better one, and its standard
    error by the jackknife over twenty parts of the draws.
    """
    index = {name: i for i, name in enumerate(WAYS)}
    square = np.square(error)

    def ratio(some):
        root = np.sqrt(some.mean(axis=0))
        better = np.minimum(root[index["liml"]], root[index["total covariance"]])
        return root[index["tested"]] / better

    parts = np.arange(len(square)) % min(20, len(square))
    without = np.stack([ratio(square[parts != part]) for part in np.unique(parts)])
    m = len(without)
    spread = np.sqrt((m - 1) / m * np.sum(np.square(without - without.mean(axis=0)), axis=0))
    return {"ratio": ratio(square).tolist(), "ratio_se": spread.tolist()}
