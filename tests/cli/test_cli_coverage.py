"""`mopl coverage`: what a newcomer and a script see, resuming, and one line for each bad input."""

import time
from unittest import mock

import numpy as np
import pytest
from command import assert_refused, mopl
from yardsticks import binomial_tail

from mopl_jax.coverage import engine
from mopl_jax.io import storage

SMALL = ["--n", "8,64", "--d", "2", "--interval", "normal", "--interval", "ess_exact"]


def run(*arguments):
    return mopl("coverage", *arguments)


def rows_of(*arguments):
    """The rows of the JSON document of `mopl coverage`."""
    return run(*arguments, "--json").json["rows"]


def test_writes_table_figure_and_tidy_results(tmp_path):
    """The table names every interval and fits 100 columns; the results carry provenance and read
    back.
    """
    code, out, _ = run(*SMALL, "--replicates", 64, "--out", tmp_path)
    assert code == 0
    assert "ess_exact" in out
    assert max(map(len, out.splitlines())) <= 100
    rows, about = storage.read_results(tmp_path / "results.parquet")
    assert {(row["n"], row["interval"]) for row in rows} == {
        (n, i) for n in (8, 64) for i in ("normal", "ess_exact")
    }
    assert about["study"]["replicates"] == 64
    assert about["versions"]["jax"]
    assert (tmp_path / "coverage.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "coverage.svg").exists()


def test_a_long_study_is_announced_before_it_starts(tmp_path):
    """2,000 logs of 32,768 rows of 1000 weights and 10 more numbers, 50 million a second."""
    with mock.patch.object(engine, "run", side_effect=ValueError("here it would run")):
        ended = run("--d", 1000, "--out", tmp_path / "long")
        short = run(*SMALL, "--replicates", 64, "--out", tmp_path / "short")
    first, last = ended.err.splitlines()[0], ended.err.splitlines()[-1]
    assert first.startswith("mopl: this study: about 22 minutes on a core (fewer by")
    assert (ended.code, last) == (2, "mopl: here it would run")
    assert "minutes on a core" not in short.err


@pytest.mark.nightly
def test_a_thousand_weights_are_compiled_in_seconds(tmp_path):
    """A minute was not enough, when all numbers of a row were written out."""
    began = time.perf_counter()
    assert run("--d", 1000, "--n", 8, "--replicates", 8, "--out", tmp_path).code == 0
    assert time.perf_counter() - began < 60


def test_misses_and_hits_add_up(tmp_path):
    """coverage + miss_below + miss_above = 1, and the Wilson interval contains the coverage."""
    run(*SMALL, "--replicates", 64, "--out", tmp_path)
    for row in storage.read_results(tmp_path / "results.parquet")[0]:
        assert row["coverage"] + row["miss_below"] + row["miss_above"] == pytest.approx(
            1, abs=1e-12
        )
        assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]


def test_resumes_without_recomputing(tmp_path, monkeypatch):
    """A second run computes nothing; more replicates compute only what is missing, and the first
    are the same.
    """
    from mopl_jax.coverage import engine as engine

    first = rows_of(*SMALL, "--replicates", 64, "--out", tmp_path)
    asked, real = [], engine.run_batch

    def counted(key, world, grid, start, size, mesh, facts):
        asked.append(start)
        return real(key, world, grid, start, size, mesh, facts)

    monkeypatch.setattr(engine, "run_batch", counted)
    again = rows_of(*SMALL, "--replicates", 64, "--out", tmp_path)
    assert again == first
    assert asked == []
    run(*SMALL, "--replicates", 128, "--out", tmp_path)
    assert min(asked) == 64


def test_interrupted_runs_keep_what_was_finished(tmp_path, monkeypatch):
    """Ctrl-C leaves the finished batches, exit code 130, and no results; the next run ends with the
    same numbers.
    """
    from mopl_jax.coverage import engine as engine

    real = engine.run_batch

    def second_batch_never_ends(key, world, grid, start, size, mesh, facts):
        if start > 0:
            raise KeyboardInterrupt
        return real(key, world, grid, start, size, mesh, facts)

    options = [*SMALL, "--replicates", 128, "--memory", 0.001]
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_batch", second_batch_never_ends)
        assert run(*options, "--out", tmp_path / "killed").code == 130
    assert list((tmp_path / "killed" / "parts").glob("*.npz"))
    assert not (tmp_path / "killed" / "results.parquet").exists()
    resumed = rows_of(*options, "--out", tmp_path / "killed")
    assert resumed == rows_of(*options, "--out", tmp_path / "whole")


def test_same_numbers_whatever_the_memory(tmp_path):
    """The batch size never changes a digit."""
    options = [*SMALL, "--replicates", 96]
    little, much = (
        rows_of(*options, "--memory", memory, "--out", tmp_path / str(memory))
        for memory in (0.001, 64)
    )
    assert little == much


def test_x64_evaluates_the_same_logs(tmp_path):
    """float64 sees the same draws: effective sample sizes agree to float32 rounding."""
    single, double = (
        run(*SMALL, "--replicates", 32, "--out", tmp_path / str(i), "--json", *x64).json
        for i, x64 in enumerate(([], ["--x64"]))
    )
    assert double["provenance"]["dtype"] == "float64"
    for a, b in zip(single["rows"], double["rows"], strict=True):
        np.testing.assert_allclose(a["ess_median"], b["ess_median"], rtol=1e-4)


BAD = {
    "alpha": (["--alpha", "1"], "expected alpha strictly between 0 and 1"),
    "interval": (["--interval", "ess_exat"], "did you mean 'ess_exact'?"),
    "estimator": (["--estimator", "snip"], "did you mean 'snips'?"),
    "noise": (["--noise", "normall"], "did you mean 'normal'?"),
    "sizes": (["--n", "8,many"], "--n: expected whole numbers"),
    "one row": (["--n", "1"], "at least 2"),
    "replicates": (["--replicates", "0"], "at least 2"),
    "scale": (["--target-scale", "-1"], "key 'scale': expected numbers > 0, got -1.0"),
    "memory": (["--memory", "0"], "--memory: expected a positive"),
    "unknown option": (["--intervall", "x"], "No such option"),
    "config": (["--config", "absent.toml"], "cannot be read"),
    "no facts": (
        ["--interval", "hoeffding", "--d", "2"],
        "without reward_range; add one that needs none",
    ),
    "probabilities": (
        ["--noise", "bernoulli", "--reward", "linear"],
        "mean rewards in [0, 1], the range of this noise",
    ),
    "watch time": (["--noise", "zero_inflated", "--reward", "linear"], "mean rewards in [0, inf]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, tmp_path):
    """Exit code 2, one line on standard error, nothing half-written."""
    options, complaint = BAD[case]
    assert_refused(run(*options, "--out", tmp_path / "out"), complaint)
    assert not (tmp_path / "out" / "results.parquet").exists()


STUDIES = {
    "not toml": ("n = [8", "not valid TOML"),
    "no world": ("n = [8]", "at least one [[world]]"),
    "unknown key": ("n = [8]\nreplicats = 3", "did you mean 'replicates'?"),
    "covariance": (
        (
            '[[world]]\nname = "w"\nd = [2]\nreward = {kind = "linear"}\nnoise = {kind ='
            ' "normal"}\nlogging = {kind = "normal", covariance = [[1.0, 2.0], [2.0,'
            " 1.0]]}\ntarget.t = {mean = 0.0, scale = 1.0}"
        ),
        "logging: key 'covariance': expected a positive definite matrix",
    ),
    "dimension": (
        (
            '[[world]]\nname = "w"\nd = [2]\nreward = {kind = "linear"}\nnoise = {kind ='
            ' "normal"}\nlogging = {kind = "normal", scale = 1.0}\ntarget.t = {mean = [0.0, 1.0,'
            " 2.0], scale = 1.0}"
        ),
        "world 'w' at d=2: target 't': key 'mean': expected 2 numbers, got shape (3,)",
    ),
    "difference": (
        (
            '[[world]]\nname = "w"\nd = [2]\nreward = {kind = "linear"}\nnoise = {kind ='
            ' "normal"}\nlogging = {kind = "normal", scale = 1.0}\ntarget.t = {mean = 0.0, scale ='
            ' 1.0}\ndifferences = [["t", "u"]]'
        ),
        "unknown target",
    ),
}


@pytest.mark.parametrize("case", STUDIES)
def test_bad_studies_are_one_line(case, tmp_path):
    """A study that cannot be says which entry, what was expected and what was found."""
    text, complaint = STUDIES[case]
    (tmp_path / "study.toml").write_text(text if text.startswith("n") else f"n = [8]\n{text}")
    ended = run("--config", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert_refused(ended, complaint)


@pytest.mark.parametrize("noise", ["bernoulli", "zero_inflated"])
def test_noises_with_a_range_come_with_a_mean_that_suits(noise, tmp_path):
    """By flags alone: the oracle's interval covers, so the truth is that of the rewards."""
    small = ("--d", 2, "--n", 512, "--replicates", 200, "--interval", "normal")
    (row,) = rows_of("--noise", noise, *small, "--out", tmp_path)
    assert binomial_tail(round(row["coverage"] * 200), 200, 0.95) > 1e-3


def test_folder_that_cannot_be_written(tmp_path):
    """An output folder under a file is refused before anything runs."""
    (tmp_path / "file").write_text("")
    assert_refused(run("--out", tmp_path / "file" / "out"), "cannot be written")
