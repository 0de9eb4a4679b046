"""Sweeps over devices and processes: bit for bit the numbers of one device."""

import json
import socket
import subprocess
import sys

import pytest

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


def command(*options):
    return [
        sys.executable,
        "-c",
        "from mopl_jax.cli import main; main()",
        "coverage",
        *STUDY,
        *map(str, options),
    ]


def rows(output):
    return json.loads(output)["rows"]


def test_one_two_four_and_eight_devices_agree_bit_for_bit():
    """Values and differences do not depend on how many devices share the replicates."""
    done = subprocess.run(
        [sys.executable, "-c", MESHES], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_two_processes_agree_with_one_bit_for_bit(tmp_path):
    """Two processes that meet over loopback print what one process prints."""
    alone = subprocess.run(
        command("--out", tmp_path / "one"), capture_output=True, text=True, timeout=300
    )
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
    pair = [
        subprocess.Popen(
            command(*job, i), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for i in (0, 1)
    ]
    outputs = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs[0][1][-2000:]
    assert rows(outputs[0][0]) == rows(alone.stdout)
    assert outputs[1][0] == ""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--devices", "0"], "--devices: expected a positive number"),
        (["--coordinator", "127.0.0.1:1"], "together, got only --coordinator"),
    ],
)
def test_impossible_jobs_are_one_line(options, complaint, tmp_path):
    """A device count or a job that cannot be is refused before anything runs."""
    done = subprocess.run(
        command(*options, "--out", tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
