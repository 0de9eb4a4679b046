"""What does each objective cost? ESS/n against the number of objectives, for uniform and for
normal logging.

A platform tries a small change of its scalarisation weights: target N(step·1/√d, width² I), the
step of fixed length in every dimension. Normal logging N(0, I) is compared with the uniform box
of the same variance, [−√3, √3] in each objective. The closed form n/d₂ stands beside the median
Kish ESS of simulated logs; with a d₂ near n no sample can show it.
"""

import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import policies
from mopl_jax.estimators import divergence, ess
from mopl_jax.io import storage
from mopl_jax.numerics import random

RESULTS = Path(__file__).parent / "results"
STEP, WIDTH, ROWS, REPLICATES = 0.5, 0.5, 16_384, 200
DIMENSIONS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


def loggers(d: int) -> dict[str, policies.Policy]:
    """Normal and uniform logging with unit variance in each objective."""
    edge = jnp.full(d, math.sqrt(3))
    return {
        "normal": policies.Gaussian.diagonal(jnp.zeros(d), 1.0),
        "uniform": policies.Uniform(-edge, edge),
    }


@jax.jit
def _kish(keys, logging, target):
    def one(key):
        action = jax.vmap(logging.sample)(random.row_keys(key, ROWS))
        return ess.kish(jax.vmap(lambda a: target.log_density(a) - logging.log_density(a))(action))

    return jax.lax.map(one, keys, batch_size=4)


def rows_for(d: int) -> list[dict]:
    """Population and simulated ESS/n of both loggers in d dimensions."""
    target = policies.Gaussian.diagonal(jnp.full(d, STEP / math.sqrt(d)), WIDTH)
    keys = jax.random.split(jax.random.key(d), REPLICATES)
    rows = []
    for name, logging in loggers(d).items():
        share = np.asarray(_kish(keys, logging, target), float) / ROWS
        low, median, high = np.quantile(share, (0.05, 0.5, 0.95))
        exact = float(1 / divergence.population_d2(logging, target))
        rows.append(
            {
                "d": d,
                "logging": name,
                "n": ROWS,
                "exact": exact,
                "median": median,
                "q05": low,
                "q95": high,
            }
        )
    return rows


def main() -> None:
    """Write results/dimension.parquet."""
    started = time.perf_counter()
    rows = [row for d in DIMENSIONS for row in rows_for(d)]
    config = {"step": STEP, "width": WIDTH, "rows": ROWS, "replicates": REPLICATES}
    about = storage.provenance(study=config, seconds=time.perf_counter() - started)
    storage.write_results(RESULTS / "dimension.parquet", rows, about)
    for row in rows:
        print(
            f"d={row['d']:2} {row['logging']:8} ESS/n {row['exact']:.2e} exact, {row['median']:.2e}"
            " simulated"
        )


if __name__ == "__main__":
    main()
