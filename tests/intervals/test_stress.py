"""Numbers under stress: estimators and intervals on logs whose weights and rewards are extreme.

The value lies between the ends, a smaller alpha gives the wider interval, what should not matter
does not, and nothing is NaN. All logs of one size share their compiled functions.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import ESTIMATORS, REWARDS, SIZES, WALD, WEIGHTS, under_stress
from yardsticks import DTYPES, eps, estimate, every_interval, every_pivot, intervals_of

from mopl_jax.diagnostics.verdicts import VERDICTS, verdict_of
from mopl_jax.diagnostics.weight_diagnostics import diagnose
from mopl_jax.intervals import METHODS, Facts, bind, bind_sums, moments_of

N = 16  # as in test_intervals: compiled once
ALPHAS = (0.01, 0.05, 0.2, 0.5)
SELF_NORMALISED = ("snips", "delta_snips")
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
kinds = {"weights": st.sampled_from(list(WEIGHTS)), "rewards": st.sampled_from(list(REWARDS))}
seeds = {"seed": st.integers(0, 10**6)}


def any_log(examples):
    """A test of a log of any kind, the same logs in every run."""

    def decorate(test):
        made = given(**kinds, **seeds, size=st.integers(0, 2))(test)
        return settings(deadline=None, max_examples=examples, derandomize=True)(made)

    return decorate


def log_of(weights, rewards, seed, size, dtype):
    """A log of N rows; `size` 0 to 2: rewards as they are, small or large."""
    return under_stress(weights, rewards, seed, N, dtype, (1.0, *SIZES[dtype])[size])


def check(value, ends, whole=(-np.inf, np.inf)):
    """Ends (alphas, ..., 2) of rising alpha: in order around the value, nested, never a point; the
    `whole` where nothing is claimed.
    """
    ends = np.asarray(ends, np.float64)
    assert not np.isnan(ends).any()
    low, high = ends[..., 0], ends[..., 1]
    assert (low < high).all()
    known = np.isfinite(np.asarray(value)) & ((low > whole[0]) | (high < whole[1]))
    assert ((low <= value) & (value <= high) | ~known).all()
    slack = 1e-5 * np.where(known, high - low, 0)[:-1]
    assert ((low[:-1] <= low[1:] + slack) & (high[:-1] >= high[1:] - slack) | ~known[1:]).all()


@every_estimator
@every_dtype
@any_log(25)
def test_order_and_nesting(estimator, dtype, weights, rewards, seed, size):
    """lower ≤ value ≤ upper, wider for smaller alpha, for every interval made of a variance."""
    log = log_of(weights, rewards, seed, size, dtype)
    value = float(estimate(*log, estimator).value)
    found = [every_interval(*log, alpha, estimator) for alpha in ALPHAS]
    for name in WALD:
        check(value, [each[name] for each in found])


@pytest.mark.parametrize("estimator", SELF_NORMALISED)
@every_dtype
@any_log(25)
def test_what_does_not_matter(estimator, dtype, weights, rewards, seed, size):
    """Rewards in another unit give the interval in that unit, bit for bit where it is a power of
    two; the order of the rows, and what all log weights have in common, change rounding alone.
    """
    log_weight, reward = log_of(weights, rewards, seed, 0, dtype)
    one = every_interval(log_weight, reward, 0.05, estimator)
    scaled = every_interval(log_weight, 4 * reward, 0.05, estimator)
    order = np.random.default_rng(seed).permutation(N)
    others = every_interval(log_weight[order], reward[order], 0.05, estimator)
    for name in WALD:
        np.testing.assert_array_equal(scaled[name], 4 * np.asarray(one[name]), err_msg=name)
        _same(others[name], one[name], reward, dtype)
    if np.abs(log_weight).max() < 100:
        moved = every_interval(log_weight + 64, reward, 0.05, estimator)
        rounded = every_interval((log_weight + 64) - 64, reward, 0.05, estimator)
        for name in WALD:
            _same(moved[name], rounded[name], reward, dtype)


def _same(got, expected, reward, dtype):
    """To rounding of rewards and of the width; where the value hardly varies, either may be the
    whole line.
    """
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    largest = float(np.abs(reward).max())
    if np.isinf(got).any() != np.isinf(expected).any():
        finite = got if np.isfinite(got).all() else expected
        assert finite[1] - finite[0] < 1e6 * eps(dtype) * largest
    elif np.isfinite(got).all():
        room = eps(dtype) * (1e3 * largest + 1e5 * (expected[1] - expected[0]))
        assert np.abs(got - expected).max() <= room


# Rewards in a known range.

UNIT = Facts(reward_range=(0.0, 1.0))
SHARES = ("recommended", "ess_score", "ess_wilson", "ess_wilson_skew", "clopper_pearson")


@functools.partial(jax.jit, static_argnames="names")
def in_range(log_weight, reward, alpha, names):
    """Values (logs,) of SNIPS, and intervals for shares, (logs, intervals, 2)."""
    sums = jax.vmap(lambda *log: moments_of(ESTIMATORS["snips"](*log)))(log_weight, reward)
    made = [bind_sums(name, UNIT)(sums, alpha) for name in names]
    return sums.value, jnp.stack([jnp.stack([x.lower, x.upper], -1) for x in made], 1)


def unit_logs(n, dtype, seed=0):
    """A log of every kind, rewards moved into [0, 1]; (logs, n)."""
    logs = [under_stress(*kinds, seed, n) for kinds in itertools.product(WEIGHTS, REWARDS)]
    log_weight, reward = (np.stack(column) for column in zip(*logs, strict=True))
    spread = np.ptp(reward, axis=1, keepdims=True)
    reward = (reward - reward.min(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    near = 0.5 + eps(dtype) * (reward > 0.5)  # equal but for rounding, inside the range
    reward = np.concatenate([reward, near])
    return jnp.asarray(np.tile(log_weight, (2, 1)), dtype), jnp.asarray(reward, dtype)


@pytest.mark.parametrize(
    ("dtype", "names"),
    [(np.float32, SHARES[:2])]
    + [pytest.param(dtype, SHARES, marks=pytest.mark.nightly) for dtype in DTYPES],
)
def test_shares_stay_in_their_range(dtype, names):
    """Every interval that is a formula of sums; where all weight is in one row, the range."""
    logs = unit_logs(N, dtype)
    found = [in_range(*logs, jnp.asarray(alpha, dtype), names) for alpha in ALPHAS]
    ends = np.stack([each for _, each in found])
    assert ((ends >= 0) & (ends <= 1)).all()
    check(np.asarray(found[0][0])[:, None], ends, whole=(0, 1))


@pytest.mark.nightly
@every_dtype
@pytest.mark.parametrize("name", sorted({*METHODS} - {*WALD, *SHARES, "efron_stein"}))
def test_intervals_from_rows(name, dtype):
    """Order and nesting of those that read all rows; assumptions that weights of these kinds
    contradict give the whole range.
    """
    facts = Facts((0.0, 1.0), jnp.asarray(50, dtype), jnp.asarray(3, dtype))
    options = {"resamples": 200} if name in ("bca", "percentile", "studentised") else {}
    interval = functools.partial(bind(name, facts), **options)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def ends(log_weight, reward, alpha):
        made = interval(ESTIMATORS["snips"](log_weight, reward), alpha)
        return jnp.stack([made.lower, made.upper])

    for n in (2, 300):
        logs = unit_logs(n, dtype)
        found = np.stack([ends(*logs, jnp.asarray(alpha, dtype)) for alpha in ALPHAS[:3]])
        found = np.clip(found, -1e9, 1e9)  # the whole line where no range is used
        assert (found[..., 0] < found[..., 1]).all()
        low, high = found[..., 0], found[..., 1]
        whole = (low <= 0) & (high >= 1)
        assert ((low[:-1] <= low[1:] + 1e-5) & (high[:-1] >= high[1:] - 1e-5) | whole[1:]).all()


@pytest.mark.nightly
@every_estimator
@every_dtype
@pytest.mark.parametrize("n", [1, 2, 3, 400, 10**6])
def test_order_and_nesting_of_any_size(estimator, dtype, n):
    """As above, of every kind of log."""
    some = list(itertools.product(WEIGHTS, REWARDS))[:: 1 if n < 10**6 else 5]
    for weights, rewards in some:
        log = under_stress(weights, rewards, 0, n, dtype)
        pivots = every_pivot(*log, estimator)
        found = [intervals_of(pivots, alpha) for alpha in ALPHAS]
        for name in WALD:
            ends = [(each[name].lower, each[name].upper) for each in found]
            check(float(pivots[name].value), ends)


# Where policies do not overlap.

SHIFTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1e4)
HONEST = ("ess_exact", "ess_safe", "ess_skew", "ess_student", "ess_student_max")


def apart(shift, seed, n):
    """Log weights of N(shift, 1) on n rows that N(0, 1) played, and rewards that are noise."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(shift * rng.normal(size=n) - shift**2 / 2), jnp.asarray(rng.normal(size=n))


def test_less_overlap_is_never_narrower():
    """The farther the target is from what was played, the wider: the median of forty logs, by each
    t interval that counts effective rows; in the end the whole line, of every interval.
    """
    widths = {name: [] for name in WALD}
    for shift in SHIFTS:
        made = [every_interval(*apart(shift, seed, N), 0.05) for seed in range(40)]
        for name in WALD:
            widths[name].append(np.median([float(each[name][1] - each[name][0]) for each in made]))
    for name in HONEST:
        assert (widths[name] == np.maximum.accumulate(widths[name])).all(), name
    for name in WALD:
        assert widths[name][-1] == np.inf, name


def test_no_overlap_is_refused():
    """Unnormalised estimates go to what is no value, with errors that go to zero: the verdict says
    so long before.
    """
    judge = jax.jit(lambda *log: verdict_of(diagnose(ESTIMATORS["snips"](*log)), 1000))
    for shift, seed in itertools.product(SHIFTS[3:], range(5)):
        assert VERDICTS[int(judge(*apart(shift, seed, 1000)))] == "refuse", (shift, seed)
