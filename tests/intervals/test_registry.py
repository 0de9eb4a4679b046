"""The registry: every interval by its name, with the facts it needs, from rows or from sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import estimate, rows

from mopl_jax import intervals
from mopl_jax.intervals import METHODS, Facts, Wald, bind, bind_sums

FROM_SUMS = [name for name, method in METHODS.items() if method.from_sums]
FACTS = Facts(reward_range=(0.0, 1.0))


def clicks(seed, n=40):
    """A log of 0/1 rewards."""
    log_weight, reward = rows(seed, n)
    return log_weight, (reward > 0.5).astype(reward.dtype)


@pytest.mark.parametrize("logged", [clicks, lambda seed: rows(seed, 40)], ids=["clicks", "any"])
def test_sums_give_what_rows_give(logged):
    """`bind_sums` of the moments is `bind` of the estimate, for every interval made of sums."""

    @jax.jit
    def both(made):
        sums, ends = intervals.moments(made), {}
        for name in FROM_SUMS:
            facts = FACTS if METHODS[name].requires + METHODS[name].accepts else Facts()
            ends[name] = bind(name, facts)(made, 0.05), bind_sums(name, facts)(sums, 0.05)
        return ends

    for name, (direct, summed) in both(estimate(*logged(3))).items():
        np.testing.assert_allclose(
            [direct.lower, direct.upper], [summed.lower, summed.upper], rtol=1e-12, err_msg=name
        )


@pytest.mark.parametrize(
    "name", ["ess_wilson", "ess_wilson_skew", "ess_score", "clopper_pearson", "recommended"]
)
def test_proportions_of_batches_of_sums(name):
    """A formula of sums takes any batch shape: each of a batch is as it is alone."""
    sums = [intervals.moments(estimate(*clicks(seed))) for seed in range(4)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x).reshape(2, 2), *sums)
    together, interval = bind_sums(name, FACTS)(stacked, 0.05), bind_sums(name, FACTS)
    assert together.lower.shape == (2, 2)
    for i, one in enumerate(sums):
        alone = interval(one, 0.05)
        np.testing.assert_allclose(together.lower.ravel()[i], alone.lower, rtol=1e-12)
        np.testing.assert_allclose(together.upper.ravel()[i], alone.upper, rtol=1e-12)


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
