"""Logs over a mesh: the numbers of one device, whatever the devices, the processes and where the
rows happen to lie.
"""

import socket

import numpy as np
import pytest
from command import end, start
from worlds import write

from mopl_jax.evaluation import sharded

COMMON = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from mopl_jax.numerics import devices
from mopl_jax import estimators
from mopl_jax import intervals
from mopl_jax.evaluation import sharded
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian

def target(mean):
    return Gaussian.diagonal(mean, 0.7)

@jax.jit
def computed(spread, mean):
    sums = {name: sharded.moments(spread, target(mean), f) for name, f in NAMED.items()}
    objective = lambda mean: sharded.bound(spread, target(mean), intervals.ess_exact, 0.05)
    return sums, *jax.value_and_grad(objective)(mean)

def found(spread):
    sums, value, slope = computed(spread, jnp.full(3, 0.2))
    kept = ("n", "value", "sum_p2", "max_p", "influence", "residual", "hc3", "exact", "df")
    return {name: [float(getattr(s, k)) for k in kept] for name, s in sums.items()} | {
        "bound": float(value), "slope": np.asarray(slope).tolist()}
"""

MESHES = (
    COMMON
    + """
NAMED = {"snips": estimators.snips, "ips": estimators.ips}
from jax.sharding import Mesh
from mopl_jax.logs import Logs
jax.config.update("jax_num_cpu_devices", 4)
rng = np.random.default_rng(0)
action = rng.normal(size=(1003, 3)).astype(np.float32)
reward = action.mean(1) + rng.normal(size=1003).astype(np.float32)
logs = Logs(jnp.asarray(action), jnp.asarray(-0.5 * (action**2).sum(1) - 2.75), jnp.asarray(reward))

def alone(mean):
    estimate = estimators.snips(log_weights(target(mean), logs), logs.reward)
    return intervals.ess_exact(estimate, 0.1).lower

@jax.jit
def whole(mean):
    log_weight = log_weights(target(mean), logs)
    sums = {name: intervals.moments_of(f(log_weight, logs.reward)) for name, f in NAMED.items()}
    return sums, *jax.value_and_grad(alone)(mean)

expected, value, slope = whole(jnp.full(3, 0.2))
for k in (2, 4):
    got = found(sharded.spread(logs, Mesh(np.array(jax.devices()[:k]), ("r",))))
    for name, s in expected.items():
        kept = ("n", "value", "sum_p2", "max_p", "influence", "residual", "hc3", "exact", "df")
        wanted = [float(getattr(s, x)) for x in kept]
        np.testing.assert_allclose(got[name], wanted, rtol=1e-5, err_msg=f"{name} {k}")
    np.testing.assert_allclose(got["bound"], float(value), rtol=1e-5)
    np.testing.assert_allclose(got["slope"], slope, rtol=1e-4, atol=1e-6)
print("equal")
"""
)

PROCESS = (
    COMMON
    + """
NAMED = {"snips": estimators.snips}
path, meeting, processes, process = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
mesh = devices.start("1", meeting, processes, process) if processes > 1 else devices.start("1")
logs = sharded.read_own_rows(path, action="w_", reward="reward", log_propensity="log_propensity")
result = found(sharded.spread(logs, mesh)) | {"own": len(logs.reward)}
print(json.dumps(result), file=sys.stdout, flush=True)
"""
)


def printed(process):
    ended = end(process)
    assert ended.code == 0, ended.err[-2000:]
    return ended


def test_two_and_four_devices_agree_with_one():
    """Moments of SNIPS and IPS, the bound and its gradient equal those of one vector, for rows that
    do not divide.
    """
    assert printed(start(MESHES)).out.strip() == "equal"


def test_two_processes_that_read_their_own_row_groups_agree_with_one(tmp_path):
    """Two processes with unequal shares of a Parquet file find what one finds, to 1e-5, and both
    the same.
    """
    rng = np.random.default_rng(1)
    action = rng.normal(size=(700, 3))
    columns = {f"w_{i}": action[:, i] for i in range(3)} | {
        "reward": action.mean(1) + rng.normal(size=700)
    }
    columns["log_propensity"] = -0.5 * (action**2).sum(1) - 1.5 * np.log(2 * np.pi)
    write(tmp_path / "log.parquet", columns, row_group_size=300)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    alone = printed(start(PROCESS, tmp_path / "log.parquet", meeting, 1, 0)).json
    pair = [start(PROCESS, tmp_path / "log.parquet", meeting, 2, i) for i in (0, 1)]
    both = [printed(process).json for process in pair]
    assert sorted(each.pop("own") for each in both) == [300, 400]
    assert alone.pop("own") == 700
    assert both[0] == both[1]
    for name, expected in alone.items():
        np.testing.assert_allclose(
            both[0][name], expected, rtol=1e-4 if name == "slope" else 1e-5, atol=1e-7
        )


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "sizes", [[1] * 7, [100, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 100], [5, 9, 2, 8, 1, 7, 3]]
)
def test_row_groups_are_shared_out(sizes, processes):
    """Every row group has exactly one owner, in order, and every process has some."""
    shares = [sharded.share(sizes, i, processes) for i in range(processes)]
    assert [group for own in shares for group in own] == list(range(len(sizes)))
    assert all(len(own) for own in shares)
