"""Pooled logs with a season between them: what a log's level has is no work of the weights."""

import numpy as np
import pytest
from worlds import write

from mopl_jax.io.policy_json import write_policy
from mopl_jax.learning.levels import level_above
from mopl_jax.learning.pipeline import learn
from mopl_jax.policies import Gaussian

N = 600
SEASONS, MEANS = (0.0, 1.0), (0.0, 1.0)


def test_levels_are_those_of_a_quadratic_with_one_each():
    """Exact without noise, whatever the weights do; the mean over all rows stays."""
    rng = np.random.default_rng(0)
    log = np.repeat([0, 1, 2], [100, 50, 150])
    action = rng.normal(size=(300, 2)) + 0.5 * log[:, None]
    season = np.array([0.0, 2.0, -1.0])
    found = level_above(action, 3 + action[:, 0] - action[:, 1] ** 2 + season[log], log)
    mean = season[log].mean()
    np.testing.assert_allclose(found, season[log] - mean, rtol=0, atol=1e-10)
    for nothing in (np.nan, 1.0):
        assert level_above(action, np.full(300, nothing), log).tolist() == [0.0] * 300


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_a_season_is_no_best_guess(tmp_path, slope):
    """Weights that moved with a season and do nothing promise nothing; those that work promise what
    they are worth, and the bound of that keeps to it.
    """
    rng, text = np.random.default_rng(1), 'action = "w_"\n'
    for k, (season, mean) in enumerate(zip(SEASONS, MEANS, strict=True)):
        action = mean + rng.normal(size=(N, 2))
        reward = season + slope * action[:, 0] + 0.5 * rng.normal(size=N)
        write(
            tmp_path / f"{k}.parquet",
            {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward},
        )
        write_policy(tmp_path / f"{k}.json", Gaussian.diagonal([mean, mean], 1.0))
        text += f'[[files]]\npath = "{k}.parquet"\nlogging = "{k}.json"\n'
    (tmp_path / "log.toml").write_text(text)
    made = learn(tmp_path / "log.toml", estimator="snips", certificate="normal", share=0.5)
    guessed, moved = made.proposal.guessed, float(made.proposal.guess.mean[0]) - 0.5
    assert float(guessed.gain) == pytest.approx(slope * moved, abs=3 * float(guessed.error) + 0.1)
    assert float(made.certificate.gain_bound) <= slope * (float(made.policy.mean[0]) - 0.5)
