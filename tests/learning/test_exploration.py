"""What to explore with next, against the same by hand: each policy that may be played, the rows
that it plays, what these would teach by Bayes' rule, and the largest bound that others certify.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mopl_jax.learning import exploration
from mopl_jax.learning.constraints import box, unconstrained
from mopl_jax.learning.exploration import Round, next_exploration
from mopl_jax.learning.proposal import Promise, Proposal
from mopl_jax.learning.response_surface import Surface
from mopl_jax.learning.whitening import normals, standard
from mopl_jax.numerics import linalg
from mopl_jax.policies.gaussian import Gaussian

NOISE, Z = 0.3, stats.norm.isf(0.05)
D, MEAN = 3, np.array([3.0, -1.0, 2.0])  # of what was logged, with the factor
FACTOR = np.array([[0.4, 0.0, 0.0], [-0.3, 0.8, 0.0], [0.1, 0.2, 0.5]])
CAPPED = box([3.05, -9.0, 0.0], [3.3, -0.7, 9.0])


class World(NamedTuple):
    """A quadratic surface that is known with errors, and what was played, in whitened weights.

    `slope`: of x, y, z, x², xy, xz, y², yz, z²
    `error`: of the constant, slopes and bends; the slope along x and the first bend are known
        together
    `guess`, `origin`: the best guess, and the weights to beat
    `last`, `spread`: mean and factor of the last exploration
    """

    slope: list[float]
    error: tuple
    guess: tuple
    origin: tuple
    last: tuple
    spread: tuple
    rows: float

    @property
    def coefficients(self):
        return np.array([0.0, *self.slope])

    @property
    def covariance(self):
        error = np.repeat(self.error, (1, D, 6))
        found = np.diag(np.square(error))
        found[1, 4] = found[4, 1] = 0.5 * error[1] * error[4]
        return found


STEEP = World(
    slope=[0.5, 0.0, 0.1, -0.2, 0.0, 0.0, -0.2, 0.0, -0.2],
    error=(0.1, 0.1, 0.05),
    guess=(1.2, 0.3, 0.2),
    origin=(0.0, 0.0, 0.0),
    last=(0.1, 0.0, 0.0),
    spread=((1.1, 0.0, 0.0), (0.2, 0.8, 0.0), (-0.1, 0.3, 0.9)),
    rows=900.0,
)
VAGUE = World(
    slope=[0.1, 0.1, 0.0, -0.05, 0.02, 0.0, -0.05, 0.03, -0.05],
    error=(0.1, 0.25, 0.1),
    guess=(0.8, 0.9, 0.2),
    origin=(-0.3, 0.2, 0.1),
    last=(0.3, -0.4, 0.0),
    spread=((0.9, 0.0, 0.0), (-0.4, 0.6, 0.0), (0.2, 0.3, 1.2)),
    rows=300.0,
)
FLAT = STEEP._replace(slope=[0.0] * 3 + STEEP.slope[3:], error=(1e-3,) * 3, guess=STEEP.origin)


def raw(z):
    """Weights as they were logged."""
    return MEAN + np.asarray(z) @ FACTOR.T


def unit(actions):
    return np.linalg.solve(FACTOR, (np.asarray(actions) - MEAN).T).T


def policy(z, spread=((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))):
    """Of weights as they were logged."""
    return Gaussian(jnp.asarray(raw(z)), jnp.asarray(FACTOR @ np.asarray(spread)))


def proposed(world, project=unconstrained):
    """What is proposed, where half of the way to the guess is what was certified."""
    slope, covariance = jnp.asarray(world.coefficients), jnp.asarray(world.covariance)
    whitening, none = (
        Gaussian(jnp.asarray(MEAN), jnp.asarray(FACTOR)),
        Promise(*[jnp.zeros(())] * 4),
    )
    surface: Any = Surface(whitening, slope, covariance, jnp.zeros((0, D)))
    near, guess = policy(0.5 * np.asarray(world.guess)), policy(world.guess)
    made = Proposal(
        near, guess, none, none, surface, whitening, surface, none, jnp.zeros(1), noise=NOISE
    )
    last, origin = policy(world.last, world.spread), jnp.asarray(raw(world.origin))
    return next_exploration(made, last, world.rows, origin, 0.05, project)


def features(z):
    z = np.asarray(z)
    bends = [z[:, i] * z[:, j] for i in range(z.shape[1]) for j in range(i, z.shape[1])]
    return np.column_stack([np.ones(len(z)), z, *bends])


NOISES = jax.jit(jax.vmap(exploration._noise, (None, None, None, None, 0)))


def tried_by(world, feasible):
    """The policies that may be certified, as far as they are allowed."""
    guess = np.asarray(world.guess)
    tried = exploration._tried(
        jnp.asarray(world.origin), jnp.asarray(guess), jnp.asarray(0.5 * guess)
    )
    return Gaussian(jax.vmap(feasible)(tried.mean), tried.scale)


def by_hand(world, tried, mean, wider):
    """The worth of a round: its rows show what they may, the coefficients follow by Bayes' rule,
    and of all policies the largest bound counts where it is positive.
    """
    origin = np.asarray(world.origin)
    change = features(tried.mean) - features(origin[None])  # one scale: it cancels
    spread = np.asarray(world.spread)
    variances, turn = map(np.asarray, linalg.eigh(jnp.asarray(spread @ spread.T)))
    scale = wider * np.sqrt(variances)
    ahead: Any = Round(None, NOISE, world.rows / 2, jnp.asarray(origin), tried, None)
    noise = NOISES(ahead, jnp.asarray(mean), jnp.asarray(scale), jnp.asarray(turn), tried)
    x, known = features(mean + (normals(256, D) * scale) @ turn.T), world.covariance
    of_mean = NOISE / (world.rows / 2 / 256)  # 256 actions stand for half of the rows
    may_show = np.linalg.cholesky(x @ known @ x.T + of_mean * np.eye(256)) @ normals(256, 64)
    precision = np.linalg.inv(known) + x.T @ x / of_mean
    after = world.coefficients[:, None] + np.linalg.solve(precision, x.T @ may_show / of_mean)
    bounds = change @ after - Z * np.asarray(noise)[:, None]
    return np.mean(np.maximum(bounds.max(axis=0), 0))


@pytest.mark.parametrize("project", [unconstrained, CAPPED], ids=["free", "bounded"])
@pytest.mark.parametrize("world", [STEEP, VAGUE], ids=["steep", "vague"])
def test_it_is_the_best_that_may_be_played(world, project):
    """Of all places on the way to the best guess, and all scales, moved to where bounds of the
    weights as they are logged allow; the last exploration is none where they forbid it.
    """

    def feasible(z):
        return jnp.linalg.solve(FACTOR, project(MEAN + FACTOR @ z) - MEAN)

    found, origin, guess = proposed(world, project), *map(np.asarray, (world.origin, world.guess))
    way = [origin + share * (guess - origin) for share in (0, 0.25, 0.5, 0.75, 1)]
    pairs = [
        (np.asarray(feasible(jnp.asarray(z))), x) for z, x in itertools.product(way, (0.7, 1, 1.4))
    ]
    tried = tried_by(world, feasible)
    worths = [by_hand(world, tried, *pair) for pair in pairs]
    mean, wider = pairs[np.argmax(worths)]
    last = by_hand(world, tried, np.asarray(world.last), 1.0)
    assert found.repeated == pytest.approx(last, rel=1e-9)
    assert found.worth == pytest.approx(max(worths), rel=1e-9)
    assert max(worths) > last > 0
    np.testing.assert_allclose(found.policy.mean, raw(mean), rtol=1e-9)
    np.testing.assert_allclose(found.policy.scale, wider * policy(mean, world.spread).scale)


def test_where_no_round_certifies_a_gain_the_last_is_played_again():
    """At the top of a surface that is known well; within bounds that it keeps, and no longer where
    they forbid its mean.
    """
    found = proposed(FLAT)
    assert (found.worth, found.repeated) == (0, 0)
    np.testing.assert_allclose(found.policy.mean, raw(FLAT.last))
    np.testing.assert_allclose(found.policy.scale, policy(FLAT.last, FLAT.spread).scale)
    bounded = proposed(FLAT._replace(last=(0.0, 1.0, 0.0)), CAPPED)
    np.testing.assert_allclose(bounded.policy.mean, CAPPED(jnp.asarray(raw(FLAT.origin))))


def test_a_gain_is_over_the_origin_played_with_the_same_scale():
    """E q of a wave, a slope and a bend by quadrature."""
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    pairs, weights = np.array([*itertools.product(node, node)]), np.outer(weight, weight).ravel()
    wave = np.array([[1.3, -0.8]])
    slope = jnp.asarray([0.2, 0.5, -0.1, -0.2, 0.3, 0.1, 0.7, -0.4])
    surface = Surface(standard(jnp.zeros(2)), slope, jnp.eye(8), jnp.asarray(wave))

    def value(mean, scale):
        z = mean + scale * pairs
        phase = z @ wave[0]
        columns = np.column_stack([features(z), np.cos(phase), np.sin(phase)])
        return weights @ (columns @ np.asarray(slope)) / weights.sum()

    mean, origin, scale = np.array([0.9, 0.4]), np.array([-0.5, 0.2]), np.array([0.5, 0.7])
    found = exploration._change(surface, Gaussian(jnp.asarray(mean), jnp.asarray(scale)), origin)
    assert found @ slope == pytest.approx(value(mean, scale) - value(origin, scale), rel=1e-9)


@pytest.mark.parametrize(("rows", "far"), [(450.0, 3.0), (450.0, 0.9), (150.0, 0.5), (150.0, 0.9)])
def test_the_noise_of_a_certificate_is_that_of_its_weights(rows, far):
    """√(noise E(w − w₀)²/rows) by quadrature under the exploration, N(mean, turn spread² turnᵀ);
    none where fewer than 100 effective rows, or a quarter of the rows, are left.
    """
    turn, spread = stats.ortho_group.rvs(2, random_state=0), np.array([0.7, 1.2])
    mean, origin, scale = np.array([0.2, -0.1]), np.array([-0.3, 0.4]), np.array([0.5, 0.5])
    logging = stats.multivariate_normal(mean, turn @ np.diag(spread**2) @ turn.T)
    axis = np.linspace(-9, 9, 401)
    z = np.stack(np.meshgrid(axis, axis), axis=-1)
    played = logging.pdf(z)
    at = np.array([far, 0.2])
    own, base = (
        stats.multivariate_normal(x, np.diag(scale**2)).pdf(z) / played for x in (at, origin)
    )
    cell = played * (axis[1] - axis[0]) ** 2
    size, square = np.sum(cell * own**2), np.sum(cell * (own - base) ** 2)
    expected = np.sqrt(NOISE * square / rows) if rows / size >= min(100, rows / 4) else np.inf
    ahead: Any = Round(None, NOISE, rows, jnp.asarray(origin), None, None)
    tried = Gaussian(jnp.asarray(at), jnp.asarray(scale))
    found = exploration._noise(ahead, *map(jnp.asarray, (mean, spread, turn)), tried)
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.isinf(expected) == (rows / size < 37.5)
    assert 37.5 < rows / size < 100 or (rows, far) != (150, 0.5)


def test_policies_are_tried_along_the_way_beyond_the_guess_and_about_it():
    """With each scale, and the guess and what was certified among them."""
    origin, guess, near = np.array([-0.3, 0.2]), np.array([0.8, 0.9]), np.array([0.3, -0.4])
    tried = exploration._tried(*map(jnp.asarray, (origin, guess, near)))
    mean, scale = np.asarray(tried.mean), np.asarray(tried.scale)
    assert (scale[:, 0] == scale[:, 1]).all()
    each = {size: {*map(tuple, mean[scale[:, 0] == size])} for size in np.unique(scale)}
    assert [*each] == [0.35, 0.5, 0.7, 0.85]
    assert len({*map(frozenset, each.values())}) == 1
    some = each[0.5]
    assert {tuple(origin), tuple(guess), tuple(near)} <= some
    way = (mean - origin) @ (guess - origin) / np.sum((guess - origin) ** 2)
    aside = np.abs((mean - origin) @ np.array([[0, -1], [1, 0]]) @ (guess - origin))
    assert 1.4 < way[aside < 1e-9].max() <= 1.5
    assert np.quantile(aside, 0.9) > 0.5
    assert np.mean(aside < 1e-9) == pytest.approx(0.25, abs=0.01)
