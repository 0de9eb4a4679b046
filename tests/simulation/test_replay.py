"""A replayed table: outcomes are the logged ones, scores have not seen them, bad tables are refused
in one line.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import KUAIRAND_ROWS, kuairand, write
from yardsticks import KEY

from mopl_jax.numerics import random
from mopl_jax.policies import Deterministic
from mopl_jax.simulation import online, replay


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return replay.read(write(tmp_path_factory.mktemp("replay") / "log_random.csv", kuairand()))


def test_every_random_row_is_there_once(platform):
    """Nothing is lost or counted twice: totals of each outcome are those of the random rows in
    sessions with a choice.
    """
    table = kuairand()
    kept = table["is_rand"] == 1
    session = np.column_stack([table["user_id"], table["date"]])[kept]
    _, number, size = np.unique(session, axis=0, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(kept)[size[number.reshape(-1)] >= 2]
    assert platform.there.sum() == kept.size
    for name, total in zip(
        platform.signals, np.asarray(platform.known.sum(axis=(0, 1))), strict=True
    ):
        assert total == pytest.approx(table[name][kept].sum())


def test_a_visit_counts_the_outcomes_of_the_best_candidates(platform):
    """Against sorting by hand, session by session, with the discount of the position."""
    action = jnp.array([1.0, 0.5, -0.3, 0.2, 0.0, 0.7])
    show = jax.jit(platform.show)
    for g in range(0, platform.scores.shape[0], 17):
        there = np.asarray(platform.there[g]) > 0
        order = np.argsort(
            -(np.asarray(platform.scores[g])[there] @ np.asarray(action)), kind="stable"
        )[: platform.slate]
        weight = 1 / np.log2(np.arange(len(order)) + 2)
        expected = weight @ np.asarray(platform.known[g])[there][order]
        np.testing.assert_allclose(show(jnp.int32(g), action).signals, expected, rtol=1e-12)


def test_scores_have_not_seen_their_own_outcome():
    """Changing a row's outcome changes no score of that row, and by 1/(others + prior) those of the
    item's other rows.
    """
    item, outcome = np.array([1.0, 1, 1, 2, 2]), np.array([[0.0], [1], [1], [0], [1]])
    before = replay.leave_one_out(item, outcome, prior=0.0)
    np.testing.assert_allclose(before[:, 0], [1, 0.5, 0.5, 1, 0])
    outcome[0] = 1
    after = replay.leave_one_out(item, outcome, prior=0.0)
    np.testing.assert_allclose((after - before)[:, 0], [0, 0.5, 0.5, 0, 0])


def test_value_is_what_visits_average_to(platform):
    """Played on many visits, the mean North Star is the exact value over sessions, within 4
    standard errors.
    """
    action = jnp.array([1.0, 0.5, -0.3, 0.2, 0.0, 0.7])
    found = online.value(platform, Deterministic(action), KEY, 8_192)
    assert abs(found.mean - float(replay.value(platform, action))) < 4 * found.se


def test_ranking_by_click_earns_clicks(platform):
    """Item rates differ, so scores made of other rows say something: ranking by them beats its
    reverse.
    """
    value = jax.jit(
        lambda a: jnp.mean(jax.vmap(lambda g: platform.show(g, a).signals[0])(jnp.arange(150)))
    )
    click = jnp.zeros(6).at[0].set(1.0)
    assert value(click) > 1.1 * value(-click)


def test_visit_takes_any_key(platform):
    found = jax.eval_shape(platform.visit, random.row_keys(KEY, 1)[0], jnp.zeros(6))
    assert found.signals.shape == (len(platform.signals),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_like": None}, "is_like"),
        ({"is_like": np.array(["yes"] * KUAIRAND_ROWS)}, "expected"),
        ({"is_click": -np.ones(KUAIRAND_ROWS)}, "is_click.*expected 0, 1 or counts"),
        ({"is_rand": np.zeros(KUAIRAND_ROWS)}, "no row with is_rand = 1"),
        ({"user_id": np.arange(KUAIRAND_ROWS)}, "no session has 2 candidates"),
    ],
)
def test_bad_tables_are_refused_in_one_line(change, words, tmp_path):
    table = {name: column for name, column in (kuairand() | change).items() if column is not None}
    with pytest.raises(ValueError, match=words) as error:
        replay.read(write(tmp_path / "log.csv", table))
    assert "\n" not in str(error.value)
