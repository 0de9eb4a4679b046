"""Scorecards: every layout is one history, snapshots, correlations, planned shares, and one line
for what cannot be used.
"""

import json

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command import assert_refused, mopl
from scipy import stats

from mopl_jax.metrics import correlation, experiments, past, sample_ratio, snapshots
from mopl_jax.metrics.scorecards import Reading

NAMES = ("a", "b", "star")
CORRELATION = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.3], [0.5, 0.3, 1.0]])
SPREAD = np.array([1.0, 3.0, 0.5])
USERS = CORRELATION * np.outer(SPREAD, SPREAD)
INDEPENDENT = Reading(correlation="independent")


def wide(count=8, seed=0, n=10_000):
    """Rows with variances, of a control and two treatments, the second one always A/A."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        for arm, label in (("A", "control"), ("B", "unknown"), ("C", "aa")):
            shift = 0.05 * rng.standard_normal() if arm == "B" else 0.0
            mean = 1 + shift + rng.multivariate_normal(np.zeros(3), USERS / n)
            yield {
                "experiment": f"e{i}",
                "arm": arm,
                "label": label,
                "users": n,
                **{f"mean_{name}": float(x) for name, x in zip(NAMES, mean, strict=True)},
                **{f"variance_{name}": float(x**2) for name, x in zip(NAMES, SPREAD, strict=True)},
            }


ROWS = list(wide())


def long(rows=ROWS, names=NAMES):
    for row in rows:
        for name in names:
            cells = {"mean": row[f"mean_{name}"], "variance": row[f"variance_{name}"]}
            kept = {k: v for k, v in row.items() if not k.startswith(("mean_", "variance_"))}
            yield kept | {"metric": name} | cells


def pairs(rows=ROWS):
    """Long rows of treatments that hold their control too."""
    base = {(row["experiment"], row["metric"]): row for row in long(rows) if row["arm"] == "A"}
    for row in long(rows):
        if row["arm"] != "A":
            control = base[row["experiment"], row["metric"]]
            sides = {f"control_{key}": control[key] for key in ("users", "mean", "variance")}
            yield row | sides


def errors(rows=ROWS):
    """Wide rows with standard errors of means for variances."""
    for row in rows:
        made = {k: v for k, v in row.items() if not k.startswith("variance_")}
        made |= {f"std_error_{x}": (row[f"variance_{x}"] / row["users"]) ** 0.5 for x in NAMES}
        yield made


def stored(folder, rows, name="past.json"):
    path = folder / name
    if name.endswith(".json"):
        path.write_text(json.dumps(list(rows)))
    else:
        table = pa.Table.from_pylist(list(rows))
        (pa.csv.write_csv if name.endswith(".csv") else pq.write_table)(table, path)
    return path


def same(one, other, rtol=1e-12):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol)


@pytest.fixture(scope="module")
def expected():
    """The history of the same arms with their covariances, made without a file."""
    arms = [
        (None, experiments.arm_of(
            {k: v for k, v in row.items() if not k.startswith("variance_")}
            | {"n": row["users"], "covariance": np.diag(SPREAD**2).tolist()}, NAMES
        ))
        for row in ROWS
    ]  # fmt: skip
    return experiments.history(arms, NAMES, "star")


@pytest.mark.parametrize("layout", [wide, long, pairs, errors])
@pytest.mark.parametrize("name", ["past.json", "past.parquet", "past.csv"])
def test_every_layout_is_one_history(tmp_path, expected, layout, name):
    path = stored(tmp_path, layout(), name)
    same(past.read([path], "star", INDEPENDENT), expected)


def test_columns_are_mapped_by_flags_and_in_toml(tmp_path, expected):
    other = {"experiment": "test", "arm": "cell", "metric": "kpi", "users": "num", "mean": "avg"}
    renamed = [{other.get(key, key): value for key, value in row.items()} for row in long()]
    path = stored(tmp_path, renamed)
    same(past.read([path], "star", Reading(columns=other, correlation="independent")), expected)
    described = tmp_path / "past.toml"
    columns = "\n".join(f'{role} = "{name}"' for role, name in other.items())
    described.write_text(f'path = "past.json"\n[columns]\n{columns}\n')
    same(past.read([described], "star", INDEPENDENT), expected)
    prefixes = [
        {key.replace("mean_", "avg ").replace("variance_", "var "): x for key, x in row.items()}
        for row in wide()
    ]
    reading = Reading(columns={"mean": "avg ", "variance": "var "}, correlation="independent")
    same(past.read([stored(tmp_path, prefixes)], "star", reading), expected)


def test_metrics_of_other_users_keep_their_own_standard_error(tmp_path):
    """A metric known of a quarter of the users has twice the standard error."""
    rows = [row | {"users": row["users"] / (4 if row["metric"] == "b" else 1)} for row in long()]
    got = past.read([stored(tmp_path, rows)], "star", INDEPENDENT).covariance
    whole = past.read([stored(tmp_path, long())], "star", INDEPENDENT).covariance
    np.testing.assert_allclose(got[:, 1, 1], 4 * whole[:, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(got[:, 0, 0], whole[:, 0, 0], rtol=1e-12)


def test_control_is_named_or_first(tmp_path):
    bare = [{key: value for key, value in row.items() if key != "label"} for row in ROWS]
    path = stored(tmp_path, bare)
    first = past.read([path], "star", INDEPENDENT)
    named = past.read([path], "star", Reading(control="B", correlation="independent"))
    np.testing.assert_allclose(named.effect[0], -first.effect[0], rtol=1e-12)
    with pytest.raises(ValueError, match="'e0': expected an arm named 'Z'.*got A, B, C"):
        past.read([path], "star", Reading(control="Z"))
    order = [bare[1], bare[0], *bare[2:]]  # of one experiment
    same(past.read([stored(tmp_path, order)], "star", INDEPENDENT), first)
    with pytest.raises(ValueError, match="'e0': expected an arm named 'A' as in most experiments"):
        past.read([stored(tmp_path, bare[1:])], "star", INDEPENDENT)


# Snapshots.


def looks(rows=ROWS, steps=20, seed=1):
    """The same arms seen when each had a part of its users."""
    rng = np.random.default_rng(seed)
    for row in rows:
        n = row["users"] // steps
        mean = np.array([row[f"mean_{name}"] for name in NAMES])
        parts = mean + rng.multivariate_normal(np.zeros(3), USERS / n, steps)
        for s in range(1, steps + 1):
            so_far = parts[:s].mean(axis=0)
            means = {f"mean_{name}": float(x) for name, x in zip(NAMES, so_far, strict=True)}
            yield row | means | {"users": s * n, "time": s}


def test_the_last_snapshot_is_taken_or_the_last_before_a_time(tmp_path):
    rows = list(looks())
    path = stored(tmp_path, rows[::-1])  # in no order
    for at, time in ((None, 20), (7.5, 7), ("20", 20)):
        alone = [
            {k: v for k, v in row.items() if k != "time"} for row in rows if row["time"] == time
        ]
        one = past.read([path], "star", Reading(at=at, control="A", correlation="independent"))
        other = past.read([stored(tmp_path, alone, "alone.json")], "star", INDEPENDENT)
        order = np.argsort(np.asarray(one.effect)[:, 0]), np.argsort(np.asarray(other.effect)[:, 0])
        np.testing.assert_allclose(one.effect[order[0]], other.effect[order[1]], rtol=1e-12)


def test_increments_have_the_correlation_of_users_and_the_halves_do_not_overlap(tmp_path):
    """Increments of users who come one after the other are standard normal, 5 SE; N Δ adds up."""
    rows = list(looks(list(wide(count=40))))
    tests = past.past([stored(tmp_path, rows)], "star", Reading())
    steps = np.concatenate([snapshots.increments(each)[0] for each in tests.looks])
    assert steps.shape == (80 * 19, 3)
    shrunk = 1 - 1 / 20  # the effect at the last look is an estimate too
    np.testing.assert_allclose(
        steps.T @ steps / len(steps), shrunk * CORRELATION, atol=5 / 1520**0.5
    )
    one = tests.looks[0]
    early, late = snapshots.halves(one)
    np.testing.assert_allclose((early + late) / 2, one.effect[-1], rtol=1e-9)


def folds(rows=ROWS, count=4):
    """The same arms in folds of their users, whose means differ."""
    for row in rows:
        for f in range(count):
            shift = (f - (count - 1) / 2) / 10
            means = {f"mean_{x}": row[f"mean_{x}"] + shift for x in NAMES}
            yield row | means | {"users": row["users"] // count, "fold": f}


def test_folds_are_one_arm_and_two_halves(tmp_path):
    """Variance is that within and between; the halves are of every other fold."""
    found = past.read([stored(tmp_path, folds())], "star", INDEPENDENT)
    one = past.read([stored(tmp_path, ROWS, "whole.json")], "star", INDEPENDENT)
    np.testing.assert_allclose(found.effect, one.effect, rtol=1e-9)
    between = np.var([-0.15, -0.05, 0.05, 0.15])
    np.testing.assert_allclose(np.diagonal(found.user_covariance), SPREAD**2 + between, rtol=1e-9)
    np.testing.assert_allclose(found.halves, np.stack([found.effect] * 2, axis=1), atol=1e-12)
    assert one.halves is None


# Correlations.


def test_correlations_come_from_where_they_are_known(tmp_path):
    """A/A tests, increments and a table of users give 0.8, 0.5, 0.3 within 5 standard errors."""
    rng = np.random.default_rng(3)
    users = stored(
        tmp_path,
        [
            dict(zip(NAMES, map(float, x), strict=True))
            for x in rng.multivariate_normal(np.zeros(3), USERS, 4000)
        ],
        "users.parquet",
    )
    matrix = tmp_path / "c.json"
    matrix.write_text(
        json.dumps({"metrics": NAMES[::-1], "correlation": CORRELATION[::-1, ::-1].tolist()})
    )
    nulls = rng.multivariate_normal(np.zeros(3), CORRELATION, 300)
    for given, source, n in (
        (None, nulls, 300),
        (users, nulls[:0], 4000),
        (matrix, nulls[:0], 1e20),
    ):
        found = correlation.shared(given, NAMES, source, ())
        assert not found.guess
        np.testing.assert_allclose(found.matrix, CORRELATION, atol=max(5 / n**0.5, 1e-12))
    assert correlation.shared(None, NAMES, nulls[:20], ()).guess


def test_without_covariances_power_is_not_believed(tmp_path):
    """Neither where they are absent nor where exports fill in zeros; A/A tests speak for
    themselves.
    """
    few = list(wide(count=4))
    zeros = [
        {k: v for k, v in row.items() if not k.startswith("variance_")}
        | {"covariance": np.diag(SPREAD**2).tolist()}
        for row in few
    ]
    but_one = [zeros[0] | {"covariance": USERS.tolist()}, *zeros[1:]]
    for rows, words in (
        (few, "count as zero"),
        (zeros, "exactly 0 in 12 of 12 arms"),
        (but_one, "exactly 0 in 11 of 12 arms"),
    ):
        said = past.past([stored(tmp_path, rows)], "star", Reading()).warnings
        assert any(words in text and "correlate" in text for text in said)
    said = past.past([stored(tmp_path, wide(count=40))], "star", Reading()).warnings
    assert [text for text in said if "40 A/A differences" in text]
    assert not any("count as zero" in text for text in said)


# Shares.


def test_sample_ratio_is_that_of_chi_square():
    """Two arms: (n−m)²/(n+m); planned shares in any unit; unequal ones are not guessed."""
    p = sample_ratio.p_value([50_000, 49_000], None)
    assert p == pytest.approx(stats.chi2.sf(1000**2 / 99_000, 1))
    assert p == pytest.approx(sample_ratio.p_value([50_000, 49_000], [3, 3]))
    assert sample_ratio.p_value([90_000, 10_000], [9, 1]) == 1
    assert np.isnan(sample_ratio.p_value([90_000, 10_000], None))
    assert sample_ratio.p_value([90, 10], [1.7e308, 1.7e308]) == pytest.approx(
        sample_ratio.p_value([90, 10], [1, 1])
    )
    assert sample_ratio.p_value([90, 10], [1, 5e-324]) == 0
    three = sample_ratio.p_value([100, 120, 90], None)
    assert three == pytest.approx(stats.chisquare([100, 120, 90]).pvalue)


def test_a_mismatch_is_left_out_unless_kept_or_planned(tmp_path):
    rows = [row | ({"users": 8_000} if row["arm"] != "A" else {}) for row in wide(count=1)]
    path = stored(tmp_path, rows + [row | {"experiment": "x" + row["experiment"]} for row in ROWS])
    out, kept = (
        past.past([path], "star", Reading(keep=keep, correlation="independent"))
        for keep in (False, True)
    )
    assert (out.history.size.size, kept.history.size.size) == (16, 18)
    for found, words in ((out, "left out"), (kept, "kept")):
        assert "e0 (10,000 and 8,000 and 8,000): " + words in found.warnings[0]
    planned = Reading(shares={"A": 1, "B": 0.8, "C": 0.8}, correlation="independent")
    only = past.past(
        [stored(tmp_path, rows * 1 + [r | {"experiment": "y"} for r in rows])], "star", planned
    )
    assert not any("mismatch" in text for text in only.warnings)
    with pytest.raises(ValueError, match="expected a share of arm 'B', got those of A"):
        past.past([path], "star", Reading(shares={"A": 1}))


# What cannot be used.


def changed(layout, change):
    rows = list(layout())
    change(rows)
    return rows


def summed(rows):
    """A metric that is the sum of two others, in every arm."""
    for row in rows:
        row["covariance"] = [[2.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]


BAD = {
    "no control": (wide, lambda r: r.pop(0), "'e0': expected one control and at least one other"),
    "negative": (
        wide,
        lambda r: r[4].update(variance_b=-1.0),
        "row 5, experiment 'e1', arm 'B': metric 'b': expected a variance > 0, got -1",
    ),
    "zero": (
        long,
        lambda r: r[4].update(variance=0.0),
        "experiment 'e0', arm 'B': metric 'b': expected a variance > 0, got 0",
    ),
    "no error": (errors, lambda r: r[4].update(std_error_b=0.0), "expected a standard error > 0"),
    "missing": (
        long,
        lambda r: r[4].update(variance=None),
        "experiment 'e0', arm 'B': metric 'b': expected a variance or a standard error, got none",
    ),
    "missing mean": (long, lambda r: r[4].update(mean=None), "arm 'B': mean_b: expected a number"),
    "twice": (
        long,
        lambda r: r.append(r[4]),
        "experiment 'e0', arm 'B', metric 'b': expected one row, got two",
    ),
    "arm twice": (wide, lambda r: r.append(r[4]), "'e1': expected each arm once, got 'B' twice"),
    "unit of an arm": (
        wide,
        lambda r: r[4].update(mean_b=1e12, variance_b=9e24),
        "experiment 'e1', arm 'B': metric 'b': expected the unit of the control, got a standard"
        " deviation 1e+12 times as large",
    ),
    "unit of an experiment": (
        wide,
        lambda r: [x.update(mean_b=1e12, variance_b=9e24) for x in r[3:6]] and None,
        "'e1', arm 'B': metric 'b': expected the unit of half of the experiments or more, got a"
        " standard deviation 1e+12 times as large; bring all to one unit, or --standardise",
    ),
    "milliseconds in an arm": (
        long,
        lambda r: r[4].update(mean=1e3 * r[4]["mean"], variance=9e6),
        "experiment 'e0', arm 'B': metric 'b': expected the unit of the control, got a standard"
        " deviation 1e+03 times as large",
    ),
    "milliseconds in an experiment": (
        wide,
        lambda r: [x.update(mean_b=1e3 * x["mean_b"], variance_b=9e6) for x in r[3:6]] and None,
        "'e1', arm 'B': metric 'b': expected the unit of half of the experiments or more, got a"
        " standard deviation 1e+03 times as large",
    ),
    "half of the experiments": (
        wide,
        lambda r: [x.update(mean_b=1e12, variance_b=9e24) for x in r[:12]] and None,
        "'e0', arm 'B': metric 'b': expected the unit of half of the experiments or more, got a"
        " standard deviation 1e+12 times as large",
    ),
    "unit of a mean": (
        wide,
        lambda r: r[4].update(mean_star=100.0),
        "'e1', arm 'B': metric 'star': expected the unit of the control, got a mean of 100 and in"
        " the control 0.9937, 198 standard deviations of a user apart",
    ),
    "unit of a control": (
        long,
        lambda r: r[2].update(mean=-100.0),
        "'e0', arm 'B': metric 'star': expected the unit of the control, got a mean of",
    ),
    "beyond": (wide, lambda r: r[4].update(mean_b=1e200), "arm 'B': expected numbers whose sums"),
    "no metric": (long, lambda r: r[4].update(metric=None), "row 5: no metric"),
    "no arm": (wide, lambda r: r[4].update(arm=None), "row 5: no arm; fill it in or drop the row"),
    "empty arm": (wide, lambda r: r[4].update(arm=""), "row 5: no arm; fill it in or drop"),
    "no experiment": (pairs, lambda r: r[4].update(experiment=None), "row 5: no experiment"),
    "absent metric": (long, lambda r: r.pop(4), "arm 'B': expected the metrics a, b, star, got a"),
    "few users": (wide, lambda r: r[4].update(users=1), "arm 'B': users: expected a number of at"),
    "one metric": (
        lambda: [r | {"metric": "star"} for r in long() if r["metric"] == "star"],
        lambda r: None,
        "experiment 'e0', arm 'A': expected metrics besides the North Star 'star', got none; add"
        " columns mean_NAME, or in a long table rows of others",
    ),
    "shrinking": (
        looks,
        lambda r: r[5].update(users=10),
        "experiment 'e0': arm 'A': expected users that grow from snapshot to snapshot, got 2,500"
        " and then 10 at 6",
    ),
    "shrinking metric": (
        lambda: long(looks()),
        lambda r: r[16].update(users=10),
        "experiment 'e0': arm 'A', metric 'b': expected users that grow from snapshot to snapshot,"
        " got 2,500 and then 10 at 6; drop the snapshot",
    ),
    "shrinking in folds": (
        lambda: long(x | {"time": t, "users": t * x["users"]} for t in (1, 2) for x in folds()),
        lambda r: [x.update(users=10) for x in r if x["time"] == 2 and x["metric"] == "b"] and None,
        "arm 'A', metric 'b': expected users that grow from snapshot to snapshot, got 10,000 and",
    ),
    "negative, in an early snapshot": (
        looks,
        lambda r: r[20].update(variance_b=-1.0),
        "row 21, experiment 'e0', arm 'B' at 1: metric 'b': expected a variance > 0, got -1",
    ),
    "missing, in an early snapshot": (
        lambda: long(looks()),
        lambda r: r[61].update(variance=None),
        "experiment 'e0', arm 'B' at 1: metric 'b': expected a variance or a standard error",
    ),
    "other control": (
        pairs,
        lambda r: r[4].update(control_mean=9.0),
        "'e0', arm 'C': expected the control that its other treatments have",
    ),
    "time": (looks, lambda r: r[5].update(time="soon"), "expected a time, a number or a date"),
    "fold twice": (
        folds,
        lambda r: r.append(r[4]),
        "experiment 'e0', arm 'B': expected each fold once, got 0, 2, 0",
    ),
    "fold without variance": (
        folds,
        lambda r: r[4].pop("variance_b"),
        "arm 'B': fold '0': variance_b: expected a number, got none",
    ),
    "sum of others": (wide, summed, "'e0', arm 'A': expected a positive definite covariance, got"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line(tmp_path, name):
    layout, change, expected = BAD[name]
    path = stored(tmp_path, changed(layout, change))
    assert_refused(mopl("metric", path, "--north-star", "star"), "past.json", expected)


def test_a_sum_names_its_parts(tmp_path):
    """By its covariance, and where there is none, because it never moves by itself."""
    path = stored(tmp_path, changed(wide, summed))
    with pytest.raises(ValueError, match="a, b, star determine one another"):
        past.read([path], "star")
    total = [
        row | {"mean_sum": row["mean_a"] + row["mean_b"], "variance_sum": 15.0} for row in ROWS
    ]
    with pytest.raises(
        ValueError, match="got a, b, sum, which determine one another in every test"
    ):
        past.read([stored(tmp_path, total)], "star", INDEPENDENT)


def rounded(rows, digits):
    for row in rows:
        yield {
            key: float(f"{x:.{digits}g}") if key.startswith("mean_") else x
            for key, x in row.items()
        }


@pytest.mark.parametrize("layout", ["wide", "long", "covariances"])
def test_a_rounded_sum_is_warned_of(tmp_path, layout):
    """Of five and four digits, in any layout; two digits are noise, and what is no sum moves."""
    total = [
        row | {"mean_sum": row["mean_a"] + row["mean_b"], "variance_sum": 15.0} for row in ROWS
    ]
    if layout == "covariances":
        total = [row | {"covariance": np.diag([*SPREAD**2, 15.0]).tolist()} for row in total]
    for digits, few, warned in ((5, 24, True), (4, 24, True), (5, 9, True), (2, 24, False)):
        rows = list(rounded(total[:few], digits))
        made = long(rows, (*NAMES, "sum")) if layout == "long" else rows
        reading = Reading() if layout == "covariances" else INDEPENDENT
        said = past.past([stored(tmp_path, made)], "star", reading).warnings
        assert any("a, b, sum nearly determine one another" in text for text in said) is warned
    said = past.past([stored(tmp_path, ROWS)], "star", INDEPENDENT).warnings
    assert not any("determine" in text for text in said)


def test_a_sum_is_refused_from_as_few_tests_as_can_tell(tmp_path):
    """Six differences of four metrics; three are too few for three."""
    total = [
        row | {"mean_sum": row["mean_a"] + row["mean_b"], "variance_sum": 15.0} for row in ROWS
    ]
    with pytest.raises(ValueError, match="got a, b, sum, which determine one another in every"):
        past.read([stored(tmp_path, total[:9])], "star", INDEPENDENT)
    said = past.past([stored(tmp_path, ROWS[:5])], "a", INDEPENDENT).warnings
    assert not any("determine" in text for text in said)


def test_arms_that_are_too_far_apart_are_asked_about(tmp_path):
    """More than one standard deviation of a user, up to ten, from where they are refused."""
    for shift, asked in ((2.9, False), (3.5, True), (29.0, True)):
        rows = changed(wide, lambda r, by=shift: r[4].update(mean_b=r[3]["mean_b"] + by))
        said = past.past([stored(tmp_path, rows)], "star", INDEPENDENT).warnings
        words = f"of users: experiment 'e1', arm 'B', metric 'b' ({shift / 3:.2g})"
        assert any(words in text for text in said) is asked


def test_units_of_a_metric_about_zero_are_asked_about(tmp_path):
    """Nothing but the difference is left of the mean: 30 standard deviations of the control's."""
    rows = changed(wide, lambda r: r[3].update(mean_b=0.0))
    rows[4] |= {"mean_b": 90.0, "variance_b": 9e6}
    said = past.past([stored(tmp_path, rows)], "star", INDEPENDENT).warnings
    assert any("arm 'B', metric 'b' (30)" in text for text in said)


def test_rare_and_heavy_metrics_are_no_other_units(tmp_path):
    """A share of 1 in 10,000 becomes one half, as of users who saw what is new; of 10,000 users one
    who spends 100,000 makes mean and deviation of an arm a hundred times as large.
    """
    share, spent = (1e-4, 1e-4), (0.1, 1e2)
    for usual, mean, variance in ((share, 0.5, 0.25), (share, 0.02, 1e2), (spent, 10.1, 1e6)):
        rows = [row | {"mean_b": usual[0], "variance_b": usual[1]} for row in ROWS]
        rows[4] |= {"mean_b": mean, "variance_b": variance}
        assert past.read([stored(tmp_path, rows)], "star", INDEPENDENT).size.size == 16


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--column", "kpi=metric"), "unknown role of --column: 'kpi'"),
        (("--column", "metric"), "expected ROLE=NAME"),
        (("--column", "metric=kpi"), "--column metric=kpi: no such column; columns: experiment"),
        (("--shares", "A:1"), "--shares: expected NAME=SHARE"),
        (("--correlation", "nulls"), "expected at least 10 A/A differences, got 8"),
        (("--correlation", "none.csv"), "mopl: none.csv: no such file"),
        (("--correlation", "none.json"), "mopl: none.json: cannot be read"),
        (("--at", "later"), "expected a time"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, options, expected):
    path = stored(tmp_path, wide())
    assert_refused(mopl("metric", path, "--north-star", "star", *options), expected)


def test_what_was_left_out_is_said_where_nothing_is_left(tmp_path):
    rows = [row | ({"users": 8_000} if row["arm"] != "A" else {}) for row in wide()]
    with pytest.raises(
        ValueError,
        match="past.json: expected at least two experiments, got none.*; sample ratio mismatch",
    ):
        past.read([stored(tmp_path, rows)], "star", INDEPENDENT)
    with pytest.raises(ValueError, match="expected a table without covariances"):
        past.read([stored(tmp_path, changed(wide, summed))], "star", INDEPENDENT)


def test_snapshots_that_cannot_be_used_are_left_out_where_asked(tmp_path):
    """An early one alone, and said; with --at, one that comes later is no matter."""
    rows = changed(looks, lambda r: r[20].update(variance_b=-1.0))
    reading = Reading(leave_out=True, correlation="independent")
    found = past.past([stored(tmp_path, rows)], "star", reading)
    assert found.history.size.size == 16
    assert [len(x.time) for x in found.looks[:2]] == [19, 20]
    assert "arm 'B' at 1: metric 'b': expected a variance > 0, got -1" in found.warnings[0]
    rows = changed(looks, lambda r: r[39].update(variance_b=-1.0))
    reading = Reading(at=19, correlation="independent")
    early = past.past([stored(tmp_path, rows)], "star", reading)
    assert not any("left out" in text for text in early.warnings)


def test_arms_that_cannot_be_used_are_left_out_where_asked(tmp_path):
    path = stored(tmp_path, changed(long, lambda rows: rows[4].update(variance=None)))
    found = past.past([path], "star", Reading(leave_out=True, correlation="independent"))
    assert found.history.size.size == 15
    assert "left out, because they cannot be used: " in found.warnings[0]
    assert "experiment 'e0', arm 'B'" in found.warnings[0]


def test_units_of_any_size_serve(tmp_path):
    """A metric in units 10¹² times as small is the same metric."""
    large = [
        row | {"mean_b": 1e12 * row["mean_b"], "variance_b": 1e24 * row["variance_b"]}
        for row in ROWS
    ]
    one, other = (
        past.read([stored(tmp_path, rows)], "star", INDEPENDENT) for rows in (ROWS, large)
    )
    from mopl_jax.metrics import objectives

    for name in ("proxy",):
        a, b = (np.asarray(objectives.learn(x, objectives.NAMED[name])) for x in (one, other))
        np.testing.assert_allclose(b * [1, 1e12, 1], a, rtol=1e-9)


def test_standard_deviations_are_those_of_the_own_experiment(tmp_path):
    """Effects over a user's standard deviation do not know the units of an experiment."""
    odd = [
        row
        | (
            {f"mean_{x}": 100 * row[f"mean_{x}"] for x in NAMES}
            | {f"variance_{x}": 1e4 * row[f"variance_{x}"] for x in NAMES}
            if row["experiment"] == "e3"
            else {}
        )
        for row in ROWS
    ]
    reading = Reading(standardise=True, correlation="independent")
    one, other = (past.read([stored(tmp_path, rows)], "star", reading) for rows in (ROWS, odd))
    same(one, other, rtol=1e-9)
    np.testing.assert_allclose(np.diagonal(one.user_covariance), 1, rtol=1e-12)
