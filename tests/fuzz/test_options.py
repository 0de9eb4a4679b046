"""Broken input of every option: each verb with each option that reads data, valid, beside a
damaged log, and with another word in its place; and policies of every kind.

A verb has calls, which together have all of its options. What is asked is what `ask` asks: an
answer as its schema says, or one line of complaint, within a minute and in bounded memory.
"""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_fuzz import POLICIES, replaced, rng_of
from test_verbs import DOCUMENTS, IDENTITY, LOOKS, NORMAL, ask, broken_table, table_of, text

from mopl_jax.cli.app import COMMANDS, command

ORDINARY, NIGHTLY = 2, 25  # tries of a call, of an option
USERS = 128
RNG = np.random.default_rng(11)
ROW = np.arange(2 * USERS)
ACTION = RNG.normal(size=(2, USERS)).repeat(2, axis=1)  # one a user: outcomes may be added up
LOG_DENSITY = -np.log(2 * np.pi) - np.sum(ACTION**2, axis=0) / 2
REWARD = ACTION[0] + RNG.normal(size=2 * USERS)
WIDE = pa.table(
    {
        "a": ACTION[0],
        "b": ACTION[1],
        "reward": REWARD,
        "click": (REWARD > 0) * 1.0,
        "cost": np.abs(REWARD) + 1,
        "log_propensity": LOG_DENSITY,
        "p": np.exp(LOG_DENSITY),
        "pt": np.exp(LOG_DENSITY + 0.1 * ACTION[0] - 0.005),
        "lt": LOG_DENSITY + 0.1 * ACTION[0] - 0.005,
        "user": [f"u{k // 2}" for k in ROW],
        "country": [("de", "fr", "")[k // 2 % 3] for k in ROW],
        "age": RNG.normal(40, 9, size=USERS).repeat(2),
        "region": [("n", "s")[k // 2 % 2] for k in ROW],
        "day": np.datetime64("2026-01-01") + ROW // 16,
        "kept": np.where(ROW % 3, 1.0, 0.5),
        "weight": np.where(ROW % 3, 1.0, 2.0),
        "count": 1 + ROW % 4,
        "squares": np.square(REWARD) / (1 + ROW % 4) + ROW % 4,
        "views": 1.0 + ROW % 3,
    }
)
FREE = pa.table(
    {"a": RNG.normal(size=400), "b": RNG.normal(size=400), "reward": RNG.normal(size=400)}
)
ARM = ROW % 3
ARMS = pa.table({"a": ARM * 0.5, "reward": REWARD + ARM, "p": np.full(2 * USERS, 1 / 3)})
STANDARD = NORMAL | {"mean": [0.0, 0.0], "mopl_policy": 1}
FILES = {
    "standard.json": STANDARD,
    "near.json": STANDARD | {"mean": [0.1, 0.0]},
    "point.json": {"mopl_policy": 1, "kind": "deterministic", "action": [0.2, 0.1]},
    "users.json": {"metrics": ["x", "y"], "correlation": IDENTITY},
}
C = "wide.parquet --action a,b"
U = f"{C} --cluster user"
F = "free.parquet --action a,b --fit-logging"
EVALUATED = (
    "--covariate age,views --goal 1 --all",
    "--half-life 2d --time day --cluster user",
    "--half-life auto --time day",
    "--time day --weekdays",
    "--time-feature region",
    "--per views --reward click",
    "--keep-probability kept --missing-reward drop",
    "--sampling-weight weight --alpha 0.1 --interval ess_skew --interval normal",
    "--aggregate mean --cluster user",
    "--reward click --reward-range 0,1 --w-max 99 --d2 4",
    "--logging standard.json --estimator doubly_robust --in-memory 50",
    "--propensity p --estimator beta_ips",
    "--log-propensity log_propensity --estimator calibrated",
    "--count count --sum-of-squares squares --missing-reward zero",
)
COMPARED = [
    f"{x.replace('--goal 1 --all', '--minimise').replace(' --w-max 99 --d2 4', '')}"
    for x in EVALUATED
]
LEARNT = (
    "--logging standard.json --minimise --alpha 0.1 --folds 2",
    "--share 0.5 --certificate normal --estimator snips --radius 1",
    "--low -1 --high 1,2 --sum 0.5",
    "--production 0,0 --max-change 0.5 --seed 3",
    "--guardrail cost:+5% --guardrail click:-0.2",
    "--guardrail cost:+5% --pareto 2",
    "--context country",
    "--context age,country --mean linear",
    "--context age --mean network",
    "--half-life 4d --time day",
    "--time day --weekdays",
    "--time-feature region",
    "--keep-probability kept --in-memory 100",
    "--sampling-weight weight --missing-reward drop",
    "--aggregate sum --report page",
    "--log-propensity log_propensity --reward click --reward-range 0,1",
)
ROLES = (
    "--reward reward --log-propensity log_propensity",
    "--propensity p --keep-probability kept",
    "--logging standard.json --sampling-weight weight",
    "--count count --sum-of-squares squares",
    "--aggregate any --cluster user --reward click",
    "--missing-reward zero",
)
ENGINE = "duckdb://#wide.parquet --action a,b --show-sql"
CALLS = {
    "check": [*(f"{C} --time day {x}" for x in ROLES), F, ENGINE],
    "evaluate": [
        *(f"{C} --target near.json {x}" for x in EVALUATED),
        f"{F} --target near.json",
        f"{C} --target point.json --bandwidth auto",
        f"{C} --target point.json --bandwidth 0.4,0.5",
        "wide.parquet --propensity p --target-propensity pt",
        "wide.parquet --log-densities --propensity log_propensity --target-propensity lt",
        f"{ENGINE} --target near.json",
    ],
    "compare": [
        *(f"{C.replace(' ', ' standard.json near.json ', 1)} {x}" for x in COMPARED),
        f"{F.replace(' ', ' logging near.json ', 1)}",
        f"{C.replace(' ', ' logging point.json ', 1)} --bandwidth 0.4",
        f"{ENGINE.replace(' ', ' logging near.json ', 1)}",
    ],
    "learn": [
        *(f"{U} {x} --out new.json --force" for x in LEARNT),
        "arms.parquet --action a --propensity p --production 0.5 --out new.json --force",
        f"{F} --out new.json --force",
        f"{C} --count count --sum-of-squares squares --out new.json --force",
        f"{ENGINE} --cluster user --logging standard.json --out new.json --force",
    ],
    "plan": [
        *(f"--pilot {C} {x}" for x in ROLES),
        f"--pilot {F}",
        "--d 2 --current 0,0 --scale 1 --step 0.1 --target-scale 0.5 --gain 0.05 --noise 1",
        "--covariance standard.json --step 0.1,0 --curvature 1 --horizon 1e6 --n 1000 --minimise",
        f"--pilot {U} --alpha 0.1 --power 0.9 --step 0.1",
    ],
    "metric": [
        "looks.parquet --north-star y --objective mean_z --l1 0.1 --positive x --alpha 0.1",
        "looks.parquet --north-star y --objective mean_z --negative x --with-north-star",
        "looks.parquet --north-star y --standardise --rule",
        "looks.parquet --north-star y --compare --keep --out m.json --force",
        "looks.parquet --north-star y --column users=users --control A --shares A=1,B=1",
        "looks.parquet --north-star y --correlation users.json --leave-out --at 9999",
        "metric.json --apply signals.parquet --rewarded made.parquet --force",
    ],
    "monitor": [
        "looks.parquet --planned 1e4 --north-star y --bound obrien_fleming --alpha 0.1",
        "looks.parquet --planned 1e4 --metric metric.json --control A --shares A=1,B=1",
        "looks.parquet --planned 1e4 --north-star y --column users=users --leave-out",
        "looks.parquet --planned 1e4 --north-star y --correlation users.json",
    ],
    "draw": [
        "near.json --n 3 --seed 1",
        "near.json --out drawn.csv --force",
        "segmented.json --context country=de",
    ],
    "simulate": [
        "--rounds 1 --explore 1000 --test 100 --small 0 --experiments 8 --scale 0.5 --seed 1"
        " --alpha 0.1 --plain --devices 1 --out loop",
        "--replay replay.parquet --slate 4 --rounds 1 --explore 1000 --test 100 --small 0"
        " --out loop",
        "--quick --rounds 1 --small 50 --out loop",
    ],
    "coverage": [
        "--config study.toml --out sweep --seed 1 --devices 1 --memory 64 --x64",
        "--n 8,64 --d 2 --replicates 8 --alpha 0.1 --estimator ips --interval normal --out other"
        " --reward linear --noise normal --noise-scale 0.5 --logging normal --logging-mean 0"
        " --logging-scale 1 --target-mean 0.1 --target-scale 0.5 --quick",
    ],
    "example": ["--seed 1 --force --out tried"],
}
OF_SEVERAL_PROCESSES = {"--coordinator", "--processes", "--process", "--distributed"}
# A pilot has no weights of rows, which is said of the options that tell them.
REFUSED = re.compile("--sampling-weight|--keep-probability")
LONG = tuple(verb for verb in CALLS if verb not in ("check", "draw"))  # in the nightly form
HUGE = "999999999"
ANNOUNCED = ("coverage", "simulate")  # verbs that say how long they take, and then take it
WORDS = (
    *("", " ", "nan", "-1", "0", "1e400", "inf", "-inf", "1e-320", HUGE, "1" * 30, "0.5"),
    *("x", ",", "a", "a,a", "a,b,a", "b,a", "1,2", "0,1,2,3", "auto", "reward", "user", "--x", "4"),
    *("[red]x[/red]", "\x1b[31m", "a\nb", "\udcff", "é" * 400, "a" * 5000, "../../x", ".", "/"),
    *("no.json", "near.json", "wide.parquet", "x:y", "cost:-5%", "cost:nan%", "2d", "-2d", "A=0"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where each file is as it should be."""
    made = tmp_path_factory.mktemp("options")
    signals = WIDE.rename_columns({"age": "x", "cost": "y"})
    tables = {"wide": WIDE, "free": FREE, "arms": ARMS, "looks": LOOKS, "signals": signals}
    for name, table in (tables | {"replay": table_of("replay.parquet")}).items():
        pq.write_table(table, made / f"{name}.parquet")
    segmented = {"segmented.json": POLICIES["segmented"]}
    for name, document in (DOCUMENTS | FILES | segmented).items():
        (made / name).write_bytes(text(name, document))
    return made


def tries(pytestconfig):
    return NIGHTLY if pytestconfig.getoption("--nightly") else ORDINARY


def in_ci(calls):
    """The calls, of which those of `LONG` verbs are for the nightly form."""
    return [
        pytest.param(*each, marks=[pytest.mark.nightly] * (each[0] in LONG), id=" ".join(each)[:70])
        for each in calls
    ]


def values_of(verb):
    """The options of a verb that take a value."""
    return {x.opts[0] for x in command(verb).params if not getattr(x, "is_flag", False)}


EVERY = [(verb, call) for verb, calls in CALLS.items() for call in calls]
VALUES = {  # of every option with a value, the first call that has it
    (verb, word): call
    for verb, call in reversed(EVERY)
    for word in call.split()
    if word.startswith("--") and word in values_of(verb)
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_is_tried(verb):
    """The options that `--help` lists, but `--json`, which all calls have."""
    words = {word for call in CALLS[verb] for word in call.split()}
    listed = {each.opts[0] for each in command(verb).params if each.opts[0].startswith("--")}
    assert listed - words - OF_SEVERAL_PROCESSES - {"--json", "--help"} == set()


@pytest.mark.nightly
@pytest.mark.parametrize(("verb", "call"), in_ci(EVERY))
def test_every_call_is_valid(verb, call, here):
    expected = (2,) if verb == "plan" and REFUSED.search(call) else (0, 3)
    assert ask(f"{verb} {call}", "").code in expected


@pytest.mark.parametrize(("verb", "call"), in_ci(x for x in EVERY if ".parquet" in x[1]))
def test_a_call_with_a_damaged_table(verb, call, here, pytestconfig):
    name = next(x for x in call.replace("#", " ").split() if x.endswith(".parquet"))
    path, seed = here / name, EVERY.index((verb, call))
    whole, table = path.read_bytes(), pq.read_table(path)
    for k in range(tries(pytestconfig)):
        try:
            broken_table(table, path, rng_of(10, seed, k))
            ask(f"{verb} {call}", "")
        except BaseException:
            print(f"try {k}")
            raise
        finally:
            path.write_bytes(whole)


@pytest.mark.parametrize(("verb", "option"), in_ci(VALUES))
def test_an_option_with_another_word(verb, option, here, pytestconfig):
    words = VALUES[verb, option].split()
    place = words.index(option) + 1
    rng = rng_of(11, *map(ord, option))
    others = [word for word in WORDS if verb not in ANNOUNCED or word != HUGE]
    for word in rng.choice(others, tries(pytestconfig), replace=False):
        ask([verb, *words[:place], str(word), *words[place + 1 :]], "")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(
    "call", ["draw {} --n 2 --seed 1", f"evaluate {C} --target {{}}", f"check {C} --logging {{}}"]
)
def test_a_verb_with_a_damaged_policy(kind, call, here):
    path = here / f"{kind}.json"
    for k in range(NIGHTLY):
        path.write_text(json.dumps(replaced(POLICIES[kind], rng_of(12, k))))
        ask(call, path.name)
