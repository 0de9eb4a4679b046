"""`mopl metric` as a user meets it: the table in, the metric out and in again, and one line for
whatever is wrong.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import assert_refused, document, mopl

from mopl_jax.metrics import experiments, metric_json, objectives, past

NAMES = ("likes", "shares", "retention")
COVARIANCE = np.array([[1.0, 0.2, 0.1], [0.2, 2.0, 0.1], [0.1, 0.1, 4.0]])


def table(count=12):
    """Alternating winners and losers, a third arm in the first experiment, two A/A tests at the
    end.
    """
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        label = ("winner", "loser")[i % 2] if i < count - 2 else "aa"
        lift = {"winner": 0.02, "loser": -0.02, "aa": 0.0}[label] * np.array([1.0, 0.5, 0.5])
        arms = [("A", "control", 0 * lift), ("B", label, lift)] + (
            [("C", "unknown", 0 * lift)] if i == 0 else []
        )
        for arm, tag, mean in arms:
            noise = rng.multivariate_normal(np.zeros(3), COVARIANCE / 10_000)
            means = dict(zip(NAMES, 1 + mean + noise, strict=True))
            rows.append(experiments.row(f"e{i}", arm, tag, 10_000, means, COVARIANCE))
    return rows


@pytest.fixture
def path(tmp_path):
    return experiments.write(tmp_path / "past.parquet", table())


# The table.


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_table_becomes_differences(tmp_path, suffix):
    """Δ = treatment − control, S = Σ_t/n_t + Σ_c/n_c, arms of one experiment share its index;
    either file format.
    """
    rows = table()
    history = past.read([experiments.write(tmp_path / f"past{suffix}", rows)], "retention")
    assert history.names == NAMES
    assert history.north_star == 2
    assert history.experiment.tolist() == [0, 0, *range(1, 12)]
    assert history.sign.tolist() == [1, 0, *([-1, 1] * 5)[:9], 0, 0]
    assert history.null.tolist() == [False] * 11 + [True] * 2
    expected = [rows[1][f"mean_{name}"] - rows[0][f"mean_{name}"] for name in NAMES]
    np.testing.assert_allclose(history.effect[0], expected, rtol=1e-12)
    np.testing.assert_allclose(history.covariance[0], COVARIANCE / 5000, rtol=1e-12)
    np.testing.assert_allclose(history.user_covariance, COVARIANCE, rtol=1e-12)
    np.testing.assert_allclose(history.size, 5000)


def test_second_moments_are_covariances_in_another_form(tmp_path):
    """E x xᵀ over users gives the unbiased covariance, (M − mean meanᵀ) n/(n−1); a flat list of K²
    numbers serves too.
    """
    rows = table()
    for r in rows:
        mean, n = np.array([r[f"mean_{name}"] for name in NAMES]), r["n"]
        r["second_moment"] = (
            (np.array(r.pop("covariance")) * (n - 1) / n + np.outer(mean, mean)).ravel().tolist()
        )
    history = past.read([experiments.write(tmp_path / "past.parquet", rows)], "retention")
    np.testing.assert_allclose(history.covariance[0], COVARIANCE / 5000, rtol=1e-9)


def test_files_are_pooled(tmp_path):
    """Two files with the same metrics are one history."""
    rows = table()
    parts = [
        experiments.write(tmp_path / f"{i}.json", rows[a:b])
        for i, (a, b) in enumerate([(0, 9), (9, None)])
    ]
    whole = past.read([experiments.write(tmp_path / "all.json", rows)], "retention")
    for a, b in zip(
        jax.tree.leaves(whole), jax.tree.leaves(past.read(parts, "retention")), strict=True
    ):
        np.testing.assert_array_equal(a, b)


# The command.


def test_json_is_what_the_library_says(path, tmp_path):
    said = document("metric", path, "--north-star", "retention", "--out", tmp_path / "m.json")
    history = past.read([path], "retention")
    assert said["weights"] == pytest.approx(
        np.asarray(objectives.learn(history, objectives.gls)).tolist(), rel=1e-9
    )
    assert said["validation"]["known"] == 10
    assert said["validation"]["nulls"] == 2
    names, weights = metric_json.read_metric(tmp_path / "m.json")
    assert (names, weights.tolist()) == (NAMES, said["weights"])
    swapped = metric_json.read_metric(tmp_path / "m.json", NAMES[::-1])
    signals = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    rewards = [
        objectives.metric_reward(jnp.asarray(w), s)
        for w, s in ((weights, signals), (swapped[1], signals[:, ::-1]))
    ]
    np.testing.assert_allclose(*rewards, rtol=1e-12)


def test_table_names_every_metric_and_test(path):
    code, out, err = mopl("metric", path, "--north-star", "retention")
    assert (code, err) == (0, "")
    assert all(
        word in out
        for word in (
            *NAMES,
            "learnt metric",
            "both, Bonferroni",
            "10 known winners",
            "A/A differences",
        )
    )
    assert max(map(len, out.splitlines())) <= 100


# What is wrong, in one line.


def broken(change):
    rows = table()
    return change(rows) or rows


def _drop_controls(rows):
    del rows[3]  # e1's control


def _drop_treatments(rows):
    del rows[4]


def _singular(rows):
    rows[4]["covariance"] = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def _no_variance(rows):
    rows[4]["covariance"] = [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def _wrong_size(rows):
    rows[4]["covariance"] = [[1, 0], [0, 1]]


def _lopsided(rows):
    rows[4]["covariance"] = [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def _other_names(rows):
    rows[4]["mean_clicks"] = rows[4].pop("mean_likes")


def _no_winner(rows):
    for r in rows:
        r["label"] = "control" if r["label"] == "control" else "unknown"


def _missing_mean(rows):
    rows[4]["mean_likes"] = None


WRONG = {
    "missing control": (
        _drop_controls,
        "experiment 'e1': expected one control and at least one other arm, got 0 control",
    ),
    "missing treatment": (_drop_treatments, "got 1 control and 0 other"),
    "two controls": (lambda rows: rows[4].update(label="control"), "got 2 control"),
    "arm twice": (lambda rows: rows[4].update(arm="A"), "expected each arm once"),
    "singular": (_singular, "expected a positive definite covariance"),
    "constant metric": (_no_variance, "metric 'shares': expected a variance > 0"),
    "wrong size": (_wrong_size, "expected 3 × 3 = 9 numbers"),
    "not symmetric": (_lopsided, "expected a symmetric covariance"),
    "not numbers": (
        lambda rows: rows[4].update(covariance="none"),
        "arm 'B': key 'covariance': expected numbers",
    ),
    "no covariance": (
        lambda rows: rows[4].pop("covariance") and None,
        "expected covariance or second_moment",
    ),
    "one experiment": (lambda rows: rows[:3], "expected at least two experiments, got 1"),
    "other names": (_other_names, "only one of the two has clicks, likes"),
    "no winner": (_no_winner, "label: expected a known winner in at least two experiments, got 1"),
    "label": (lambda rows: rows[4].update(label="winer"), "did you mean 'winner'?"),
    "missing mean": (_missing_mean, "arm 'B': mean_likes: expected a number, got none"),
    "one user": (
        lambda rows: rows[4].update(n=1),
        "arm 'B': users: expected a number of at least 2, got 1",
    ),
    "no n": (
        lambda rows: rows[4].pop("n") and None,
        "arm 'B': users: expected a number, got none",
    ),
    "no rows": (lambda rows: rows.clear(), "expected a list of rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_tables_are_one_line_and_exit_code_2(tmp_path, name):
    change, expected = WRONG[name]
    path = tmp_path / "past.json"
    path.write_text(json.dumps(broken(change)))
    assert_refused(mopl("metric", path, "--north-star", "retention"), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--north-star", "retension"), "did you mean 'retention'?"),
        (("--north-star", "retention", "--objective", "glss"), "did you mean 'gls'?"),
        (("--north-star", "retention", "--l1", "0.1"), "expected one of mean_z"),
        (
            ("--north-star", "retention", "--objective", "log_p", "--l1", "-1"),
            "--l1: expected a number ≥ 0",
        ),
        (
            ("--north-star", "retention", "--objective", "log_p", "--positive", "like"),
            "did you mean 'likes'?",
        ),
        (("--north-star", "retention", "--alpha", "5"), "expected alpha strictly between 0 and 1"),
        ((), "expected --north-star"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(path, options, expected):
    assert_refused(mopl("metric", path, *options), expected)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("proxy", "because no signal moves with the North Star beyond noise; add tests"),
        ("gls", "because no signal moves with the winners; add tests"),
    ],
)
def test_weights_of_zero_say_why(tmp_path, objective, expected):
    """Where no test moved anything, an objective in closed form has no option that helps."""
    rows = [row | {f"mean_{name}": 1.0 for name in NAMES} for row in table()]
    path = experiments.write(tmp_path / "past.parquet", rows)
    run = mopl("metric", path, "--north-star", "retention", "--objective", objective)
    assert_refused(run, f"objective '{objective}': every weight is zero", expected)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("past.txt", "a,b", "expected a file ending in .parquet"),
        ("past.json", "{", "not valid JSON"),
        ("past.parquet", "no", "cannot be read"),
        (
            "past.json",
            '[{"experiment": "e", "arm": "A", "label": "control", "n": 5}]',
            "expected columns mean_NAME",
        ),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert_refused(mopl("metric", tmp_path / name, "--north-star", "retention"), expected)


def test_a_stored_metric_is_checked_when_read(tmp_path):
    path = metric_json.write_metric(
        tmp_path / "m.json", NAMES, np.array([1.0, 2.0, 0.0]), {"objective": "gls"}
    )
    with pytest.raises(ValueError, match="only one of the two has clicks, likes"):
        metric_json.read_metric(path, ("clicks", "shares", "retention"))
    for text, expected in (
        ("[]", "format 1"),
        ('{"mopl_metric": 1, "metrics": ["a"], "weights": []}', "as many finite weights"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=expected):
            metric_json.read_metric(path)
