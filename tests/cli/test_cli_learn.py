"""`mopl learn`: bad input is one line before anything is compiled; the artifact reads back; an
interrupt leaves one.
"""

import contextlib
import io
import json
import re
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from command import end, mopl, start
from worlds import write

from mopl_jax.cli import app
from mopl_jax.cli.learn import learn
from mopl_jax.io.policy_json import read_policy, write_policy
from mopl_jax.io.reward_note import noted
from mopl_jax.learning import pipeline, stages
from mopl_jax.policies import Gaussian, Mixture
from mopl_jax.report import figures

MEAN, SCALE = np.array([0.2, 0.5]), np.array([0.1, 0.2])


def write_log(folder, **columns):
    """600 rows of 200 users, whose reward saturates in the first weight; `columns` replace some."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(600, 2))
    reward = np.tanh(2 * z[:, 0]) - 0.2 * (z**2).sum(axis=1) + 0.3 * rng.normal(size=600)
    density = np.exp(-0.5 * (z**2).sum(axis=1)) / (2 * np.pi * SCALE.prod())
    table = {"w_click": MEAN[0] + SCALE[0] * z[:, 0], "w_like": MEAN[1] + SCALE[1] * z[:, 1]}
    table |= {"reward": reward, "propensity": density, "user": np.arange(600) // 3}
    return write(folder / "log.parquet", table | columns)


def run(path, **options):
    """The command, its artifact beside the log."""
    return learn(path, **{"out": path.parent / "learnt.json", "action": "w_"} | options)


@pytest.mark.parametrize(
    ("columns", "options", "complaint"),
    [
        ({"reward": np.full(600, 1.0)}, {}, "all 600 rewards are 1"),
        (
            {"retained": np.full(600, 0)},
            {"reward": "retained"},
            "log.parquet: column 'retained': all 600 rewards are 0",
        ),
        (
            {"w_like": np.full(600, 0.5)},
            {},
            "log.parquet: weight 'w_like': all 600 rows played 0.5",
        ),
        *(
            (
                {"user": np.zeros(600)},
                {"cluster": "user", **split},
                "log.parquet: all 600 rows are of one user",
            )
            for split in ({}, {"share": 0.5}, {"folds": 2})
        ),
        ({}, {"folds": 700}, "--folds: expected 2 to 600, one user"),
        ({}, {"share": 1.0}, "strictly between 0 and 1"),
        ({}, {"low": "0.6", "high": "0.1"}, "infeasible constraints: weight 1 of 2"),
        (
            {},
            {"low": "0", "high": "0.3", "total": 1.0},
            "infeasible constraints: the sum must be 1",
        ),
        ({}, {"max_change": "0.1"}, "--production"),
        ({}, {"production": "0.1,0.2,0.3"}, "--production: expected 2 weights"),
        ({}, {"production": "nan,nan"}, "--production: expected finite numbers, got .nan, nan"),
        ({}, {"total": np.nan}, "infeasible constraints: the sum must be finite, got nan"),
        ({}, {"estimator": "dr"}, "unknown estimator"),
        ({}, {"alpha": 1.5}, "alpha"),
        ({}, {"seed": 2**64}, "--seed: expected a whole number from 0 to 2⁶³"),
        ({}, {"guardrails": ["click:-1%"]}, "log.parquet: no column 'click'"),
        ({}, {"guardrails": ["user:1%"]}, "--guardrail: expected NAME:-0.5%"),
        (
            {"spend": np.full(600, 2.0)},
            {"guardrails": ["spend:-1%"]},
            "log.parquet: guardrail 'spend': all 600 rows are 2",
        ),
        ({}, {"pareto": 3}, "--pareto: expected 2 to 100 policies and a guardrail"),
        ({}, {"pareto": 1, "guardrails": ["user:-1%"]}, "--pareto: expected 2 to 100 policies"),
        ({}, {"pareto": 10**9, "guardrails": ["user:-1%"]}, "--pareto: expected 2 to 100 policies"),
        ({}, {"folds": 2, "share": 0.5}, "--folds: expected folds or a share"),
        ({}, {"radius": -1.0}, "--radius: expected a finite number > 0, got -1"),
        ({}, {"radius": np.nan}, "--radius: expected a finite number > 0, got nan"),
    ],
)
def test_bad_input_is_one_line(tmp_path, columns, options, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        run(write_log(tmp_path, **columns), **options)
    assert "\n" not in str(caught.value)


def test_the_seed_is_that_of_the_split(tmp_path, monkeypatch):
    """What would be learnt from, with two seeds."""
    seen = []

    def stop(logs, *_, **__):
        seen.append(np.asarray(logs.reward))
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "propose", stop)
    for seed in (0, 0, 7):
        with pytest.raises(KeyboardInterrupt):
            run(write_log(tmp_path), seed=seed, share=0.5)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


@pytest.mark.parametrize("name", ["log.parquet", "logging.json", "now.json", "log.toml", "part"])
def test_what_is_read_is_not_written_over(tmp_path, name):
    """The log, its description and what that names, the policies: refused, and still there."""
    path = write_log(tmp_path)
    for policy in ("logging.json", "now.json"):
        write_policy(tmp_path / policy, Gaussian.diagonal(MEAN, SCALE))
    (tmp_path / "log.toml").write_text('path = "log.parquet"\nlogging = "logging.json"\n')
    log = tmp_path if name == "part" else tmp_path / "log.toml"
    out = path if name == "part" else tmp_path / name
    before = out.read_bytes()
    with pytest.raises(ValueError, match=f"--out: .*{out.name}, which is read"):
        run(log, out=out, production=str(tmp_path / "now.json"))
    assert out.read_bytes() == before


def test_outputs_are_looked_at_before_anything_is_computed(tmp_path, monkeypatch):
    """A folder, or a report that cannot be: refused; a folder that is not there: made."""
    monkeypatch.setattr(pipeline, "learn", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out: .*, a folder"):
        run(write_log(tmp_path), out=tmp_path)
    with pytest.raises(ValueError, match="report: cannot be written .*--report"):
        run(write_log(tmp_path), report_folder=tmp_path / "file" / "report")
    with pytest.raises(pytest.fail.Exception):
        run(write_log(tmp_path), out=tmp_path / "new" / "learnt.json")
    assert (tmp_path / "new").is_dir()


def test_propensities_must_be_those_of_the_declared_policy(tmp_path):
    declared = write_policy(tmp_path / "logging.json", Gaussian.diagonal(MEAN + 0.05, SCALE))
    with pytest.raises(
        ValueError,
        match="column .propensity., row 1 .* expected the log density of the logging policy, got",
    ):
        run(write_log(tmp_path), propensity="propensity", logging=declared)


def test_what_check_refuses_learn_refuses(tmp_path, capsys):
    """Declared one standard deviation off: exit code 3, nothing to change, and why."""
    declared = write_policy(tmp_path / "logging.json", Gaussian.diagonal(MEAN + SCALE, SCALE))
    log = write_log(tmp_path)
    options = {"logging": declared, "propensity": None, "as_json": True}
    path = write(tmp_path / "no_density.parquet", _without_density(log))
    with pytest.raises(typer.Exit) as caught:
        run(path, **options, **CHEAP)
    document = json.loads(capsys.readouterr().out)
    assert (
        caught.value.exit_code == mopl("check", path, "--action", "w_", "--logging", declared).code
    )
    assert caught.value.exit_code == 3
    assert document["verdict"] == "refuse"
    assert document["advice"] == "keep the current weights"
    assert "not the declared policy" in document["reason"]
    for key in ("certified_gain", "certified_lower_bound", "needed"):
        assert document[key] is None


def test_what_is_refused_promises_nothing_on_the_screen(tmp_path, monkeypatch):
    """No bound is printed, `compare` prints no difference, and `evaluate` says so first."""
    monkeypatch.chdir(tmp_path)
    declared = write_policy(tmp_path / "logging.json", Gaussian.diagonal(MEAN + SCALE, SCALE))
    path = write(tmp_path / "no_density.parquet", _without_density(write_log(tmp_path)))
    roles = (path, "--action", "w_", "--logging", declared)
    cheap = [text for name, value in CHEAP.items() for text in (f"--{name}", value)]
    learnt = mopl("learn", *roles, *cheap)
    certain = [line.split()[-1] for line in learnt.out.splitlines() if "at least" in line]
    assert (learnt.code, set(certain)) == (3, {"none"})
    assert "the log is refused: what a surface makes of it is not to be used" in learnt.out
    target = write_policy(tmp_path / "target.json", Gaussian.diagonal(MEAN, SCALE / 2))
    evaluated = mopl("evaluate", *roles, "--target", target)
    assert (evaluated.code, evaluated.out.splitlines()[0]) == (3, "verdict: refuse")
    compared = mopl("compare", path, "logging", target, *roles[1:])
    row = next(line for line in compared.out.splitlines() if line.split()[:1] == ["target"])
    assert (compared.code, row.split()[1:3]) == (3, ["refused", "none"])


def _without_density(path):
    table = pq.read_table(path).drop_columns(["propensity"])
    return {name: table[name].to_numpy() for name in table.column_names}


def test_a_stale_production_artifact_is_refused(tmp_path):
    path = write_policy(tmp_path / "old.json", Gaussian.diagonal(MEAN, SCALE))
    path.write_text(path.read_text().replace('"mopl_policy": 1', '"mopl_policy": 0'))
    with pytest.raises(ValueError, match="expected policy format 1, got 0"):
        run(write_log(tmp_path), production=str(path))


def test_production_is_matched_by_name(tmp_path, monkeypatch):
    seen = []

    def stop(logs, given, *_):
        seen.append(given.current)
        raise InterruptedError

    monkeypatch.setattr(stages, "cross_fitted", stop)
    for mean, objectives in ((MEAN, ["w_click", "w_like"]), (MEAN[::-1], ["like", "click"])):
        policy = Gaussian.diagonal(mean, 1.0)
        path = write_policy(tmp_path / "now.json", policy, objectives=objectives)
        with pytest.raises(InterruptedError):
            run(write_log(tmp_path), production=str(path))
    assert [now.tolist() for now in seen] == [MEAN.tolist()] * 2


NOTE = {"column": "reward", "formula": "0.5 likes -0.25 shares", "north_star": "days"}
CHEAP = {"estimator": "snips", "certificate": "normal"}  # to compile


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of one run of the command, with its report, and what it printed."""
    folder = tmp_path_factory.mktemp("learnt")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        path = write_log(folder, spend=3 + np.random.default_rng(1).normal(size=600))
        rewarded = pq.read_table(path).replace_schema_metadata(noted(NOTE))
        pq.write_table(rewarded, path)
        options = {"guardrails": ["spend:-10%"], "report_folder": folder / "out"}
        run(path, production="0.2,0.5", **options, **CHEAP)
    return folder, printed.getvalue()


def test_the_artifact_reads_back_and_says_what_to_do(made):
    """What a pipeline reads: the policy, the advice, bounds that are in order."""
    policy, document = read_policy(made[0] / "learnt.json")
    assert isinstance(policy, Mixture)
    assert policy.mean.shape == (2,)
    keep = document["certified_gain_over_production"] <= 0
    assert document["certified_lower_bound"] < document["value"]
    (limit,) = document["guardrails"]
    assert limit["guardrail"] == "spend:-10%"
    assert limit["allowed"] == pytest.approx(-0.1 * limit["production"], rel=1e-6)
    assert limit["certain"] < limit["change"]
    assert limit["holds"] == (limit["certain"] >= limit["allowed"])
    keep = keep or not limit["holds"]
    assert document["advice"] == (
        "keep the current weights" if keep else "change to the learnt weights"
    )
    assert document["production"] == [0.2, 0.5]
    assert document["provenance"]["learnt_metric"] == NOTE  # what the log says of its reward
    assert document["objectives"] == ["w_click", "w_like"]


def test_the_advice_is_the_first_thing_printed(made):
    advice = read_policy(made[0] / "learnt.json")[1]["advice"]
    lines = [line for line in made[1].splitlines() if line.strip()]
    assert lines[0].startswith(f"{advice}: ")
    assert [line for line in lines if line.startswith(advice)] == [
        lines[0]
    ] * 2  # and the last but one


def test_the_report_has_its_figures_and_speaks_in_words(made):
    """Self-contained, advice first, no raw keys."""
    folder = made[0] / "out"
    page = (folder / "index.html").read_text()
    names = [name for name, *_ in figures.FIGURES]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["index.html", *(f"{name}.png" for name in names)]
    )
    assert all((folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    assert page.count("data:image/png;base64,") == len(names) == 4
    assert "http" not in page
    document = read_policy(made[0] / "learnt.json")[1]
    assert page.index(f"<h1>{document['advice']}") < page.index("<table>")
    text = re.sub("base64,[^']*", "", page)
    for words in (
        "production",
        "w_click",
        "best guess",
        "rows that certify",
        "the learnt mean",
        "What the guardrails allow",
        "spend:-10%",
        "guardrails do not bind it",
    ):
        assert words in text
    assert not re.search("surface_p|certified_gain|lower_bound", text)


@pytest.mark.nightly
def test_from_log_to_artifact_and_report(tmp_path):
    """Constraints hold, the certificate is in the artifact, figures are written, users are not
    split.
    """
    run(
        write_log(tmp_path),
        cluster="user",
        high="0.25,1",
        low="-1",
        production="0.2,0.5",
        report_folder=tmp_path / "out",
    )
    policy, document = read_policy(tmp_path / "learnt.json")
    assert isinstance(policy, Mixture)
    assert policy.mean[0] <= 0.25 + 1e-6
    assert document["objectives"] == ["w_click", "w_like"]
    assert document["certified_lower_bound"] < document["value"]
    assert document["certified_gain_over_production"] < document["gain_over_production"]
    assert document["rows"] == {"learning": 600, "certification": 600}
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


@pytest.mark.nightly
def test_folds_are_certified_as_a_mixture(tmp_path, capsys):
    """With a guardrail, a front, and a page that shows both."""
    rng = np.random.default_rng(1)
    path = write_log(tmp_path, spend=3 + rng.normal(size=600))
    table = pq.read_table(path)
    spend = table["spend"].to_numpy() - 10 * (table["w_click"].to_numpy() - MEAN[0])
    path = write_log(tmp_path, spend=spend)
    options = {"guardrails": ["spend:-20%"], "pareto": 3, "report_folder": tmp_path / "out"}
    run(path, folds=2, as_json=True, **options)
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "mixture"
    assert document["certified_lower_bound"] < document["value"]
    assert document["guardrails"][0]["allowed"] == pytest.approx(-0.6, rel=0.2)
    assert document["advice"] in ("keep the current weights", "change to the learnt weights")
    assert len(document["front"]) == 3
    first, *_, last = document["front"]
    assert first["gain"] > last["gain"]
    assert first["outcomes"]["spend"]["change"] < last["outcomes"]["spend"]["change"]
    policy = read_policy(tmp_path / "learnt.json")[0]
    assert isinstance(policy, Mixture)
    assert policy.mean.shape == (2,)
    assert (tmp_path / "out" / "front.png").exists()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "What the guardrails allow" in page
    assert "spend:-20%" in page


@pytest.mark.nightly
def test_an_interrupt_leaves_the_best_policy_so_far(tmp_path, monkeypatch):
    """It asks to stop after the first fold."""
    propose = stages.propose

    def asked(*given, **named):
        signal.raise_signal(signal.SIGINT)
        return propose(*given, **named)

    monkeypatch.setattr(stages, "propose", asked)
    with pytest.raises(typer.Exit) as caught:
        run(write_log(tmp_path))
    assert caught.value.exit_code == 130
    policy, document = read_policy(tmp_path / "learnt.json")
    assert document["interrupted"]
    assert np.isfinite(document["certified_lower_bound"])
    assert np.isfinite(policy.mean).all()


_TWICE = """
import os, signal, sys
from mopl_jax.learning import pipeline, stages
from mopl_jax.cli import main

def propose(*_, **__):
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)

stages.propose = propose
out = os.path.join(os.path.dirname(sys.argv[1]), "learnt.json")
sys.argv = ["mopl", "learn", *sys.argv[1:], "--action", "w_", "--out", out]
main()
"""


def test_a_second_interrupt_ends_at_once_without_a_traceback(tmp_path):
    ended = end(start(_TWICE, write_log(tmp_path)))
    assert ended.code == -signal.SIGINT  # what a shell shows as 130
    assert "interrupt: ends after this stage" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("command", "said"), [("learn", "start it again"), ("coverage", "the same command resumes")]
)
def test_only_what_resumes_says_so(monkeypatch, command, said):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "app", interrupted)
    ended = mopl(command)
    assert ended.code == 130
    assert said in ended.err
