"""Learning: bounds are those of evaluation, optima those of scipy, projections exact, certificates
valid on held-out rows.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats
from worlds import MEAN_REWARDS, log_of, of_users, standard
from yardsticks import DTYPES, KEY, binomial_tail, cast, eps, standard_errors

from mopl_jax import intervals
from mopl_jax.estimators import beta_ips, ess, snips
from mopl_jax.learning import certification, constraints, line_search, response_surface
from mopl_jax.learning.objective import doubly_robust, importance_weighted
from mopl_jax.learning.optimise import TOLERANCE, fit, lower_bound
from mopl_jax.logs import folds_of, log_weights, split
from mopl_jax.policies import Gaussian

LOGGING = standard(3)
QUADRATIC = MEAN_REWARDS["quadratic"]
START = Gaussian.diagonal(np.zeros(3), 0.7)


LOGS = log_of(KEY)
SLACK = TOLERANCE * float(jnp.std(LOGS.reward))  # a step whose bound gains less ends the search
SURFACE = jax.jit(response_surface.fit_surface)(LOGS.action, LOGS.reward, LOGGING)


@functools.partial(jax.jit, static_argnames=("floor", "project", "interval"))
def learnt(
    logs, start, surface, floor=0.01, project=constraints.unconstrained, interval=intervals.normal
):
    """The cells that most tests share."""
    return fit(
        logs,
        start,
        value_estimator=doubly_robust(surface),
        interval=interval,
        project=project,
        floor=floor,
    )


# The objective.


@pytest.mark.parametrize("estimator", [snips, beta_ips])
def test_bound_is_the_lower_end_of_evaluation(estimator):
    policy = Gaussian.full(np.full(3, 0.2), np.diag([0.4, 0.5, 0.3]) + 0.1)
    expected = intervals.ess_exact(estimator(log_weights(policy, LOGS), LOGS.reward), 0.1).lower
    assert lower_bound(policy, LOGS, value_estimator=importance_weighted(estimator)) == expected


def test_fit_reports_the_bound_value_and_size_of_its_policy():
    found = learnt(LOGS, START, SURFACE)
    made = doubly_robust(SURFACE)(LOGS)(found.policy)
    np.testing.assert_allclose(found.bound, intervals.normal(made, 0.1).lower, rtol=1e-12)
    np.testing.assert_allclose(found.value, made.value, rtol=1e-12)
    np.testing.assert_allclose(found.ess, ess.kish(made.log_weight), rtol=1e-12)
    assert found.feasible
    assert not found.diverged
    assert np.nanmax(found.trace) == found.bound


def test_fit_finds_the_optimum_of_a_general_purpose_optimiser():
    def loss(mean):
        return -lower_bound(
            Gaussian(jnp.asarray(mean), START.scale),
            LOGS,
            value_estimator=doubly_robust(SURFACE),
            interval=intervals.normal,
        )

    best = optimize.minimize(
        jax.jit(loss), np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10}
    )
    found = learnt(LOGS, START, SURFACE)
    np.testing.assert_allclose(found.bound, -best.fun, rtol=0, atol=SLACK)
    off = np.asarray(found.policy.mean) - best.x
    assert 0.5 * off @ jax.jit(jax.hessian(loss))(jnp.asarray(best.x)) @ off < SLACK


def test_robust_is_exact_for_a_quadratic_without_noise_and_unbiased_with():
    policy = Gaussian.full(np.full(3, 0.3), np.diag([0.4, 0.5, 0.3]) + 0.1)
    quiet = log_of(KEY, noise=0.0)
    surface = response_surface.fit_surface(quiet.action, quiet.reward, LOGGING, ridge=1e-12)
    made = doubly_robust(surface)(quiet)(policy)
    np.testing.assert_allclose(made.value, QUADRATIC.expectation(policy), rtol=1e-8)
    np.testing.assert_allclose(made.influence, 0, atol=1e-6)
    wrong = dataclasses.replace(
        SURFACE, coefficients=SURFACE.coefficients.at[1:4].add(0.5)
    )  # any surface not fitted on the rows
    values = jax.jit(jax.vmap(lambda key: doubly_robust(wrong)(log_of(key, n=500))(policy).value))(
        jax.random.split(KEY, 400)
    )
    assert standard_errors(values, QUADRATIC.expectation(policy)) < 4


# The surface.


def test_surface_is_least_squares_in_blocks_of_any_size(monkeypatch):
    reference = Gaussian.full(np.full(3, 0.1), np.diag([1.2, 0.8, 1.0]) + 0.1)
    whole = response_surface.fit_surface(LOGS.action, LOGS.reward, reference, ridge=1e-12)
    monkeypatch.setattr(response_surface, "BLOCK", 300)
    blocks = response_surface.fit_surface(LOGS.action, LOGS.reward, reference, ridge=1e-12)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), whole, blocks
    )
    a = np.asarray(LOGS.action)
    rows, columns = np.triu_indices(3)
    features = np.column_stack([np.ones(len(a)), a, a[:, rows] * a[:, columns]])
    coefficients, left, *_ = np.linalg.lstsq(features, np.asarray(LOGS.reward), rcond=None)
    x = np.array([0.3, -0.2, 0.5])
    at = np.concatenate([[1], x, x[rows] * x[columns]])
    np.testing.assert_allclose(whole(jnp.asarray(x)), at @ coefficients, rtol=1e-8)
    error = np.sqrt(left[0] / (len(a) - 10) * (at @ np.linalg.inv(features.T @ features) @ at))
    np.testing.assert_allclose(whole.error(jnp.asarray(x)), error, rtol=1e-6)


@pytest.mark.parametrize("radius", [0.2, 1.0, 5.0])
def test_highest_is_the_constrained_maximum(radius):
    found = response_surface.highest(SURFACE, radius)
    edge = {"type": "ineq", "fun": lambda x: radius**2 - x @ x}
    best = optimize.minimize(
        jax.jit(lambda x: -SURFACE(x)), np.zeros(3), constraints=edge, tol=1e-12
    )
    np.testing.assert_allclose(SURFACE(found), -best.fun, atol=1e-7)
    assert jnp.linalg.norm(found) <= radius * (1 + 1e-9)


# Constraints and the trust region.


def test_projections_are_the_nearest_feasible_points():
    point, low, high = (
        np.array([2.0, 0.1, -1.0]),
        np.array([-0.5, -0.5, -0.2]),
        np.array([0.6, 0.5, 1.0]),
    )
    near = optimize.minimize(
        lambda x: np.sum((x - point) ** 2),
        np.zeros(3),
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 0.9},
        tol=1e-14,
    )
    project = constraints.box_and_hyperplane(low, high, 0.9)
    np.testing.assert_allclose(project(jnp.asarray(point)), near.x, atol=1e-6)
    slope = jax.jacobian(project)(
        jnp.asarray([0.35, 0.25, 0.3])
    )  # inside the box: onto the hyperplane
    np.testing.assert_allclose(slope, np.eye(3) - 1 / 3, atol=1e-9)
    reference = Gaussian.full(np.full(3, 0.1), np.diag([2.0, 0.5, 1.0]))
    inside = constraints.ball(reference, 1.0)(jnp.asarray(point)) - reference.mean
    np.testing.assert_allclose(
        inside @ np.linalg.inv(reference.covariance) @ inside, 1.0, rtol=1e-6
    )
    with pytest.raises(ValueError, match="infeasible"):
        constraints.box([0.0, 1.0], [1.0, 0.5])
    with pytest.raises(ValueError, match="infeasible"):
        constraints.box_and_hyperplane([0.0, 0.0], [1.0, 1.0], 3.0)


@pytest.mark.parametrize("low", [0.0, -np.inf])
@pytest.mark.parametrize("high", [0.8, np.inf])
def test_a_sum_with_open_bounds(low, high):
    """The simplex, its mirror image and the plane: the nearest points that scipy finds."""
    rng = np.random.default_rng(0)
    project = constraints.box_and_hyperplane(np.full(4, low), np.full(4, high), 1.0)
    plane = {"type": "eq", "fun": lambda x: x.sum() - 1.0}
    for point in rng.normal(size=(5, 4)):
        near = optimize.minimize(
            lambda x, point=point: np.sum((x - point) ** 2),
            np.full(4, 0.25),
            bounds=[(low, high)] * 4,
            constraints=plane,
            tol=1e-14,
        )
        np.testing.assert_allclose(project(jnp.asarray(point)), near.x, atol=1e-5)


def test_a_sum_that_is_out_of_reach_or_half_open_is_refused():
    with pytest.raises(
        ValueError, match="infeasible constraints: the sum must be 1, but bounds allow 2 to inf"
    ):
        constraints.box_and_hyperplane([1.0, 1.0], [np.inf, np.inf], 1.0)
    with pytest.raises(ValueError, match="bound every weight"):
        constraints.box_and_hyperplane([0.0, -np.inf], [np.inf, np.inf], 1.0)


def test_an_intersection_is_traced_once():
    """Alternating is a loop of the compiled program: thirty copies in every line search took
    minutes to compile.
    """
    box, reference = (
        constraints.box(np.zeros(3), np.full(3, 0.5)),
        Gaussian.diagonal(np.zeros(3), 1.0),
    )
    project = constraints.intersection(box, constraints.ball(reference, 0.6))
    assert str(jax.make_jaxpr(project)(jnp.ones(3))).count("div") < 10
    np.testing.assert_allclose(project(jnp.array([1.0, -1.0, 0.1])), [0.5, 0, 0.1], atol=1e-6)
    slope = jax.jacobian(project)(jnp.array([0.1, -1.0, 0.2]))
    np.testing.assert_allclose(slope, np.diag([1.0, 0, 1]), atol=1e-9)


def test_cap_keeps_length_and_distance():
    """Inside, only the length changes; outside, the point is turned to the rim in the plane of
    both; slopes are finite.
    """
    centre = np.array([1.0, -2.0, 2.0])
    project = constraints.spherical_cap(jnp.asarray(centre), 1.0)
    turned = np.array([[1.2, -1.8, 2.0], [5.0, 0.0, 0.0], [-1.0, 2.0, -2.1], [0.1, -0.2, 0.2]])
    found = np.asarray(jax.vmap(project)(jnp.asarray(turned)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 3, rtol=1e-9)
    distance = np.linalg.norm(found - centre, axis=1)
    np.testing.assert_allclose(distance[1:], [1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(found[0], 3 * turned[0] / np.linalg.norm(turned[0]), rtol=1e-9)
    assert abs(np.linalg.det(np.stack([found[1], centre, turned[1]]))) < 1e-9
    slope = jax.jacobian(project)(
        jnp.asarray(centre)
    )  # at the centre: onto the plane that touches the sphere
    np.testing.assert_allclose(slope, np.eye(3) - np.outer(centre, centre) / 9, atol=1e-9)


def test_constraints_hold_and_are_used():
    """Up to the line search, the constrained optimum is scipy's."""
    project = constraints.box_and_hyperplane([-0.5, -0.5, -0.1], [0.1, 0.5, 0.5], 0.2)
    found = learnt(LOGS, START, SURFACE, project=project)
    assert found.policy.mean.sum() == pytest.approx(0.2, abs=1e-6)
    assert np.all(found.policy.mean <= np.array([0.1, 0.5, 0.5]) + 1e-9)

    def loss(mean):
        policy = Gaussian(jnp.asarray(mean), START.scale)
        return -lower_bound(
            policy, LOGS, value_estimator=doubly_robust(SURFACE), interval=intervals.normal
        )

    best = optimize.minimize(
        jax.jit(jax.value_and_grad(loss)),
        project(jnp.zeros(3)),
        jac=True,
        method="SLSQP",
        tol=1e-10,
        bounds=[(-0.5, 0.1), (-0.5, 0.5), (-0.1, 0.5)],
        constraints={"type": "eq", "fun": lambda x: x.sum() - 0.2},
    )
    np.testing.assert_allclose(found.bound, -best.fun, rtol=0, atol=SLACK)


def test_what_is_returned_keeps_the_floor():
    """A floor above the effective rows of the free optimum binds, and costs some of the bound."""
    free, held = learnt(LOGS, START, SURFACE), learnt(LOGS, START, SURFACE, floor=0.6)
    assert free.ess < 0.6 * 2000 <= held.ess
    assert held.feasible
    assert -np.inf < held.bound < free.bound


def test_where_nothing_keeps_the_floor_nothing_is_claimed():
    """A policy of a twentieth of the logging scale weighs no mean by six rows in ten."""
    found = learnt(LOGS, Gaussian.diagonal(np.full(3, 3.0), 0.05), SURFACE, floor=0.6)
    assert not found.feasible
    assert found.bound == -np.inf


def test_the_line_search_is_that_of_optax():
    """Told from outside it evaluates the same places: the same iterates, to rounding."""
    inlined = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(line_search.MOST))

    @functools.partial(jax.jit, static_argnames="optimiser")
    def search(start, optimiser=None):
        return fit(LOGS, start, value_estimator=doubly_robust(SURFACE), optimiser=optimiser)

    for mean in ([0.0, 0.0, 0.0], [1.5, -1.0, 0.5], [-2.0, 2.0, 2.0]):
        start = Gaussian.diagonal(np.array(mean), 0.5)
        told, expected = search(start), search(start, inlined)
        assert told.steps == expected.steps > 2
        np.testing.assert_allclose(told.trace, expected.trace, rtol=1e-9)
        np.testing.assert_allclose(told.policy.mean, expected.policy.mean, rtol=1e-7)


def test_a_diverging_learner_returns_its_best_iterate_and_says_so():
    found = jax.jit(
        lambda logs: fit(logs, START, interval=intervals.normal, optimiser=optax.scale(-jnp.inf))
    )(LOGS)
    assert found.diverged
    assert found.feasible
    np.testing.assert_array_equal(found.policy.mean, START.mean)
    adam = jax.jit(
        lambda logs: fit(logs, START, interval=intervals.normal, optimiser=optax.adam(0.05))
    )(LOGS)
    assert adam.bound > found.bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(dtype):
    found = learnt(cast(LOGS, dtype), cast(START, dtype), cast(SURFACE, dtype))
    assert found.bound.dtype == found.policy.mean.dtype == dtype
    judged = lower_bound(
        cast(found.policy, np.float64),
        LOGS,
        value_estimator=doubly_robust(SURFACE),
        interval=intervals.normal,
    )
    best = learnt(LOGS, START, SURFACE).bound
    assert abs(float(judged - best)) < SLACK + eps(dtype) * abs(float(best))


# Certificates.


USERS = of_users(jax.tree.map(lambda x: x[:300], LOGS), 3)


def test_users_are_on_one_side():
    logs = dataclasses.replace(USERS, time=USERS.cluster.astype(jnp.float64))
    left, right = split(logs, 0.4, seed=3)
    assert not set(np.asarray(left.time)) & set(np.asarray(right.time))
    assert len(left.reward) + len(right.reward) == 300
    assert len(set(np.asarray(right.cluster))) == right.cluster.max() + 1 == 40
    fold = folds_of(logs, 5)
    of_users = [set(np.asarray(logs.time)[fold == k]) for k in range(5)]
    assert sum(map(len, of_users)) == len(set.union(*of_users)) == 100


def test_one_user_cannot_be_split():
    logs = of_users(USERS, 300)
    for refuse in (split, lambda log: folds_of(log, 2)):
        with pytest.raises(ValueError, match="all 300 rows are of one user"):
            refuse(logs)


def test_certificate_is_evaluation_on_the_held_out_rows():
    policy = Gaussian.diagonal(np.array([0.2, 0.1, -0.3]), 0.7)
    made = jax.jit(
        lambda p, logs, s: certification.certify(
            p, logs, jnp.zeros(3), value_estimator=doubly_robust(s)
        )
    )(policy, LOGS, SURFACE)
    expected = lower_bound(
        policy, LOGS, value_estimator=doubly_robust(SURFACE), interval=intervals.ess_skew
    )
    np.testing.assert_allclose(made.bound, expected, rtol=1e-12)
    assert made.gain_bound < made.gain
    assert made.keep == (made.gain_bound <= 0)
    same = certification.certify(START, LOGS, START.mean)
    assert same.keep
    assert same.gain == 0


def test_the_winners_curse_is_in_the_maximised_bound_and_not_in_the_certificate():
    """On rewards that are noise every policy is worth 0: the maximised bound fails too often, the
    certified one does not.
    """

    def one(key):
        fields = log_of(key, n=400)
        logs = dataclasses.replace(fields, reward=jax.random.normal(key, (400,), jnp.float64))
        halves = [jax.tree.map(lambda x, k=k: x[k::2], logs) for k in (0, 1)]
        scale = Gaussian.diagonal(np.zeros(3), 0.5)
        found = fit(halves[0], scale, interval=intervals.normal, alpha=0.2, floor=0.02)
        held = lower_bound(found.policy, halves[1], interval=intervals.ess_exact, alpha=0.2)
        return found.bound > 0, held > 0

    optimistic, certified = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=20))(
        jax.random.split(KEY, 200)
    )
    assert binomial_tail(int(certified.sum()), 200, 0.2) > 1e-3
    assert stats.binom.sf(int(optimistic.sum()) - 1, 200, 0.2) < 1e-6


def test_what_a_surface_expects_is_known_as_its_posterior_draws_differ():
    policy = Gaussian.diagonal(np.full(3, 0.4), 0.6)
    value, error = SURFACE.known(policy)
    root = np.linalg.cholesky(np.asarray(SURFACE.covariance, float))
    draws = root @ np.random.default_rng(0).normal(size=(len(root), 4000))
    drawn = np.asarray(SURFACE.expected_features(policy)) @ draws
    assert float(value) == pytest.approx(float(SURFACE.expectation(policy)))
    assert float(error) == pytest.approx(np.std(drawn), rel=4 / np.sqrt(2 * 4000))
