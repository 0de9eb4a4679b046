"""Clusters: identities, the dense quadratic form, honesty, coverage with intra-cluster
correlation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import ESTIMATORS, rows
from yardsticks import DTYPES, KEY, binomial_tail

from mopl_jax.estimators import difference, ips, snips
from mopl_jax.estimators.cluster import clustered
from mopl_jax.intervals import ess_exact, hc3, normal
from mopl_jax.intervals.cluster_robust import cluster_exact, cluster_pivot
from mopl_jax.intervals.moments import moments_of

N, G = 40, 9
CLUSTER = np.concatenate([np.arange(G), np.random.default_rng(0).integers(0, G, N - G)])
IDS = jnp.asarray(CLUSTER)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_value_and_influence_are_sums(name):
    estimate = ESTIMATORS[name](*rows(1, N))
    made = clustered(estimate, IDS, G)
    np.testing.assert_allclose(made.value, estimate.value, rtol=1e-12)
    summed = [np.asarray(estimate.influence)[c == CLUSTER].sum() * G / N for c in range(G)]
    np.testing.assert_allclose(made.influence, summed, rtol=1e-9, atol=1e-12)


def test_clusters_are_a_log_of_their_own():
    """SNIPS and IPS of the cluster weights and rewards are those of the rows, with the same
    influence for SNIPS.
    """
    log = rows(2, N)
    made = clustered(snips(*log), IDS, G)
    again = snips(made.log_weight, made.reward)
    np.testing.assert_allclose(again.value, made.value, rtol=1e-10)
    np.testing.assert_allclose(again.influence, made.influence, atol=1e-12)
    np.testing.assert_allclose(again.residual, made.residual, atol=1e-12)
    np.testing.assert_allclose(ips(made.log_weight, made.reward).value, ips(*log).value, rtol=1e-10)


def test_normal_is_the_cluster_robust_variance():
    """statsmodels' weighted least-squares intercept with clustered errors, G/(G−1) correction and
    all.
    """
    api = pytest.importorskip("statsmodels.api")
    log_weight, reward = rows(3, N)
    fit = api.WLS(np.asarray(reward), np.ones(N), weights=np.exp(log_weight)).fit()
    robust = fit.get_robustcov_results(
        "cluster", groups=CLUSTER, use_correction=True, df_correction=True
    )
    variance = float(normal.pivot(clustered(snips(log_weight, reward), IDS, G)).variance)
    small_sample = G / (G - 1) * (N - 1) / (N - 1)
    np.testing.assert_allclose(
        variance, robust.cov_params()[0, 0] / small_sample * G / (G - 1), rtol=1e-9
    )


def test_hc3_leaves_one_cluster_out():
    log_weight, reward = rows(4, N)
    without = [snips(log_weight[c != CLUSTER], reward[c != CLUSTER]).value for c in range(G)]
    whole = snips(log_weight, reward)
    jackknife = np.sum((np.asarray(without) - float(whole.value)) ** 2)
    np.testing.assert_allclose(hc3.pivot(clustered(whole, IDS, G)).variance, jackknife, rtol=1e-9)


@pytest.mark.parametrize("each", [1, 3])
def test_rows_that_users_repeat_differ_as_the_rows_alone(each):
    """A user whose rows are all the same is one row."""
    first, second = rows(6, N), rows(7, N)
    pair = snips(*first), snips(second[0], first[1])
    user = jnp.repeat(jnp.arange(N), each)
    again = [snips(jnp.repeat(x, each), jnp.repeat(first[1], each)) for x in (first[0], second[0])]
    made, expected = moments_of(difference(*again, user, N)), moments_of(difference(*pair))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), made, expected)


def test_the_size_of_a_user_in_a_difference():
    """The larger of |Σ(p₁ − p₂)| and √Σ(p₁ − p₂)², and n p residual sums the influences of rows
    about the middle of both values.
    """
    reward = rows(6, N)[1]
    a, b = (snips(rows(k, N)[0], reward) for k in (6, 7))
    made = difference(a, b, IDS, G)
    p, q = (np.exp(x.log_weight) / np.exp(x.log_weight).sum() for x in (a, b))
    gap, middle = p - q, np.asarray(reward) - 0.5 * float(a.value + b.value)
    of_users = [gap[c == CLUSTER] for c in range(G)]
    size = np.array([max(abs(x.sum()), np.sqrt(x @ x)) for x in of_users])
    np.testing.assert_allclose(np.exp(made.log_weight), size, rtol=1e-6)
    summed = [(gap * middle)[c == CLUSTER].sum() for c in range(G)]
    np.testing.assert_allclose(size / size.sum() * made.residual, summed, atol=1e-9)


def test_of_one_user_no_difference_is_known():
    """Whose rows alone one of the policies would have played."""
    log_weight, reward = rows(6, N)
    alone = snips(jnp.where(IDS == 3, log_weight, -jnp.inf), reward)
    for pair in ((alone, snips(log_weight, reward)), (snips(log_weight, reward), alone)):
        ends = ess_exact(difference(*pair, IDS, G), 0.05)
        np.testing.assert_array_equal((ends.lower, ends.upper), (-np.inf, np.inf))


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_exact_is_the_dense_quadratic_form(rho):
    log_weight, reward = (np.asarray(x) for x in rows(5, N))
    p = np.exp(log_weight) / np.exp(log_weight).sum()
    member = np.zeros((G, N))
    member[CLUSTER, np.arange(N)] = p
    working = (1 - rho) * np.eye(N) + rho * (CLUSTER[:, None] == CLUSTER[None, :])
    maker = member @ (np.eye(N) - np.outer(np.ones(N), p))
    covariance = maker @ working @ maker.T
    f = np.diag(member @ working @ member.T) / np.diag(covariance)
    truth = p @ working @ p
    made = cluster_pivot(snips(jnp.asarray(log_weight), jnp.asarray(reward)), IDS, G, rho)
    np.testing.assert_allclose(made.variance, np.sum(f * (maker @ reward) ** 2), rtol=1e-9)
    np.testing.assert_allclose(
        made.df, truth**2 / np.sum(np.outer(f, f) * covariance**2), rtol=1e-9
    )


def test_exact_contains_its_special_cases():
    estimate = snips(*rows(6, N))
    for rho in (0.0, 0.4, 1.0):  # one row a cluster
        made, rowwise = cluster_pivot(estimate, jnp.arange(N), N, rho), ess_exact.pivot(estimate)
        np.testing.assert_allclose(
            [made.variance, made.df], [rowwise.variance, rowwise.df], rtol=1e-9
        )
    made, whole = cluster_pivot(estimate, IDS, G, 1.0), ess_exact.pivot(clustered(estimate, IDS, G))
    np.testing.assert_allclose([made.variance, made.df], [whole.variance, whole.df], rtol=1e-9)


def test_equal_weights_and_sizes_give_the_t_interval_of_cluster_means():
    reward = rows(7, 40)[1]
    estimate, cluster = snips(jnp.zeros(40), reward), jnp.repeat(jnp.arange(8), 5)
    means = np.asarray(reward).reshape(8, 5).mean(axis=1)
    expected = stats.t.interval(0.95, 7, means.mean(), stats.sem(means))
    for rho in (0.0, 1.0):
        made = cluster_exact(estimate, 0.05, cluster=cluster, num_clusters=8, correlation=rho)
        np.testing.assert_allclose([made.lower, made.upper], expected, rtol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_cluster_gives_the_whole_line(dtype):
    estimate = snips(*rows(8, N, dtype))
    for cluster in (jnp.zeros(N, int), jnp.where(jnp.arange(N) < 1, 1, 0)):
        weightless = (
            estimate
            if cluster.max() == 0
            else snips(estimate.log_weight.at[0].set(-jnp.inf), estimate.reward)
        )
        for made in (
            ess_exact(clustered(weightless, cluster, 2), 0.05),
            cluster_exact(weightless, 0.05, cluster=cluster, num_clusters=2, correlation=0.0),
        ):
            assert made.lower.dtype == dtype
            assert made.lower == -np.inf
            assert made.upper == np.inf


SIZES = {
    "equal": (5,) * 10,
    "unequal": (1,) * 10 + (3,) * 6 + (15,) * 4,
    "heavy": (1,) * 60 + (40,) * 3,
}


def coverage(sizes, correlation, replicates):
    """Hits of the row-wise and the cluster-wise interval, truth 0, standard log-normal weights."""
    cluster = jnp.repeat(jnp.arange(len(sizes)), jnp.asarray(sizes), total_repeat_length=sum(sizes))

    def one(key):
        a, b = jax.random.normal(key, (2, sum(sizes)))
        user = jax.random.normal(jax.random.fold_in(key, 1), (len(sizes),))[cluster]
        estimate = snips(a, jnp.sqrt(correlation) * user + jnp.sqrt(1 - correlation) * b)
        zero = jnp.zeros(())
        whole = clustered(estimate, cluster, len(sizes))
        return ess_exact(estimate, 0.05).contains(zero), ess_exact(whole, 0.05).contains(zero)

    hits = jax.jit(jax.vmap(one))(jax.random.split(KEY, replicates))
    return [int(h.sum()) for h in hits]


def test_users_who_repeat_themselves_need_clusters():
    rowwise, clusterwise = coverage(SIZES["unequal"], 0.9, 1000)
    assert stats.binom.cdf(rowwise, 1000, 0.9) < 1e-6  # pretending that rows are independent fails
    assert stats.binom.cdf(clusterwise, 1000, 0.95) > 1e-3


@pytest.mark.nightly
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_coverage(sizes, correlation):
    """At least nominal for equal and unequal clusters, whatever the correlation."""
    _, hits = coverage(SIZES[sizes], correlation, 4000)
    assert stats.binom.cdf(hits, 4000, 0.95) > 1e-3
    assert sizes != "equal" or binomial_tail(hits, 4000, 0.965) > 1e-8
