"""A relation that changes: told where it does, at its level where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from yardsticks import KEY, binomial_tail

from benchmarks._weak_tests import OURS, draws
from mopl_jax.metrics import drift

TESTS = 100


def histories(count):
    found = draws(OURS, KEY, count, TESTS, 100_000, 0.0)
    return [jax.tree.map(lambda x: x[i], found) for i in range(count)]  # noqa: B023


WEIGHTS = np.append(0.0, OURS.beta)


def test_a_change_is_told_and_no_change_is_not():
    """150 histories: rejections at 5 % have a binomial tail above 1e-4; where the North Star's
    effects are turned round in the second half, all are told.
    """
    told, turned = [], []
    for past in histories(150):
        later = drift.second_half(past)
        told.append(drift.drift(WEIGHTS, past, later).p_value < 0.05)
        if len(turned) < 20:
            sign = jnp.where(jnp.asarray(later), -1.0, 1.0)
            other = dataclasses.replace(past, effect=past.effect.at[:, 0].multiply(sign))
            turned.append(drift.drift(WEIGHTS, other, later))
    assert binomial_tail(sum(told), 150, 0.05) > 1e-4
    assert all(each.p_value < drift.LEVEL for each in turned)
    assert np.mean([each.before for each in turned]) > 0.5
    assert np.mean([each.after for each in turned]) < -0.5


def test_nothing_beyond_noise_is_nothing_known():
    past = histories(1)[0]
    still = dataclasses.replace(past, effect=0 * past.effect)
    assert np.isnan(drift.drift(WEIGHTS, still, drift.second_half(still)).p_value)
