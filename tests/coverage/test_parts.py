"""Stored parts of a study: used where they are of this study, whole and alone; refused by name
otherwise, never mixed.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import MAIN, assert_refused, end, mopl, start

import mopl_jax as mopl_verbs
from mopl_jax.coverage import run
from mopl_jax.coverage.parts import Parts
from mopl_jax.coverage.replicates import Replicates
from mopl_jax.coverage.run import custom_world
from mopl_jax.io import files

SMALL = {"n": [8, 64], "intervals": ["normal", "ess_exact"], "world": custom_world(d=[2])}
CELL = ("target", "snips")


def study(out=None, replicates=48, **changes):
    return mopl_verbs.coverage_study(out=out, replicates=replicates, **SMALL | changes)


def parts(folder):
    return sorted((folder / "parts").glob("*.npz"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study in two parts, 0 to 31 and 32 to 47."""
    folder = tmp_path_factory.mktemp("made")
    study(folder, 32)
    study(folder, 48)
    assert [path.stem[-5:] for path in parts(folder)] == ["-0-32", "32-48"]
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "out"))


def other(tmp_path, **changes):
    """A part of another study."""
    study(tmp_path / "other", 32, **changes)
    return parts(tmp_path / "other")[0]


def renamed(folder, tmp_path):
    first, _ = parts(folder)
    shutil.copy(first, str(first).replace("-0-32", "-48-80"))
    return "of replicates 0 to 31, not of 48 to 79"


def swapped(folder, tmp_path):
    first, second = parts(folder)
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    return "of replicates 32 to 47, not of 0 to 31"


def of_another_seed(folder, tmp_path):
    shutil.copy(other(tmp_path, seed=7), parts(folder)[0])
    return "of seed 7, not of 0"


def of_another_world(folder, tmp_path):
    shutil.copy(other(tmp_path, world=custom_world(d=[3])), parts(folder)[0])
    return "of world custom-d3, not of custom-d2"


def of_another_study(folder, tmp_path):
    shutil.copy(other(tmp_path, n=[8, 32]), parts(folder)[0])
    return "of study "


def twice(folder, tmp_path):
    study(tmp_path / "other", 40)
    shutil.copy(parts(tmp_path / "other")[0], parts(folder)[0].parent)
    return "0-40.npz: both hold replicate 0; delete one of them"


def cut_off(folder, tmp_path):
    path = parts(folder)[0]
    path.write_bytes(path.read_bytes()[:-100])
    return "0-32.npz: damaged; delete it"


def without_number(folder, tmp_path):
    first, _ = parts(folder)
    first.rename(str(first).replace("-0-32", "-0-many"))
    return "not named as a part of this study"


FAULTS = [
    renamed,
    swapped,
    of_another_seed,
    of_another_world,
    of_another_study,
    twice,
    cut_off,
    without_number,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_parts_that_are_not_of_this_study_are_refused_by_name(fault, folder, tmp_path):
    """One line; the results of before stay."""
    before = (folder / "results.parquet").read_bytes()
    words = fault(folder, tmp_path)
    with pytest.raises(ValueError, match=r"parts/custom-d2-\w+-.*\.npz") as caught:
        study(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / "results.parquet").read_bytes() == before


def test_overlapping_parts_are_refused(made, tmp_path):
    """Those of two machines: 0 to 31 and 16 to 47 would count 16 replicates twice."""
    about = {"seed": 0}
    rng = np.random.default_rng(0)
    stored = Parts(tmp_path, "w", about, "program")
    for begin, stop in ((0, 32), (16, 48)):
        r = stop - begin
        columns = rng.normal(size=(r, 1)), rng.normal(size=(r, 1))
        ends = rng.normal(size=(r, 1, 2)), rng.normal(size=(r, 1, 2))
        stored.save((begin, stop), {CELL: Replicates(*columns, *ends)})
    with pytest.raises(ValueError, match="-0-32.npz and w-.*-16-48.npz: both hold replicate 16"):
        stored.done()


def test_parts_of_another_version_of_the_program_are_refused(folder, monkeypatch):
    monkeypatch.setattr(run, "program", lambda: "mopl_jax 9.9")
    with pytest.raises(ValueError, match=r"of program mopl_jax 0.*, not of mopl_jax 9.9; delete"):
        study(folder)


def test_every_flipped_byte_is_noticed_or_changes_nothing(tmp_path):
    """A part is refused, or is the same to the last bit."""
    rng = np.random.default_rng(3)
    shapes = (2, 1), (2, 1), (2, 1, 1), (2, 1, 1)
    found = {CELL: Replicates(*map(rng.normal, (0,) * 4, (1,) * 4, shapes))}
    stored = Parts(tmp_path, "w", {"seed": 0}, "program")
    stored.save((0, 2), found)
    (path,) = tmp_path.glob("*.npz")
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        try:
            read = stored.load((0, 2))
        except ValueError:
            refused += 1
        else:
            for name, column in vars(found[CELL]).items():
                np.testing.assert_array_equal(vars(read[CELL])[name], column)
    assert refused > len(whole) / 10


def test_names_of_worlds_are_no_paths(tmp_path):
    """A study may call its world what it likes; nothing is written outside the folder."""
    world = custom_world(d=[2]) | {"name": "../../x/\u202e\n" + "y" * 300}
    found = study(tmp_path / "a" / "out", 8, world=world)
    assert {row["world"] for row in found.rows} == {world["name"]}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    (path,) = parts(tmp_path / "a" / "out")
    assert path.parent == tmp_path / "a" / "out" / "parts"
    assert study(tmp_path / "a" / "out", 8, world=world).rows == found.rows


@pytest.mark.parametrize("name", ["parts", "results.parquet", "coverage.png"])
def test_links_out_of_the_folder_are_refused_before_anything_runs(name, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert_refused(mopl("coverage", "--out", tmp_path / "out"), "--out", name, "a link that leads")
    assert list((tmp_path / "elsewhere").iterdir()) == []


RUN = ["--d", "2", "--n", "8,512", "--interval", "normal", "--memory", "0.5", "--json"]


def test_two_runs_in_one_folder_never_mix(tmp_path):
    """Of two processes that start at once one prints the numbers of a run by itself, and the other
    is refused.
    """
    options = [*RUN, "--replicates", "20000"]
    together = [start(MAIN, "coverage", *options, "--out", tmp_path / "both") for _ in range(2)]
    alone = mopl("coverage", *options, "--out", tmp_path / "alone").json["rows"]
    ended = [end(process) for process in together]
    done, refused = sorted(ended, key=lambda x: x.code)
    assert (done.code, done.json["rows"]) == (0, alone)
    assert_refused(refused, "both: another run is writing there")


def test_a_run_waits_for_none_that_has_the_folder(folder):
    with files.claimed(folder):
        ended = end(start(MAIN, "coverage", *RUN, "--out", folder))
    assert_refused(ended, f"{folder}: another run is writing there; wait for its end")
