"""Learning from one log against sequential search: Thompson sampling under a Gaussian process
(BoTorch), at equal users.

The worlds of `benchmarks/learning.py` at d = 5. A search spends its n users in ROUNDS rounds of
BATCH weight vectors, each played exactly by n / (ROUNDS · BATCH) users; the first round is a
Sobol design in the ball, later ones are Thompson draws over a fresh Sobol set. In the end it
names the maximum of the posterior mean. Regret is that of the weights played exactly, as there.
It can adapt, which a log cannot; it serves weights nobody has certified. Needs the extra
`search` (`pip install mopl_jax[search]`).
"""

import importlib.util
import json
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learning import BASE, NOISES, RADIUS, best, worlds
from mopl_jax.io import storage

RESULTS = Path(__file__).parent / "results"
D, USERS, REPLICATES = 5, (4_000,), 10
ROUNDS, BATCH, POOL = 10, 8, 1024


def in_ball(count: int, seed: int) -> np.ndarray:
    """A scrambled Sobol set, uniform in the ball of RADIUS."""
    from scipy.stats import norm, qmc

    u = np.clip(qmc.Sobol(D + 1, rng=seed).random(count), 1e-6, 1 - 1e-6)
    way = norm.ppf(u[:, :D])
    return RADIUS * u[:, D:] ** (1 / D) * way / np.linalg.norm(way, axis=1, keepdims=True)


def measured(f, noise, weights, users: int, rng: np.random.Generator):
    """Mean rewards of `users` users for each weight vector, and their variances, in units of f."""
    mean = np.asarray(f(jnp.asarray(weights, jnp.float32)), float)
    if noise[0] > 0:
        rate = np.clip(BASE + noise[1] * mean, 0, 1)
        share = rng.binomial(users, rate) / users
        spread = np.maximum(share * (1 - share), 1 / users) / users / noise[1] ** 2
        return (share - BASE) / noise[1], spread
    return mean + noise[1] / users**0.5 * rng.normal(size=mean.shape), np.full(
        mean.shape, noise[1] ** 2 / users
    )


def search(f, noise, users: int, seed: int) -> np.ndarray:
    """The weights (d,) that a search names after `users` users."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.generation import MaxPosteriorSampling
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import ExactMarginalLogLikelihood

    rng, each = np.random.default_rng(seed), users // (ROUNDS * BATCH)
    tried = in_ball(BATCH, seed)
    seen, spread = measured(f, noise, tried, each, rng)
    torch.manual_seed(seed)
    for number in range(1, ROUNDS + 1):
        at, reward, variance = (
            torch.tensor(x) for x in (tried / RADIUS, seen[:, None], spread[:, None])
        )
        model = SingleTaskGP(at, reward, variance, outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pool = in_ball(POOL, 1000 * seed + number)
        if number == ROUNDS:
            break
        pick = MaxPosteriorSampling(model, replacement=False)(
            torch.tensor(pool / RADIUS), num_samples=BATCH
        )
        new = RADIUS * pick.detach().numpy()
        more = measured(f, noise, new, each, rng)
        tried, seen, spread = (
            np.concatenate([tried, new]),
            np.append(seen, more[0]),
            np.append(spread, more[1]),
        )
    return RADIUS * _highest(model, np.concatenate([tried, pool]) / RADIUS)


def _highest(model, starts):
    """The maximum of the posterior mean in the unit ball, by ascent from the best twenty starts."""
    import torch

    with torch.no_grad():
        mean = model.posterior(torch.tensor(starts)).mean.squeeze(-1)
    x = torch.tensor(starts)[mean.topk(20).indices].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        (-model.posterior(x).mean.sum()).backward()
        optimiser.step()
        with torch.no_grad():
            x /= torch.clamp(x.norm(dim=1, keepdim=True), min=1)
    return x[model.posterior(x).mean.squeeze(-1).argmax()].detach().numpy()


def main() -> None:
    """Write results/gp_search.json: median regret, and its 10 and 90 % quantiles."""
    if importlib.util.find_spec("botorch") is None:
        print("not run: BoTorch is not installed (pip install mopl_jax[search])", file=sys.stderr)
        return
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows, started = [], time.perf_counter()
    for name, world in worlds(D).items():
        top, nothing = best(world, D)
        f = jax.jit(jax.vmap(world))
        for (kind, noise), users in ((pair, n) for pair in NOISES.items() for n in USERS):
            named = [search(f, noise, users, seed) for seed in range(REPLICATES)]
            regret = top - np.asarray(f(jnp.asarray(named, jnp.float32)), float)
            low, middle, high = np.quantile(regret, (0.1, 0.5, 0.9))
            rows.append(
                {
                    "world": name,
                    "noise": kind,
                    "d": D,
                    "n": users,
                    "replicates": REPLICATES,
                    "nothing": top - nothing,
                }
            )
            rows[-1] |= {
                "regret": middle,
                "regret_mean": regret.mean(),
                "regret_q10": low,
                "regret_q90": high,
            }
            print(
                f"{name} {kind} n={users}: {middle:.4f} ({time.perf_counter() - started:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    document = storage.provenance(
        rounds=ROUNDS, batch=BATCH, seconds=time.perf_counter() - started
    ) | {"rows": rows}
    (RESULTS / "gp_search.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
