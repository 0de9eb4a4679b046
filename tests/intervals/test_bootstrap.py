"""The bootstrap: scipy on the same resamples, identities on equal weights and clusters, honesty,
coverage, memory.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import end, start
from scipy import stats
from worlds import rows
from yardsticks import DTYPES, KEY, binomial_tail, cast, eps

from mopl_jax.estimators import beta_ips, difference, ips, snips
from mopl_jax.estimators.cluster import clustered
from mopl_jax.intervals.bootstrap import bca, percentile, resample, resampled_rows, studentised

ALPHA = 0.1
METHODS = {"percentile": percentile, "studentised": studentised, "bca": bca}
every_method = pytest.mark.parametrize("method", METHODS)


@functools.partial(jax.jit, static_argnames=("method", "resamples", "estimator"))
def ends(log_weight, reward, method, resamples=500, estimator=snips):
    """An interval for an estimator's value."""
    return METHODS[method](
        estimator(log_weight, reward), ALPHA, resamples=resamples, estimator=estimator
    )


def scipy_interval(values, log_weight, reward, method):
    """scipy's interval made of the given resampled values of SNIPS."""
    log_weight, reward = np.asarray(log_weight), np.asarray(reward)

    def statistic(w, r, axis=-1):
        return np.sum(w * r, axis) / np.sum(w, axis)

    first = stats.bootstrap(
        (np.exp(log_weight), reward),
        statistic,
        paired=True,
        n_resamples=2,
        method="percentile",
        rng=0,
    )
    first.bootstrap_distribution = np.asarray(values)
    made = stats.bootstrap(
        (np.exp(log_weight), reward),
        statistic,
        paired=True,
        n_resamples=0,
        method=method,
        confidence_level=1 - ALPHA,
        bootstrap_result=first,
    )
    return np.array(made.confidence_interval)


def test_percentile_is_scipys():
    log_weight, reward = rows(1, 40)
    values = resample(snips(log_weight, reward), resamples=500).value
    made = ends(log_weight, reward, "percentile")
    np.testing.assert_allclose(
        [made.lower, made.upper],
        scipy_interval(values, log_weight, reward, "percentile"),
        rtol=1e-12,
    )


def test_bca_is_scipys_for_equal_weights():
    """There the influence terms are the jackknife's."""
    _, reward = rows(2, 40)
    log_weight = jnp.zeros(40)
    values = resample(snips(log_weight, jnp.exp(reward)), resamples=500).value
    made = ends(log_weight, jnp.exp(reward), "bca")
    np.testing.assert_allclose(
        [made.lower, made.upper],
        scipy_interval(values, log_weight, np.exp(reward), "BCa"),
        rtol=1e-9,
    )


def test_bca_is_near_scipys_for_unequal_weights():
    """The infinitesimal jackknife stands for the jackknife: ends differ by order 1/n of the
    width.
    """
    log_weight, reward = rows(3, 200)
    values = resample(snips(log_weight, reward), resamples=500).value
    made = ends(log_weight, reward, "bca")
    reference = scipy_interval(values, log_weight, reward, "BCa")
    np.testing.assert_allclose([made.lower, made.upper], reference, atol=0.05 * float(made.width))


def test_studentised_by_hand():
    log_weight, reward = rows(4, 30)
    words = jax.random.bits(jax.random.key(0), (2,), jnp.uint32)
    whole, t = snips(log_weight, reward), []
    for number in range(200):
        index = resampled_rows(words, jnp.uint32(number), 30)
        drawn = snips(log_weight[index], reward[index])
        t.append((drawn.value - whole.value) / jnp.sqrt(jnp.sum(drawn.influence**2)))
    low, high = np.quantile(t, [ALPHA / 2, 1 - ALPHA / 2])
    made = ends(log_weight, reward, "studentised", resamples=200)
    error = np.sqrt(np.sum(np.asarray(whole.influence) ** 2))
    np.testing.assert_allclose(
        [made.lower, made.upper], [whole.value - high * error, whole.value - low * error], rtol=1e-9
    )


def test_rows_are_drawn_uniformly():
    words = jax.random.bits(KEY, (2,), jnp.uint32)
    drawn = jax.vmap(lambda b: resampled_rows(words, b, 7))(jnp.arange(5000, dtype=jnp.uint32))
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert len(np.unique(np.asarray(drawn), axis=0)) > 4900  # every resample is another


def test_normaliser_is_recomputed():
    """Resampled values stay within the rewards seen, which those of a frozen Σw would not; equal
    rewards never vary.
    """
    log_weight, reward = rows(5, 8, spread=2.0)
    values = resample(snips(log_weight, reward), resamples=500).value
    assert values.min() >= reward.min()
    assert values.max() <= reward.max()
    np.testing.assert_allclose(
        resample(snips(log_weight, jnp.full(8, 0.3)), resamples=50).value, 0.3, rtol=1e-12
    )


@every_method
def test_linear_form_is_exact_for_ips(method):
    log_weight, reward = rows(6, 25)
    recomputed = ends(log_weight, reward, method, estimator=ips)
    linear = METHODS[method](ips(log_weight, reward), ALPHA, resamples=500, estimator=None)
    np.testing.assert_allclose(
        [recomputed.lower, recomputed.upper], [linear.lower, linear.upper], rtol=1e-9
    )


@every_method
def test_estimator_that_is_not_the_estimates_gives_the_whole_line(method):
    made = METHODS[method](ips(*rows(7, 25)), ALPHA, resamples=50, estimator=snips)
    assert made.lower == -np.inf
    assert made.upper == np.inf


def test_any_estimator_of_any_rows():
    """A difference of policies: both weights are resampled together."""
    log_weight, reward = rows(8, 60)
    other = 0.5 * log_weight

    def delta(a, b, r):
        return difference(snips(a, r), snips(b, r))

    estimate = delta(log_weight, other, reward)
    recomputed = percentile(estimate, ALPHA, estimator=delta, rows=(log_weight, other, reward))
    linear = percentile(estimate, ALPHA, estimator=None)
    assert recomputed.lower < estimate.value < recomputed.upper
    np.testing.assert_allclose(recomputed.width, linear.width, rtol=4 / 60)  # of order 1/n
    assert ends(log_weight, reward, "percentile", estimator=beta_ips).width < np.inf


def test_cluster_bootstrap_is_the_bootstrap_of_the_clustered_estimate():
    log_weight, reward = rows(9, 40)
    w = np.exp(log_weight)
    cluster = np.random.default_rng(0).integers(0, 8, 40)
    cluster[:8] = np.arange(8)
    made = resample(
        clustered(snips(log_weight, reward), jnp.asarray(cluster), 8), resamples=20
    ).value
    reward = np.asarray(reward)
    words = jax.random.bits(jax.random.key(0), (2,), jnp.uint32)
    for number in range(20):
        drawn = np.asarray(resampled_rows(words, jnp.uint32(number), 8))
        index = np.concatenate([np.flatnonzero(cluster == c) for c in drawn])
        np.testing.assert_allclose(
            made[number], np.average(reward[index], weights=w[index]), rtol=1e-10
        )


@every_method
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_agreement(method, dtype):
    log = rows(10, 50)
    made, exact = ends(*cast(log, dtype), method), ends(*log, method)
    assert made.lower.dtype == made.upper.dtype == dtype
    np.testing.assert_allclose(
        [made.lower, made.upper], [exact.lower, exact.upper], atol=1e4 * eps(dtype)
    )


@every_method
@pytest.mark.parametrize(
    ("log_weight", "reward"),
    [
        ([0.0], [1.0]),
        ([-np.inf, -np.inf, -np.inf], [0.0, 1.0, 2.0]),
        ([0.0, -np.inf, -np.inf], [0.0, 1.0, 2.0]),
        ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]),
    ],
)
def test_no_information_gives_the_whole_line(method, log_weight, reward):
    made = ends(jnp.asarray(log_weight), jnp.asarray(reward), method)
    assert made.lower == -np.inf
    assert made.upper == np.inf


@every_method
def test_invariant_to_scale_of_weights_and_equivariant_to_units(method):
    log_weight, reward = rows(11, 30)
    made, moved = ends(log_weight, reward, method), ends(log_weight + 3, 2 * reward + 5, method)
    np.testing.assert_allclose(
        [moved.lower, moved.upper], [2 * made.lower + 5, 2 * made.upper + 5], rtol=1e-9
    )


def coverage(method, n, replicates, resamples):
    def one(key):
        log_weight, noise = jax.random.normal(key, (2, n))
        return METHODS[method](snips(0.5 * log_weight, noise), ALPHA, resamples=resamples).contains(
            jnp.zeros(())
        )

    hits = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=20))(
        jax.random.split(KEY, replicates)
    )
    return int(hits.sum())


@pytest.mark.nightly
@every_method
def test_coverage(method):
    """At 400 rows the error of all three is below that of 1,000 replicates."""
    assert binomial_tail(coverage(method, 400, 1000, 500), 1000, 1 - ALPHA) > 1e-3


@pytest.mark.nightly
def test_memory_does_not_grow_with_resamples():
    """10,000 resamples of 100,000 rows, whose numbers alone would fill 4 GB, under 1 GiB peak for
    the whole process.
    """
    script = (
        "import resource, jax, jax.numpy as jnp\n"
        "from mopl_jax.estimators import snips\n"
        "from mopl_jax.intervals.bootstrap import percentile\n"
        "x = jax.random.normal(jax.random.key(0), (2, 100_000))\n"
        "jax.jit(lambda x: percentile(snips(x[0], x[1]), 0.05,"
        " resamples=10_000))(x).lower.block_until_ready()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    assert int(end(start(script)).out) < 2**20  # kilobytes
