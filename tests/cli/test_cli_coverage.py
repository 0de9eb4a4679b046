"""`mopl coverage`: what a newcomer and a script see, resuming, and one line for each bad input."""

import json

import numpy as np
import pytest

from mopl_jax.cli import main
from mopl_jax.io import storage

SMALL = ["--n", "8,64", "--d", "2", "--interval", "normal", "--interval", "ess_exact"]


def mopl(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of `mopl coverage`; the precision of the tests
    is put back.
    """
    import jax

    monkeypatch.setattr("sys.argv", ["mopl", "coverage", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    jax.config.update("jax_enable_x64", True)
    out, err = capsys.readouterr()
    return left.value.code, out, err


@pytest.fixture
def run(monkeypatch, capsys):
    return lambda *arguments: mopl(monkeypatch, capsys, *arguments)


def test_writes_table_figure_and_tidy_results(run, tmp_path):
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


def test_misses_and_hits_add_up(run, tmp_path):
    """coverage + miss_below + miss_above = 1, and the Wilson interval contains the coverage."""
    run(*SMALL, "--replicates", 64, "--out", tmp_path)
    for row in storage.read_results(tmp_path / "results.parquet")[0]:
        assert row["coverage"] + row["miss_below"] + row["miss_above"] == pytest.approx(
            1, abs=1e-12
        )
        assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]


def test_resumes_without_recomputing(run, tmp_path, monkeypatch):
    """A second run computes nothing; more replicates compute only what is missing, and the first
    are the same.
    """
    from mopl_jax.coverage import engine as engine

    first = json.loads(run(*SMALL, "--replicates", 64, "--out", tmp_path, "--json")[1])["rows"]
    asked, real = [], engine.run_batch

    def counted(key, world, grid, start, size, mesh, facts):
        asked.append(start)
        return real(key, world, grid, start, size, mesh, facts)

    monkeypatch.setattr(engine, "run_batch", counted)
    again = json.loads(run(*SMALL, "--replicates", 64, "--out", tmp_path, "--json")[1])["rows"]
    assert again == first
    assert asked == []
    run(*SMALL, "--replicates", 128, "--out", tmp_path)
    assert min(asked) == 64


def test_interrupted_runs_keep_what_was_finished(run, tmp_path, monkeypatch):
    """Ctrl-C leaves the finished batches, exit code 130, and no results; the next run ends with the
    same numbers.
    """
    from mopl_jax.coverage import engine as engine

    real = engine.run_batch

    def second_batch_never_ends(key, world, grid, start, size, mesh, facts):
        if start > 0:
            raise KeyboardInterrupt
        return real(key, world, grid, start, size, mesh, facts)

    options = [*SMALL, "--replicates", 128, "--memory", 0.001, "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_batch", second_batch_never_ends)
        assert run(*options, "--out", tmp_path / "killed")[0] == 130
    assert list((tmp_path / "killed" / "parts").glob("*.npz"))
    assert not (tmp_path / "killed" / "results.parquet").exists()
    resumed = json.loads(run(*options, "--out", tmp_path / "killed")[1])["rows"]
    assert resumed == json.loads(run(*options, "--out", tmp_path / "whole")[1])["rows"]


def test_same_numbers_whatever_the_memory(run, tmp_path):
    """The batch size never changes a digit."""
    little, much = (
        json.loads(
            run(
                *SMALL,
                "--replicates",
                96,
                "--memory",
                memory,
                "--out",
                tmp_path / str(memory),
                "--json",
            )[1]
        )
        for memory in (0.001, 64)
    )
    assert little["rows"] == much["rows"]


def test_x64_evaluates_the_same_logs(run, tmp_path):
    """float64 sees the same draws: effective sample sizes agree to float32 rounding."""
    single, double = (
        json.loads(run(*SMALL, "--replicates", 32, "--out", tmp_path / str(i), "--json", *x64)[1])
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
def test_bad_input_is_one_line(case, run, tmp_path):
    """Exit code 2, one line on standard error, nothing half-written."""
    options, complaint = BAD[case]
    code, _, err = run(*options, "--out", tmp_path / "out")
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
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
def test_bad_studies_are_one_line(case, run, tmp_path):
    """A study that cannot be says which entry, what was expected and what was found."""
    text, complaint = STUDIES[case]
    (tmp_path / "study.toml").write_text(text if text.startswith("n") else f"n = [8]\n{text}")
    code, _, err = run("--config", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("noise", ["bernoulli", "zero_inflated"])
def test_noises_with_a_range_come_with_a_mean_that_suits(noise, run, tmp_path):
    """By flags alone: the oracle's interval covers, so the truth is that of the rewards."""
    small = ("--d", 2, "--n", 512, "--replicates", 200, "--interval", "normal", "--json")
    code, out, _ = run("--noise", noise, *small, "--out", tmp_path)
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert row["coverage"] > 0.85


def test_folder_that_cannot_be_written(run, tmp_path):
    """An output folder under a file is refused before anything runs."""
    (tmp_path / "file").write_text("")
    code, _, err = run("--out", tmp_path / "file" / "out")
    assert code == 2
    assert "cannot be written" in err
