"""What users pass in is refused in one line where it cannot be."""

import jax.numpy as jnp
import pytest
from command import assert_refused, mopl

from mopl_jax.coverage import study
from mopl_jax.io.draws import draw
from mopl_jax.numerics.check import MOST_PARTS, MOST_WEIGHTS, check_seed
from mopl_jax.planning.designs import plan
from mopl_jax.policies import Gaussian, Mixture
from mopl_jax.simulation.example import write_example

NORMAL = Gaussian.diagonal(jnp.zeros(2), 1.0)
SEED = "--seed: expected a whole number from"
WORLD = {
    "name": "x",
    "d": 2 * MOST_WEIGHTS,
    "reward": {"kind": "linear"},
    "noise": {"kind": "normal"},
    "logging": {"kind": "normal"},
    "target": {"x": {}},
}
FEW = WORLD | {"d": 2, "logging": {"kind": "normal", "scale": 1.0}}
FEW["noise"] = {"kind": "normal", "scale": 1.0}
FEW["target"] = {"x": {"mean": 0.0, "scale": 1.0}}
BY_HAND = {
    "coverage --n 1e12": "--n: expected whole numbers separated by commas, as 8,64,512; got '1e12'",
    "coverage --replicates 1e15": "--replicates",
    "coverage --d 20000": "expected a whole number of at most 1000, got 20000",
    "simulate --explore 1e11": "--explore",
}


@pytest.mark.parametrize("words", BY_HAND)
def test_a_number_that_is_no_count_is_one_line(words, tmp_path):
    assert_refused(mopl(*words.split(), "--out", tmp_path / "out"), BY_HAND[words])


@pytest.mark.parametrize("name", ["a\nb.csv", "\x1b[31m.csv", "\u202ecsv", "x" * 5000 + ".csv"])
def test_a_complaint_is_one_line_that_a_terminal_can_show(name, tmp_path):
    """Whatever a path is called."""
    ended = mopl("check", tmp_path / name)
    assert_refused(ended, str(tmp_path))
    assert ended.err.strip().isprintable()
    assert len(ended.err) < 1200


def test_seeds_have_64_bits():
    """What NumPy, JAX and TOML take alike."""
    assert check_seed(2**63 - 1) == 2**63 - 1
    assert check_seed(-5, least=-(2**63)) == -5
    for seed in (-1, 2**63, 10**30):
        with pytest.raises(ValueError, match=SEED):
            check_seed(seed)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda path: draw(NORMAL, 1, 10**30), SEED),
        (lambda path: write_example(path / "out", -1), SEED),
        (lambda path: draw(NORMAL, 10**12), "--n: expected 1 to 10,000,000, got 1,000,000,000,000"),
        (lambda path: plan(100_000), "--d: expected 1 to 1,000, got 100,000"),
        (
            lambda path: study.build({"n": 8, "world": [WORLD]}),
            "world 'x', key 'd': expected .* at most 1000, got 2000",
        ),
        (
            lambda path: study.build({"n": 10**12, "world": [FEW]}),
            "key 'n': expected a whole number of at most 2147483647, got 1000000000000",
        ),
        (
            lambda path: study.build({"n": 2**31 - 1, "world": [FEW]}),
            "world 'x' at d=2: expected logs of at most 1,073,741,823 rows, .* n = 2,147,483,647",
        ),
        (
            lambda path: study.build({"n": 8, "replicates": 10**15, "world": [FEW]}),
            "key 'replicates': expected a whole number of at most 2147483647, got 1000000000000000",
        ),
        (
            lambda path: Mixture.of(jnp.ones(10 * MOST_PARTS), [NORMAL] * 10 * MOST_PARTS),
            "components of a mixture: expected 1 to 200, got 2,000",
        ),
    ],
)
def test_what_costs_too_much_is_refused_before_it_begins(ask, message, tmp_path):
    """With what was expected, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        ask(tmp_path)
    assert not list(tmp_path.iterdir())
