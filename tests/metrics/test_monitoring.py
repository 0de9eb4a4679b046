"""A running test, watched: intervals by hand, the level of all looks together, and one line for
what cannot be used.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import assert_refused, document, mopl

import mopl_jax as library
from mopl_jax.metrics import correlation, metric_json, sequential

NAMES = ("likes", "shares", "days")
USERS = np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.3], [0.4, 0.3, 1.0]])
WEIGHTS = np.array([0.5, -0.2, 0.0])
DAYS, DAILY = 20, 1000


def snapshots(seed, arms=("A", "B"), effect=(0.0, 0.0, 0.0)):
    """Rows a day and arm, of users who come once; the last arm has the effect."""
    rng, sums = np.random.default_rng(seed), {arm: np.zeros(3) for arm in arms}
    for day in range(1, DAYS + 1):
        for arm in arms:
            shift = np.asarray(effect) if arm == arms[-1] else np.zeros(3)
            sums[arm] += rng.multivariate_normal(DAILY * (1 + shift), DAILY * USERS)
            n = day * DAILY
            means = {f"mean_{x}": m / n for x, m in zip(NAMES, sums[arm], strict=True)}
            variances = {f"variance_{x}": 1.0 for x in NAMES}
            about = {"experiment": "e", "arm": arm, "time": f"2026-03-{day:02d}", "users": n}
            yield about | means | variances


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A test whose signals move, and a metric of them that knows their correlation."""
    folder = tmp_path_factory.mktemp("running")
    rows = list(snapshots(0, effect=(0.05, 0.0, 0.0)))
    (folder / "test.json").write_text(json.dumps(rows))
    about = {"north_star": "days", "user_correlation": USERS.tolist()}
    metric_json.write_metric(folder / "metric.json", NAMES, WEIGHTS, about)
    return folder, rows


def watched(files, *options, planned=2 * DAYS * DAILY):
    folder, _ = files
    return document("monitor", folder / "test.json", "--planned", planned, *options)


def test_intervals_are_effect_and_critical_value_times_error(files):
    """ωᵀΔ ± c √(ωᵀSω) with the correlation that the stored metric brings, each at α/2."""
    folder, rows = files
    said = watched(files, "--metric", folder / "metric.json")
    (north, learnt) = said["tests"]
    assert [north["outcome"], learnt["outcome"]] == ["days", "learnt_metric"]
    assert north["alpha"] == learnt["alpha"] == 0.025
    assert f"from {folder / 'metric.json'}" in said["warnings"][0]
    n = 2 * DAILY * np.arange(1.0, DAYS + 1)
    critical = sequential.mixture(n, n[-1], 0.025)
    delta = [
        [row[f"mean_{x}"] - rows[2 * i][f"mean_{x}"] for x in NAMES]
        for i, row in enumerate(rows[1::2])
    ]
    error = np.sqrt(WEIGHTS @ USERS @ WEIGHTS * 4 / n)
    looks = learnt["looks"]
    assert [look["users"] for look in looks] == n.tolist()
    np.testing.assert_allclose([look["standard_error"] for look in looks], error, rtol=1e-9)
    expected = delta @ WEIGHTS - critical * error
    np.testing.assert_allclose([look["lower"] for look in looks], expected, rtol=1e-9, atol=1e-12)
    first = int(np.argmax(expected > 0))
    assert (learnt["decision"], learnt["since"]) == ("better", rows[2 * first]["time"])
    assert (north["decision"], north["since"]) == ("open", None)


def test_tables_that_have_covariances_need_no_correlation(files, tmp_path):
    """That of the stored metric says the same: covariances of unit variances are correlations."""
    folder, rows = files
    bare = [{k: x for k, x in row.items() if not k.startswith("variance_")} for row in rows]
    whole = [row | {"covariance": USERS.tolist()} for row in bare]
    (tmp_path / "test.json").write_text(json.dumps(whole))
    metric = "--metric", folder / "metric.json"
    said = watched((tmp_path, whole), *metric)["tests"]
    for one, other in zip(said, watched(files, *metric)["tests"], strict=True):
        assert one["looks"][-1]["lower"] == pytest.approx(other["looks"][-1]["lower"], rel=1e-9)


def test_a_metric_that_never_moved_goes_along_with_none():
    scores = np.random.default_rng(0).multivariate_normal(np.zeros(3), USERS, 500)
    scores[:, 1] = 0.0
    found = correlation._of_scores(scores, "increments")
    np.testing.assert_array_equal(found[1], [0, 1, 0])
    assert found[0, 2] != 0


def test_a_correlation_of_users_is_of_any_unit_and_of_one_metric_too(tmp_path):
    users = np.random.default_rng(0).multivariate_normal(np.zeros(3), USERS, 200)
    pq.write_table(pa.table(dict(zip(NAMES, users.T, strict=True))), tmp_path / "users.parquet")
    path, expected = tmp_path / "users.parquet", np.corrcoef(users, rowvar=False)
    np.testing.assert_allclose(correlation._of_file(path, NAMES), expected, rtol=1e-12)
    assert correlation._of_file(path, NAMES[:1]) == [[1.0]]
    pq.write_table(pa.table(dict(zip(NAMES, 1e300 * users.T, strict=True))), path)
    np.testing.assert_allclose(correlation._of_file(path, NAMES), expected, rtol=1e-12)


def test_all_looks_hold_together_and_share_their_level():
    """400 A/A tests of two treatments: decided in 5 % at most, where 1.96 decides in a third."""
    users = 3 * DAILY * np.arange(1.0, DAYS + 1)
    rng, crossed = np.random.default_rng(1), {name: 0 for name in sequential.BOUNDS}
    for _ in range(400):
        sums = np.cumsum(rng.standard_normal((3, DAYS)), axis=1)
        z = (sums[1:] - sums[0]) / np.sqrt(2 * np.arange(1, DAYS + 1))
        for name, bound in sequential.BOUNDS.items():
            level = 0.05 if name == "fixed" else 0.025
            crossed[name] += bool((np.abs(z) > bound(users, users[-1], level)).any())
    assert crossed["fixed"] > 130
    assert max(crossed["mixture"], crossed["obrien_fleming"]) <= 26


def test_several_treatments_share_the_level(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(json.dumps(list(snapshots(2, ("A", "B", "C")))))
    found = library.monitor(path, "days", planned=60_000, bound="obrien_fleming")
    assert [(x.arm, x.alpha) for x in found.tests] == [("B", 0.025), ("C", 0.025)]
    assert found.to_arrow().num_rows == 2 * DAYS
    beyond = library.monitor(path, "days", planned=30_000, bound="obrien_fleming")
    assert np.isinf(beyond.tests[0].looks[-1].upper)
    assert "more than the 30,000" in beyond.warnings[-1]


def test_a_table_without_the_north_star_is_said(files, tmp_path):
    folder, rows = files
    kept = [{k: v for k, v in row.items() if not k.endswith("days")} for row in rows]
    (tmp_path / "signals.json").write_text(json.dumps(kept))
    found = library.monitor(tmp_path / "signals.json", metric=folder / "metric.json", planned=1e5)
    assert [each.outcome for each in found.tests] == ["learnt_metric"]
    assert "no metric 'days': the North Star is not watched" in " ".join(found.warnings)


def test_arms_that_are_too_far_apart_are_asked_about(files, tmp_path):
    """Percent for shares, where the mean is far less than a standard deviation."""
    folder, rows = files
    far = [*rows[:-1], rows[-1] | {"mean_days": 5.0 + rows[-2]["mean_days"]}]
    for some, asked in ((rows, False), (far, True)):
        (tmp_path / "test.json").write_text(json.dumps(some))
        said = library.monitor(tmp_path / "test.json", "days", planned=1e5).warnings
        assert any("'e', arm 'B', metric 'days' (5)" in text for text in said) is asked


def test_covariances_of_the_table_come_before_those_of_the_metric(files, tmp_path):
    """The errors of a metric whose correlations are those of the table are the same without it."""
    folder, rows = files
    known = [row | {"covariance": USERS.tolist()} for row in rows]
    (tmp_path / "test.json").write_text(json.dumps(known))
    for path in (tmp_path / "test.json", folder / "test.json"):
        learnt = library.monitor(path, metric=folder / "metric.json", planned=1e5).tests[1]
        error = np.sqrt(WEIGHTS @ USERS @ WEIGHTS * 4 / (2 * DAILY * DAYS))
        assert learnt.looks[-1].standard_error == pytest.approx(error, rel=1e-9)


def test_covariances_that_are_filled_in_are_said(files, tmp_path):
    """Zeros between metrics make a metric of several too certain; the North Star has none."""
    folder, rows = files
    filled = [row | {"covariance": np.eye(3).tolist()} for row in rows]
    (tmp_path / "test.json").write_text(json.dumps(filled))
    for metric, said in ((folder / "metric.json", True), (None, False)):
        found = library.monitor(tmp_path / "test.json", "days", metric, planned=1e5)
        assert any("exactly 0 in 2 of 2 arms" in text for text in found.warnings) is said


def long(rows):
    """A row a metric, of which `likes` is known of one user less than the others."""
    for row in rows:
        about = {key: row[key] for key in ("experiment", "arm", "time")}
        for name in NAMES:
            users = row["users"] - (name == "likes")
            cells = {"mean": row[f"mean_{name}"], "variance": row[f"variance_{name}"]}
            yield about | {"metric": name, "users": users} | cells


def without(rows, key):
    return [{k: v for k, v in row.items() if k != key} for row in rows]


BROKEN = {
    "users shrink": (lambda rows: [*rows[:-1], rows[-1] | {"users": 5}], "'B': expected users"),
    "one arm": (lambda rows: rows[::2], "experiment 'e': expected one control and at least one"),
    "a look twice": (
        lambda rows: [*rows, rows[-1]],
        "'e': expected each arm once, got 'B' twice at 2026-03-20",
    ),
    "one user": (
        lambda rows: [rows[0] | {"users": 1.0}, *rows[1:]],
        "arm 'A' at 2026-03-01: users: expected a number of at least 2, got 1;",
    ),
    "no mean": (
        lambda rows: [*rows[:-1], rows[-1] | {"mean_likes": None}],
        "arm 'B' at 2026-03-20: mean_likes: expected a number, got none",
    ),
    "another unit": (
        lambda rows: [*rows[:-1], rows[-1] | {"variance_likes": 1e24}],
        "arm 'B': metric 'likes': expected the unit of the control",
    ),
    "milliseconds at the last look": (
        lambda rows: [
            *rows[:-1],
            rows[-1] | {"mean_likes": 1e3 * rows[-1]["mean_likes"], "variance_likes": 1e6},
        ],
        "arm 'B': metric 'likes': expected the unit of the control, got a standard deviation 1e+03",
    ),
    "a mean in another unit": (
        lambda rows: [rows[0], rows[1] | {"mean_days": 100.0}, *rows[2:]],
        "arm 'B': metric 'days': expected the unit of the control, got a mean of 100",
    ),
    "users of a metric shrink": (
        lambda rows: [*long(rows[:-1]), *long([rows[-1] | {"users": 5}])],
        "'B': expected users that grow from snapshot to snapshot, got 19,000 and then 5",
    ),
    "a negative variance early on": (
        lambda rows: [rows[0], rows[1] | {"variance_likes": -1.0}, *rows[2:]],
        "arm 'B' at 2026-03-01: metric 'likes': expected a variance > 0",
    ),
    "no arm": (lambda rows: [rows[0] | {"arm": None}, *rows[1:]], "row 1: no arm"),
    "no signal": (lambda rows: without(rows, "mean_likes"), "got no 'likes'"),
    "no time": (lambda rows: without(rows, "time"), "expected each arm once, got 'A' twice"),
    "a negative variance": (
        lambda rows: [*rows[:-1], rows[-1] | {"variance_likes": -1.0}],
        "arm 'B' at 2026-03-20: metric 'likes': expected a variance > 0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_one_line(files, tmp_path, name):
    folder, rows = files
    broken, expected = BROKEN[name]
    path = tmp_path / "test.json"
    path.write_text(json.dumps(broken(rows)))
    run = mopl("monitor", path, "--planned", 1e5, "--metric", folder / "metric.json")
    assert_refused(run, "test.json", expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--north-star", "days", "--planned", "0"), "planned: expected users > 0"),
        (("--planned", "1e5"), "expected a North Star (--north-star), a learnt metric"),
        (("--planned", "1e5", "--north-star", "day"), "did you mean 'days'?"),
        (("--planned", "1e5", "--north-star", "days", "--bound", "fixed"), "unknown bound"),
        (("--planned", "1e5", "--north-star", "days", "--alpha", "1"), "alpha"),
    ],
)
def test_options_that_do_not_fit_are_one_line(files, options, expected):
    assert_refused(mopl("monitor", files[0] / "test.json", *options), expected)


def test_the_screen_says_what_is_decided_first(files):
    folder, _ = files
    run = mopl("monitor", folder / "test.json", "--planned", 1e5, "--north-star", "likes")
    assert run.code == 0
    assert "e, B, likes: better since 2026-03-" in run.out
    assert "at all looks together" in run.out
