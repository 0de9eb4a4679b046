"""Sweeps over devices and processes: bit for bit the numbers of one device."""

import socket

import pytest
from command import MAIN, assert_refused, end, start

STUDY = [
    "--d",
    "3",
    "--n",
    "8,64,256",
    "--replicates",
    "40",
    "--interval",
    "normal",
    "--interval",
    "ess_exact",
    "--json",
]

MESHES = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from jax.sharding import Mesh
from mopl_jax.coverage import engine
from mopl_jax.coverage import study
changes = {"n": [8, 512], "intervals": ["normal", "ess_exact"]}
plan = study.build(study.read(study.DEFAULT) | changes)
world = plan.worlds[-1]
cells = []
for devices in (1, 2, 4, 8):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("r",))
    size = engine.chunk(512) * 8
    cells.append(next(engine.run(jax.random.key(0), world, plan.grid, (0, size), size, mesh)))
for other in cells[1:]:
    jax.tree.map(np.testing.assert_array_equal, cells[0], other)
print("equal")
"""


def started(*options):
    return start(MAIN, "coverage", *STUDY, *options)


def test_one_two_four_and_eight_devices_agree_bit_for_bit():
    """Values and differences do not depend on how many devices share the replicates."""
    ended = end(start(MESHES))
    assert ended.out.strip() == "equal", ended.err[-2000:]


def test_two_processes_agree_with_one_bit_for_bit(tmp_path):
    """Two processes that meet over loopback print what one process prints."""
    alone = end(started("--out", tmp_path / "one"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    job = [
        "--coordinator",
        meeting,
        "--processes",
        2,
        "--devices",
        1,
        "--out",
        tmp_path / "two",
        "--process",
    ]
    pair = [end(process) for process in [started(*job, i) for i in (0, 1)]]
    assert [ended.code for ended in pair] == [0, 0], pair[0].err[-2000:]
    assert pair[0].json["rows"] == alone.json["rows"]
    assert pair[1].out == ""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--devices", "0"], "--devices: expected 'all' or a number from 1"),
        (["--devices", "100000"], "--devices: expected 'all' or a number from 1 to 1024"),
        (["--coordinator", "127.0.0.1:1"], "together, got only --coordinator"),
    ],
)
def test_impossible_jobs_are_one_line(options, complaint, tmp_path):
    """A device count or a job that cannot be is refused before anything runs."""
    assert_refused(end(started(*options, "--out", tmp_path), timeout=120), complaint)
