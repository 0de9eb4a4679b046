"""Logs whose rows depend on one another: a policy that followed what it had seen, each row with the
density it was played with; users with many rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mopl_jax.estimators import clustered, snips
from mopl_jax.intervals import recommended

SCALE, ROUNDS, EACH = 0.7, 8, 64


def adaptive(rng, logs, mean_reward):
    """Log weights for N(0.5, SCALE²) and rewards (logs, n): every round plays N(m, 1), m half-way
    from that of the round before to the mean action of the upper half of its rewards.
    """
    centre, weights, rewards = np.zeros((logs, 1)), [], []
    for _ in range(ROUNDS):
        action = centre + rng.standard_normal((logs, EACH))
        reward = mean_reward(action) + 0.5 * rng.standard_normal((logs, EACH))
        weights.append(0.5 * (action - centre) ** 2 - 0.5 * ((action - 0.5) / SCALE) ** 2)
        rewards.append(reward)
        upper = reward >= np.median(reward, axis=1, keepdims=True)
        best = np.sum(np.where(upper, action, 0), 1, keepdims=True) / upper.sum(1, keepdims=True)
        centre = centre + 0.5 * (best - centre)
    return np.concatenate(weights, 1), np.concatenate(rewards, 1)


@pytest.mark.parametrize("kind", ["linear", "bowl"])
def test_each_rounds_own_densities(kind):
    """`recommended` covers, though what a round plays depends on the rewards of those before."""
    mean, truth = {
        "linear": (lambda a: 0.5 * a, 0.25),
        "bowl": (lambda a: -0.5 * (a - 1) ** 2, -0.5 * (0.25 + SCALE**2)),
    }[kind]
    trials = 600
    log = adaptive(np.random.default_rng(3), trials, mean)
    found = jax.jit(jax.vmap(lambda *x: recommended(snips(*x), 0.05)))(*map(jnp.asarray, log))
    hits = int(np.sum((found.lower <= truth) & (truth <= found.upper)))
    assert stats.binom.cdf(hits, trials, 0.945) > 1e-4


@pytest.mark.parametrize("users", [8, 32])
def test_few_users(users):
    """Twenty rows a user, whose reward is of the user by a fifth: `recommended` of users covers, at
    no more than 1.6 times the oracle's width; of rows it does not.
    """
    rng, logs, each = np.random.default_rng(0), 600, 20
    action = rng.standard_normal((logs, users * each))
    own = np.repeat(0.5 * rng.standard_normal((logs, users)), each, 1)
    reward = 0.3 * action + own + rng.standard_normal(action.shape)
    log_weight = 0.5 * action**2 - 0.5 * ((action - 0.5) / SCALE) ** 2
    cluster = jnp.repeat(jnp.arange(users), each)

    @jax.jit
    @jax.vmap
    def both(log_weight, reward):
        made = snips(log_weight, reward)
        of_users = recommended(clustered(made, cluster, users), 0.05)
        return made.value, of_users, recommended(made, 0.05)

    value, of_users, of_rows = both(jnp.asarray(log_weight), jnp.asarray(reward))
    hits, wrong = (int(np.sum((x.lower <= 0.15) & (0.15 <= x.upper))) for x in (of_users, of_rows))
    assert stats.binom.cdf(hits, logs, 0.945) > 1e-4
    assert wrong < 0.8 * logs
    assert np.median(of_users.width) < 1.6 * 2 * stats.norm.isf(0.025) * np.std(value)
