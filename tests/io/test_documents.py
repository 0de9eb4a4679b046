"""Documents: what is not what a struct describes is refused in one line, whatever it is instead."""

import json
import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import assert_refused, mopl

from mopl_jax.coverage import study
from mopl_jax.io import documents
from mopl_jax.io.documents import fit
from mopl_jax.io.policy_json import VERSION, read_policy
from mopl_jax.io.read import open_log
from mopl_jax.metrics import metric_json, past


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


STRANGE = [
    *(None, True, "x", "1.5", [], {}, [1], [1, 2, 3], [[1, 2]], [[1], 2], [1, "2"], [1, None]),
    *(math.nan, math.inf, 10**400, -1, 0, 1.5, ["a", "b"], [math.nan, 1], [10**400, 1]),
    *({"kind": ["normal"]}, {"kind": {}}, {"kind": "norml"}, {"kind": math.nan}, [{}], nested(70)),
]

POLICY = {
    "mopl_policy": VERSION,
    "kind": "mixture",
    "weights": [1, 1],
    "components": [
        {"kind": "normal", "mean": [0.0, 1.0], "scale": [1.0, 2.0]},
        {"kind": "uniform", "low": [0.0, 0.0], "high": [1.0, 1.0]},
    ],
    "objectives": ["a", "b"],
}
STUDY = {
    "n": [8],
    "replicates": 4,
    "seed": 0,
    "alpha": 0.05,
    "estimators": ["snips"],
    "intervals": ["normal"],
    "world": [
        {
            "name": "w",
            "d": [2],
            "reward": {"kind": "quadratic", "peak": 1.0, "optimum": 0.0, "curvature": 1.0},
            "noise": {"kind": "normal", "scale": 1.0},
            "log_spread": 0.1,
            "logging": {
                "kind": "mixture",
                "weight": [1.0],
                "component": [{"kind": "normal", "mean": 0.0, "scale": 1.0}],
            },
            "target": {"t": {"mean": 0.1, "scale": 1.0}, "u": {"kind": "smooth", "mean": 0.1}},
            "differences": [["t", "u"]],
        }
    ],
}
TABLE = [
    {
        "experiment": f"e{i}",
        "arm": arm,
        "label": label,
        "n": 100,
        "mean_a": 0.1 * i,
        "mean_b": 0.2,
        "covariance": [[1.0, 0.0], [0.0, 1.0]],
    }
    for i in range(2)
    for arm, label in (("A", "control"), ("B", "winner"))
]
METRIC = {"mopl_metric": 1, "metrics": ["a", "b"], "weights": [1.0, 2.0]}
LOG = {
    "files": [{"path": "log.parquet", "logging": "logging.json"}],
    "action": ["a_0", "a_1"],
    "reward": "r",
    "cluster": "u",
}


def places(content, so_far=()):
    """The path to every entry of a document, however deep."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield (*so_far, key)
        if isinstance(content[key], dict | list):
            yield from places(content[key], (*so_far, key))


def changed(content, place, value):
    """`content` with another value at `place`."""
    content = json.loads(json.dumps(content))
    inside = content
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return content


def stored(path, content):
    path.write_text(json.dumps(content))
    return path


def toml(value):
    """A value as TOML writes it; JSON but for tables, and what TOML has not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "{}" if value is None else json.dumps(value).replace("NaN", "nan").replace("Inf", "inf")


def read_described_log(folder, content):
    pq.write_table(
        pa.table({"a_0": [0.1, 0.2], "a_1": [0.3, 0.1], "r": [1.0, 2.0], "u": [1, 2]}),
        folder / "log.parquet",
    )
    stored(folder / "logging.json", POLICY)
    path = folder / "log.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in content.items()))
    return open_log(path)


READERS = {
    "policy": (POLICY, lambda folder, x: read_policy(stored(folder / "p.json", x))),
    "study": (STUDY, lambda folder, x: study.build(x)),
    "log": (LOG, read_described_log),
    "experiments": (TABLE, lambda folder, x: past.read([stored(folder / "e.json", x)], "a")),
    "metric": (METRIC, lambda folder, x: metric_json.read_metric(stored(folder / "m.json", x))),
}


def refusal(read, folder, content):
    """What is said against a document, None if it is read."""
    try:
        read(folder, content)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", READERS)
def test_every_strange_entry_is_read_or_refused_in_one_line(tmp_path, name):
    """Each of them at each place of each document: never another error than a ValueError, and
    most of them are refused.
    """
    content, read = READERS[name]
    assert refusal(read, tmp_path, content) is None
    said = [
        refusal(read, tmp_path, changed(content, place, value))
        for place in places(content)
        for value in STRANGE
    ]
    lines = [line for line in said if line is not None]
    assert [line for line in lines if "\n" in line] == []
    assert len(lines) > len(said) / 2


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((), {}, "no key 'n'; keys: world"),
        (("world",), 3, "key 'world': expected a list, got 3"),
        (("world", 0), 3, "world 1: expected a table, got 3"),
        (("world", 0, "d"), [2, 0], "world 'w', key 'd', entry 2: expected a whole number of at"),
        (("world", 0, "rewrd"), 1, "world 'w': unknown key: 'rewrd'; did you mean 'reward'?"),
        (
            ("world", 0, "reward", "kind"),
            "linera",
            "world 'w', reward: unknown kind: 'linera'; did",
        ),
        (
            ("world", 0, "reward", "kind"),
            [1],
            r"world 'w', reward: unknown kind: '\[1\]'; known: l",
        ),
        (("world", 0, "reward"), {}, "world 'w', reward: no key 'kind', one of linear, quadratic,"),
        (("world", 0, "reward", "curve"), 1, "unknown key: 'curve'; did you mean 'curvature'?"),
        (("world", 0, "reward", "peak"), math.nan, "world 'w', reward, key 'peak': expected a"),
        (("world", 0, "reward", "peak"), 10**400, "key 'peak': expected a finite number, got 10"),
        (("world", 0, "noise", "scale"), 0, "world 'w', noise, key 'scale': expected a number > 0"),
        (
            ("world", 0, "target", "t", "mean"),
            "x",
            "'w' at d=2: target 't': key 'mean': expected nu",
        ),
        (
            ("world", 0, "logging", "component", 0, "mean"),
            [1, 2, 3],
            "logging: component 1: key 'm",
        ),
        (("seed",), 10**400, "key 'seed': expected a"),
    ],
)
def test_a_refusal_says_where_and_what(place, value, message):
    content = changed(STUDY, place, value) if place else {"world": []}
    with pytest.raises(ValueError, match=message):
        study.build(content)


def test_a_key_that_looks_like_a_path_is_one_line():
    with pytest.raises(ValueError, match="x") as error:
        fit({"x` - at `$.world[0]": 1, "a\nb": 2}, study.StudyEntry)
    assert "\n" not in str(error.value)


def test_policies_in_policies_without_end_are_one_line(tmp_path):
    part = json.dumps({"kind": "normal", "mean": [0], "scale": 1})
    for depth in (450, 50_000):
        opened = '{"mopl_policy": 1, "kind": "mixture", "weights": [1], "components": ['
        (tmp_path / "deep.json").write_text(opened * depth + part + "]}" * depth)
        said = refusal(lambda folder, x: read_policy(x), tmp_path, tmp_path / "deep.json")
        assert said is None or "\n" not in said


NORMAL = json.dumps({"mopl_policy": VERSION, "kind": "normal", "mean": [0.0], "scale": [1.0]})


def test_a_pipe_is_not_waited_for(tmp_path):
    """But one that a shell fills, as in `mopl draw <(…)`, is read."""
    os.mkfifo(tmp_path / "policy.json")
    for place in (tmp_path / "policy.json", "/dev/null"):
        with pytest.raises(ValueError, match=f"{place}: expected a file, got a pipe or a device"):
            read_policy(place)
    for folder in ("/dev/fd", "/proc/self/fd"):
        read, write = os.pipe()
        os.write(write, NORMAL.encode())
        os.close(write)
        if os.path.exists(folder):
            read_policy(f"{folder}/{read}")
        os.close(read)


DESCRIBED = {
    "a log": "check {0}",
    "a log to learn from": "learn {0}",
    "a past": "metric {0} --north-star a",
}


@pytest.mark.parametrize("what", DESCRIBED)
@pytest.mark.parametrize("text", [None, "x = [", "x = 1"], ids=["none", "no TOML", "a wrong key"])
def test_a_description_is_named_once(what, text, tmp_path):
    """Whoever reads it first, and whatever is wrong with it."""
    path = tmp_path / "log.toml"
    if text:
        path.write_text(text)
    ended = mopl(*DESCRIBED[what].format(path).split())
    assert_refused(ended, str(path))
    assert ended.err.count(str(path)) == 1


def test_a_document_without_end_is_not_held(tmp_path, monkeypatch):
    """As many letters as are allowed are read, one more is refused."""
    path = tmp_path / "policy.json"
    path.write_text(NORMAL)
    monkeypatch.setattr(documents, "LARGEST", len(NORMAL))
    read_policy(path)
    monkeypatch.setattr(documents, "LARGEST", len(NORMAL) - 1)
    with pytest.raises(ValueError, match=r"policy.json: .*expected at most \d+ letters, got more"):
        read_policy(path)


def test_a_number_stands_for_a_constant_vector():
    """In a study, of any dimension: the same policy as its entries written out."""
    world = study.build(STUDY).worlds[0]
    full = changed(STUDY, ("world", 0, "target", "t"), {"mean": [0.1, 0.1], "scale": [1.0, 1.0]})
    np.testing.assert_array_equal(
        world.targets["t"].mean, study.build(full).worlds[0].targets["t"].mean
    )
    assert world.targets["t"].dim == 2
