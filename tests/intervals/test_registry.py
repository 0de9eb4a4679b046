"""The registry: every interval by its name, with the facts it needs, from rows or from sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import rows

from mopl_jax import estimators, intervals
from mopl_jax.intervals import METHODS, Facts, Wald, bind, bind_sums

FROM_SUMS = [name for name, method in METHODS.items() if method.from_sums]
FACTS = Facts(reward_range=(0.0, 1.0))
KINDS = [name for name in FROM_SUMS if METHODS[name].function not in intervals.WALD.values()]
KINDS += ["ess_skew"]  # all of `WALD` are of its kind


def facts_of(name):
    """The facts that an interval takes."""
    return FACTS if METHODS[name].requires + METHODS[name].accepts else Facts()


def clicks(seed, n=40):
    """A log of 0/1 rewards."""
    log_weight, reward = rows(seed, n)
    return log_weight, (reward > 0.5).astype(reward.dtype)


def test_sums_give_what_rows_give():
    """`bind_sums` of a batch of moments, of any shape, is `bind` of each estimate, for every kind
    of interval that is made of sums; of clicks and of rewards that leave the range.
    """

    def named(bound):
        return {name: bound(name, facts_of(name)) for name in KINDS}

    @jax.jit
    @jax.vmap
    def direct(log_weight, reward):
        made = estimators.snips(log_weight, reward)
        ends = {name: interval(made, 0.05) for name, interval in named(bind).items()}
        return ends, intervals.moments_of(made)

    @jax.jit
    def of_sums(sums):
        return {name: interval(sums, 0.05) for name, interval in named(bind_sums).items()}

    logs = [clicks(0), clicks(1), rows(2, 40), rows(3, 40)]
    ends, sums = direct(*(jnp.stack(x) for x in zip(*logs, strict=True)))
    found = of_sums(jax.tree.map(lambda x: x.reshape(2, 2), sums))
    for name, each in found.items():
        for got, expected in ((each.lower, ends[name].lower), (each.upper, ends[name].upper)):
            assert got.shape == (2, 2)
            np.testing.assert_allclose(got.ravel(), expected, rtol=1e-12, err_msg=name)


def test_methods_say_what_they_need():
    """Facts are fields of `Facts`; formulas are from sums; all have a summary."""
    known = Facts.__dataclass_fields__
    for name, method in METHODS.items():
        assert method.name == name
        assert set(method.requires + method.accepts) <= set(known)
        assert method.summary
    assert set(intervals.WALD) == {n for n, m in METHODS.items() if isinstance(m.function, Wald)}
    assert set(intervals.WALD) < set(FROM_SUMS)
    with pytest.raises(ValueError, match="'bca' needs rows"):
        bind_sums("bca")
    with pytest.raises(ValueError, match="'ess_wilson' needs reward_range"):
        bind_sums("ess_wilson")
    with pytest.raises(ValueError, match="did you mean 'ess_wilson'"):
        bind_sums("ess_wilsn")
