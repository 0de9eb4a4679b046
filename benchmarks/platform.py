"""How fast is the simulated platform? Users a second with 100 candidates each, one device for each
core; compile time apart.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp

from mopl_jax.io import storage
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import online, recommender

RESULTS = Path(__file__).parent / "results"
USERS, ROUNDS = 2**17, 5


def main() -> None:
    """Write results/platform.parquet: wall and processor seconds of each round."""
    mesh = devices.start()
    platform = recommender.short_video()
    policy = Gaussian.diagonal(jnp.asarray(recommender.PRODUCTION), 0.4)
    started = time.perf_counter()
    online.play(platform, policy, jax.random.key(0), (0, 1), mesh)
    first = time.perf_counter() - started
    rows = [_timed(platform, policy, jax.random.key(number), mesh) for number in range(ROUNDS)]
    config = {
        "users": USERS,
        "candidates": platform.candidates,
        "slate": platform.slate,
        "objectives": len(policy.mean),
    }
    about = storage.provenance(study=config, first_call_seconds=first)
    storage.write_results(RESULTS / "platform.parquet", rows, about)
    best = min(rows, key=lambda row: row["seconds"])
    print(
        f"{USERS / best['seconds']:,.0f} users a second on {mesh.size} devices (fastest of {ROUNDS}"
        " rounds)"
    )
    print(
        f"{USERS / min(row['processor'] for row in rows):,.0f} users a processor second; first call"
        f" {first:.1f} s"
    )


def _timed(platform, policy, key, mesh):
    wall, processor = time.perf_counter(), time.process_time()
    online.play(platform, policy, key, (0, USERS), mesh)
    return {
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "users": USERS,
    }


if __name__ == "__main__":
    main()
