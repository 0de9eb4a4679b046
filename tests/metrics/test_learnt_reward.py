"""The learnt metric as a reward: a column of the log, its formula with it, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import assert_refused, document, mopl

from mopl_jax.io import reward_note
from mopl_jax.io.sources import open_source
from mopl_jax.metrics import experiments, learnt_reward, metric_json

NAMES = ("likes", "shares", "days")
WEIGHTS = np.array([0.5, -0.25, 0.0])


def log(folder, n=500, name="log.parquet", **changes):
    rng = np.random.default_rng(0)
    columns = {each: rng.normal(size=n) for each in NAMES} | {"user": np.arange(n)} | changes
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


@pytest.fixture
def stored(tmp_path):
    about = {"north_star": "days"}
    return metric_json.write_metric(tmp_path / "metric.json", NAMES, WEIGHTS, about)


def test_a_log_gets_the_metric_of_each_row(tmp_path, stored):
    """Σ weight · signal; all other columns as they were; its moments are said."""
    path, out = log(tmp_path), tmp_path / "out" / "rewarded.parquet"
    said = document("metric", stored, "--apply", path, "--rewarded", out)
    before, after = pq.read_table(path), pq.read_table(out)
    assert after.drop_columns("learnt_metric").equals(before)
    reward = after["learnt_metric"].to_numpy()
    signals = np.stack([before[name].to_numpy() for name in NAMES], axis=1)
    np.testing.assert_allclose(reward, signals @ WEIGHTS, rtol=1e-12)
    assert said["mean"] == pytest.approx(reward.mean())
    assert said["deviation"] == pytest.approx(reward.std())
    assert said["correlation"] == pytest.approx(np.corrcoef(reward, signals[:, 2])[0, 1])
    about = json.loads(after.schema.metadata[reward_note.KEY])
    assert about == {
        "column": "learnt_metric",
        "formula": "0.5 likes -0.25 shares",
        "north_star": "days",
    }


def test_what_the_reward_is_goes_where_the_log_goes(tmp_path, stored):
    """Through folders that give columns and through columns in others; of no other reward."""
    path, out = (
        log(tmp_path, extra=[{"inner": 1.0}] * 500),
        tmp_path / "all" / "day=1" / "a.parquet",
    )
    assert mopl("metric", stored, "--apply", path, "--rewarded", out).code == 0
    schema = open_source(tmp_path / "all").schema
    assert {"day", "extra.inner"} <= set(schema.names)
    (note,) = reward_note.provenance_of(schema, "learnt_metric").values()
    assert (note["formula"], note["north_star"]) == ("0.5 likes -0.25 shares", "days")
    assert reward_note.provenance_of(schema, "days") == {}
    assert reward_note.provenance_of(open_source(path).schema, "days") == {}
    for text in (b"{", b"[]", b'"x"'):
        damaged = schema.with_metadata({reward_note.KEY: text})
        assert reward_note.provenance_of(damaged, "learnt_metric") == {}


def test_learning_and_applying_in_one_command(tmp_path):
    rows = []
    for i in range(10):
        label, lift = (("winner", 0.03), ("loser", -0.02))[i % 2]
        for arm, tag, mean in (("A", "control", 0.0), ("B", label, lift * (1 + i / 20))):
            means = dict(zip(NAMES, (mean, mean * mean, mean / 2), strict=True))
            rows.append(experiments.row(f"e{i}", arm, tag, 10_000, means, np.eye(3)))
    table = experiments.write(tmp_path / "past.parquet", rows)
    out, metric = tmp_path / "rewarded.parquet", tmp_path / "metric.json"
    options = "--north-star", "days", "--rule", "--apply", log(tmp_path), "--rewarded", out
    code, text, err = mopl("metric", table, *options, "--out", metric)
    assert (code, err) == (0, "")
    assert "must not say worse" in text
    assert "metric significant, North Star not worse" in text
    artifact = json.loads(metric.read_text())
    weights = dict(zip(*metric_json.read_metric(metric), strict=True))
    assert artifact["reward"]["formula"] == learnt_reward.formula(weights, weights.values())
    assert len(artifact["returns"]) == 6


def test_numbers_whose_squares_no_float_holds(tmp_path):
    """Their metric is right as long as it is a number, and refused where it is none."""
    about, out = {"north_star": "days"}, tmp_path / "out.parquet"
    metric = metric_json.write_metric(tmp_path / "m.json", NAMES, 4 * WEIGHTS, about)
    path = log(tmp_path, likes=np.full(500, 1e300))
    said = document("metric", metric, "--apply", path, "--rewarded", out)
    assert said["mean"] == pytest.approx(2e300)
    path = log(tmp_path, likes=np.resize([1e300, -1e300], 500))
    said = document("metric", metric, "--apply", path, "--rewarded", out, "--force")
    assert said["deviation"] is None
    path = log(tmp_path, likes=np.full(500, 1.7e308))
    ended = mopl("metric", metric, "--apply", path, "--rewarded", out, "--force")
    assert_refused(ended, "row 1, column 'learnt_metric': expected a finite number")


def test_what_cannot_be_applied_is_one_line(tmp_path, stored):
    missing = log(tmp_path, name="missing.parquet", likes=pa.array([1.0, None] * 250))
    twice = log(tmp_path, name="twice.parquet", learnt_metric=np.zeros(500))
    pq.write_table(pa.table({"likes": [1.0]}), tmp_path / "few.parquet")
    out = tmp_path / "out.parquet"
    for path, expected in (
        (missing, "row 2, column 'likes': expected a finite number"),
        (twice, "expected no column 'learnt_metric', got one"),
        (tmp_path / "few.parquet", "no column 'shares'"),
    ):
        assert_refused(mopl("metric", stored, "--apply", path, "--rewarded", out), expected)
        assert not out.exists()
    (tmp_path / "other.json").write_text("{}")
    ask = "metric", tmp_path / "other.json", "--apply", log(tmp_path), "--rewarded", out
    assert_refused(mopl(*ask), "other.json: expected --north-star", "only a stored metric")
    plain = log(tmp_path)
    assert_refused(mopl("metric", stored, "--apply", plain), "expected both or none")
    assert_refused(mopl("metric", stored, "--apply", plain, "--rewarded", plain), "--rewarded")
    del_north = pq.read_table(plain).drop_columns("days")
    pq.write_table(del_north, tmp_path / "unguarded.parquet")
    run = mopl("metric", stored, "--apply", tmp_path / "unguarded.parquet", "--rewarded", out)
    assert "nothing guards what is learnt" in run.out.replace("\n", " ")
