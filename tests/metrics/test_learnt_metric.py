"""The verb `learn_metric`: a record whose document is the command's and reads back."""

import json

import numpy as np
import pytest

import mopl_jax as mopl
from mopl_jax.metrics import experiments, learnt_metric, objectives

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
    history = experiments.read([path], "retention")
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
    names, weights = experiments.read_metric(learnt_metric.write(tmp_path / "m.json", learnt))
    assert names == NAMES
    assert weights.tolist() == list(learnt.weights)


def test_comparison_tells_of_every_validation(path):
    """The objective asked for is the first; each validation is a step of the progress."""
    told = []
    found = mopl.learn_metric(
        path, "retention", objective="proxy", compare=True, advance=lambda *step: told.append(step)
    )
    assert [each.objective for each in found.compared][0] == "proxy"
    assert {each.objective for each in found.compared} == set(objectives.NAMED)
    assert told == [("validating", 1, len(objectives.NAMED))] * len(objectives.NAMED)
