"""The command on tables: connection strings, files read by DuckDB, queries that are shown, and one
line for whatever is wrong.
"""

import gzip
import re
import subprocess
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import assert_refused, document
from command import mopl as command
from engines import LOGGING, TARGET, assert_same, columns

import mopl_jax as mopl
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.table_source import table_source
from mopl_jax.warehouse.connection import open_table
from mopl_jax.warehouse.queries import Queries

EVIL = 'x"; DROP TABLE events; --'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A DuckDB file, the same rows as Parquet, and policies."""
    folder = tmp_path_factory.mktemp("warehouse")
    table = pa.table(columns())
    pq.write_table(table.slice(0, 300), folder / "a.parquet")
    pq.write_table(table.slice(300), folder / "b.parquet")
    with duckdb.connect(folder / "week.db") as connection:
        connection.register("rows", table)
        connection.execute("CREATE TABLE events AS SELECT * FROM rows")
        connection.execute("CREATE TABLE holes AS SELECT * FROM rows")
        connection.execute("UPDATE holes SET reward = NULL WHERE action_0 > 1")
        connection.execute("CREATE TABLE gaps AS SELECT * FROM rows")
        connection.execute("UPDATE gaps SET action_1 = NULL WHERE action_0 > 1")
        connection.execute(f"""CREATE TABLE odd AS SELECT *, reward AS "{EVIL.replace('"', '""')}",
            'text' AS word FROM rows""")
        connection.execute("CREATE TABLE none AS SELECT * FROM rows LIMIT 0")
        connection.execute("CREATE TABLE gone AS SELECT * FROM rows LIMIT 0")
        connection.execute("CREATE VIEW broken AS SELECT * FROM gone")
        connection.execute("DROP TABLE gone")
        connection.execute("CREATE SCHEMA other")
        connection.execute("CREATE TABLE other.events AS SELECT * FROM rows LIMIT 0")
    write_policy(folder / "logging.json", LOGGING)
    write_policy(folder / "target.json", TARGET)
    return folder


def table(place, name="events"):
    return f"duckdb://{place}/week.db#{name}"


def test_the_command_evaluates_a_table_and_files(place):
    target = ("--target", place / "target.json")
    expected = document("evaluate", place / "a.parquet", *target)
    found = document("evaluate", f"duckdb://#{place}/a.parquet", *target)
    assert_same(found, expected)
    both = document("evaluate", f"duckdb://#{place}/*.parquet", *target)
    assert both["n"] == 500
    assert_same(document("evaluate", table(place), *target), both)


ONES, LAST = "w,reward\n" + "1,2\n" * 30_000, "1.5,0.5\n"
OBJECTS = '{"w": 1, "reward": 2}\n' * 30_000 + '{"w": 1.5, "reward": 0.5}\n'
FILES = {
    "fractions after many whole numbers": {"a.csv": ONES + LAST},
    "… in a packed file": {"a.csv.gz": gzip.compress((ONES + LAST).encode())},
    "… in another file": {"a.csv": ONES + "1.0,2.0\n" * 9, "b.csv": "w,reward\n" + LAST},
    "columns in another order": {"a.csv": ONES, "b.csv": "reward,w\n0.5,1.5\n"},
    "… in a folder named by key and value": {"x=07/a.csv": ONES, "x=7/a.csv": "w,reward\n" + LAST},
    "JSON lines": {"a.jsonl": OBJECTS},
    "JSON lines, packed": {"a.jsonl.gz": gzip.compress(OBJECTS.encode())},
    "Parquet of another type": {
        "a.parquet": {"w": [1], "reward": [2]},
        "b.parquet": {"reward": [0.5], "w": [1.5]},
    },
}


@pytest.mark.parametrize("case", FILES)
def test_an_engine_rounds_and_swaps_no_number_of_a_file(case, tmp_path):
    """Types and names are those of all rows and files, not of the first."""
    for name, content in FILES[case].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), tmp_path / name)
        else:
            content = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(content)
    kind = next(iter(FILES[case])).partition(".")[2]
    table = open_table(f"duckdb://#{tmp_path}/**/*.{kind}")
    found = table.filter(table.reward < 1).to_pyarrow().to_pylist()
    assert found == [{"w": 1.5, "reward": 0.5} | ({"x": "7"} if "=" in name else {})]


def test_rows_of_a_table_are_read_where_a_verb_needs_them(place):
    """As `learn` reads them: the same rows as those of the file, in the order of the engine."""
    roles = {"action": "action_", "reward": "reward", "logging": place / "logging.json"}
    rows = mopl.read_logs(table(place), **roles)
    same = mopl.read_logs(pa.table(columns()), **roles)
    for name in ("action", "reward", "log_propensity"):
        assert getattr(rows, name).tolist() == getattr(same, name).tolist()


def test_queries_are_shown_and_name_the_columns_in_quotes(place):
    target = ("--target", place / "target.json", "--reward", EVIL, "--show-sql")
    ended = command("evaluate", table(place, "odd"), *target, "--json")
    assert ended.code == 0
    assert '"x""; DROP TABLE events; --"' in ended.err
    assert ended.err.count("SELECT") > 5
    assert ended.json["n"] == 500
    with duckdb.connect(place / "week.db", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (500,)
    refused = command("check", place / "a.parquet", "--show-sql")
    assert_refused(refused, "--show-sql", "got a file")


@pytest.mark.parametrize("users", [(), ("--cluster", "user", "--missing-reward", "drop")])
def test_the_queries_of_files_run_by_themselves(users, place):
    """All that is printed, in an engine that knows nothing else."""
    target = ("--target", place / "target.json", *users, "--show-sql")
    ended = command("evaluate", f"duckdb://#{place}/a.parquet", *target)
    assert ended.code == 0
    queries = [text for text in re.split(r";\s*$", ended.err, flags=re.MULTILINE) if text.strip()]
    assert "read_parquet" in queries[0]
    with duckdb.connect() as connection:
        for query in queries:
            connection.execute(query)


def test_check_says_what_it_says_in_memory(place):
    options = ("--logging", place / "logging.json", "--time", "reward", "--json")
    expected = command("check", place / "a.parquet", *options).json
    found = command("check", f"duckdb://#{place}/a.parquet", *options).json
    held = "drift of the surface"  # a test of rows in memory
    assert expected["findings"][-1]["check"] == held
    expected["findings"] = [x for x in expected["findings"] if x["check"] != held]
    assert_same(found, expected, besides=(".log", ".findings.0.found"))


def test_a_third_slash_is_a_whole_path_or_the_folder_one_is_in(place, monkeypatch):
    """As SQLAlchemy writes a file beside one: duckdb:///week.db."""
    monkeypatch.chdir(place)
    for path in (place, "", "/"):
        found = open_table(f"duckdb://{path}/week.db#events").count().to_pyarrow()
        assert found.as_py() == 500


def test_bad_input_is_one_line(place):
    target = ("--target", place / "target.json")
    for log, options, texts in (
        (table(place, "event"), target, ("no table 'event'", "did you mean 'events'?")),
        (f"duckdb://{place}/week.db", target, ("which table?",)),
        (f"duckdb://{place}/no.db#events", target, ("no such file",)),
        (f"duckdb://#{place}/no*.parquet", target, ("cannot be opened",)),
        ("sqlserver://x#y", target, ("cannot be opened",)),
        (table(place, "holes"), target, ("column 'reward'", "--missing-reward")),
        (table(place, "gaps"), target, ("column 'action_1'", "missing value")),
        (table(place, "none"), target, ("at least one row",)),
        (table(place, "broken"), target, ("cannot be opened", "gone does not exist")),
        (table(place, "other.event"), target, ("did you mean 'other.events'?",)),
        (table(place, "odd"), (*target, "--reward", "word"), ("'word'", "expected numbers")),
        (table(place), (*target, "--interval", "percentile"), ("needs all rows in memory",)),
        (table(place), (*target, "--aggregate", "sum", "--cluster", "user"), ("--aggregate",)),
        (
            table(place),
            (*target, "--estimator", "doubly_robust"),
            ("rows in no order", "choose snips"),
        ),
    ):
        assert_refused(command("evaluate", log, *target[2:], *options), *texts)
    dropped = ("--missing-reward", "drop", "--json")
    ended = command("evaluate", table(place, "holes"), *target, *dropped)
    assert ended.code == 0
    assert ended.json["n"] == sum(columns()["action_0"] <= 1)


VERBS = {
    "check": ("--logging", "logging.json"),
    "compare": ("logging.json", "target.json"),
    "learn": ("--logging", "logging.json", "--reward", "reward", "--json"),
}


@pytest.mark.parametrize(
    "verb", [pytest.param(x, marks=pytest.mark.nightly if x == "learn" else ()) for x in VERBS]
)
def test_every_verb_shows_its_queries(verb, place):
    options = [place / x if x.endswith(".json") else x for x in VERBS[verb]]
    out = ("--out", place / "learnt.json", "--in-memory", "200") if verb == "learn" else ()
    ended = command(verb, table(place), *options, *out, "--show-sql")
    assert ended.code in (0, 3)
    assert ended.err.count("SELECT") > 5
    assert "SELECT" not in ended.out


@pytest.mark.parametrize("verb", ["evaluate", pytest.param("learn", marks=pytest.mark.nightly)])
def test_a_connection_that_is_lost_on_the_way_leaves_nothing(verb, place, tmp_path, monkeypatch):
    """It is closed before the third question."""
    asked, rows = [], Queries.rows

    def until_lost(self, expression, layers=()):
        asked.append(expression)
        if len(asked) == 3:
            self.engine.con.close()
        return rows(self, expression, layers)

    monkeypatch.setattr(Queries, "rows", until_lost)
    out = tmp_path / "made.json"
    of_verb = {
        "evaluate": ("--target", place / "target.json"),
        "learn": ("--logging", place / "logging.json", "--in-memory", "200", "--out", out),
    }
    ended = command(verb, table(place), *of_verb[verb])
    *progress, said = ended.err.splitlines()
    assert (ended.code, ended.out, len(asked), len(progress)) == (2, "", 3, verb == "learn")
    assert said.startswith("mopl: ")
    assert "the query failed" in said
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_lead_nowhere_are_one_line(tmp_path):
    """No password is shown or stored, and no file is made."""
    missing = tmp_path / "no.db"
    for address, text in (
        ("s3://bucket/logs/*.parquet", "as duckdb://#s3://bucket/logs/*.parquet"),
        (f"sqlite://{missing}#events", "no such file"),
        ("mysql://me:se:cret@host/db#events", "mysql://me:***@host/db#events: the engine is not"),
        ("nothing://me:se:cret@host/db", "which table?"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)) as error:
            table_source(address)
        assert "\n" not in str(error.value)
        assert "cret" not in str(error.value)
    assert not missing.exists()
    with duckdb.connect(missing) as connection:
        connection.execute("CREATE TABLE events AS SELECT 1 AS x")
    source = table_source(f"duckdb://{missing}#events")
    assert source.name == f"duckdb://{missing}#events"


def test_an_object_store_that_cannot_be_reached_is_one_line():
    """Nothing answers at port 9; without its extension DuckDB does not even ask."""
    with pytest.raises(ValueError, match="cannot be opened") as error:
        table_source("duckdb://#http://127.0.0.1:9/log.parquet")
    assert "\n" not in str(error.value)


def test_an_engine_that_is_not_there_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ibis", None)
    ended = command("evaluate", table(place), "--target", place / "target.json")
    assert_refused(ended, "not installed", "mopl_jax[warehouse]")


def test_a_lost_connection_is_one_line(place):
    import ibis

    connection = ibis.duckdb.connect(place / "week.db", read_only=True)
    lost = connection.table("events")
    connection.con.close()
    with pytest.raises(ValueError, match="the query failed") as error:
        mopl.evaluate(lost, TARGET)
    assert "\n" not in str(error.value)


def test_other_verbs_import_no_engine():
    script = """
import sys
import mopl_jax as mopl
mopl.evaluate, mopl.compare, mopl.check_log, mopl.learn
assert "ibis" not in sys.modules and "duckdb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
