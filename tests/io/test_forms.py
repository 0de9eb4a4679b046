"""Logs as platforms have them: packed, in other separators and encodings, nested, incomplete."""

import bz2
import gzip
import json
import uuid
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from command import assert_refused, mopl
from worlds import standard, write

from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.policies import Gaussian

ACTION = np.array([[0.5, -1.25], [2.0, 0.25], [-0.5, 1.5]])
REWARD = np.array([1.5, 0.0, -2.25])
NAMES = ("w_click", "w_like")
LOGGING = standard(2)
ROLES = {"action": "w_", "logging": LOGGING}
TEXT = "w_click,w_like,reward,user\n0.5,-1.25,1.5,a\n2.0,0.25,0,b\n-0.5,1.5,-2.25,a\n"
GERMAN = TEXT.replace(",", ";").replace(".", ",")


def zipped(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("export.csv", text)


FORMS = {
    "log.csv.gz": lambda path: path.write_bytes(gzip.compress(TEXT.encode())),
    "log.csv.bz2": lambda path: path.write_bytes(bz2.compress(TEXT.encode())),
    "log.csv.zip": lambda path: zipped(path, TEXT),
    "export.zip": lambda path: zipped(path, TEXT),
    "tabs.tsv": lambda path: path.write_text(TEXT.replace(",", "\t")),
    "german.csv": lambda path: path.write_text(GERMAN),
    "points.csv": lambda path: path.write_text(TEXT.replace(",", ";")),
    "bars.csv": lambda path: path.write_text(TEXT.replace(",", "|")),
    "quoted.csv": lambda path: path.write_text(TEXT.replace("w_click", '"w_click"')),
    "mark.csv": lambda path: path.write_text(TEXT, encoding="utf-8-sig"),
    "utf16.csv": lambda path: path.write_text(TEXT, encoding="utf-16"),
    "big.csv": lambda path: path.write_text(TEXT, encoding="utf-16-be"),
    "little.csv.gz": lambda path: path.write_bytes(gzip.compress(GERMAN.encode("utf-16-le"))),
}


@pytest.mark.parametrize("name", FORMS)
def test_text_is_read_however_it_is_written(tmp_path, name):
    FORMS[name](tmp_path / name)
    reader = open_log(tmp_path / name, cluster="user", **ROLES)
    logs = read_logs(reader)
    np.testing.assert_array_equal(logs.action, ACTION)
    np.testing.assert_array_equal(logs.reward, REWARD)
    assert logs.cluster.tolist() == [0, 1, 0]
    assert reader.source.count() == 3


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("german.csv", "read as columns separated by semicolons, decimal commas"),
        ("utf16.csv", "read as UTF-16"),
        ("tabs.tsv", "read as columns separated by tabs"),
    ],
)
def test_what_was_found_out_is_said(tmp_path, name, said):
    FORMS[name](tmp_path / name)
    made = evaluate(tmp_path / name, Gaussian.diagonal([0.1, 0.0], 1.0), **ROLES)
    assert any(text.endswith(said) for text in made.warnings)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (gzip.compress(TEXT.encode(), mtime=0)[:40], "torn.csv.gz", "cannot be read"),
        (b"no archive", "bad.zip", "cannot be read as an archive"),
        (gzip.compress(b"", mtime=0), "nothing.csv.gz", "cannot be read as csv"),
        (b"PAR1", "log.parquet.gz", "expected a file ending in"),
        (TEXT.replace("a\n", '"a\n', 1).encode(), "open.csv", "a quote is not closed"),
    ],
)
def test_damaged_text_is_one_line(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    ended = mopl("check", tmp_path / name, "--action", "w_", "--propensity", "reward")
    assert_refused(ended, message)


def test_an_archive_of_several_files_is_refused(tmp_path):
    zipped(tmp_path / "log.zip", TEXT)
    with zipfile.ZipFile(tmp_path / "log.zip", "a") as archive:
        archive.writestr("other.csv", TEXT)
    with pytest.raises(ValueError, match="expected an archive of one file, got 2; unpack it"):
        read_logs(tmp_path / "log.zip", **ROLES)


# JSON lines and columns in columns.


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_json_lines_are_rows(tmp_path):
    """An id of no one type, which nobody asks for, is not looked at."""
    rows = [
        {"id": i or "x", "w": {"click": a[0], "like": a[1]}, "reward": r, "user": "ab"[i % 2]}
        for i, (a, r) in enumerate(zip(ACTION.tolist(), REWARD.tolist(), strict=True))
    ]
    path = lines(tmp_path / "log.jsonl", rows)
    reader = open_log(path, action="w", logging=LOGGING, cluster="user")
    assert reader.columns.action == ("w.click", "w.like")
    logs = read_logs(reader)
    np.testing.assert_array_equal(logs.action, ACTION)
    np.testing.assert_array_equal(logs.reward, REWARD)
    assert reader.source.count() == 3


def test_whole_numbers_before_others_are_numbers(tmp_path):
    first = {"action": 1, "reward": 0, "propensity": 1}
    rows = [first] * 1200 + [first | {"action": 1.5, "reward": 2.5}]
    logs = read_logs(lines(tmp_path / "log.ndjson", rows))
    assert logs.reward.tolist() == [0] * 1200 + [2.5]


@pytest.mark.parametrize(
    ("reward", "user", "message"),
    [
        (
            "oops",
            "a",
            "column 'reward', row 3 .*: expected a number, as in rows before, got 'oops'",
        ),
        (1.5, 7, "column 'user', row 3 .*: expected text, as in rows before, got 7; repair"),
        ([1], "a", "column 'reward', row 3 .*: expected a number"),
    ],
)
@pytest.mark.parametrize("before", [2, 40_000])
def test_a_value_of_another_kind_is_named_with_its_row(reward, user, message, before, tmp_path):
    """Among the rows by which types are told, and in a later batch."""
    row = {"action": 1.0, "propensity": 1.0, "reward": 1.0, "user": "a"}
    path = lines(tmp_path / "log.jsonl", [row] * before + [row | {"reward": reward, "user": user}])
    with pytest.raises(ValueError, match=message.replace("row 3", f"row {before + 1}")):
        read_logs(path, cluster="user")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("large", [2**62, 2**64 - 4])
def test_large_users_of_json_lines_are_not_rounded(large, nested, tmp_path):
    """Hashes of 64 bits, the last of them beside a fraction in the same structure."""
    row, users = {"action": 1.0, "propensity": 1.0, "reward": 1}, (large, large + 1, large)
    rows = [row | ({"by": {"user": u, "age": 3}} if nested else {"user": u}) for u in users]
    name = "by.user" if nested else "user"
    logs = read_logs(lines(tmp_path / "log.jsonl", rows), cluster=name)
    assert logs.cluster.tolist() == [0, 1, 0]


def test_vowpal_wabbits_continuous_actions_are_read(tmp_path):
    """The dsjson of its documentation: a cost, whose negative is the reward."""
    label = {"cost": 0.657567, "pdf_value": 6.20426e-05, "action": 185.121}
    row = {"_label_ca": label, "Version": "1", "EventId": "e", "c": {"18-25": 1}, "pdrop": 0.5}
    names = {role: f"_label_ca.{name}" for role, name in NAMED.items()}
    logs = read_logs(lines(tmp_path / "log.dsjson", [row, row]), **names)
    assert logs.action.tolist() == [[185.121]] * 2
    assert logs.reward.tolist() == [-0.657567] * 2
    np.testing.assert_allclose(logs.log_propensity, np.log(6.20426e-05))


NAMED = {"action": "action", "reward": "reward", "propensity": "pdf_value"}
STRUCTURE = pa.array([{"click": a, "like": b} for a, b in ACTION])
MAP = pa.array(
    [
        [("click", 0.5), ("like", -1.25)],
        [("like", 0.25), ("click", 2.0)],
        [("click", -0.5), ("like", 1.5)],
    ],
    pa.map_(pa.string(), pa.float64()),
)


@pytest.mark.parametrize("stored", ["memory", "parquet", "feather"])
@pytest.mark.parametrize("column", [STRUCTURE, MAP], ids=["structure", "map"])
def test_weights_in_one_column_are_matched_by_name(tmp_path, column, stored):
    table = pa.table({"w": column, "reward": REWARD})
    if stored == "parquet":
        pq.write_table(table, tmp_path / "log.parquet")
    elif stored == "feather":
        feather.write_feather(table, str(tmp_path / "log.feather"))
    log = table if stored == "memory" else tmp_path / f"log.{stored}"
    logs = read_logs(log, action="w", logging=LOGGING)
    np.testing.assert_array_equal(logs.action, ACTION)
    logging = write_policy(tmp_path / "l.json", LOGGING, objectives=["like", "click"])
    assert read_logs(log, action="w", logging=logging).action.tolist() == ACTION.tolist()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([("click", 1.0)], "'w.like', row 4 .* expected a number, got a missing value"),
        ([("click", 1.0), ("like", 1.0), ("share", 1.0)], "expected 2 entries in each row"),
    ],
)
def test_maps_of_other_weights_are_refused(row, message):
    column = pa.array([*MAP.to_pylist(), row], MAP.type)
    with pytest.raises(ValueError, match=message):
        read_logs(pa.table({"w": column, "reward": [0.0] * 4}), action="w", logging=LOGGING)


@pytest.mark.parametrize("action", ["click_w,like_w", "*_w", ["click_w", "like_w"]])
def test_weights_without_a_common_prefix_are_named(action):
    table = {"click_w": ACTION[:, 0], "other": REWARD, "like_w": ACTION[:, 1], "reward": REWARD}
    logs = read_logs(pa.table(table), action=action, logging=LOGGING)
    np.testing.assert_array_equal(logs.action, ACTION)


def test_weights_are_named_by_the_logging_policys_objectives(tmp_path):
    """In its order, where nothing else names them."""
    table = pa.table({"liked": ACTION[:, 1], "clicked": ACTION[:, 0], "reward": REWARD})
    about = {"objectives": ["clicked", "liked"]}
    logging = write_policy(tmp_path / "logging.json", LOGGING, **about)
    np.testing.assert_array_equal(read_logs(table, logging=logging).action, ACTION)
    absent = write_policy(tmp_path / "other.json", LOGGING, objectives=["clicked", "shared"])
    with pytest.raises(ValueError, match="a logging policy needs the actions: name their columns"):
        read_logs(table, logging=absent)


# Users, times, rewards that are missing.


def one(column, **roles):
    table = {"action": np.zeros(3), "reward": REWARD, "propensity": np.ones(3), "x": column}
    return read_logs(pa.table(table), **roles)


USERS = {
    "text": pa.array(["b", "a", "b"]),
    "categories": pa.array(["b", "a", "b"]).dictionary_encode(),
    "identifiers": pa.array([uuid.UUID(int=i).bytes for i in (7, 3, 7)], pa.uuid()),
    "bytes": pa.array([b"\xff", b"a", b"\xff"]),
    "numbers": pa.array([2**60 + 1, 2**60, 2**60 + 1]),
}


@pytest.mark.parametrize("kind", USERS)
def test_users_are_of_any_kind(kind):
    assert one(USERS[kind], cluster="x").cluster.tolist() in ([0, 1, 0], [1, 0, 1])


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01 00:00:00.9 UTC",
        "2026-03-01T00:00:00.9Z",
        "2026-03-01 02:00:00.9 +0200",
        "2026-03-01 02:00:00.9+02:00",
        "2026-03-01 00:00:00.9",
        "2026-03-01 00:00:00.9 GMT",
    ],
)
def test_times_in_words_keep_their_zone(text):
    assert one([text] * 3, time="x").time.tolist() == [1772323200.9] * 3


MISSING = {"action": np.zeros(4), "reward": [1.0, None, 3.0, None], "propensity": np.ones(4)}


def test_missing_rewards_are_refused_with_both_remedies():
    with pytest.raises(
        ValueError, match=r"row 2 .* in 2 of 4 rows; .* --missing-reward drop .* or zero"
    ):
        read_logs(pa.table(MISSING))


@pytest.mark.parametrize("stored", [".parquet", ".csv", None])
@pytest.mark.parametrize(
    ("remedy", "rewards", "said"),
    [("drop", [1, 3], "were dropped"), ("zero", [1, 0, 3, 0], "count as 0")],
)
def test_missing_rewards_are_what_one_says(tmp_path, stored, remedy, rewards, said):
    log = write(tmp_path / f"log{stored}", MISSING) if stored else pa.table(MISSING)
    reader = open_log(log, missing_reward=remedy)
    assert read_logs(reader).reward.tolist() == rewards
    assert reader.source.count() == len(rewards)
    assert reader.source.remarks == (f"2 of 4 rows have no reward and {said}",)


@pytest.mark.nightly
def test_the_command_says_what_became_of_missing_rewards(tmp_path):
    rng = np.random.default_rng(0)
    action = rng.normal(size=(500, 2))
    reward = [None if i % 5 == 0 else float(x) for i, x in enumerate(action[:, 0])]
    columns = {"w_click": action[:, 0], "w_like": action[:, 1], "reward": reward}
    log = write(tmp_path / "log.parquet", columns)
    logging = write_policy(tmp_path / "logging.json", LOGGING)
    arguments = "--action", "w_", "--logging", logging
    said = mopl("check", log, *arguments, "--missing-reward", "drop")
    assert "100 of 500 rows have no reward and were dropped" in " ".join(said.out.split())
    said = mopl("evaluate", log, *arguments, "--target", logging, "--missing-reward", "zero")
    assert "100 of 500 rows have no reward and count as 0" in " ".join(said.out.split())
    refused = mopl("evaluate", log, *arguments, "--target", logging, "--missing-reward", "guess")
    assert_refused(refused, "unknown --missing-reward: 'guess'; known: drop, zero")
