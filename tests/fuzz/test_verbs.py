"""Broken input of the command, seeded: whatever is done to a file, a verb that reads it ends with
exit code 2 and one line that names it, or a file that it does not suit, or answers (0, 3) as its
schema says.

A verb has its smallest valid call, a file its smallest valid content. What a file says is the same
in every form that is read, and so then is the answer. `--nightly` tries some 4,500 damaged files.
"""

import bz2
import contextlib
import gzip
import json
import re
import signal
from pathlib import Path

import jax
import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from command import mopl, schema
from test_fuzz import EXPERIMENTS, POLICY, ROWS, columns, damaged, replaced, rng_of, toml
from worlds import kuairand

from mopl_jax.io.refusals import one_line

LONGEST = 1200  # letters of a complaint, whatever the input
RNG = np.random.default_rng(7)
NOW = np.arange(ROWS)
ACTION = RNG.normal(size=(2, ROWS))
LOG = pa.table(
    {
        "a": ACTION[0],
        "b": ACTION[1],
        "reward": ACTION[0] + RNG.normal(size=ROWS),
        "log_propensity": -np.log(2 * np.pi) - np.sum(ACTION**2, axis=0) / 2,
        "user": NOW // 2,
        "x": RNG.normal(size=ROWS),
        "y": RNG.normal(size=ROWS),
    }
)
IDENTITY = [[1.0, 0.0], [0.0, 1.0]]
NORMAL = {"kind": "normal", "mean": [0.1, 0.0], "covariance": IDENTITY}
LEARNT = {
    "mopl_policy": 1,
    **NORMAL,
    "objectives": ["a", "b"],
    "advice": "change",
    "best_guess": NORMAL | {"predicted_gain": 0.1},
    "certified": NORMAL,
    "certified_gain": 0.1,
    "rows": {"learning": 20, "certification": 20},
    "provenance": {"log": "elsewhere.parquet", "versions": {"jax": "1"}},
}
ARMS = [(day, arm) for day in (1, 2, 3) for arm in ("A", "B")]
SNAPSHOTS = [
    {"experiment": "e", "arm": arm, "time": f"2026-03-{day:02d}", "users": 1000 * day}
    | {"mean_x": 0.1 * (arm == "B"), "mean_y": 0.2, "variance_x": 1.0, "variance_y": 1.0}
    for day, arm in ARMS
]
DAYS = ROWS // 8  # of a table with two tests, two arms and two metrics
LOOKS = pa.Table.from_pylist(
    [
        {"experiment": test, "arm": arm, "time": day, "users": 100.0 * day, "metric": name}
        | {"mean": 0.1 * (arm == "B") + RNG.normal() / 50, "variance": 1.0}
        for test in ("e", "f")
        for day in range(1, DAYS + 1)
        for arm in ("A", "B")
        for name in ("x", "y")
    ]
)
PLAYS = kuairand()  # of interactions, of a few users on one day
REPLAY = pa.table(
    {name: x[:ROWS] for name, x in PLAYS.items()}
    | {"user_id": NOW % 3, "date": np.full(ROWS, 20220422)}
)
SEGMENTED = {
    "mopl_policy": 1,
    "kind": "segmented",
    "context": ["user"],
    "segments": [{"values": [1.0], "policy": NORMAL}],
    "otherwise": NORMAL | {"mean": [0.0, 0.1]},
    "objectives": ["a", "b"],
}
FOUR = {"mopl_policy": 1, "kind": "mixture", "weights": [1.0, 1.0], "components": [NORMAL, NORMAL]}
FOUR |= {name: LEARNT[name] for name in LEARNT if name not in NORMAL and name != "mopl_policy"}
FOUR["explore_next"] = NORMAL | {"expected_gain": 0.1}
STUDY = {
    "replicates": 4,
    "n": [8],
    "intervals": ["normal"],
    "world": [
        {
            "name": "w",
            "d": [2],
            "reward": {"kind": "linear"},
            "noise": {"kind": "normal", "scale": 0.25},
            "logging": {"kind": "normal", "mean": 0.0, "scale": 1.0},
            "target": {"new": {"mean": 0.3, "scale": 0.5}},
        }
    ],
}
METRIC = {"mopl_metric": 1, "metrics": ["x", "y"], "weights": [1.0, 0.0], "north_star": "y"}
METRIC["user_correlation"] = IDENTITY
CORRELATION = {"metrics": ["x", "y"], "correlation": IDENTITY}
DESCRIPTION = {
    "files": [{"path": "log.parquet"}],
    "action": ["a", "b"],
    "reward": "reward",
    "cluster": "user",
    "log_propensity": "log_propensity",
}
DOCUMENTS = {
    "policy.json": POLICY,
    "learnt.json": LEARNT,
    "folds.json": FOUR,
    "segments.json": SEGMENTED,
    "study.toml": STUDY,
    "snapshots.json": SNAPSHOTS,
    "experiments.json": EXPERIMENTS,
    "metric.json": METRIC,
    "correlation.json": CORRELATION,
    "log.toml": DESCRIPTION,
}


def as_csv(table, path, delimiter=","):
    csv.write_csv(table, path, csv.WriteOptions(delimiter=delimiter))
    return path.read_bytes()


def as_utf16(table, path):
    path.write_bytes(as_csv(table, path).decode().encode("utf-16"))


def as_lines(table, path):
    path.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in table.to_pylist()))


FORMS = {  # of a table
    "log.parquet": pq.write_table,
    "log.feather": feather.write_feather,
    "log.csv": as_csv,
    "semicolons.csv": lambda table, path: as_csv(table, path, ";"),
    "utf16.csv": as_utf16,
    "log.csv.gz": lambda table, path: path.write_bytes(gzip.compress(as_csv(table, path))),
    "log.csv.bz2": lambda table, path: path.write_bytes(bz2.compress(as_csv(table, path))),
    "log.jsonl": as_lines,
    "looks.csv": as_csv,
    "looks.parquet": pq.write_table,
    "replay.csv": as_csv,
    "replay.parquet": pq.write_table,
}
OTHERS = {"looks": LOOKS, "replay": REPLAY}
LOGS = [name for name in FORMS if not name.startswith(tuple(OTHERS))]


def table_of(name):
    return OTHERS.get(name.partition(".")[0], LOG)


COLUMNS = "--action a,b --cluster user"
REPLAYED = "simulate --replay {} --rounds 1 --explore 1000 --test 100 --small 0 --out loop"
VERBS = {  # by the kind of file that they read, {}
    "log": [
        f"check {{}} {COLUMNS}",
        f"evaluate {{}} {COLUMNS} --target policy.json",
        f"compare {{}} {COLUMNS} logging learnt.json",
        f"plan --pilot {{}} {COLUMNS} --step 0.1",
        "metric metric.json --apply {} --rewarded made.parquet --force",
        "monitor snapshots.json --planned 1e4 --north-star y --correlation {}",
    ],
    "looks.csv": ["monitor {} --planned 1e4 --north-star y", "metric {} --north-star y"],
    "looks.parquet": ["monitor {} --planned 1e4 --metric metric.json"],
    "experiments.json": ["metric {} --north-star x"],
    "log.toml": [
        "check {}",
        "evaluate {} --target policy.json",
        "compare {} logging learnt.json",
        "plan --pilot {} --step 0.1",
    ],
    "policy.json": [
        "draw {} --n 2 --seed 1",
        f"evaluate log.parquet {COLUMNS} --target {{}}",
        f"check log.parquet {COLUMNS} --logging {{}}",
    ],
    "learnt.json": [
        "draw {} --n 2 --seed 1",
        f"evaluate log.parquet {COLUMNS} --target {{}}",
        f"compare log.parquet {COLUMNS} logging {{}}",
        f"learn log.parquet {COLUMNS} --production {{}} --out new.json --force",
    ],
    "folds.json": [
        "draw {} --n 2 --seed 1",
        f"evaluate log.parquet {COLUMNS} --target {{}}",
        f"compare log.parquet {COLUMNS} logging {{}}",
    ],
    "segments.json": [
        f"evaluate log.parquet {COLUMNS} --target {{}}",
        f"compare log.parquet {COLUMNS} logging {{}}",
    ],
    "replay.csv": [REPLAYED],
    "replay.parquet": [REPLAYED],
    "study.toml": ["coverage --config {} --out sweep"],
    "snapshots.json": ["monitor {} --planned 1e4 --north-star y"],
    "metric.json": [
        "monitor snapshots.json --planned 1e4 --metric {}",
        "metric {} --apply log.parquet --rewarded made.parquet --force",
    ],
    "correlation.json": ["monitor snapshots.json --planned 1e4 --north-star y --correlation {}"],
}
LONG = ("learn", "plan", "simulate", "coverage")  # in the nightly form
ORDINARY, NIGHTLY = 4, 60  # tries of a verb with a file


def ask(command, name):
    """The command on the file, within a minute: an answer as its schema says, or a complaint.

    `command`: words, or a text of them, with {} for the file.
    """
    words = command.format(name).split() if isinstance(command, str) else command
    double = jax.enable_x64(words[0] != "simulate")  # as it does by itself
    json_too = [] if words[0] == "example" else ["--json"]
    with within_bounds(), double:
        ended = mopl(*words, *json_too)
    assert ended.code in (0, 2, 3), ended
    if ended.code == 2:
        assert ended.out == "", ended
        said = ended.err.splitlines(keepends=True)
        assert_complaint("".join(said[-1:] if "--show-sql" in words else said), words)
    elif json_too:
        jsonschema.validate(ended.json, schema(words[0]))
    return ended


# What a complaint tells to do: what was expected, what there is to choose from, or a deed.
DEEDS = (
    *"add ask build check choose clip compare convert declare draw drop explore export".split(),
    *"fill free".split(),
    *"give group install keep leave lower make merge name narrow plan put raise randomise".split(),
    *"read record remove rename repair run say send set shorten smooth split start store".split(),
    *"swap tell try unpack use wait widen write".split(),
)
TOLD = re.compile(
    r"expected |did you mean|one of|[Ss]ee |(columns|keys|known|tables|metrics|arms|options): "
    rf"|[;:?,(] (?:\w+ )?(?:{'|'.join(DEEDS)})\b|--force|No such"
)


def assert_complaint(said, words):
    """One line of bounded length, with a file, column or option of the call and what to do."""
    assert said.startswith("mopl: "), said
    assert said.count("\n") == 1, said
    assert len(said) < LONGEST, said
    assert said.strip().isprintable(), said
    here = any(said.startswith(f"mopl: {word}: ") for word in words)
    assert here or any(place in said for place in places_of(words)), (words, said)
    assert TOLD.search(said), (words, said)


def places_of(words):
    """What a complaint about a call may name: its files, options and columns."""
    parts = (part for word in words[1:] for part in re.split(r"[,:=#]|//", word))
    shown = (one_line(part.removeprefix("--").strip())[:200] for part in parts)
    options = {word for word in words if word[:2] == "--" and word[2:]}
    return options | {place for place in shown if len(place) > 2}


@contextlib.contextmanager
def within_bounds():
    """Within a minute, and with at most `MOST_MEMORY` MiB more than before."""
    before = memory("VmRSS")
    if CLEAR.exists():
        CLEAR.write_text("5")  # the peak begins anew
    with within_a_minute():
        yield
    assert memory("VmHWM") - before < MOST_MEMORY


def memory(name):
    """Of this process, in MiB; 0 where there is no /proc."""
    if not CLEAR.exists():
        return 0
    return int(STATUS.read_text().split(f"{name}:")[1].split()[0]) / 1024


CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MOST_MEMORY = 1024  # MiB; 100 at most were measured in the ordinary form


@contextlib.contextmanager
def within_a_minute():
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("longer than a minute"))
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where each file is as it should be."""
    made = tmp_path_factory.mktemp("verbs")
    for name, write in FORMS.items():
        write(table_of(name), made / name)
    for name, document in DOCUMENTS.items():
        (made / name).write_bytes(text(name, document))
    return made


def text(name, document):
    written = toml(document) if name.endswith(".toml") else json.dumps(document)
    return written.encode()


def other_table(table, rng):
    """The table with a column of another type or content, one twice, or thousands of them."""
    name = table.schema.names[rng.integers(table.num_columns)]
    place = table.schema.names.index(name)
    match rng.integers(20):
        case 0 | 1 | 2:
            return table.append_column(name, table[name])
        case 3:  # rarely, as it takes long
            many = pa.table({f"c{i}": np.zeros(table.num_rows) for i in range(5000)})
            return pa.table([*table, *many], [*table.schema.names, *many.schema.names])
        case 4 | 5 | 6:
            return table.drop_columns([name])
        case _:
            return table.set_column(place, name, columns(rng, table.num_rows))


def broken(name, folder, rng):
    """The file in another state, where it has one: its bytes or its content damaged."""
    path, whole = folder / name, (folder / name).read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(damaged(whole, rng))
    elif name in DOCUMENTS:
        path.write_bytes(text(name, replaced(DOCUMENTS[name], rng)))
    else:
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError):  # no such type there
            FORMS[name](other_table(table_of(name), rng), path)
    return whole


def broken_table(table, path, rng):
    """A Parquet file of the table: its bytes or its content damaged."""
    if rng.random() < 0.15:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return
    with contextlib.suppress(pa.ArrowException, TypeError, ValueError):  # no such type there
        pq.write_table(other_table(table, rng), path)


CASES = [
    (name, command)
    for kind, commands in VERBS.items()
    for name in (LOGS if kind == "log" else [kind])
    for command in commands
]


def marked(name, command):
    long = command.startswith(LONG) or (name in LOGS and not command.startswith("check"))
    marks = [pytest.mark.nightly] if long else []
    return pytest.param(name, command, marks=marks, id=f"{command.split()[0]}-{name}")


@pytest.mark.parametrize(("name", "command"), [marked(*case) for case in CASES])
def test_a_verb_with_a_damaged_file(name, command, here, pytestconfig):
    nightly, seed = pytestconfig.getoption("--nightly"), CASES.index((name, command))
    for k in range(NIGHTLY if nightly else ORDINARY):
        whole = broken(name, here, rng_of(8, seed, k))
        try:
            ended = ask(command, name)
            words = [*command.format(name).split(), *DESCRIPTION["files"][0].values()]
            named = [word for word in words if word in ended.err]
            options = [x for x in command.split(" {}")[0].split()[-1:] if x.startswith("--")]
            assert ended.code != 2 or any("." in x or x in options for x in named), ended
        except BaseException:
            print(f"try {k}: {(here / name).read_bytes()[:600]!r}")
            raise
        finally:
            (here / name).write_bytes(whole)


@pytest.mark.parametrize("name", LOGS)
def test_a_log_is_the_same_in_every_form(name, here):
    said = ask(VERBS["log"][1], name)
    assert said.code in (0, 3)
    value = said.json["value"]
    assert value == pytest.approx(ask(VERBS["log"][1], "log.parquet").json["value"], rel=1e-12)


@pytest.mark.parametrize(("name", "command"), CASES)
@pytest.mark.nightly
def test_every_call_is_valid(name, command, here):
    assert ask(command, name).code in (0, 3)


@pytest.mark.nightly
@pytest.mark.parametrize("place", ["parts/*.npz", "results.parquet"])
def test_a_sweep_resumes_from_what_is_damaged_or_refuses_it(place, here):
    """The same numbers as before, or the file by its name."""
    command = "coverage --n 8,64 --d 2 --interval normal --replicates 8 --out resumed"
    rows = ask(command, "").json["rows"]
    (path,) = (here / "resumed").glob(place)
    whole = path.read_bytes()
    for k in range(NIGHTLY):
        path.write_bytes(damaged(whole, rng_of(9, k)))
        ended = ask(command, "")
        assert path.name in ended.err or ended.json["rows"] == rows, (k, ended)
        path.write_bytes(whole)


NAME = "n" * 5000
TOO_LONG = {
    "a log": "check log.toml",
    "a pilot": "plan --pilot log.toml --step 0.1",
    "a file of draws": f"draw policy.json --out {NAME}.csv",
    "an artifact": f"learn log.parquet {COLUMNS} --out {NAME}.json",
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_name_that_no_system_takes_is_one_line(case, here):
    (here / "log.toml").write_text(toml(DESCRIPTION | {"files": [{"path": f"{NAME}.csv"}]}))
    try:
        ended = ask(TOO_LONG[case], "")
    finally:
        (here / "log.toml").write_text(toml(DESCRIPTION))
    assert ended.code == 2
    assert "File name too long" in ended.err
    assert ("log.toml: " in ended.err) == ("log.toml" in TOO_LONG[case])


def test_a_policy_whose_log_has_a_name_that_no_system_takes_is_evaluated(here):
    about = {"provenance": {"log": NAME}}
    for document in (LEARNT | about, LEARNT | {"provenance": "a word"}):
        (here / "strange.json").write_bytes(text("strange.json", document))
        assert ask(VERBS["learnt.json"][1], "strange.json").code in (0, 3)
