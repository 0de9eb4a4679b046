"""Broken input, seeded: whatever is done to a file that is read, it is read or refused in one line
of bounded length that names it. Never another error, never a crash.

Four kinds of damage: cut off, bytes overwritten, a value of a document replaced by something of
another type, a column by one of another type or content. `--nightly` tries twenty times as many.
"""

import copy
import json
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from worlds import kuairand, write

from mopl_jax.coverage import study
from mopl_jax.io.policy_json import Described, describe, read_policy
from mopl_jax.io.read import read_logs
from mopl_jax.io.refusals import one_line
from mopl_jax.metrics import metric_json, past
from mopl_jax.simulation import replay

TRIES = 200
LONGEST = 1200  # letters of a complaint, whatever the input
ROWS = 64  # of a table; to learn two weights takes 48

# What a value of a document is replaced by.
VALUES = [
    None,
    True,
    -1,
    0,
    10**30,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "4114",
    "[red]x[/red]\x1b[31m\n",
    "../../x",
    "\ud800",
    "a" * 5000,
    [],
    [[]],
    [1, [2]],
    [None],
    ["x", 1],
    [[1, 2], [3]],
    {},
    {"kind": []},
    {"kind": {}},
    {"kind": "normal"},
    {"name": []},
    [{"kind": "normal", "mean": [0.0], "scale": 1.0}],
]
DEEP = "[" * 100_000


def rng_of(*seed):
    return np.random.default_rng(list(seed))


# Documents.

POLICY = {
    "mopl_policy": 1,
    "kind": "mixture",
    "objectives": ["a", "b"],
    "weights": [1.0, 3.0],
    "components": [
        {"kind": "normal", "mean": [0.0, 1.0], "covariance": [[1.0, 0.0], [0.0, 1.0]]},
        {"kind": "uniform", "low": [-1.0, -1.0], "high": [1.0, 1.0]},
    ],
}
NORMAL = {"kind": "normal", "mean": [0.0, 1.0], "covariance": [[1.0, 0.0], [0.0, 1.0]]}
PLAIN = {
    "normal": NORMAL,
    "uniform": {"low": [-1.0, -1.0], "high": [1.0, 1.0]},
    "deterministic": {"action": [0.1, 0.2]},
    "log_normal": {"mean": [0.0, 0.1], "scale": [0.5, 1.0]},
    "logistic_normal": {"mean": [0.0], "scale": 1.0},
    "soft_clipped_normal": {"mean": [0.0, 0.1], "scale": 1.0, "low": [-1.0, -1.0]}
    | {"high": [1.0, 2.0], "softness": [0.1, 0.1]},
    "truncated_normal": {"mean": [0.0, 0.1], "scale": 1.0, "low": [-1.0, -1.0]},
    "clipped_normal": {"mean": [0.0, 0.1], "scale": 1.0, "low": -1.0, "high": 1.0},
    "dirichlet": {"concentration": [1.0, 2.0]},
    "discrete": {"actions": [[0.0, 1.0], [1.0, 0.0]], "probabilities": [1.0, 2.0]},
    "mixture": {"weights": [1.0, 3.0], "components": [NORMAL, NORMAL]},
    "product": {
        "parts": [
            {"kind": "log_normal", "mean": [0.0], "scale": 1.0},
            {"kind": "uniform", "low": [0.0], "high": [1.0]},
        ]
    },
    "segmented": {"context": ["country"], "otherwise": NORMAL}
    | {"segments": [{"values": ["de"], "policy": NORMAL}, {"values": [None], "policy": NORMAL}]},
    "contextual_normal": {
        "inputs": [
            {"column": "country", "levels": ["de", "fr"]},
            {"column": "age", "centre": 40.0, "width": 9.0, "low": -9.0, "high": 9.0},
        ],
        "layers": [
            {"matrix": [[0.1, 0.0, 0.2, 0.0], [0.0, 0.1, 0.1, 0.0]], "bias": [0.0, 0.0]},
            {"matrix": [[0.1, 0.0], [0.0, 0.1]], "bias": [0.0, 0.1]},
        ],
        "low": [-1.0, -1.0],
        "high": [1.0, 1.0],
        "otherwise": [0.0, 0.0],
        "scale": [1.0, 1.0],
    },
}
PLAIN["contextual_log_normal"] = PLAIN["contextual_normal"]
POLICIES = {kind: {"mopl_policy": 1} | keys | {"kind": kind} for kind, keys in PLAIN.items()}
EXPERIMENTS = [
    {
        "experiment": f"e{i}",
        "arm": arm,
        "label": label,
        "n": 1000,
        "mean_x": 0.1 * i,
        "mean_y": 0.2 + 0.1 * (arm == "B"),
        "second_moment" if i == 2 else "covariance": [[1.0, 0.0], [0.0, 1.0]],
    }
    for i in range(3)
    for arm, label in (("A", "control"), ("B", "winner"))
]
METRIC = {"mopl_metric": 1, "metrics": ["x", "y"], "weights": [1.0, 2.0]}
STUDY = tomllib.loads(study.DEFAULT.read_text())
READERS = {
    "policy": (POLICY, read_policy),
    "experiments": (EXPERIMENTS, lambda path: past.read([path], "x")),
    "metric": (METRIC, metric_json.read_metric),
}


def places(value, path=()):
    """The places of all values within a document."""
    yield path
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(entry, (*path, key))


def replaced(document, rng):
    """The document with one or two values replaced, or keys renamed or dropped."""
    made = copy.deepcopy(document)
    for _ in range(rng.integers(1, 3)):
        found = list(places(made))[1:]
        if not found:
            break
        *path, last = found[rng.integers(len(found))]
        inner = made
        for key in path:
            inner = inner[key]
        action = rng.integers(8)
        if action == 0 and isinstance(inner, dict):
            inner[str(VALUES[rng.integers(len(VALUES))])] = inner.pop(last)
        elif action == 1:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return made


def tries(nightly):
    return TRIES * (20 if nightly else 1)


@pytest.fixture(scope="module")
def nightly(pytestconfig):
    return pytestconfig.getoption("--nightly")


def check(read, name, what):
    """Read, or a complaint of one line that names the file."""
    try:
        read()
    except ValueError as error:
        said = one_line(str(error))
        assert said.isprintable(), (what, said)
        assert len(said) < LONGEST, (what, said)
        assert name in said, (what, said)


@pytest.mark.parametrize("case", READERS)
def test_documents_with_other_values(case, tmp_path, nightly):
    document, read = READERS[case]
    path = tmp_path / f"{case}.json"
    for seed in range(tries(nightly)):
        made = replaced(document, rng_of(1, seed))
        path.write_text(json.dumps(made))
        check(lambda: read(path), path.name, (seed, made))


@pytest.mark.parametrize("case", READERS)
def test_documents_with_other_bytes(case, tmp_path, nightly):
    document, read = READERS[case]
    path, whole = tmp_path / f"{case}.json", json.dumps(document).encode()
    for seed in range(tries(nightly)):
        path.write_bytes(damaged(whole, rng_of(2, seed)))
        check(lambda: read(path), path.name, seed)
    for text in (DEEP, '{"a":' * 100_000, "", "null", "[]", "{}", "1" * 10_000):
        path.write_text(text)
        check(lambda: read(path), path.name, text[:20])


@pytest.mark.parametrize("kind", POLICIES)
def test_policies_of_every_kind(kind, tmp_path, nightly):
    """What is read is written again."""
    path = tmp_path / f"{kind}.json"
    path.write_text(json.dumps(POLICIES[kind]))
    read_policy(path)
    for seed in range(tries(nightly) // 8):
        made = replaced(POLICIES[kind], rng_of(7, seed))
        path.write_text(json.dumps(made))
        check(lambda: describe(read_policy(path)[0]), path.name, (seed, made))


def test_no_kind_of_policy_is_left_out():
    assert {each.__struct_config__.tag for each in get_args(Described)} == {*POLICIES}


def test_studies_with_other_values(tmp_path, nightly):
    path = tmp_path / "study.toml"
    for seed in range(tries(nightly)):
        made = replaced(STUDY, rng_of(3, seed))
        path.write_text(toml(made))
        if of_a_size_that_can_be_had(made):
            check(lambda: study.planned(path, {}), path.name, (seed, made))


def of_a_size_that_can_be_had(made):
    worlds = made.get("world") if isinstance(made.get("world"), list) else []
    dimensions = [world.get("d") for world in worlds if isinstance(world, dict)]
    return not any(isinstance(d, int) and d > 10**4 for d in dimensions)


def toml(document):
    """A document in TOML, with its tables in lines; what TOML does not have is text."""
    return "".join(f"{json.dumps(key)} = {toml_value(x)}\n" for key, x in document.items())


def toml_value(value):
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)} = {toml_value(x)}" for key, x in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)  # as TOML writes nan and inf
    return json.dumps("" if value is None else value)


def damaged(whole, rng):
    """Cut off, or some bytes overwritten, or a piece twice."""
    made = bytearray(whole)
    match rng.integers(3):
        case 0:
            return bytes(made[: rng.integers(len(made))])
        case 1:
            for place in rng.integers(len(made), size=rng.integers(1, 6)):
                made[place] = rng.integers(256)
        case _:
            begin, stop = sorted(rng.integers(len(made), size=2))
            made[begin:begin] = made[begin:stop]
    return bytes(made)


# Tables.

RNG = np.random.default_rng(0)
LOG = {
    "w_1": RNG.normal(size=ROWS),
    "w_2": RNG.normal(size=ROWS),
    "reward": RNG.normal(size=ROWS),
    "propensity": np.full(ROWS, 0.5),
    "user": np.arange(ROWS) // 2,
    "day": np.arange(ROWS) * 1.0,
}
WORDS = ["", "NA", "a", "\n", '"', "7", "1e3", "[red]", "\x1b[31m", "é" * 50]


def columns(rng, rows=ROWS):
    """A column of another type or content."""
    numbers, some = rng.normal(size=rows), rng.random(rows) < 0.1
    made = [
        pa.array(numbers.astype(np.float16)),
        pa.array(np.where(some, np.nan, numbers)),
        pa.array(np.where(some, 1e300, numbers)),
        pa.array([None if x else 1 for x in some], pa.int8()),
        pa.array([10**30] * rows, pa.decimal128(38)),
        pa.array([bool(x) for x in some]),
        pa.nulls(rows),
        pa.array([WORDS[i] for i in rng.integers(len(WORDS), size=rows)]),
        pa.array([WORDS[i] for i in rng.integers(len(WORDS), size=rows)]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1] * (rows // 2)), pa.array([1.0, None])),
        pa.array([b"\xff"] * rows),
        pa.array([b"0" * 16] * rows, pa.binary(16)),
        pa.array([[1.0]] * rows),
        pa.array([[1.0, 2.0]] * (rows - 1) + [None]),
        pa.array([[["x"]]] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([1] * rows, pa.timestamp("ns", "Europe/Berlin")),
        pa.array([1] * rows, pa.time32("s")),
        pa.array([1] * rows, pa.duration("s")),
        pa.array([2**63] * rows, pa.uint64()),
        pa.array(["x"] * rows, pa.string_view()),
        pa.array(["x"] * rows, pa.large_string()),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * rows, pa.binary(16))),
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float64(), [2]),
            pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * rows)), 2),
        ),
        pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), pa.array([1.0])),
    ]
    return made[rng.integers(len(made))]


def log(path):
    read_logs(path, action="w_", cluster="user", time="day")


@pytest.mark.parametrize("kind", ["memory", "feather", "parquet", "csv"])
def test_logs_with_other_columns(kind, tmp_path, nightly):
    writers = {"feather": feather.write_feather, "parquet": pq.write_table, "csv": csv.write_csv}
    path = tmp_path / f"log.{kind}"
    for seed in range(tries(nightly)):
        rng = rng_of(4, seed)
        name = list(LOG)[rng.integers(len(LOG))]
        table = pa.table({key: pa.array(x) for key, x in LOG.items()} | {name: (x := columns(rng))})
        if kind == "memory":
            check(lambda table=table: log(table), "Table", (seed, name, x.type))
            continue
        try:
            writers[kind](table, str(path))
        except (pa.ArrowException, TypeError):  # a type that the format does not have
            continue
        check(lambda: log(path), path.name, (seed, name, x.type))


@pytest.mark.parametrize("kind", ["feather", "parquet", "csv"])
def test_logs_with_other_bytes(kind, tmp_path, nightly):
    path = tmp_path / f"log.{kind}"
    {"feather": feather.write_feather, "parquet": pq.write_table, "csv": csv.write_csv}[kind](
        pa.table(LOG), str(path)
    )
    whole = path.read_bytes()
    for seed in range(tries(nightly)):
        path.write_bytes(damaged(whole, rng_of(5, seed)))
        check(lambda: log(path), path.name, seed)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_of_interactions(kind, tmp_path, nightly):
    path = Path(write(tmp_path / f"log.{kind}", {key: x[:80] for key, x in kuairand().items()}))
    whole = path.read_bytes()
    for seed in range(tries(nightly) // 2):
        path.write_bytes(damaged(whole, rng_of(6, seed)))
        check(lambda: replay.read(path), path.name, seed)
