"""Log tables: what is read is what was written, and every complaint names its place."""

import decimal
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from command import end, start
from worlds import standard, write
from yardsticks import standard_errors

from mopl_jax.io import csv_files, log_reader
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.io.table import read_columns
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian, Mixture, Segmented, Uniform

N = 7
RNG = np.random.default_rng(0)
LOG = {"r": RNG.normal(size=N), "p": RNG.uniform(0.1, 1, N), "q": RNG.uniform(0.1, 1, N)}
ROLES: dict[str, Any] = {"reward": "r", "propensity": "p", "target_propensity": "q"}
LOG_ROLES: dict[str, Any] = {"reward": "r", "log_propensity": "p", "log_target_propensity": "q"}


def read(path, **roles):
    return log_reader.whole(open_log(path, **roles))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pq", ".PARQUET"])
def test_round_trip_keeps_every_bit(tmp_path, suffix):
    log = read(write(tmp_path / f"log{suffix}", LOG), **ROLES)
    np.testing.assert_array_equal(log.reward, LOG["r"])
    np.testing.assert_array_equal(log.log_target, np.log(LOG["q"]))
    np.testing.assert_array_equal(log.log_propensity, np.log(LOG["p"]))


def test_log_densities_and_densities_are_the_same_log(tmp_path):
    logs = {"r": LOG["r"], "p": np.log(LOG["p"]), "q": np.log(LOG["q"])}
    by_density = read(write(tmp_path / "a.parquet", LOG), **ROLES)
    by_log = read(write(tmp_path / "b.parquet", logs), **LOG_ROLES)
    jax.tree.map(np.testing.assert_array_equal, by_density, by_log)


@pytest.mark.parametrize(("roles", "zero"), [(ROLES, 0.0), (LOG_ROLES, -np.inf)])
def test_target_density_zero_is_data(tmp_path, roles, zero):
    path = write(tmp_path / "log.parquet", LOG | {"q": np.full(N, zero)})
    assert np.isneginf(read(path, **roles).log_target).all()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False]),
        pa.array([1, 0], pa.uint8()),
        pa.array([1, 0], pa.float16()),
        pa.array([decimal.Decimal("1.0"), decimal.Decimal("0.0")]),
        pa.chunked_array([[1], [0]]),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_number_becomes_float64(tmp_path, column):
    read = read_columns(write(tmp_path / "log.parquet", {"x": column}), ["x", "x"])
    assert read["x"].dtype == np.float64
    assert read["x"].tolist() == [1, 0]


def test_only_named_columns_are_looked_at(tmp_path):
    path = write(tmp_path / "log.csv", {"x": [1.0], "other": ["text"]})
    assert list(read_columns(path, ["x"])) == ["x"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_the_first_bad_row_is_named_counting_data_from_one(tmp_path, suffix, bad):
    path = write(
        tmp_path / f"log{suffix}", {"x": pa.array([0.5, bad, bad], pa.float64()), "y": [1, 2, 3]}
    )
    with pytest.raises(
        ValueError, match=r"log\.\w+: column 'x', row 2 \(row 1 is the first row of data\)"
    ):
        read_columns(path, ["x"])


def test_on_policy_log_density_must_be_finite(tmp_path):
    path = write(tmp_path / "log.parquet", {"r": [1.0], "p": [-np.inf]})
    with pytest.raises(ValueError, match="'p', row 1"):
        read(path, reward="r", log_propensity="p")


def test_a_column_written_twice_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("x,x\n1,2\n")
    with pytest.raises(ValueError, match="expected one column 'x', got 2"):
        read_columns(tmp_path / "log.csv", ["x"])


def test_a_torn_line_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("x,y\n1,2\n3\n")
    with pytest.raises(ValueError, match="line 3: Expected 2 columns, got 1"):
        read_columns(tmp_path / "log.csv", ["x"])


# Logs by roles: every way in gives the same log.

M = 60
ACTION = RNG.normal(size=(M, 3))
LOGGING = standard(3)
DENSITY = np.asarray(jax.vmap(LOGGING.log_density)(ACTION))
NAMES = ("w_1", "w_2", "w_10")
TABLE = pa.table(
    {
        "w_1": ACTION[:, 0],
        "w_10": ACTION[:, 2],
        "w_2": ACTION[:, 1],
    }  # numbered, not in the order of the file
    | {
        "reward": ACTION.mean(axis=1),
        "log_propensity": DENSITY,
        "user": [f"user {i // 4}" for i in range(M)],
    }
    | {"when": pa.array(np.arange(M) * 10**6, pa.timestamp("us")), "day": np.arange(M) // 30}
)
LIST = pa.table(
    {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(ACTION.ravel()), 3),
        "reward": TABLE["reward"],
    }
)


class Capsule:
    """Anything with the Arrow interface, as polars and DuckDB have it."""

    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


def written(folder, kind):
    """The table as something that can be read."""
    if kind == "memory":
        return Capsule()
    if kind == "hive":
        parts = ds.partitioning(pa.schema([("day", pa.int64())]), flavor="hive")
        ds.write_dataset(TABLE, folder / "log", format="parquet", partitioning=parts)
        (folder / "log" / "_SUCCESS").touch()
        return folder / "log"
    write_as = {"csv": csv.write_csv, "parquet": pq.write_table, "feather": feather.write_feather}
    write_as[kind](TABLE, str(folder / f"log.{kind}"))
    return folder / f"log.{kind}"


@pytest.mark.parametrize("kind", ["memory", "hive", "csv", "parquet", "feather"])
def test_every_way_in_gives_the_same_log(tmp_path, kind):
    logs = read_logs(
        written(tmp_path, kind), action="w_", cluster="user", time="when", context="day"
    )
    np.testing.assert_array_equal(logs.action, ACTION)
    np.testing.assert_array_equal(logs.reward, ACTION.mean(axis=1))
    np.testing.assert_array_equal(logs.log_propensity, DENSITY)
    np.testing.assert_array_equal(logs.cluster, np.arange(M) // 4)
    np.testing.assert_array_equal(logs.time, np.arange(M))
    np.testing.assert_array_equal(np.squeeze(logs.context), np.arange(M) // 30)


def test_chunks_are_the_log_in_pieces_of_one_size():
    reader = open_log(TABLE, action=NAMES, cluster="user")
    pieces = list(log_reader.chunks(reader, 25))
    assert [len(piece.reward) for piece in pieces] == [25, 25, 10]
    joined = jax.tree.map(lambda *columns: np.concatenate(columns), *pieces)
    jax.tree.map(np.testing.assert_array_equal, joined, log_reader.whole(reader))


def test_propensities_from_the_logging_policy(tmp_path):
    """A logging policy stands in for the column, which wins where there is one."""
    path = write_policy(tmp_path / "logging.json", LOGGING)
    np.testing.assert_allclose(read_logs(LIST, logging=path).log_propensity, DENSITY, rtol=1e-14)
    other = Gaussian.diagonal(np.ones(3), 1.0)
    both = read_logs(TABLE, action="w_", log_propensity="log_propensity", logging=other)
    np.testing.assert_array_equal(both.log_propensity, DENSITY)


def test_a_description_in_toml_reads_the_same_log(tmp_path):
    write_policy(tmp_path / "logging.json", LOGGING)
    pq.write_table(LIST, tmp_path / "log.parquet")
    (tmp_path / "log.toml").write_text(
        'path = "log.parquet"\nreward = "reward"\nlogging = "logging.json"\n'
    )
    np.testing.assert_allclose(read_logs(tmp_path / "log.toml").log_propensity, DENSITY, rtol=1e-14)


@pytest.mark.parametrize("mixed", [False, True])
def test_pooled_logs_have_their_own_propensity_or_that_of_the_mixture(tmp_path, mixed):
    """Each row's propensity is its own log's, or Σ (n_k/n) π_k(a): the weights have mean one."""
    other = Gaussian.diagonal(np.array([0.5, 0.0, -0.5]), 0.8)
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(4000, 3)), np.asarray(other.mean) + 0.8 * rng.normal(size=(2000, 3))
    for name, policy, action in zip("ab", (LOGGING, other), samples, strict=True):
        write_policy(tmp_path / f"{name}.json", policy)
        columns = {f"action_{i}": action[:, i] for i in range(3)} | {"reward": action[:, 0]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    files = "".join(f'[[files]]\npath = "{x}.parquet"\nlogging = "{x}.json"\n' for x in "ab")
    (tmp_path / "pool.toml").write_text("mixture = true\n" * mixed + files)
    logs = read_logs(tmp_path / "pool.toml")
    mixture = Mixture.of(np.array([2.0, 1.0]), [LOGGING, other])
    own = [jax.vmap(x.log_density)(a) for x, a in zip((LOGGING, other), samples, strict=True)]
    expected = jax.vmap(mixture.log_density)(logs.action) if mixed else np.concatenate(own)
    np.testing.assert_allclose(logs.log_propensity, expected, rtol=1e-12)
    target = Gaussian.diagonal(np.array([0.3, 0.1, -0.2]), 0.7)
    log_weight = log_weights(target, logs)
    assert standard_errors(np.exp(log_weight), 1) < 4
    assert standard_errors(np.exp(log_weight) * logs.reward, 0.3) < 4


def test_files_of_which_one_was_played_by_context_are_pooled_by_their_densities(tmp_path):
    parts = [Gaussian.diagonal(np.full(3, x), 1.0) for x in (0.0, 0.5)]
    by_user = Segmented.of(["user"], [["user 0"]], parts[:1], parts[1])
    for name, policy in (("a", LOGGING), ("b", by_user)):
        write_policy(tmp_path / f"{name}.json", policy)
        pq.write_table(pa.table(TABLE), tmp_path / f"{name}.parquet")
    files = "".join(f'[[files]]\npath = "{x}.parquet"\nlogging = "{x}.json"\n' for x in "ab")
    (tmp_path / "pool.toml").write_text('action = "w_"\n' + files)
    with pytest.raises(ValueError, match=r"b.parquet: .* by context; leave logging out of every"):
        read_logs(tmp_path / "pool.toml")


def changed(name, values, table=TABLE):
    return table.set_column(
        table.schema.names.index(name),
        name,
        values if isinstance(values, pa.Array) else pa.array(values),
    )


RAGGED = [[0.0, 1.0, 2.0]] * 4
BAD_LOGS = {
    "not a table": (3, {}, "expected a path or a table"),
    "no action": (
        TABLE,
        {"action": "z_"},
        "no action column 'z_', and none that starts so; columns: w_1, w_10",
    ),
    "an action twice": (
        TABLE,
        {"action": "w_1,w_1"},
        "expected each action column once, got 'w_1' again",
    ),
    "one action": (TABLE, {"action": ["w_1", "w_3"]}, "no column 'w_3'; did you mean 'w_2'?"),
    "text action": (
        TABLE,
        {"action": "user"},
        "column 'user', row 1 .*: expected a number, got 'user 0'",
    ),
    "time action": (
        TABLE,
        {"action": "when"},
        r"column 'when': expected numbers, got timestamp\[us\]",
    ),
    "no density": (LIST, {}, "no propensities: name a column .* or a logging policy"),
    "no user": (
        TABLE,
        {"action": "w_", "cluster": "usr"},
        r"no column 'usr' \(--cluster\); did you mean 'user'?",
    ),
    "null user": (
        changed("user", [None] * M),
        {"action": "w_", "cluster": "user"},
        "row 1 .*: expected a cluster",
    ),
    "list user": (
        changed("user", [[1]] * M),
        {"action": "w_", "cluster": "user"},
        "column 'user': expected numbers or text",
    ),
    "nan user": (
        changed("user", [np.nan] * M),
        {"action": "w_", "cluster": "user"},
        "row 1 .*: expected a finite number",
    ),
    "empty lists": (
        changed("action", pa.array([[]] * 5, pa.list_(pa.float64())), LIST[:5]),
        {"propensity": "reward"},
        "row 1 .*: expected a list of 1 numbers, got 0",
    ),
    "no names": (TABLE, {"action": []}, "expected the names of the action columns, got none"),
    "text time": (
        TABLE,
        {"action": "w_", "time": "user"},
        "column 'user', row 1 .*: expected a time",
    ),
    "dimension": (
        TABLE,
        {"action": ["w_1"], "logging": LOGGING},
        r"logging policy has 3 weights, the log's action 1 \(w_1\)",
    ),
    "list dimension": (
        LIST,
        {"logging": Gaussian.diagonal(np.zeros(2), 1.0)},
        "column 'action', row 1 .*: expected a list of 2 numbers, got 3",
    ),
    "outside": (
        LIST,
        {"logging": Uniform(-jnp.ones(3), jnp.ones(3))},
        "the logging policy cannot have played",
    ),
    "ragged": (
        changed("action", [*RAGGED, [1.0]], LIST[:5]),
        {"logging": LOGGING},
        "row 5 .*: expected a list of 3",
    ),
    "null entry": (
        changed("action", [*RAGGED, [1.0, None, 2.0]], LIST[:5]),
        {"logging": LOGGING},
        r"column 'action\[1\]', row 5 .*: expected a number, got a missing value",
    ),
    "null list": (
        changed("action", [*RAGGED, None], LIST[:5]),
        {"logging": LOGGING},
        "row 5 .*: expected a list",
    ),
    "logarithms": (
        TABLE,
        {"action": "w_", "propensity": "log_propensity"},
        "look like log densities",
    ),
    "no rows": (TABLE[:0], {"action": "w_"}, "at least one row"),
}


@pytest.mark.parametrize("case", BAD_LOGS)
def test_bad_logs_are_refused_in_one_line(case):
    source, options, message = BAD_LOGS[case]
    with pytest.raises(ValueError, match=message) as error:
        read_logs(source, **options)
    assert "\n" not in str(error.value)


def damage(folder, name, content):
    """Another file in a hive-partitioned log."""
    path = written(folder, "hive")
    (content if callable(content) else lambda file: file.write_bytes(content))(
        path / "day=1" / name
    )
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet", b"PAR1 nonsense", "x.parquet: cannot be read as parquet"),
        ("x.parquet", b"", "x.parquet: cannot be read as parquet .the file is empty"),
        ("x.csv", b"a\n1\n", "expected files of one kind, got csv and parquet"),
        (
            "x.parquet",
            lambda path: pq.write_table(TABLE.select(["w_1"]), path),
            "x.parquet: expected one column 'reward', .* got none",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(TABLE.append_column("reward", TABLE["reward"]), path),
            "x.parquet: expected one column 'reward', .* got 2",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(changed("reward", ["x"] * M), path),
            "x.parquet: column 'reward': expected numbers, as in .*0.parquet, got text; store",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(changed("reward", [0.0] * (M - 1) + [np.nan]), path),
            "x.parquet: column 'reward', row 60",
        ),
    ],
)
def test_a_bad_file_in_a_folder_is_named(tmp_path, name, content, message):
    """No file is passed over in silence."""
    path = damage(tmp_path, name, content)
    with pytest.raises(ValueError, match=message):
        read_logs(path, action="w_")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path = "a.parquet"\nrewrd = "x"', "unknown key: 'rewrd'; did you mean 'reward'"),
        ('path = "a.parquet"\nreward = 3', "key 'reward': expected a name, got 3"),
        ('reward = "r"', "expected one of the keys 'path' and 'files'"),
        ("files = 3", "key 'files'"),
        ('path = "none.parquet"', "none.parquet: no such file"),
        (
            '[[files]]\npath = "a.parquet"\nlogging = "a.json"\n[[files]]\npath = "a.parquet"',
            "a.json",
        ),
        ("path", "expected a log described in TOML"),
    ],
)
def test_bad_descriptions_are_refused_in_one_line(tmp_path, text, message):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    (tmp_path / "log.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_logs(tmp_path / "log.toml")
    assert "\n" not in str(error.value)


def test_csv_numbers_after_the_first_block_may_be_of_another_kind(tmp_path, monkeypatch):
    """Whole numbers first, fractions and text users later: types are guessed from the first block
    only.
    """
    monkeypatch.setattr(csv_files, "_SERIAL", csv.ReadOptions(use_threads=False, block_size=256))
    path = tmp_path / "log.csv"
    path.write_text("action,reward,propensity,user\n" + "1,2,1,7\n" * 200 + "1.5,0.5,0.25,abc\n")
    logs = read_logs(path, cluster="user")
    assert (logs.reward[-1], logs.action[-1, 0], logs.cluster[-1], len(logs.reward)) == (
        0.5,
        1.5,
        1,
        201,
    )
    with path.open("a") as file:
        file.write("1,oops,1,7\n")
    with pytest.raises(ValueError, match="line 203.*'oops'"):
        read_logs(path, cluster="user")


def refusal(path):
    """What is said against a log, None if it can be read."""
    try:
        read_logs(path, action="w_", cluster="user")
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["parquet", "csv", "feather"])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, kind):
    """Cut off, or some bytes overwritten: never another error, never a crash."""
    path, rng = written(tmp_path, kind), np.random.default_rng(7)
    whole = path.read_bytes()
    for k in range(60):
        damaged = bytearray(whole)
        if k % 3 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for place in rng.integers(len(whole), size=3):
                damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        said = refusal(path)
        assert said is None or (said.startswith(str(path)) and "\n" not in said), said


# What must not be read as something else in silence.

K = 50
COUNTS = RNG.poisson(2, K)
TYPES = {
    "bool, int": (pa.array(COUNTS > 1), pa.array(COUNTS)),
    "decimal, double": (pa.array([decimal.Decimal("1.25")] * K), pa.array(RNG.uniform(size=K))),
    "int, double": (pa.array(COUNTS), pa.array(RNG.uniform(size=K))),
    "int8, int64": (pa.array(COUNTS, pa.int8()), pa.array(COUNTS + 1000)),
    "double, float": (pa.array(RNG.uniform(size=K)), pa.array(np.float32(RNG.uniform(size=K)))),
    "dictionary, int": (pa.array(COUNTS).dictionary_encode(), pa.array(COUNTS)),
}


def two_files(folder, name, first, second, kind="parquet"):
    """A folder of two files of which the column `name` differs."""
    for file, column in (("a", first), ("b", second)):
        columns = {
            "action": RNG.normal(size=len(column)),
            "reward": np.ones(len(column)),
            "propensity": np.ones(len(column)),
        }
        write(folder / f"{file}.{kind}", columns | {name: column})
    return folder


@pytest.mark.parametrize("case", TYPES)
def test_types_that_differ_from_file_to_file_change_no_value(case, tmp_path):
    """Each is read as it is, whichever file comes first."""
    for columns in (TYPES[case], TYPES[case][::-1]):
        expected = [float(x) for column in columns for x in column.to_pylist()]
        logs = read_logs(two_files(tmp_path, "reward", *columns))
        np.testing.assert_array_equal(logs.reward, expected)


NUMBERS, WORDS = pa.array([7, 8]), pa.array(["7", "8"])
KINDS = {
    "numbers and text": (NUMBERS, WORDS, "expected numbers, as in .*a.parquet, got text"),
    "text and numbers": (WORDS, NUMBERS, "expected text, as in .*a.parquet, got numbers"),
    "times": (
        pa.array([1, 2], pa.timestamp("s")),
        NUMBERS,
        "expected times, as in .*a.parquet, got numbers",
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_that_differ_from_file_to_file_are_refused_with_both(case, tmp_path):
    """A user 7 of one file is not the user "7" of another; seconds are not days."""
    *columns, words = KINDS[case]
    folder = two_files(tmp_path, "user", *columns)
    (tmp_path / "pool.toml").write_text(
        'cluster = "user"\n[[files]]\npath = "a.parquet"\n[[files]]\npath = "b.parquet"\n'
    )
    for source, role in ((folder, "cluster"), (tmp_path / "pool.toml", None)):
        with pytest.raises(ValueError, match=f"b.parquet: column 'user': {words}; store"):
            read_logs(source, **({role: "user"} if role else {}))


def test_a_column_without_values_is_of_every_kind(tmp_path):
    """A file of no rows may say null; one with rows has missing users, by row."""
    users = pa.array(["a", "b"])
    logs = read_logs(two_files(tmp_path, "user", pa.nulls(0), users), cluster="user")
    assert logs.cluster.tolist() == [0, 1]
    with pytest.raises(ValueError, match="a.parquet: column 'user', row 1 .*a missing value"):
        read_logs(two_files(tmp_path, "user", pa.nulls(2), users), cluster="user")


BIG = 2**62
USERS = {
    "int64": pa.array([BIG, BIG + 1, BIG]),
    "uint64": pa.array([2**64 - 1, 2**64 - 2, 2**64 - 1], pa.uint64()),
    "decimal": pa.array([decimal.Decimal(BIG), decimal.Decimal(BIG + 1), decimal.Decimal(BIG)]),
}


@pytest.mark.parametrize("case", USERS)
def test_large_user_numbers_are_not_rounded(case, tmp_path):
    path = write(tmp_path / "log.parquet", {"x": USERS[case], "y": [1.0, 2.0, 3.0]})
    table = read_columns(path, ["y"], ["x"])
    assert table["x"].tolist() in ([0, 1, 0], [1, 0, 1])
    columns = {"action": [1.0] * 3, "reward": [1.0] * 3, "propensity": [1.0] * 3}
    path = write(tmp_path / "log.parquet", columns | {"user": USERS[case]})
    assert read_logs(path, cluster="user").cluster.tolist() == [0, 1, 0]


def test_labels_are_in_the_order_of_whole_numbers(tmp_path):
    """Also as text of a CSV, whose numbers beyond 2⁵³ are kept."""
    numbers = [10, 9, BIG + 1, BIG, 9]
    for kind in ("csv", "parquet"):
        path = write(tmp_path / f"log.{kind}", {"x": numbers, "y": [1.0] * 5})
        assert read_columns(path, ["y"], ["x"])["x"].tolist() == [1, 0, 3, 2, 0]


@pytest.mark.parametrize("word", [None, ""])
def test_a_missing_user_among_the_words_of_a_dictionary_is_missing(word):
    index = pa.array([0, 1, 0] * (M // 3))
    users = pa.DictionaryArray.from_arrays(index, pa.array(["a", word]))
    with pytest.raises(ValueError, match="row 2 .*: expected a cluster, got a"):
        read_logs(changed("user", users), action="w_", cluster="user")


def csv_log(path, *lines):
    path.write_text("action,reward,propensity,user,note\n" + "".join(f"{x}\n" for x in lines))
    return path


SWALLOWED = {
    "to the end": ('1,1,1,a,"x', "2,2,1,b,y", "3,3,1,c,z"),
    "to the next quote": ('1,1,1,a,"x', '2,2,1,b,"y"', "3,3,1,c,z"),
    "of a user": ('1,1,1,"a,x', "2,2,1,b,y", "3,3,1,c,z"),
}


@pytest.mark.parametrize("case", SWALLOWED)
def test_a_quote_that_is_not_closed_swallows_no_row(case, tmp_path):
    path = csv_log(tmp_path / "log.csv", "0,0,1,a,x", *SWALLOWED[case])
    with pytest.raises(ValueError, match="log.csv: .*line 3: (a quote is not closed|Expected 5)"):
        read_logs(path)


def test_line_breaks_in_quotes_and_empty_lines_are_no_fault(tmp_path):
    lines = ('1,1,1,a,"x\ny ""z"""', "", "2,2,1,b,5 inch", "", "3,3,1,c,")
    logs = read_logs(csv_log(tmp_path / "log.csv", *lines), cluster="user")
    assert logs.reward.tolist() == [1, 2, 3]
    assert logs.cluster.tolist() == [0, 1, 2]


def test_text_across_blocks_is_read_whole_or_refused(tmp_path, monkeypatch):
    """A block of the file may end within a quoted line break."""
    monkeypatch.setattr(csv_files, "_SERIAL", csv.ReadOptions(use_threads=False, block_size=64))
    for shift in range(12):
        lines = ["1,1,1,a," + "x" * shift, *['1,1,1,a,"line one\nline two\nline three"'] * 9]
        path = csv_log(tmp_path / "log.csv", *lines)
        try:
            found = len(read_logs(path).reward)
        except ValueError:
            found = 10
        assert found == 10


@pytest.mark.parametrize("word", ["NA", "null", "nan", "NULL", "#N/A", ""])
def test_users_named_as_a_missing_value_are_quoted(word, tmp_path):
    """Without quotes a value is missing, in quotes the word is a user; nothing is nobody."""
    path = csv_log(tmp_path / "log.csv", "1,1,1,a,", f"1,1,1,{word},")
    with pytest.raises(ValueError, match="row 2 .*: expected a cluster, got a missing value"):
        read_logs(path, cluster="user")
    path = csv_log(tmp_path / "log.csv", "1,1,1,a,", f'1,1,1,"{word}",')
    if word:
        assert read_logs(path, cluster="user").cluster.tolist() == [0, 1]
    else:
        with pytest.raises(ValueError, match="row 2 .*: expected a cluster, got an empty text"):
            read_logs(path, cluster="user")


def test_columns_that_nobody_asks_for_are_not_parsed(tmp_path, monkeypatch):
    """Ids that change their kind, or bytes that are no text, after the first block; rows are
    counted all the same.
    """
    monkeypatch.setattr(csv_files, "_SERIAL", csv.ReadOptions(use_threads=False, block_size=256))
    text = b"id,action,reward,propensity\n" + b"1,2,3,1\n" * 200 + b"9f3a\xff,2,3,1\n"
    (tmp_path / "log.csv").write_bytes(text)
    reader = open_log(tmp_path / "log.csv")
    assert len(log_reader.whole(reader).reward) == reader.source.count() == 201


def hive(folder, keys, kind):
    for key in keys:
        (folder / key).mkdir(parents=True)
        columns = {"action": [1.0, 2.0], "reward": [0.0, 1.0], "propensity": [1.0, 1.0]}
        write(folder / key / f"part.{kind}", columns)
    return folder


HIVE = {
    "dates": ("time", ["x=2024-01-01", "x=2024-01-02"], [1704067200.0] * 2 + [1704153600.0] * 2),
    "numbers": ("time", ["x=3", "x=10"], [10, 10, 3, 3]),
    "users": ("cluster", ["x=1", "x=2"], [0, 0, 1, 1]),
    "padded users": ("cluster", ["x=07", "x=7"], [0, 0, 1, 1]),
    "mixed users": ("cluster", ["x=7", "x=abc"], [0, 0, 1, 1]),
    "escaped users": ("cluster", ["x=a%20b", "x=a%2Fb"], [0, 0, 1, 1]),
}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("case", HIVE)
def test_folders_named_by_key_and_value_are_columns(case, kind, tmp_path):
    role, keys, expected = HIVE[case]
    logs = read_logs(hive(tmp_path / "log", keys, kind), **{role: "x"})
    assert getattr(logs, role).tolist() == expected


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_missing_key_is_a_missing_value(kind, tmp_path):
    folder = hive(tmp_path / "log", ["x=7", "x=__HIVE_DEFAULT_PARTITION__"], kind)
    with pytest.raises(ValueError, match="row 1 .*: expected a cluster, got a missing value"):
        read_logs(folder, cluster="x")


def test_lists_are_of_one_length_in_all_files(tmp_path):
    first, second = pa.array([[1.0, 2.0]] * 2), pa.array([[1.0, 2.0, 3.0]] * 2)
    with pytest.raises(ValueError, match="b.parquet: column 'action', row 1 .* list of 2 numbers"):
        read_logs(two_files(tmp_path, "action", first, second))


def test_an_empty_path_is_not_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "log.parquet", {"action": [1.0], "reward": [1.0], "propensity": [1.0]})
    with pytest.raises(ValueError, match="expected the path of a log, got an empty one"):
        read_logs("")
    (tmp_path / "log.toml").write_text('path = ""')
    with pytest.raises(ValueError, match="log.toml: key 'path': expected a name of at least 1"):
        read_logs("log.toml")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="log.parquet: expected a file, got a pipe or a device"):
        read_logs(tmp_path / "log.parquet")


PEAK = """
import resource, sys
from mopl_jax.io.sources import open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(piece.rows.num_rows for piece in open_source(sys.argv[1]).scan(["x", "y"], ()))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_one_large_row_group_is_read_in_batches(tmp_path):
    """Ten million rows of two constants, which are 160 MB, from a file of 0.1 MB."""
    n = 10_000_000
    path = write(tmp_path / "log.parquet", {"x": np.zeros(n), "y": np.ones(n)}, row_group_size=n)
    rows, mebibytes = map(int, end(start(PEAK, path)).out.split())
    assert rows == n
    assert mebibytes < 60
