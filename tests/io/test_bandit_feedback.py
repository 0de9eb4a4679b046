"""obp's feedback dict: what goes out comes back; what has no vector action is refused."""

import numpy as np
import pytest

from mopl_jax.io.bandit_feedback import from_bandit_feedback, to_bandit_feedback
from mopl_jax.logs import Logs

RNG = np.random.default_rng(0)
N = 20


@pytest.mark.parametrize("d", [1, 3])
def test_there_and_back(d):
    logs = Logs(
        RNG.normal(size=(N, d)),
        RNG.normal(size=N),
        RNG.normal(size=N),
        context=RNG.normal(size=(N, 2)),
    )
    feedback = to_bandit_feedback(logs)
    assert feedback["n_rounds"] == N
    assert feedback["action"].shape == ((N,) if d == 1 else (N, d))
    back = from_bandit_feedback(feedback)
    np.testing.assert_array_equal(back.action, logs.action)
    np.testing.assert_array_equal(back.reward, logs.reward)
    np.testing.assert_array_equal(back.context, logs.context)
    np.testing.assert_allclose(back.log_propensity, logs.log_propensity, rtol=1e-12, atol=1e-12)


GOOD = {"action": np.zeros((N, 2)), "reward": np.zeros(N), "pscore": np.ones(N)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pscore": None}, "no key 'pscore'"),
        ({"pscore": np.zeros(N)}, "expected pscore > 0, got 0.0 in round 0"),
        ({"pscore": np.full(N, np.nan)}, "expected pscore > 0, got nan"),
        ({"action": np.zeros(N, int), "n_actions": 80}, "one of 80 items each"),
        ({"position": np.arange(N) % 3}, "slates"),
        ({"reward": np.zeros(3)}, f"expected reward with {N} rows"),
        ({"reward": np.full(N, np.inf)}, "expected finite reward"),
    ],
)
def test_bad_feedback_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_bandit_feedback(GOOD | change)
