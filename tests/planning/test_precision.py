"""Planning in closed form: every formula against simulation, its inverse, or the condition that
makes it a minimum.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import sample_rows
from yardsticks import DTYPES, KEY, binomial_tail, cast, standard_errors

from mopl_jax import estimators
from mopl_jax.estimators.divergence import cut_to_box, population_d2
from mopl_jax.planning import precision as planning
from mopl_jax.policies import Gaussian, Uniform
from mopl_jax.simulation.environments import Environment, Linear, Normal, Quadratic, snips_variance

D, N, NOISE = 3, 200_000, 0.5
SLOPE = jnp.array([0.5, -0.2, 0.3])
CENTRE = np.array([0.2, 0.0, -0.1])
TARGET = Gaussian.diagonal(CENTRE + np.array([0.4, -0.3, 0.2]), np.array([0.5, 0.6, 0.4]))
PRODUCTION = Gaussian.diagonal(CENTRE, 0.5)
EDGE = np.sqrt(3)
LOGGERS = {
    "normal": Gaussian.diagonal(CENTRE, 1.0),
    "full": Gaussian.full(CENTRE, np.array([[1, 0.3, 0], [0.3, 0.8, 0.1], [0, 0.1, 0.9]])),
    "uniform": Uniform(jnp.asarray(CENTRE - EDGE), jnp.asarray(CENTRE + EDGE)),
    "narrow box": Uniform(jnp.asarray(CENTRE - 0.8), jnp.asarray(CENTRE + 1.0)),
}
every_logger = pytest.mark.parametrize("name", LOGGERS)
variance, product = jax.jit(planning.variance), jax.jit(planning.product)
essential, surface_of = jax.jit(planning.ess_share), jax.jit(planning.surface)


@functools.partial(jax.jit, static_argnames="n")
def logged(key, logging, n):
    """Log weights of target and production, and rewards, of n rows."""
    action = sample_rows(key, logging, n)
    reward = action @ SLOPE + NOISE * jax.random.normal(jax.random.fold_in(key, 1), (n,))
    log_weights = [
        jax.vmap(lambda a, p=p: p.log_density(a) - logging.log_density(a))(action)
        for p in (TARGET, PRODUCTION)
    ]
    return *log_weights, reward


@pytest.fixture(scope="module")
def replicates():
    """3,000 logs of 1,000 rows for normal and uniform logging: SNIPS of target and production."""

    @jax.jit
    def values(keys, logging):
        def one(key):
            ours, theirs, reward = logged(key, logging, 1000)
            return jnp.stack([estimators.snips(weight, reward).value for weight in (ours, theirs)])

        return jax.lax.map(one, keys, batch_size=50)

    keys = jax.random.split(jax.random.fold_in(KEY, 1), 3000)
    return {name: np.asarray(values(keys, LOGGERS[name])) for name in ("normal", "uniform")}


# The product of two policies.


@every_logger
def test_product_size_is_d2(name):
    """size = E w² for a = b: the closed form of ess, over the squared mass of the box where there
    is one.
    """
    logging = LOGGERS[name]
    mass = float(planning.coverage_of_box(logging, TARGET))
    assert float(product(logging, TARGET, TARGET).size) == pytest.approx(
        float(population_d2(logging, TARGET)) / mass**2, rel=1e-10
    )


def test_correlated_and_independent_policies_agree():
    """A diagonal covariance given in full goes the other way and gives the same product, to
    rounding.
    """
    full = [Gaussian(p.mean, jnp.diag(p.scale)) for p in (LOGGERS["normal"], TARGET, PRODUCTION)]
    for got, expected in zip(
        jax.tree.leaves(product(*full)),
        jax.tree.leaves(product(LOGGERS["normal"], TARGET, PRODUCTION)),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
    assert float(product(Gaussian(TARGET.mean, 0.3 * jnp.eye(D)), full[1], full[1]).size) == np.inf


def test_product_of_normals_has_the_precision_of_the_density():
    """π_a π_b / π₀ has precision P_a + P_b − P₀ and mean Σ̃(P_aμ_a + P_bμ_b − P₀μ₀), covariances
    full and apart.
    """
    other = Gaussian.full(CENTRE, np.array([[0.5, -0.2, 0], [-0.2, 0.4, 0.1], [0, 0.1, 0.7]]))
    policies, signs = (TARGET, other, LOGGERS["full"]), (1, 1, -1)
    precisions = [np.linalg.inv(np.asarray(p.covariance)) for p in policies]
    spread = np.linalg.inv(sum(s * p for s, p in zip(signs, precisions, strict=True)))
    pull = sum(
        s * p @ np.asarray(policy.mean)
        for s, p, policy in zip(signs, precisions, policies, strict=True)
    )
    found = product(LOGGERS["full"], TARGET, other)
    np.testing.assert_allclose(found.covariance, spread, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found.mean, spread @ pull, rtol=1e-11)


@every_logger
def test_second_moments_by_simulation(name):
    """E_π₀[w_a w_b (r−V_a)(r−V_b)] for (a, b) = (target, target), (target, production): 4 standard
    errors of 200,000 rows.
    """
    logging = LOGGERS[name]
    ours, theirs, reward = logged(KEY, logging, N)
    masses = [float(planning.coverage_of_box(logging, p)) for p in (TARGET, PRODUCTION)]
    terms = []
    for log_weight, mass, policy in zip((ours, theirs), masses, (TARGET, PRODUCTION), strict=True):
        value = float(SLOPE @ product(logging, policy, policy).mean_a)
        terms.append(np.exp(np.asarray(log_weight)) / mass * (np.asarray(reward) - value))
    cov = jax.jit(planning.covariance)
    assert standard_errors(terms[0] ** 2, cov(logging, TARGET, TARGET, SLOPE, NOISE)) < 4
    assert standard_errors(terms[0] * terms[1], cov(logging, TARGET, PRODUCTION, SLOPE, NOISE)) < 4
    assert (
        standard_errors(
            (terms[0] - terms[1]) ** 2, variance(logging, TARGET, SLOPE, NOISE, PRODUCTION)
        )
        < 4
    )


def test_variance_is_the_oracle_variance():
    """For normal logging d₂ (bᵀΣ̃b + (bᵀ(μ̃−μ))² + σ²) by dense algebra, digit by digit, diagonal and
    full; the environments know the same.
    """
    environment = Environment(Linear(SLOPE, jnp.array(0.7)), Normal(jnp.array(NOISE)))
    slope = np.asarray(SLOPE)
    for name in ("normal", "full"):
        target, logging = (
            (np.asarray(p.mean), np.asarray(p.covariance)) for p in (TARGET, LOGGERS[name])
        )
        precision, logging_precision = np.linalg.inv(target[1]), np.linalg.inv(logging[1])
        tilted = np.linalg.inv(2 * precision - logging_precision)
        centre = tilted @ (2 * precision @ target[0] - logging_precision @ logging[0])
        gap, step = 2 * logging[1] - target[1], target[0] - logging[0]
        d2 = np.exp(step @ np.linalg.solve(gap, step)) * np.linalg.det(logging[1])
        d2 = d2 / np.sqrt(np.linalg.det(gap) * np.linalg.det(target[1]))
        spread = slope @ tilted @ slope + (slope @ (centre - target[0])) ** 2 + NOISE**2
        for found in (
            variance(LOGGERS[name], TARGET, SLOPE, NOISE),
            snips_variance(environment, LOGGERS[name], TARGET),
        ):
            assert float(found) == pytest.approx(d2 * spread, rel=1e-10)


def test_on_policy_variance_is_that_of_the_reward():
    """Target = logging: bᵀΣb + σ², and nothing is known more exactly than production minus
    itself.
    """
    logging = LOGGERS["full"]
    expected = float(SLOPE @ logging.covariance @ SLOPE) + NOISE**2
    assert float(variance(logging, logging, SLOPE, NOISE)) == pytest.approx(expected, rel=1e-10)
    assert float(variance(LOGGERS["normal"], TARGET, SLOPE, NOISE, TARGET)) == pytest.approx(
        0, abs=1e-10
    )
    assert float(essential(logging, logging)) == pytest.approx(1, rel=1e-10)


def test_moments_of_normals_cut_to_a_box():
    """Mass, mean and variance against scipy's truncnorm."""
    box = LOGGERS["narrow box"]
    mass, mean, spread = cut_to_box(box, TARGET)
    low, high = ((np.asarray(edge) - TARGET.mean) / TARGET.scale for edge in (box.low, box.high))
    cut = stats.truncnorm(low, high, TARGET.mean, TARGET.scale)
    np.testing.assert_allclose(mass, stats.norm.cdf(high) - stats.norm.cdf(low), rtol=1e-10)
    np.testing.assert_allclose(mean, cut.mean(), rtol=1e-10)
    np.testing.assert_allclose(spread, cut.var(), rtol=1e-10)


def test_logging_that_cannot_answer_has_infinite_variance():
    """Σπ ⪰ 2Σ₀: no effective rows, no power; never NaN."""
    narrow = Gaussian.diagonal(CENTRE, 0.3)
    assert float(variance(narrow, TARGET, SLOPE, NOISE)) == np.inf
    assert float(variance(narrow, TARGET, SLOPE, NOISE, PRODUCTION)) == np.inf
    assert float(essential(narrow, TARGET)) == 0
    assert float(planning.power(0.1, jnp.inf, 0.05)) == pytest.approx(0.05)


@jax.jit
@jax.grad
def _gradient(logging, target, production, slope, noise):
    return planning.variance(logging, target, slope, noise, production)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_in_is_dtype_out_and_gradients_are_finite(dtype):
    """float32 agrees with float64 to 1e-4; the gradient of the variance in the exploration scale is
    finite.
    """
    policies = [cast(p, dtype) for p in (LOGGERS["normal"], TARGET, PRODUCTION)]
    slope, noise = SLOPE.astype(dtype), jnp.asarray(NOISE, dtype)
    got = variance(policies[0], policies[1], slope, noise, policies[2])
    assert got.dtype == dtype
    assert float(got) == pytest.approx(
        float(variance(LOGGERS["normal"], TARGET, SLOPE, NOISE, PRODUCTION)), rel=1e-4
    )

    gradient = _gradient(*policies, slope, noise).scale
    assert gradient.dtype == dtype
    assert np.isfinite(np.asarray(gradient)).all()


def test_a_full_target_is_refused_for_a_box():
    with pytest.raises(ValueError, match="diagonal target"):
        planning.variance(LOGGERS["uniform"], LOGGERS["full"], SLOPE, NOISE)
    with pytest.raises(TypeError, match="Gaussian or Uniform"):
        planning.product(object(), TARGET, TARGET)  # pyright: ignore[reportArgumentType]


# Against the estimator: SNIPS on simulated logs.


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_standard_errors_of_snips(name, replicates):
    """The standard deviation of SNIPS and of Δ-SNIPS over 3,000 logs of 1,000 rows is the
    asymptotic one.

    Within 4 standard errors plus O(1/n): the next order of the delta method, d₂/n ≈ 1 % of the
    variance here.
    """
    values = replicates[name]
    logging = LOGGERS[name]
    share = 1 / float(essential(logging, TARGET))
    for sample, production in ((values[:, 0], None), (values[:, 0] - values[:, 1], PRODUCTION)):
        expected = float(variance(logging, TARGET, SLOPE, NOISE, production)) / 1000
        squares = (sample - sample.mean()) ** 2
        error = squares.std(ddof=1) / np.sqrt(squares.size)
        assert abs(squares.mean() - expected) < 4 * error + 3 * share / 1000 * expected


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_power_is_the_rate_of_certified_gains(name, replicates):
    """Share of logs with Δ̂ − z SE > 0 against Φ(gain/SE − z): binomial tail above 1e-4, at power
    far from 0 and 1.
    """
    difference = replicates[name][:, 0] - replicates[name][:, 1]
    both = [product(LOGGERS[name], p, p).mean_a for p in (TARGET, PRODUCTION)]
    gain = float(SLOPE @ (both[0] - both[1]))
    error = float(jnp.sqrt(variance(LOGGERS[name], TARGET, SLOPE, NOISE, PRODUCTION) / 1000))
    scaled = difference - gain + 2 * error  # the same errors about a gain of two standard errors
    expected = float(planning.power(2 * error, error, 0.05))
    assert 0.6 < expected < 0.7
    assert binomial_tail(int((scaled > 1.6449 * error).sum()), 3000, expected) > 1e-4


def test_certified_regret_is_what_the_certificate_holds_back(replicates):
    """horizon · E[V − (V̂ − z SE)] over logs, 4 standard errors plus the bias of SNIPS, which is
    O(1/n).
    """
    difference = replicates["normal"][:, 0] - replicates["normal"][:, 1]
    gain = float(SLOPE @ (TARGET.mean - PRODUCTION.mean))
    v = variance(LOGGERS["normal"], TARGET, SLOPE, NOISE, PRODUCTION)
    regret = float(planning.certified_regret(1000, 0.0, v, 1.0, 0.05))
    shortfall = gain - (difference - 1.6448536 * np.sqrt(float(v) / 1000))
    bias = 1e-3 * float(product(LOGGERS["normal"], TARGET, TARGET).size)
    assert abs(shortfall.mean() - regret) < 4 * shortfall.std() / np.sqrt(3000) + bias


# Sample size and cost.


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95])
def test_rows_needed_inverts_power(wanted):
    """With the rows that a power needs the power is that."""
    n = planning.rows_needed(0.02, 3.0, 0.05, wanted)
    assert float(planning.power(0.02, jnp.sqrt(3.0 / n), 0.05)) == pytest.approx(wanted, rel=1e-12)


def test_exploration_cost_is_the_loss_of_the_logging_policy():
    """f(a₀) − E_π₀ f on a quadratic surface, whatever its slope at a₀; normal in closed form,
    uniform by simulation.
    """
    curvature = jnp.array([[0.6, 0.2, 0.0], [0.2, 0.5, -0.1], [0.0, -0.1, 0.4]])
    surface = Quadratic(jnp.array(1.0), jnp.array([0.7, 0.1, -0.3]), curvature)
    for logging in (LOGGERS["normal"], LOGGERS["full"]):
        expected = float(surface(jnp.asarray(CENTRE)) - surface.expectation(logging))
        assert float(planning.exploration_cost(curvature, logging.covariance)) == pytest.approx(
            expected, rel=1e-10
        )
    actions = sample_rows(KEY, LOGGERS["uniform"], N)
    losses = surface(jnp.asarray(CENTRE)) - jax.jit(jax.vmap(surface))(actions)
    assert standard_errors(losses, planning.exploration_cost(curvature, jnp.eye(D))) < 4


def test_best_rows_is_stationary():
    """d/dn certified_regret = 0 there, and the loss afterwards is twice the cost of exploring."""
    facts = {"cost": 0.02, "variance": 3.0, "horizon": 1e6, "alpha": 0.05}
    n = planning.best_rows(**facts)
    slope = jax.grad(lambda x: planning.certified_regret(x, **facts))(n)
    assert abs(float(slope)) < 1e-10
    total = float(planning.certified_regret(n, **facts))
    assert total == pytest.approx(3 * float(n) * 0.02, rel=1e-10)


# The scale of exploration.


@jax.jit
def _log_d2(scale, length, target_scale):
    logging = Gaussian.diagonal(jnp.zeros(4), 1.0)
    target = Gaussian(jnp.full(4, 0.5) * length, jnp.full(4, 1.0) * target_scale)
    return jnp.log(population_d2(Gaussian(logging.mean, logging.scale * scale), target))


_slope = jax.jit(jax.grad(_log_d2))


@jax.jit
def _least_d2(length, target_scale):
    return planning.least(lambda s: _log_d2(s, length, target_scale), 0.72 * target_scale, 5.0)


@pytest.mark.parametrize(("length", "target_scale"), [(0.0, 0.5), (0.3, 0.5), (2.0, 0.2)])
def test_densest_scale_is_stationary_and_least(length, target_scale):
    """The root of the quadratic makes d log d₂/ds = 0, and the search by golden section agrees to
    1e-6.
    """
    scale = planning.densest_scale(4, length, target_scale)
    slope = _slope(scale, length, target_scale)
    assert abs(float(slope)) < 1e-8
    found = _least_d2(length, target_scale)
    assert float(found) == pytest.approx(float(scale), rel=1e-6)
    if length == 0:
        assert float(scale) == pytest.approx(target_scale, rel=1e-12)


def test_least_survives_infinities():
    """x + 1/x², inf below 0.5: 2^⅓."""
    found = planning.least(lambda x: jnp.where(x < 0.5, jnp.inf, x + 1 / x**2), 0.01, 100.0)
    assert float(found) == pytest.approx(2 ** (1 / 3), rel=1e-6)


# A pilot.

CURVATURE = jnp.array([[0.4, 0.1, 0.0], [0.1, 0.3, 0.0], [0.0, 0.0, 0.2]])


@functools.partial(jax.jit, static_argnames="n")
def pilot(key, n):
    """A log on a quadratic surface whose slope at CENTRE is SLOPE."""
    action = sample_rows(key, LOGGERS["uniform"], n)
    x = action - CENTRE[None]
    mean = x @ SLOPE - 0.5 * jnp.einsum("ni,ij,nj->n", x, CURVATURE, x)
    return action, 2.0 + mean + NOISE * jax.random.normal(key, (n,))


def test_surface_is_unbiased_with_honest_standard_errors():
    """Over 400 pilots of 500 rows: (estimate − truth)/SE has mean 0 and mean square 1 for slope and
    curvature, 4 SE.
    """
    keys = jax.random.split(jax.random.fold_in(KEY, 2), 400)
    found = jax.jit(jax.vmap(lambda key: planning.surface(*pilot(key, 500), jnp.asarray(CENTRE))))(
        keys
    )
    rows, columns = np.triu_indices(D)
    slope = (found.slope - SLOPE[None]) / found.slope_se
    bend = ((found.curvature - CURVATURE[None]) / found.curvature_se)[:, rows, columns]
    for z in (np.asarray(slope), np.asarray(bend)):
        assert standard_errors(z, 0).max() < 4
        assert standard_errors(z**2, 1.0 * 490 / 488).max() < 4
    assert standard_errors(np.asarray(found.noise) ** 2, NOISE**2) < 4


def test_surface_claims_no_curvature_from_few_rows():
    """Below three rows a coefficient the curvature is NaN, and with fewer still the pilot is
    refused.
    """
    found = surface_of(*pilot(KEY, 29), jnp.asarray(CENTRE))
    assert np.isnan(np.asarray(found.curvature)).all()
    assert np.isfinite(np.asarray(found.slope_se)).all()
    with pytest.raises(ValueError, match="at least 12 rows for 3 weights, got 11"):
        planning.surface(*pilot(KEY, 11), jnp.asarray(CENTRE))


def test_a_weight_that_never_moved_has_infinite_standard_errors():
    """No variation, no slope: the error is inf rather than small."""
    action, reward = pilot(KEY, 200)
    stuck = action.at[:, 1].set(CENTRE[1] + 0.5)
    assert np.isinf(np.asarray(surface_of(stuck, reward, jnp.asarray(CENTRE)).slope_se)).all()
