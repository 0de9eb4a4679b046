"""How often does the test of the mean weight refuse right densities, and find wrong ones?

`studentised` is the test before: (mean(w) − 1) over its standard error, normal tails; `likelihood`
is that of `diagnose`, the empirical likelihood ratio. Logs are right, or wrong by a factor in the
density, a logger that is declared elsewhere, or one declared narrower. Rows of a user share their
draw, and users have 1 + Poisson(2.5) rows. The level is refusal's, 1e-4, and caution's, 0.01.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from scipy import stats

from benchmarks import _study
from mopl_jax.diagnostics.verdicts import CAUTION_P_VALUE, REFUSE_P_VALUE
from mopl_jax.diagnostics.weight_diagnostics import DiagnosisFacts, diagnosis_stage
from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.estimator import given
from mopl_jax.estimators.importance import snips
from mopl_jax.numerics.reduce import Whole, run_passes, whole_block

SIZES = {"replicates": 20_000, "n": (200, 1000, 5000), "seed": 33}
QUICK = {"replicates": 40, "n": (200,)}
TOGETHER = 2**21  # rows drawn at once


def _arm(p, rng, shape):
    return np.where(rng.random(shape) < p, -np.log(p), -np.inf)


def _normal(shift, scale, rng, shape, d=1):
    a = rng.standard_normal((*shape, d))
    ratio = 0.5 * np.square(a) - 0.5 * np.square((a - shift) / scale)
    return ratio.sum(axis=-1) - d * np.log(scale)


def _arms(rng, shape):
    """Eight arms, of which the target plays the second most."""
    logged, target = np.r_[0.3, np.full(7, 0.1)], np.r_[0.05, 0.65, np.full(6, 0.05)]
    return np.log(target / logged)[rng.choice(8, shape, p=logged)]


RIGHT = {
    **{f"an arm of {p:.0%}": functools.partial(_arm, p) for p in (0.01, 0.05, 0.1, 0.5)},
    "eight arms": _arms,
    "normal, near": functools.partial(_normal, 0.0, 0.85),
    "normal, shifted and narrow": functools.partial(_normal, 0.5, 0.5),
    "normal, far and narrow": functools.partial(_normal, 1.0, 0.3),
    "normal, five weights": functools.partial(_normal, 0.3, 0.7, d=5),
    "normal, wider than the log": functools.partial(_normal, 0.0, 1.2),
}


def _misplaced(rng, shape):
    """The logger plays N(0, 1) and is declared N(0.3, 1); the target is N(0.5, 0.5²)."""
    a = rng.standard_normal(shape)
    return 0.5 * np.square(a - 0.3) - 0.5 * np.square((a - 0.5) / 0.5) - np.log(0.5)


def _narrowed(rng, shape):
    """The logger plays N(0, 1) and is declared N(0, 0.8²); the target is N(0.5, 0.5²)."""
    a = rng.standard_normal(shape)
    declared = -0.5 * np.square(a / 0.8) - np.log(0.8)
    return -0.5 * np.square((a - 0.5) / 0.5) - np.log(0.5) - declared


WRONG = {
    "an arm of 10%, played 13%": lambda rng, shape: np.where(
        rng.random(shape) < 0.13, -np.log(0.1), -np.inf
    ),
    "an arm of 10%, played 7%": lambda rng, shape: np.where(
        rng.random(shape) < 0.07, -np.log(0.1), -np.inf
    ),
    "normal, densities 10% too small": lambda rng, shape: (
        _normal(0.5, 0.5, rng, shape) + np.log(1.1)
    ),
    "normal, densities 10% too large": lambda rng, shape: (
        _normal(0.5, 0.5, rng, shape) - np.log(1.1)
    ),
    "normal, declared 0.3 too high": _misplaced,
    "normal, declared 0.8 as wide": _narrowed,
}


def _studentised(diagnosis):
    z = jnp.abs(diagnosis.mean_weight - 1) / diagnosis.mean_weight_error
    return jnp.nan_to_num(erfc(z * np.sqrt(0.5)))


def _diagnosed(made, n, facts):
    rows = given(lambda columns: columns)
    stages = (*rows.stages, diagnosis_stage(rows, n, facts))
    return run_passes(Whole(whole_block(made)), stages)


@jax.jit
def _of_rows(log_weight):
    """p-values of many logs, by each test."""

    def one(log_weight):
        made = snips(log_weight, jnp.zeros_like(log_weight))
        found = _diagnosed(made, log_weight.shape[0], DiagnosisFacts())
        return _studentised(found), found.mean_weight_p_value

    return jax.lax.map(one, log_weight, batch_size=256)


@functools.partial(jax.jit, static_argnames="users")
def _of_users(log_weight, user, users):
    """The same of logs whose rows are of users."""
    rows = jnp.bincount(user, length=users) * (users / user.shape[0])
    facts = DiagnosisFacts(size=lambda block: rows, sizes=(jnp.min(rows), jnp.max(rows)))

    def one(log_weight):
        made = clustered(snips(log_weight, jnp.zeros_like(log_weight)), user, users)
        before = _diagnosed(made, users, DiagnosisFacts())
        return _studentised(before), _diagnosed(made, users, facts).mean_weight_p_value

    return jax.lax.map(one, log_weight, batch_size=256)


def run(options) -> list[dict]:
    """One row for each log, n, unit and test."""
    rng = np.random.default_rng(options.seed)
    found = []
    for n in options.n:
        user = np.repeat(np.arange(n), 1 + rng.poisson(2.5, n))
        for right, logs in ((True, RIGHT), (False, WRONG)):
            for name, draw in logs.items():
                about = {"log": name, "right": right, "n": n, "replicates": options.replicates}
                found += _cells(about, draw, rng, n, None, options.replicates)
                found += _cells(about, draw, rng, n, user, options.replicates)
    return found


def _cells(about, draw, rng, n, user, replicates):
    p_values, done = [], 0
    while done < replicates:
        count = min(replicates - done, max(TOGETHER // (n if user is None else len(user)), 1))
        log_weight = draw(rng, (count, n))
        if user is None:
            p_values.append(_of_rows(log_weight))
        else:
            p_values.append(_of_users(log_weight[:, user], jnp.asarray(user), n))
        done += count
    for test, p in zip(("studentised", "likelihood"), np.hstack(p_values), strict=True):
        counts = {
            "refused": int((p < REFUSE_P_VALUE).sum()),
            "cautioned": int((p < CAUTION_P_VALUE).sum()),
        }
        yield about | {"unit": "row" if user is None else "user", "test": test} | counts


def table(rows: list[dict]) -> str:
    """Shares of the logs that are refused and cautioned, by both tests.

    In bold what is more than the level allows, by a binomial tail below 1e-3.
    """
    head = ("log", "unit", "n", "refused before", "now", "cautioned before", "now")
    parts = []
    for right, title in ((True, "Right densities"), (False, "Wrong densities")):
        kept = [row for row in rows if row["right"] == right]
        pairs = zip(kept[::2], kept[1::2], strict=True)
        lines = [
            [
                before["log"],
                before["unit"],
                before["n"],
                *(_share(x, "refused", REFUSE_P_VALUE, right) for x in (before, now)),
                *(_share(x, "cautioned", CAUTION_P_VALUE, right) for x in (before, now)),
            ]
            for before, now in pairs
        ]
        parts.append(f"{title}\n\n{_study.markdown(head, lines, 'llrrrrr')}")
    note = (
        "In bold: more than the level allows. Where no row has weight (an arm of 1 % in 200 rows:"
        " 13 %) nothing overlaps, and both tests refuse.\n"
    )
    return "\n".join(parts) + "\n" + note


def _share(row, verdict, level, right):
    text = f"{row[verdict] / row['replicates']:.4%}"
    too_many = stats.binom.sf(row[verdict] - 1, row["replicates"], level) < 1e-3
    return f"**{text}**" if right and too_many else text
