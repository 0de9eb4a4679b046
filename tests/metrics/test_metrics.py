"""Learnt metrics: closed forms, optima, invariances, noise correction, leave-one-out and the
summary of its z-scores.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats
from yardsticks import KEY, binomial_tail, cast, eps, standard_errors

from mopl_jax.metrics import objectives, validation

K, E = 4, 60
NAMES = ("a", "b", "c", "star")
USERS = np.array(
    [[1.0, 0.3, 0.1, 0.2], [0.3, 2.0, 0.2, 0.4], [0.1, 0.2, 0.5, 0.1], [0.2, 0.4, 0.1, 4.0]]
)
TRUE = (
    np.array(
        [[1.0, 0.4, 0.1, 0.5], [0.4, 0.8, 0.0, 0.2], [0.1, 0.0, 0.2, 0.1], [0.5, 0.2, 0.1, 0.6]]
    )
    * 4e-5
)
SIZE = 50_000.0


@functools.partial(jax.jit, static_argnames=("e", "nulls", "sizes"))
def draw(key, e=E, nulls=0.2, true=TRUE, sizes=(SIZE, SIZE)):
    """Experiments with normal true effects; winners are known where the true North Star effect is
    large.
    """
    keys = jax.random.split(key, 3)
    null = jnp.arange(e) < int(nulls * e)
    effect = jax.random.normal(keys[0], (e, K)) @ jnp.linalg.cholesky(jnp.asarray(true)).T
    effect = jnp.where(null[:, None], 0, effect)
    size = jax.random.uniform(keys[1], (e,), minval=sizes[0], maxval=sizes[1] + 1e-9)
    covariance = jnp.asarray(USERS)[None] / size[:, None, None]
    noise = (
        jax.random.normal(keys[2], (e, K))
        @ jnp.linalg.cholesky(jnp.asarray(USERS)).T
        / jnp.sqrt(size)[:, None]
    )
    sign = jnp.where(jnp.abs(effect[:, -1]) > 3e-3, jnp.sign(effect[:, -1]), 0)
    return objectives.History(
        effect + noise,
        covariance,
        size,
        sign,
        null,
        jnp.arange(e),
        jnp.asarray(USERS),
        NAMES,
        K - 1,
    )


HISTORY = draw(KEY)
VARIED = draw(KEY, sizes=(2_000.0, 200_000.0))
learn = jax.jit(objectives.learn, static_argnames="objective")
effect_covariance, proxy_quality = (
    jax.jit(objectives.effect_covariance),
    jax.jit(objectives.proxy_quality),
)
nightly = {
    name: pytest.mark.nightly for name in ("mean_z", "mean_p", "p_log_p")
}  # every descent compiles for seconds
every_objective = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=nightly.get(n, ())) for n in objectives.NAMED]
)
every_descent = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=nightly.get(n, ())) for n in objectives.LOSSES]
)
every_loss = pytest.mark.parametrize("name", objectives.LOSSES)


def changed(history, **fields):
    return dataclasses.replace(history, **fields)


def direction(weights):
    return np.asarray(weights) / np.linalg.norm(weights)


# Losses.


@every_loss
def test_losses_fall_and_all_but_mean_p_are_convex(name):
    """Convex in z: second differences ≥ 0 to rounding; p = Φ(−z) is not, its curvature is negative
    at z = −1.
    """
    z = jnp.linspace(-6, 6, 1201)
    loss = np.asarray(objectives.LOSSES[name](z))
    assert (np.diff(loss) <= 0).all()
    curvature = np.diff(loss, 2)
    assert (curvature.min() >= -64 * eps(np.float64) * np.abs(loss).max()) == (name != "mean_p")


def test_bounds_of_the_errors():
    """log_p ≥ p ≥ … : −log Φ(z) ≥ 1 − Φ(z) ≥ −p log(1−p) ≥ p², and loss(z)/loss(c) ≥ 1[z < c]."""
    z = jnp.linspace(-6, 6, 301)
    p, log_p, p_log_p = (
        np.asarray(f(z)) for f in (objectives.mean_p, objectives.log_p, objectives.p_log_p)
    )
    slack = 1 + 1e-6  # log Φ(6) is known to that
    assert (p <= log_p * slack).all()
    assert (p**2 <= p_log_p * slack).all()
    assert (p_log_p <= log_p * slack).all()
    for c in (0.0, 1.64):
        assert (log_p / float(objectives.log_p(jnp.array(c))) * slack >= (np.asarray(z) < c)).all()


# Objectives.


def test_gls_of_one_experiment_has_the_largest_z():
    """ω ∝ S⁻¹Δ attains √(ΔᵀS⁻¹Δ), the largest |z| of any metric (Cauchy–Schwarz)."""
    one = jax.tree.map(lambda x: x[:1], changed(HISTORY, user_covariance=USERS[None]))
    one = changed(one, user_covariance=jnp.asarray(USERS), sign=jnp.ones(1), size=jnp.full(1, 1e12))
    weights = objectives.gls(one, jnp.ones(1), jnp.ones(K, bool))
    delta, noise = np.asarray(one.effect[0]), np.asarray(one.covariance[0])
    assert float(objectives.z_scores(weights, one)[0]) == pytest.approx(
        np.sqrt(delta @ np.linalg.solve(noise, delta))
    )


@pytest.mark.nightly
def test_mean_z_is_gls_for_equal_covariances():
    """Σ s z is linear in ω on ωᵀSω = 1: its maximum is the pooled closed form. Descent finds it, to
    1e-3 in direction.
    """
    assert direction(learn(HISTORY, objectives.NAMED["mean_z"])) == pytest.approx(
        direction(learn(HISTORY, objectives.gls)), abs=1e-3
    )


@every_descent
def test_descent_reaches_the_optimum_of_its_loss(name):
    """scipy's BFGS from the found weights and from elsewhere finds nothing better than 1e-6 of the
    loss's range.
    """
    loss, sign = objectives.LOSSES[name], np.asarray(VARIED.sign)
    known = sign != 0

    @jax.jit
    def mean_loss(weights):
        z = VARIED.sign * objectives.z_scores(jnp.append(weights, 0.0), VARIED)
        return jnp.sum(jnp.where(known, loss(z), 0)) / float(known.sum())

    found = np.asarray(learn(VARIED, objectives.NAMED[name]))[:-1]
    starts = found, found + [0.3, -0.3, 0.3]
    best = min(
        optimize.minimize(mean_loss, start, jac=jax.jit(jax.grad(mean_loss))).fun
        for start in starts
    )
    assert float(mean_loss(found)) < best + 1e-6


@every_objective
def test_weights_have_unit_variance_exclude_the_north_star_and_point_up(name):
    """ωᵀ Σ ω = 1 over users; the North Star's weight is exactly 0; held-in winners have positive
    mean z.
    """
    weights = learn(HISTORY, objectives.NAMED[name])
    assert float(weights @ USERS @ weights) == pytest.approx(1, rel=1e-12)
    assert float(weights[-1]) == 0
    assert float(jnp.sum(HISTORY.sign * objectives.z_scores(weights, HISTORY))) > 0


@every_objective
def test_units_of_the_metrics_do_not_matter(name):
    """Metrics measured in other units, Δ → DΔ, give weights D⁻¹ω: the same metric. To 1e-6,
    descent's accuracy.
    """
    units = jnp.array([100.0, 0.01, 3.0, 7.0])
    both = units[:, None] * units[None, :]
    other = changed(
        VARIED,
        effect=VARIED.effect * units[None],
        covariance=VARIED.covariance * both[None],
        user_covariance=VARIED.user_covariance * both,
    )
    got, expected = (
        learn(other, objectives.NAMED[name]) * units,
        learn(VARIED, objectives.NAMED[name]),
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@every_objective
def test_swapped_arms_change_nothing(name):
    """Control and treatment exchanged: Δ → −Δ, winner → loser."""
    flip = jnp.where(jnp.arange(E) % 2 == 0, -1.0, 1.0)
    other = changed(VARIED, effect=VARIED.effect * flip[:, None], sign=VARIED.sign * flip)
    np.testing.assert_allclose(
        learn(other, objectives.NAMED[name]), learn(VARIED, objectives.NAMED[name]), atol=1e-9
    )


def test_closed_forms_ignore_what_is_not_theirs():
    """GLS sees only known winners; the proxy sees no label and no A/A test."""
    unknown = VARIED.sign == 0
    shuffled = changed(VARIED, effect=jnp.where(unknown[:, None], 1e3, VARIED.effect))
    np.testing.assert_allclose(
        learn(shuffled, objectives.gls), learn(VARIED, objectives.gls), atol=1e-12
    )
    shuffled = changed(
        VARIED, sign=-VARIED.sign, effect=jnp.where(VARIED.null[:, None], 1e3, VARIED.effect)
    )
    np.testing.assert_allclose(
        learn(shuffled, objectives.proxy), learn(VARIED, objectives.proxy), atol=1e-12
    )


@pytest.mark.nightly
def test_l1_is_exact_and_sparse():
    """With a penalty: the objective is no worse than scipy's minimum over the L1 problem, and a
    large one leaves one metric.
    """
    penalty = 0.3
    sparse = objectives.descent(objectives.mean_z, l1=penalty)
    everything = jnp.ones(E)
    got = np.asarray(sparse(HISTORY_STANDARD, everything, objectives.signals_only(HISTORY)))[:-1]
    sign = np.asarray(HISTORY_STANDARD.sign)
    noise = np.asarray(HISTORY_STANDARD.covariance)[sign != 0].mean(0)[:-1, :-1]
    pooled = (sign @ np.asarray(HISTORY_STANDARD.effect))[:-1] / np.abs(sign).sum()

    def objective(w):
        return (-pooled @ w + penalty * np.abs(w).sum()) / np.sqrt(w @ noise @ w)

    starts = np.random.default_rng(0).normal(size=(20, K - 1))
    tight = {"xatol": 1e-8, "fatol": 1e-10}
    found = [
        optimize.minimize(objective, start, method="Nelder-Mead", options=tight).fun
        for start in starts
    ]
    best = min(found)
    assert objective(got) < best + 1e-4
    assert (
        np.asarray(learn(HISTORY, objectives.descent(objectives.mean_z, l1=5.0))) != 0
    ).sum() == 1


HISTORY_STANDARD = objectives._standardise(HISTORY)[0]


def test_signs_are_kept():
    """A weight that wants to be positive is at most 0 where the sign says so; the others adapt."""
    free = learn(HISTORY, objectives.NAMED["log_p"])
    wanted = tuple(-int(s) for s in np.sign(np.asarray(free)))
    held = learn(HISTORY, objectives.descent(objectives.log_p, signs=(wanted[0], 0, 0, 0)))
    assert float(free[0]) * float(held[0]) <= 0
    assert float(jnp.linalg.norm(held)) > 0


# Noise and shrinkage.


def test_effect_covariance_subtracts_the_noise():
    """E[ΔΔᵀ − S] = Λ: entries of the mean over 400 histories within 4 standard errors;
    uncorrected they are not.

    Shrinkage and the projection on positive matrices are off: the mean of their input is what
    the theorem is about.
    """
    keys = jax.random.split(jax.random.fold_in(KEY, 1), 400)
    raw = jax.jit(jax.vmap(lambda key: jnp.mean(objectives._terms(draw(key, nulls=0.0)), axis=0)))(
        keys
    )
    rows, columns = np.triu_indices(K)
    assert standard_errors(np.asarray(raw)[:, rows, columns], TRUE[rows, columns]).max() < 4
    noisy = np.asarray(raw) + USERS / SIZE
    assert standard_errors(noisy[:, rows, columns], TRUE[rows, columns]).max() > 4


def test_effect_covariance_is_consistent_and_positive():
    """With 20,000 experiments Λ is within 4 standard errors of the truth; with 8 it is still
    positive semi-definite.
    """
    large = draw(jax.random.fold_in(KEY, 2), e=20_000, nulls=0.0)
    got = effect_covariance(large, jnp.ones(20_000))
    error = np.asarray(objectives._terms(large)).std(axis=0) / np.sqrt(20_000)
    assert np.abs((np.asarray(got) - TRUE) / error).max() < 4
    few = effect_covariance(draw(jax.random.fold_in(KEY, 3), e=8), jnp.ones(8))
    assert np.linalg.eigvalsh(few)[0] > -1e-15


def test_proxy_maximises_its_quality():
    """No other metric correlates better: the gradient of the mean-noise quality is 0 at the proxy,
    for equal S.
    """
    history = HISTORY_STANDARD
    weights = objectives.proxy(history, jnp.ones(E), jnp.ones(K, bool))

    def quality(w):
        return proxy_quality(w, history)[0]

    best = float(quality(weights))
    assert np.abs(jax.grad(quality)(weights) * jnp.linalg.norm(weights)).max() < 1e-8
    assert all(
        float(quality(weights + 0.3 * z)) <= best
        for z in jax.random.normal(KEY, (20, K)) * jnp.abs(weights).max()
    )
    assert best <= 1


def test_shrinkage_has_the_least_expected_error():
    """Schäfer & Strimmer: the mean squared error of the shrunk covariance of n = 30 normal rows is
    below that of the raw.
    """
    rng = np.random.default_rng(0)
    truth = np.eye(6) + 0.15 * (1 - np.eye(6))
    raw = np.stack([np.cov(rng.multivariate_normal(np.zeros(6), truth, 30).T) for _ in range(400)])
    shrunk = np.asarray(jax.vmap(objectives._shrunk)(jnp.asarray(raw), jnp.full(400, 30.0)))
    gain = ((raw - truth) ** 2 - (shrunk - truth) ** 2).sum((1, 2))
    assert gain.mean() / (gain.std(ddof=1) / 20) > 4
    assert (np.diagonal(shrunk, axis1=1, axis2=2) == np.diagonal(raw, axis1=1, axis2=2)).all()


# Leaving out.


@pytest.mark.parametrize("name", ["gls", "proxy", "log_p"])
def test_leave_one_out_is_learning_without_the_experiment(name):
    """Row i of the vmap equals a fit with include = 0 for the rows of experiment i, arms of one
    experiment together.
    """
    grouped = changed(VARIED, experiment=jnp.arange(E) // 2)
    together = objectives.leave_one_out(grouped, objectives.NAMED[name])
    for i in (0, 31):
        include = (grouped.experiment != i // 2).astype(float)
        np.testing.assert_allclose(
            together[i], learn(grouped, objectives.NAMED[name], include), atol=1e-9
        )


def test_held_out_z_scores_do_not_see_their_experiment():
    """Multiplying one effect by 5 multiplies its own held-out z by 5 and its weights not at all."""
    row = int(np.flatnonzero(np.asarray(VARIED.sign))[3])
    louder = changed(VARIED, effect=VARIED.effect.at[row].multiply(5.0))
    # the standard units come from covariances alone, so nothing else can leak
    before, after = (validation.held_out(history, objectives.gls) for history in (VARIED, louder))
    assert after[row] == pytest.approx(5 * before[row], rel=1e-9)
    assert np.abs(after - before)[np.arange(E) != row].max() > 0


def test_false_positives_of_held_out_metrics_are_at_their_level():
    """A/A differences by metrics learnt elsewhere are standard normal: significant in 5 %, binomial
    tail above 1e-3.
    """
    history = draw(jax.random.fold_in(KEY, 4), e=1000, nulls=0.8)
    found = validation.judge(validation.held_out(history, objectives.gls), history)
    hits = round(found.false_positives * found.nulls)
    assert found.nulls == 800
    assert binomial_tail(hits, found.nulls, 0.05) > 1e-3
    assert found.false_positives_low <= found.false_positives <= found.false_positives_high


# The summary.


def test_factor_is_the_ratio_of_sample_sizes():
    """A metric whose z is twice the North Star's in every experiment needs a quarter of the users:
    both factors are 4, SE 0.
    """
    north = np.asarray(objectives.z_scores(jnp.eye(K)[-1], HISTORY))
    found = validation.judge(2 * north, HISTORY)
    assert (found.factor, found.median_factor) == (pytest.approx(4), pytest.approx(4))
    assert max(found.factor_se, found.median_factor_se) < 1e-12
    assert found.metric.power >= found.north_star.power
    assert validation.mean_factor(np.array([-1.0, -2.0]), np.array([1.0, 1.0])) == 0


@pytest.mark.nightly
def test_factor_standard_error():
    """The bootstrap's standard error, averaged over 10 histories, is the factor's spread over 200,
    within a quarter.
    """
    keys = jax.random.split(jax.random.fold_in(KEY, 5), 200)
    ours = jnp.array([0.8, 0.3, 0.2, 0.0])
    each = jax.jit(
        jax.vmap(lambda key: _signed(draw(key, e=300, nulls=0.0, true=10 * TRUE), ours))
    )(keys)
    known = [(z[s != 0], north[s != 0]) for z, north, s in zip(*map(np.asarray, each), strict=True)]
    told = [
        validation._resampled(validation.mean_factor, *pair, np.arange(pair[0].size))
        for pair in known[:10]
    ]
    assert (
        0.75
        < np.mean(told) / np.std([validation.mean_factor(*pair) for pair in known], ddof=1)
        < 1.25
    )


def _signed(history, weights):
    star = jnp.eye(K)[-1]
    return (
        history.sign * objectives.z_scores(weights, history),
        history.sign * objectives.z_scores(star, history),
        history.sign,
    )


def test_errors_partition_the_known_winners():
    """power + type II + type III = 1; agreement is at least the power; p-values from scipy."""
    z = np.random.default_rng(0).normal(1, 2, 500)
    found = validation.errors(z, 1.96)
    assert found.power + found.type_ii + found.type_iii == pytest.approx(1)
    assert found.type_iii <= 1 - found.agreement <= found.type_ii + found.type_iii
    assert found.median_p == pytest.approx(np.median(stats.norm.sf(z)))


def test_bonferroni_holds_its_level():
    """Two independent null metrics: the tandem is significant in at most 5 %, and p-values are at
    most doubled.
    """
    rng = np.random.default_rng(0)
    critical = stats.norm.isf(0.05 / 4)
    found = validation._tandem(*rng.normal(size=(2, 40_000)), critical)
    assert binomial_tail(round((1 - found.type_ii) * 40_000), 40_000, 1 - (1 - 0.025) ** 2) > 1e-3


# The reward.


def test_metric_reward_is_linear_and_has_unit_variance():
    """Rewards of users with the stated covariance have variance 1: 4 standard errors; means map to
    means.
    """
    weights = learn(HISTORY, objectives.gls)
    signals = jax.random.normal(KEY, (50_000, K)) @ jnp.linalg.cholesky(jnp.asarray(USERS)).T + 3.0
    reward = objectives.metric_reward(weights, signals)
    assert reward.shape == (50_000,)
    assert standard_errors((reward - 3.0 * weights.sum()) ** 2, 1) < 4
    assert float(reward.mean()) == pytest.approx(float(weights @ signals.mean(0)), rel=1e-12)


@pytest.mark.parametrize("name", ["gls", pytest.param("log_p", marks=pytest.mark.nightly)])
def test_dtype_in_is_dtype_out(name):
    """float32 history, float32 weights, equal to float64's within 1e-3."""
    low = cast(VARIED, np.float32)
    low = changed(low, null=VARIED.null, experiment=VARIED.experiment)
    got = learn(low, objectives.NAMED[name])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, learn(VARIED, objectives.NAMED[name]), atol=1e-3)


def test_nothing_to_learn_from_is_zero_not_nan():
    """No known winner: no weights, and z = 0 rather than NaN."""
    silent = changed(HISTORY, sign=jnp.zeros(E))
    for objective in (objectives.gls, objectives.NAMED["log_p"]):
        weights = learn(silent, objective)
        assert (np.asarray(weights) == 0).all()
        assert (np.asarray(objectives.z_scores(weights, silent)) == 0).all()


def test_quality_and_exchange_rate_are_those_of_the_true_effects():
    """200,000 experiments: the correlation and the regression of the true covariances, within 4
    standard errors by the delta method; in any units.
    """
    large = draw(jax.random.fold_in(KEY, 2), e=200_000, nulls=0.0)
    units = jnp.array([100.0, 0.01, 3.0, 1.0])
    other = changed(
        large,
        effect=large.effect * units[None],
        covariance=large.covariance * jnp.outer(units, units)[None],
    )
    for w in (np.eye(K)[0], np.array([0.5, 1.0, -0.3, 0.0])):
        along, noise = w @ TRUE, np.einsum("i,eij,j->e", w, np.asarray(large.covariance), w)
        quality = along[-1] / np.sqrt((along @ w + noise) * TRUE[-1, -1])
        terms = np.asarray(objectives._terms(large))
        cross, own, star = terms[:, -1] @ w, np.einsum("i,eij,j->e", w, terms, w), terms[:, -1, -1]
        slack = (
            cross / along[-1] - 0.5 * own / (along @ w + noise) - 0.5 * star / TRUE[-1, -1]
        ).std() / np.sqrt(200_000)
        np.testing.assert_allclose(proxy_quality(w, large), quality, rtol=4 * slack)
        np.testing.assert_allclose(
            proxy_quality(w / units, other), proxy_quality(w, large), rtol=1e-9
        )
        rate = float(objectives.exchange_rate(jnp.asarray(w), large))
        expected = along[-1] / (along @ w)
        assert standard_errors((cross - expected * own) / (along @ w), rate - expected) < 4
        assert float(objectives.exchange_rate(w / units, other)) == pytest.approx(rate, rel=1e-9)
