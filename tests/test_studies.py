"""Studies: what they declare, their tables from what is stored, the judge, the house's measures."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import _judge, _study, house

STUDIES = _study.studies()
STORED = [study for study in STUDIES.values() if study.stored()]


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.name)
def test_a_study_asks_a_question_and_has_tiny_sizes_of_its_options(study):
    assert "?" in study.question
    assert callable(study.module.run)
    assert set(study.attribute("QUICK", {})) <= set(study.attribute("SIZES", {}))
    sizes = _study.options(study, ["--quick", "--out", "elsewhere"])
    for name, value in study.attribute("QUICK", {}).items():
        assert getattr(sizes, name) == value


@pytest.mark.parametrize("study", STORED, ids=lambda study: study.name)
def test_the_table_is_made_from_the_stored_rows(study):
    assert _study.table(study) == (_study.RESULTS / f"{study.name}.md").read_text()


def test_tiny_runs_do_not_overwrite_stored_results(capsys):
    with pytest.raises(SystemExit):
        _study.options(STUDIES["dimension"], ["--quick"])
    assert "expected --out FOLDER" in capsys.readouterr().err


def test_options_are_read_as_their_defaults_are():
    chosen = _study.options(STUDIES["dimension"], ["--d", "1,7", "--replicates", "3"])
    assert (chosen.d, chosen.replicates, chosen.n) == ((1, 7), 3, 16_384)


@pytest.mark.parametrize("name", ["asos", "monitoring", "guardrails"])
def test_data_may_be_named_without_its_option(name):
    for arguments in (["data/x.csv", "--out", "o"], ["--out", "o", "--path", "data/x.csv"]):
        assert _study.options(STUDIES[name], arguments).path == Path("data/x.csv")


def test_rows_are_stored_with_sizes_and_what_is_said_of_them(tmp_path):
    _study.store(tmp_path / "x.parquet", _study.Rows([{"n": 1}], floor=2.5), {"rounds": 3}, 0.0)
    stored = _study.read("x", tmp_path)
    assert stored == [{"n": 1}]
    assert (stored.about["floor"], stored.about["sizes"]) == (2.5, {"rounds": 3})
    assert {"versions", "device", "seconds"} <= stored.about.keys()


def test_a_share_fails_beyond_two_standard_errors_of_its_aim():
    """0.9 of 900 replicates has a standard error of 0.01."""
    assert not _judge.fails(0.8801, 0.9, 900)
    assert _judge.fails(0.8799, 0.9, 900)
    row = {"miss_above": 0.1201, "miss_below": 0.1199, "replicates": 900}
    assert _judge.bound_fails(row, "miss_above", 0.2)
    assert not _judge.bound_fails(row, "miss_below", 0.2)


def test_figures_are_drawn_without_jax(tmp_path):
    draw = "figures.save('dimension', pathlib.Path(sys.argv[1]))"
    program = f"import pathlib, sys, figures; {draw}; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=_study.HERE.parent)
    assert done.returncode == 0
    assert (tmp_path / "dimension.png").stat().st_size > 0


def test_code_tokens_leave_out_comments_docstrings_and_layout():
    text = '"""Says."""\n\n\ndef f(x):  # why\n    """Gives."""\n    return "x" + x\n'
    assert [word for _, word in house.code_tokens(text)] == [
        *("def", "f", "(", "x", ")", ":"),
        *("return", '"x"', "+", "x"),
    ]


def test_floors_are_the_longest_chain_and_circles_are_found():
    chain, circle = house.longest({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert (chain, circle) == (["a", "b", "c"], False)
    chain, circle = house.longest({"a": {"b"}, "b": {"a"}})
    assert circle
    assert {"a", "b"} == set(chain)
