"""The verb `learn_metric`: a record whose document is the command's and reads back."""

import dataclasses
import json

import numpy as np
import pytest

import mopl_jax as mopl
from mopl_jax.metrics import experiments, learnt_metric, metric_json, objectives, past
from mopl_jax.report import metric_table

NAMES = ("likes", "shares", "retention")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Ten alternating winners and losers, by means alone, and an A/A test."""
    rows = []
    for i in range(11):
        label, lift = ("aa", 0.0) if i == 10 else (("winner", 0.03), ("loser", -0.02))[i % 2]
        for arm, tag, mean in (("A", "control", 0.0), ("B", label, lift * (1 + i / 20))):
            means = dict(zip(NAMES, (mean, mean * mean, mean / 2), strict=True))
            rows.append(experiments.row(f"e{i}", arm, tag, 10_000, means, np.eye(3)))
    return experiments.write(tmp_path_factory.mktemp("past") / "past.parquet", rows)


@pytest.fixture(scope="module")
def learnt(path):
    return mopl.learn_metric(path, "retention")


def test_weights_are_those_of_the_objective(path, learnt):
    history = past.read([path], "retention")
    expected = np.asarray(objectives.learn(history, objectives.gls))
    assert learnt.metrics == NAMES
    assert learnt.weights == pytest.approx(expected, rel=1e-12)
    assert learnt.weights[2] == 0


def test_document_is_json_and_table_has_a_row_for_each_metric(learnt):
    document = json.loads(json.dumps(learnt.to_dict(), allow_nan=False))
    assert document["validation"]["known"] == 10
    assert list(document["compared"]) == ["gls"]
    assert learnt.to_arrow()["metrics"].to_pylist() == list(NAMES)
    assert len(repr(learnt)) < 200


def test_stored_metric_reads_back(learnt, tmp_path):
    names, weights = metric_json.read_metric(learnt_metric.write(tmp_path / "m.json", learnt))
    assert names == NAMES
    assert weights.tolist() == list(learnt.weights)


def test_comparison_tells_of_every_validation(path):
    """The objective asked for is the first; each validation is a step of the progress."""
    told = []
    found = mopl.learn_metric(
        path, "retention", objective="proxy", compare=True, advance=lambda *step: told.append(step)
    )
    assert [each.objective for each in found.compared][0] == "proxy"
    known = learnt_metric.NAMED.keys() - {"cross_fold"}  # the table has no snapshots
    assert {each.objective for each in found.compared} == known
    assert told == [("validating", 1, len(known))] * len(known)


def table(folder, spread=1.0, treated=10_000, columns=()):
    """Twelve experiments of effects of a few hundredths of a user's standard deviation."""
    rng, rows = np.random.default_rng(2), []
    for i in range(12):
        label, lift = ("aa", 0.0) if i > 9 else (("winner", 0.03), ("loser", -0.03))[i % 2]
        for arm, tag, mean, n in (("A", "control", 0.0, 10_000), ("B", label, lift, treated)):
            means = dict(zip(NAMES, mean + rng.normal(size=3) / np.sqrt(n), strict=True))
            rows.append(experiments.row(f"e{i}", arm, tag, n, means, spread * np.eye(3)))
    if columns:
        rows = [{key: row[key] for key in columns} for row in rows]
    return experiments.write(folder / "past.parquet", rows)


def test_the_covariance_of_the_means_is_asked_about(tmp_path):
    """That of the users says nothing; that of the means, 1/n of it, is asked about."""
    right = mopl.learn_metric(table(tmp_path), "retention").warnings
    assert not any("in the median" in text for text in right)
    wrong = mopl.learn_metric(table(tmp_path, spread=1e-4), "retention").warnings
    assert any("is `covariance` that of the means?" in text for text in wrong)


@pytest.mark.parametrize(("treated", "said"), [(9_000, True), (10_100, False), (1_000, False)])
def test_arms_of_other_sizes_than_chance_allows_are_named(tmp_path, treated, said):
    """9,000 of 19,000: p = 4e-13 under a split of one half; 10,100: 0.48; a tenth is a plan."""
    path = table(tmp_path, treated=treated)
    warned = mopl.learn_metric(path, "retention", keep=True).warnings
    assert any("mismatch" in text for text in warned) == said
    if said:
        assert any("e0 (10,000 and 9,000)" in text for text in warned)


def test_a_table_of_another_layout_is_told_its_columns(tmp_path):
    with pytest.raises(
        ValueError, match=r"no column 'experiment'; columns: arm, n, mean_.*--column experiment="
    ):
        mopl.learn_metric(table(tmp_path, columns=("arm", "n", "mean_likes")), "likes")
    with pytest.raises(
        ValueError, match=r"no column 'users'; columns: experiment, arm, .*--column users=COLUMN"
    ):
        mopl.learn_metric(table(tmp_path, columns=("experiment", "arm", "mean_likes")), "likes")


def test_a_factor_without_information_is_not_printed(learnt, capsys):
    """Its error is larger than itself."""
    judged = learnt.compared[0]
    for error, said in ((0.1, "needs the metric's users 2.00 ± 0.10 times"), (9.0, "cannot tell")):
        found = dataclasses.replace(
            judged.validation, factor=2.0, factor_se=error, median_factor=3.0, median_factor_se=9.0
        )
        compared = (dataclasses.replace(judged, validation=found),)
        metric_table.show(dataclasses.replace(learnt, compared=compared))
        out = capsys.readouterr().out
        assert said in out
        assert "9.00" not in out
