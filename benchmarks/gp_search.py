"""Does sequential search learn better weights than one log, at equal users? Thompson sampling
under a Gaussian process (BoTorch).

The worlds of `benchmarks/_north_stars.py` at d = 5. A search spends its n users in ROUNDS rounds of
BATCH weight vectors, each played exactly by n / (ROUNDS · BATCH) users; the first round is a
Sobol design in the ball, later ones are Thompson draws over a fresh Sobol set. In the end it
names the maximum of the posterior mean. Regret is that of the weights played exactly, as there.
It can adapt, which a log cannot; it serves weights nobody has certified. Needs the extra
`search` (`pip install mopl_jax[search]`).
"""

import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._north_stars import BASE, NOISES, RADIUS, best, worlds

SIZES = {"replicates": 10, "n": (4000,)}
QUICK = {"replicates": 2, "n": (160,)}
NEEDS = {"botorch": "pip install mopl_jax[search]"}
D = 5
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
    tried = np.concatenate([tried, pool])  # pyright: ignore[reportPossiblyUnboundVariable]
    return RADIUS * _highest(model, tried / RADIUS)  # pyright: ignore[reportPossiblyUnboundVariable]


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


def run(options) -> _study.Rows:
    """Median regret, its mean, and its 10 and 90 % quantiles."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = (row for name, world in worlds(D).items() for row in _of_world(name, world, options))
    return _study.Rows(rows, rounds=ROUNDS, batch=BATCH)


def _of_world(name, world, options) -> Iterator[dict]:
    top, nothing = best(world, D)
    f = jax.jit(jax.vmap(world))
    for kind, noise in NOISES.items():
        for users in options.n:
            about = {"world": name, "noise": kind, "d": D, "n": users}
            about |= {"replicates": options.replicates, "nothing": top - nothing}
            named = [search(f, noise, users, seed) for seed in range(options.replicates)]
            yield about | _summary(top - np.asarray(f(jnp.asarray(named, jnp.float32)), float))


def _summary(regret):
    low, middle, high = map(float, np.quantile(regret, (0.1, 0.5, 0.9)))
    row = {"regret": middle, "regret_mean": float(regret.mean())}
    return row | {"regret_q10": low, "regret_q90": high}
