"""Is a model of the rewards that is chosen by evidence a better one to calibrate SNIPS with?

`calibrated` believes the linear and the quadratic part by what noise would explain and by
effective rows a feature. `evidence` has the same features, each part with the prior variance of
largest evidence (empirical Bayes on the weighted products, effective rows as rows), as the surface
of learning has; `mixed` takes that by the share of effective rows a feature that `calibrated` asks
for. Rewards depend on one projection z of normal actions, those of the first half as in the study
of `calibrated`, those reported in other ways. Intervals are `recommended`; standard deviations and
widths are over those of SNIPS on the same logs, medians over cells with twelve effective rows.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _click_worlds, _study
from benchmarks._judge import fails
from mopl_jax.coverage import engine
from mopl_jax.estimators import calibration, snips
from mopl_jax.estimators.ess import kish
from mopl_jax.estimators.estimator import Columns, Estimator, in_memory
from mopl_jax.intervals import recommended
from mopl_jax.learning.evidence import most_evident
from mopl_jax.numerics import safe
from mopl_jax.policies import Gaussian

SIZES = {"replicates": 200, "n": (512,), "d": 2, "seed": 19}
QUICK = {"replicates": 8, "n": (64,)}
NAMES = ("snips", "calibrated", "evidence", "mixed")
HALVES = ("chosen on", "reported")
ENOUGH = 12
TARGETS = {"same": (0.0, 1.0), "near": (0.3, 0.8), "narrow": (0.6, 0.6), "wide": (0.3, 1.1)}
REWARDS = {  # mean of the projection z, and whether it is a click rate
    HALVES[0]: {
        "linear": (lambda z: 0.5 * z, False),
        "quadratic": (lambda z: -0.3 * np.square(z - 0.5), False),
        "cosine": (lambda z: np.cos(0.8 * z + 0.3), False),
        "clicks, σ(−2+z)": (_click_worlds.logit(-2.0, 1.0), True),
    },
    HALVES[1]: {
        "wavy": (lambda z: np.cos(2.5 * z), False),
        "saturating": (lambda z: np.tanh(1.5 * z), False),
        "cliff": (lambda z: 1.0 * (z < 0.8), False),
        "watch time": (lambda z: np.exp(0.5 * z), False),
        "clicks, σ(−1−1.5z)": (_click_worlds.logit(-1.0, -1.5), True),
    },
}


def by_evidence(target, some: bool) -> Estimator:
    """`calibrated` whose parts are believed by evidence; of `some` effective rows a feature."""
    plain = calibration.calibrated_of(target)
    assert plain.model is not None
    fit = functools.partial(_fit, target.mean.shape[0], some)
    return Estimator(plain.finish, plain.row, plain.model._replace(fit=fit))


def _fit(d: int, some: bool, sums: calibration.Products) -> calibration.Fitted:
    """As `calibration._fit`, with the posterior mean of largest evidence for β."""
    total = safe.positive(sums.first[0, 0])
    p, p2 = sums.first / total, sums.second[:-1, :-1] / jnp.square(total)
    centre, f = p[0, 1:-1], p.shape[0] - 2
    covariance = p[1:, 1:] - jnp.outer(p[0, 1:], p[0, 1:])
    away = jnp.eye(f + 1, dtype=p.dtype).at[1:, 0].set(-centre)
    size = 1 / safe.positive(p2[0, 0])
    gram = jnp.zeros((f + 1, f + 2), p.dtype).at[0, 0].set(size)
    gram = gram.at[1:, 1:].set(size * covariance[:-1, :])
    group = np.concatenate([[0], np.full(d, 1), np.full(f - d, 2)])
    square = jnp.maximum(size * covariance[-1, -1], jnp.finfo(p.dtype).tiny)
    found = most_evident(gram, square, size, group)
    gain = (found.root @ found.root.T)[1:, 1:] * (size / found.noise)
    share = calibration._enough(p2[0, 0], d) if some else 1.0 * (size > calibration.FEW * d)
    gain = jnp.where(jnp.all(jnp.isfinite(gain)), share * gain, 0)
    return calibration.Fitted(gain @ covariance[:-1, -1], centre, gain, away @ p2 @ away.T)


def run(options) -> list[dict]:
    """One row for each half, rewards, target, size and estimator."""
    return [
        row
        for half in HALVES
        for (name, (rate, clicks)), target in itertools.product(REWARDS[half].items(), TARGETS)
        for row in _cells({"half": half, "world": name, "estimand": target}, rate, clicks, options)
    ]


def _cells(about, rate, clicks, options) -> Iterator[dict]:
    mean, scale = TARGETS[about["estimand"]]
    rng, d = np.random.default_rng([options.seed, *map(ord, about["world"])]), options.d
    action = rng.standard_normal((options.replicates, options.n[-1], d))
    height = rate(action.sum(axis=-1) / d**0.5)
    draw = _click_worlds.clicks if clicks else lambda rng, x: x + 0.25 * rng.normal(size=x.shape)
    log = [jnp.asarray(x, jnp.float32) for x in (action, draw(rng, height))]
    truth = _click_worlds.mean_of(rate, mean, scale)
    for n in options.n:
        value, lower, upper, size = map(np.asarray, _limits(*log, mean / d**0.5, scale, n))
        for i, estimator in enumerate(NAMES):
            yield about | {
                "n": n,
                "estimator": estimator,
                "replicates": len(value),
                "ess_median": float(np.median(size)),
                "coverage": float(np.mean((lower[:, i] <= truth) & (truth <= upper[:, i]))),
                "deviation": float(np.std(value[:, i], dtype=float)),
                "width": float(np.median(upper[:, i] - lower[:, i])),
            }


@functools.partial(jax.jit, static_argnames="n")
def _limits(action, reward, mean, scale, n):
    d = action.shape[-1]
    logging = Gaussian.diagonal(jnp.zeros(d, action.dtype), 1.0)
    target = Gaussian.diagonal(jnp.full(d, mean, action.dtype), scale)
    chosen = [calibration.calibrated_of(target), *(by_evidence(target, x) for x in (False, True))]

    def one(log):
        a, r = (x[:n] for x in log)
        w = jax.vmap(target.log_density)(a) - jax.vmap(logging.log_density)(a)
        made = [snips(w, r), *(in_memory(x, Columns(r, (w,), a)) for x in chosen)]
        ends = [recommended(x, 0.05) for x in made]
        lower, upper = (jnp.stack([getattr(x, end) for x in ends]) for end in ("lower", "upper"))
        return jnp.stack([x.value for x in made]), lower, upper, kish(w)

    return jax.lax.map(one, (action, reward), batch_size=engine.chunk(n))


def table(rows: list[dict]) -> str:
    """By half, then by half and family."""
    cells = _study.grouped(rows, "half", "world", "estimand", "n").values()
    cells = [{row["estimator"]: row for row in some} for some in cells]
    cells = [some for some in cells if some["snips"]["ess_median"] >= 2]
    head = ["cells"]
    for what in ("fail", "deviation", "width", "wider by 5 %"):
        head += [f"{what}, {name}" for name in NAMES if what == "fail" or name != "snips"]
    keys = {"half": lambda row: row["half"]}
    keys["half, rewards"] = lambda row: f"{row['half']}, {row['world']}"
    keys["half, target"] = lambda row: f"{row['half']}, {row['estimand']}"
    return "\n\n".join(
        _study.markdown((name, *head), _lines(cells, key)) for name, key in keys.items()
    )


def _lines(cells, key) -> Iterator[list]:
    groups = {}
    for some in cells:
        groups.setdefault(key(some["snips"]), []).append(some)
    for name, some in groups.items():
        yield [name, *_line(some)]


def _line(cells):
    failed = [np.mean([_below(some[name]) for some in cells]) for name in NAMES]
    many = [some for some in cells if some["snips"]["ess_median"] >= ENOUGH]
    shown = [*failed, *_medians(many, "deviation"), *_medians(many, "width")]
    for name in NAMES[1:]:
        shown.append(np.mean(_ratios(many, name, "width") > 1.05) if many else np.nan)
    return [len(cells), *(f"{x:.3f}" for x in shown)]


def _medians(cells, what):
    return [np.median(_ratios(cells, name, what)) if cells else np.nan for name in NAMES[1:]]


def _ratios(cells, name, what):
    found = np.array([some[name][what] / some["snips"][what] for some in cells])
    return found[np.isfinite(found)]


def _below(row):
    return fails(row["coverage"], 0.945, row["replicates"])
