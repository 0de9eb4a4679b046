"""How fast is the simulated platform? Users a second with 100 candidates each, one device for each
core; compile time apart.
"""

import time

import jax
import jax.numpy as jnp

from benchmarks import _study
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import online, recommender

SIZES = {"users": 2**17, "rounds": 5}
QUICK = {"users": 2**10, "rounds": 2}


def run(options) -> _study.Rows:
    """Wall and processor seconds of each round."""
    mesh = devices.start()
    platform = recommender.short_video()
    policy = Gaussian.diagonal(jnp.asarray(recommender.PRODUCTION), 0.4)
    play = lambda seed, users: online.play(  # noqa: E731
        platform, policy, jax.random.key(seed), (0, users), mesh
    )
    started = time.perf_counter()
    play(0, 1)
    first = time.perf_counter() - started
    rows = [_timed(play, number, options.users) for number in range(options.rounds)]
    about = {"candidates": platform.candidates, "slate": platform.slate}
    about |= {"users": options.users, "objectives": len(policy.mean)}
    return _study.Rows(rows, study=about, first_call_seconds=first)


def _timed(play, number, users):
    wall, processor = time.perf_counter(), time.process_time()
    play(number, users)
    took = time.perf_counter() - wall, time.process_time() - processor
    return {"seconds": took[0], "processor": took[1], "users": users}


def table(rows: _study.Rows) -> str:
    """Of the fastest round."""
    speeds = [max(row["users"] / row[key] for row in rows) for key in ("seconds", "processor")]
    head = ("users a second", "users a processor second", "seconds of the first call")
    line = [*(f"{x:,.0f}" for x in speeds), rows.about["first_call_seconds"]]
    return _study.markdown(head, [line], "r")
