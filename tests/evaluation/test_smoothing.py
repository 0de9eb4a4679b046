"""How rewards bend about a point, what smoothing it adds, and the kernel of least error."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from worlds import MEAN_REWARDS, log_of, logged, standard
from yardsticks import KEY

from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.evaluation.smoothing import CHOSEN, Bend, bend_about, least_error, users_of
from mopl_jax.logs import Logs
from mopl_jax.policies import Deterministic, Gaussian
from mopl_jax.report import evaluation_screen

POINT = jnp.asarray([0.3, -0.2])
CURVATURE = np.array([[-1.0, 0.5], [0.5, -4.0]])


def bowl(n=3000, noise=0.0, curvature=CURVATURE):
    """A log of ½ zᵀHz with noise."""
    rng = np.random.default_rng(7)
    action = rng.normal(size=(n, len(curvature)))
    mean = 0.5 * np.einsum("ni,ij,nj->n", action, curvature, action)
    return logged(jnp.asarray(action), jnp.asarray(mean + noise * rng.normal(size=n)))


@pytest.mark.parametrize("n", [40, 3000])
def test_a_quadratic_bends_as_it_does_and_smoothing_adds_half_its_trace(n):
    """E q(a + e) − q(a) = ½ tr ΣH, of all rows and of the nearest alike."""
    logs, covariance = bowl(n), jnp.asarray([[0.3, 0.1], [0.1, 0.2]])
    bend = bend_about(logs.action, logs.reward, POINT)
    found = bend.curvature / (bend.unit[:, None] * bend.unit[None])
    np.testing.assert_allclose(found, CURVATURE, rtol=1e-9)
    added, error = bend.added(covariance)
    assert float(added) == pytest.approx(0.5 * np.sum(np.asarray(covariance) * CURVATURE), rel=1e-9)
    assert error < 1e-9


def test_the_bend_is_that_of_the_rows_nearby():
    """cos 2z has curvature −4 at 0 and +4 at π/2, and of all rows that of neither."""
    z = jax.random.normal(KEY, (20_000, 1))
    about = [bend_about(z, jnp.cos(2 * z[:, 0]), jnp.full(1, at)) for at in (0.0, np.pi / 2)]
    at = [float(x.curvature[0, 0] / x.unit[0] ** 2) for x in about]
    assert at[0] < -3.5 < 1 < at[1]


@pytest.mark.parametrize(("n", "best"), [(300, 0.050), (2285, 0.0159)])
def test_at_a_kink_without_noise_the_kernel_is_narrow(n, best):
    """Lee et al.'s design: −|z₁| at 0. To a third the error of the best fixed bandwidth, which was
    chosen by the truth (`python -m benchmarks bandwidth_worlds`); of 150 rows a coefficient it was
    2.1 and 2.7 times as much.
    """

    @jax.jit
    def value(action):
        logs = Logs(action, jnp.full(n, np.log(0.25)), -jnp.abs(action[:, 0]))
        bend = bend_about(logs.action, logs.reward, jnp.zeros(2))
        kernel = least_error(logs, jnp.zeros(2), bend)
        weight = jnp.exp(jax.vmap(kernel.log_density)(action))
        return jnp.sum(weight * logs.reward) / jnp.sum(weight)

    def drawn(seed):
        state, action = np.random.default_rng(seed).uniform(-1, 1, (2, n, 2))
        return jnp.asarray(action - 0.5 * state)

    values = np.array([float(value(drawn(seed))) for seed in range(12)])
    assert np.sqrt(np.mean(np.square(values))) < 4 / 3 * best


def test_errors_of_what_is_added_are_those_of_repeated_logs():
    made = [bend_about(x.action, x.reward, POINT) for x in map(noisy, range(200))]
    added, error = np.array([[float(y) for y in x.added(0.1 * jnp.eye(2))] for x in made]).T
    assert np.std(added) == pytest.approx(np.mean(error), rel=4 / np.sqrt(2 * 200))


def noisy(seed):
    """A log of 1,200 rows of a bowl."""
    action = np.random.default_rng(seed).normal(size=(1200, 2))
    reward = -np.sum(action**2, axis=1) + np.random.default_rng(1000 + seed).normal(size=1200)
    return logged(jnp.asarray(action), jnp.asarray(reward))


def test_the_error_of_what_smoothing_adds_is_of_users():
    """Users whose rows are one row, said often, tell what one row each tells."""
    rng = np.random.default_rng(0)
    action = rng.standard_normal((300, 2))
    reward = -np.sum(action**2, axis=1) + rng.standard_normal(300)
    wide = 0.09 * jnp.eye(2)
    bias, error = bend_about(action, reward, jnp.zeros(2)).added(wide)
    repeated = np.repeat(action, 3, axis=0), np.repeat(reward, 3), jnp.zeros(2)
    again, by_user = bend_about(*repeated, 1.0, *users_of(np.repeat(7 * np.arange(300), 3))).added(
        wide
    )
    _, by_row = bend_about(*repeated).added(wide)
    assert float(again) == pytest.approx(float(bias), rel=1e-9)
    assert float(by_user) == pytest.approx(float(error), rel=0.02)
    assert float(by_row) < 0.65 * float(error)


def test_weights_that_depend_on_one_another_have_no_known_bend():
    z = jax.random.normal(KEY, (500, 1))
    logs = logged(jnp.concatenate([z, 2 * z], axis=1), z[:, 0] ** 2)
    bend = bend_about(logs.action, logs.reward, jnp.zeros(2))
    assert np.isinf(bend.added(jnp.eye(2))[1])
    assert np.isfinite(least_error(logs, jnp.zeros(2), bend).scale).all()


def bend_of(curvature):
    """A bend of which no more is known."""
    d = len(curvature)
    f = 1 + d + d * (d + 1) // 2
    return Bend(jnp.ones(d), jnp.asarray(curvature), jnp.zeros((f, f)), jnp.ones(()))


@pytest.mark.parametrize("seed", range(3))
def test_the_shape_adds_less_than_a_round_one_of_its_determinant(seed):
    """Of curvatures of one sign, by the inequality of means; and it has their axes."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    bend, logs = bend_of(-root @ root.T), log_of(KEY, 300)
    covariance = np.asarray(least_error(logs, jnp.zeros(3), bend).covariance)
    product = covariance @ np.asarray(bend.curvature)
    np.testing.assert_allclose(product, product.T, rtol=0, atol=1e-9)
    size = np.linalg.det(covariance) ** (1 / 3)
    round_one = size * jnp.eye(3)
    assert bend.added(round_one)[0] < bend.added(jnp.asarray(covariance))[0] < 0


def test_variances_are_inverse_to_the_curvature():
    """With the flattest direction's raised by a share of the steepest's."""
    logs = bowl(curvature=np.diag([-1.0, -9.0]), noise=0.3)
    bend = bend_of(np.diag([-1.0, -9.0]))
    variance = np.diagonal(np.asarray(least_error(logs, jnp.zeros(2), bend).covariance))
    assert variance[0] / variance[1] == pytest.approx((9 + 1.8) / (1 + 1.8))


def test_a_curvature_that_is_noise_has_no_shape():
    """Where its errors are as large, the kernel is round."""
    logs = bowl(noise=1e3)
    bend = bend_about(logs.action, logs.reward, POINT)
    assert bend.error > 0.3 * np.abs(bend.curvature).max()
    values = np.linalg.eigvalsh(np.asarray(least_error(logs, POINT, bend).covariance))
    assert values[1] < 1.6 * values[0]


def test_it_smooths_most_where_the_reward_is_flat_whatever_its_unit():
    point = jnp.asarray([0.2, 0.1, -0.3])

    def size(logs):
        bend = bend_about(logs.action, logs.reward, point)
        return float(jnp.linalg.det(least_error(logs, point, bend).covariance))

    flat, sharp = log_of(KEY, 4000, 0.1, MEAN_REWARDS["linear"]), log_of(KEY, 4000, 0.1)
    assert size(logged(sharp.action, 1e6 * sharp.reward)) == pytest.approx(size(sharp))
    assert size(log_of(KEY, 4000, 1.0)) > size(sharp)
    assert size(flat) > 10 * size(sharp)


def table(logs, **columns):
    """The log as a table."""
    names = {f"w_{k}": np.asarray(logs.action)[:, k] for k in range(logs.action.shape[1])}
    return pa.table({**names, "reward": np.asarray(logs.reward), **columns})


@pytest.mark.parametrize("rows_each", [1, 4])
def test_the_kernel_that_was_chosen_is_told_and_paid_for(rows_each, capsys):
    logs, target = bowl(2000, noise=0.5), Deterministic(POINT)
    log = table(logs, user=np.arange(2000) // rows_each)
    roles = {"logging": standard(2), "action": "w_", "reward": "reward"}
    roles |= {"cluster": "user"} if rows_each > 1 else {}
    made = evaluate(log, target, bandwidth="auto", interval=["normal"], **roles)
    kernel = Gaussian.full(POINT, np.asarray(made.smoothing.covariance))
    again = evaluate(log, kernel, interval=["normal"], alpha=0.05 / CHOSEN, **roles)
    assert made.interval.lower == pytest.approx(again.interval.lower, rel=1e-9)
    assert made.smoothing.selected
    evaluation_screen.show(made)
    assert "intervals are those of 0.975" in " ".join(capsys.readouterr().out.split())
    widths = np.sqrt(np.diagonal(np.asarray(made.smoothing.covariance)))
    assert made.smoothing.bandwidth == pytest.approx(widths)
    assert widths[0] > 1.2 * widths[1]


def test_auto_needs_rows_that_tell_how_rewards_bend():
    roles = {"logging": standard(2), "action": "w_", "reward": "reward"}
    with pytest.raises(ValueError, match="expected at least 18 rows.*got 17; give a bandwidth"):
        evaluate(table(bowl(17, 0.5)), Deterministic(POINT), bandwidth="auto", **roles)
