"""How good are the weights that are learnt, and does the certificate hold? Regret against n,
beside other learners.

Worlds: an exactly quadratic North Star (where a quadratic response surface is the right model),
and three where it is not: one that saturates, one with two peaks, one with a crest. Rewards are
a learnt metric (normal noise, standard deviation 0.5) or a retention bit (Bernoulli, 0.7 + 0.15
f: noise 3 in units of f). Logging N(0, I); every learner's mean is within 2.5 standard
deviations. Regret is that of the mean played exactly, f(a*) − f(μ), a* the best within that
ball, f the true mean reward; the certificate is for the Gaussian policy, and compared with that
policy's true value. A learner sees n rows; certificates see n/2 further rows. `chosen` keeps the
logging mean unless the certified gain is positive. Certificates are by `certify`'s own interval,
`ess_skew`.
"""

import dataclasses
import functools
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from mopl_jax import estimators
from mopl_jax.intervals import Interval
from mopl_jax.io import storage
from mopl_jax.learning.certification import certify
from mopl_jax.learning.constraints import ball
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.optimise import fit_many
from mopl_jax.learning.refinement import learn
from mopl_jax.learning.response_surface import fit_surface, highest
from mopl_jax.logs import Logs
from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies import Gaussian

RESULTS = Path(__file__).parent / "results"
RADIUS, ALPHA, SCALE = 2.5, 0.05, 0.7
SHAPES = (  # d, n, replicates
    (5, 4_000, 200),
    (2, 1_000, 200),
    (5, 1_000, 200),
    (2, 4_000, 200),
    (10, 4_000, 200),
    (5, 16_000, 200),
)
NOISES = {
    "metric": (0.0, 0.5),
    "bit": (1.0, 0.15),
}  # whether Bernoulli; standard deviation, or slope of the probability
BASE = 0.7  # retention where f is 0


@pytree_dataclass()
class World:
    """f(a) = tanh + two bumps along a direction + slopeᵀa − ½ (a−optimum)ᵀ diag(curvature)
    (a−optimum), data all.
    """

    direction: jax.Array
    saturation: jax.Array  # amplitude, steepness
    bumps: jax.Array  # (2, 3): amplitude, centre, width
    slope: jax.Array
    optimum: jax.Array
    curvature: jax.Array
    bent: jax.Array  # 1: curvature acts on what is orthogonal to the direction, 0: on everything

    def profile(self, x):
        """What the reward is along the direction."""
        waves = [b[0] * jnp.exp(-0.5 * jnp.square((x - b[1]) / b[2])) for b in self.bumps]
        return self.saturation[0] * jnp.tanh(self.saturation[1] * x) + waves[0] + waves[1]

    def __call__(self, a):
        """f(a) of one action (d,)."""
        return self.smoothed(a, 0.0)

    def smoothed(self, mean, scale):
        """E f under N(mean, scale² I): exact but for 48-node Gauss–Hermite quadrature of the
        profile.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(48)
        x = self.direction @ mean
        along = jnp.sum(
            self.profile(x + scale * jnp.asarray(nodes, x.dtype)) * jnp.asarray(weights, x.dtype)
        )
        rest = mean - self.bent * x * self.direction - self.optimum
        spread = jnp.sum(self.curvature * (1 - self.bent * jnp.square(self.direction)))
        bowl = -0.5 * jnp.sum(self.curvature * jnp.square(rest)) - 0.5 * scale**2 * spread
        return along / math.sqrt(2 * math.pi) + self.slope @ mean + bowl


def worlds(d: int) -> dict[str, World]:
    """The four North Stars in d dimensions."""
    u, v = np.full(d, d**-0.5), np.zeros(d)
    v[:2] = math.sqrt(0.5) * np.array([1, -1]) if d > 1 else 0
    zero, none = np.zeros(d), np.zeros((2, 3)) + [0, 0, 1]
    flat = np.full(d, 0.15)
    made = {
        "quadratic": (u, [0, 1], none, zero, 1.2 * u, np.linspace(0.15, 0.5, d), 0),
        "saturating": (u, [0.8, 2.5], none, zero, zero, np.full(d, 0.2), 0),
        "bimodal": (u, [0, 1], [[1, 1.2, 0.5], [0.6, -1.2, 0.5]], zero, 0.5 * v, flat, 1),
        "ridge": (u, [0, 1], [[1, 0.8, 0.5], [0, 0, 1]], 0.25 * v, zero, flat, 1),
    }
    return {
        name: World(*(jnp.asarray(x, jnp.float32) for x in fields)) for name, fields in made.items()
    }


def best(world: World, d: int) -> tuple[float, float]:
    """The largest f within the ball, by ascent from many starts, and f at the logging mean."""
    starts = RADIUS * jax.random.normal(jax.random.key(0), (64, d)) / math.sqrt(d)
    project = ball(standard(d), RADIUS)
    ascend = lambda a: lax.fori_loop(  # noqa: E731
        0, 3000, lambda _, a: project(a + 0.1 * jax.grad(world)(a)), project(a)
    )
    return float(jnp.max(jax.vmap(world)(jax.vmap(ascend)(starts)))), float(world(jnp.zeros(d)))


def standard(d: int) -> Gaussian:
    """The logging policy."""
    return Gaussian.diagonal(jnp.zeros(d), 1.0)


def draw(key, world, noise, d, n) -> Logs:
    """One log of n rows, rewards in units of f."""
    policy = standard(d)
    action = jax.vmap(policy.sample)(random.row_keys(jax.random.fold_in(key, 0), n))
    mean = jax.vmap(world)(action)
    z = jax.random.normal(jax.random.fold_in(key, 1), (n,))
    bit = (jax.random.uniform(jax.random.fold_in(key, 2), (n,)) < BASE + noise[1] * mean).astype(
        mean.dtype
    )
    reward = jnp.where(noise[0] > 0, (bit - BASE) / noise[1], mean + noise[1] * z)
    return Logs(action, jax.vmap(policy.log_density)(action), reward)


# Contenders: one objective whose coefficients are data, so that one compiled function serves them
# all.

# self-normalised, doubly robust, standard errors subtracted, Cantelli's bound subtracted
CONTENDERS = {
    "ips": (0, 0, 0.0, 0.0),
    "poem": (0, 0, 1.0, 0.0),
    "pois": (0, 0, 0.0, 1.0),
    "snips": (1, 0, 0.0, 0.0),
    "snips_normal": (1, 0, 1.645, 0.0),
    "robust_normal": (1, 1, 1.645, 0.0),
}
QUICK = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(4))


def contender(logs, surface, setting, starts):
    """What one of `CONTENDERS` learns: the better of two starts."""
    normalised, modelled, errors, cantelli = setting
    n, d = logs.action.shape
    part = dataclasses.replace(
        surface,
        constant=modelled * surface.constant,
        slope=modelled * surface.slope,
        curvature=modelled * surface.curvature,
    )
    largest, h2 = jnp.max(jnp.abs(logs.reward)), SCALE**2

    def estimator(log_weight, reward):
        made = (estimators.ips(log_weight, reward), estimators.snips(log_weight, reward))
        return jax.tree.map(lambda a, b: jnp.where(normalised > 0, b, a), *made)

    def value_estimator(rows):
        value = doubly_robust(part, estimator)(rows)

        def penalised(policy):
            made = value(policy)
            d2 = (h2 * (2 - h2)) ** (-d / 2) * jnp.exp(jnp.sum(jnp.square(policy.mean)) / (2 - h2))
            cost = cantelli * largest * jnp.sqrt((1 - ALPHA) / ALPHA * d2 / n)
            return dataclasses.replace(made, value=made.value - cost)

        return penalised

    def interval(estimate, alpha):
        error = jnp.sqrt(jnp.sum(jnp.square(estimate.influence / n)) + 1e-30)
        return Interval(estimate.value - errors * error, estimate.value)

    return fit_many(
        logs,
        starts,
        jnp.full(d, SCALE),
        value_estimator=value_estimator,
        interval=interval,
        alpha=ALPHA,
        project=ball(standard(d), RADIUS),
        floor=0.0,
        steps=8,
        optimiser=QUICK,
    )


def judged(world, mean, scale):
    """True values of a mean: played exactly, and as the Gaussian policy."""
    return {"point": world(mean), "smoothed": world.smoothed(mean, scale)}


def one(key, world, noise, d, n):
    """Everything of one replicate: means learnt and what is true of them; certificates."""
    logs, more = (
        draw(jax.random.fold_in(key, 10), world, noise, d, n),
        draw(jax.random.fold_in(key, 11), world, noise, d, n // 2),
    )
    surface = fit_surface(logs.action, logs.reward, standard(d))
    top = highest(surface, RADIUS)
    starts = jnp.stack([top, jnp.zeros(d)])
    found = {"surface": judged(world, top, SCALE)}
    rest = lax.map(
        lambda s: contender(logs, surface, s, starts),
        jnp.asarray(list(CONTENDERS.values()), jnp.float32),
    )
    refined = learn(
        logs, radius=RADIUS, steps=10, optimiser=QUICK
    )  # `mopl learn`, but for fewer steps and a wider ball
    policies: dict[str, Any] = {
        name: (rest.policy.mean[i], SCALE, rest.bound[i], rest.ess[i])
        for i, name in enumerate(CONTENDERS)
    }
    learnt = refined.learnt
    # the whitening is the logged actions' own covariance, N(0, I) up to noise
    scale = jnp.sqrt(jnp.mean(jnp.diagonal(learnt.policy.covariance)))
    policies["refined"] = (learnt.policy.mean, scale, learnt.bound, learnt.ess)
    for name, (mean, width, bound, size) in policies.items():
        found[name] = judged(world, mean, width) | {"bound": bound, "ess": size}
    names = ("snips", "snips_normal", "robust_normal", "refined")
    stacked = jax.tree.map(
        lambda *x: jnp.stack([jnp.asarray(y, jnp.float32) for y in x]),
        *(policies[k][:2] for k in names),
    )

    def certificate(task):
        mean, width = task
        policy = Gaussian(mean, jnp.full(d, 1.0) * width)
        return certify(
            policy, more, jnp.zeros(d), value_estimator=doubly_robust(surface), alpha=ALPHA
        )

    made = lax.map(certificate, stacked)
    for i, name in enumerate(names):
        found[name] |= {"certified": made.bound[i], "gain": made.gain_bound[i]}
    found["refined"] |= {"accepted": refined.accepted.any()}
    return found


@functools.partial(jax.jit, static_argnames=("d", "n"))
def _batch(keys, world, noise, d, n):
    return lax.map(lambda key: one(key, world, noise, d, n), keys, batch_size=max(1, 2**15 // n))


def rows_for(d: int, n: int, replicates: int) -> list[dict]:
    """One row for each world, noise and learner."""
    rows = []
    for number, (name, world) in enumerate(worlds(d).items()):
        top, nothing = best(world, d)
        for kind, noise in NOISES.items():
            started = time.perf_counter()
            keys = jax.random.split(
                jax.random.fold_in(jax.random.key(number), d * 1_000_003 + n), replicates
            )
            found = jax.device_get(_batch(keys, world, jnp.asarray(noise), d, n))
            zero = np.full(replicates, nothing)
            base = {
                "world": name,
                "noise": kind,
                "d": d,
                "n": n,
                "replicates": replicates,
                "best": top,
                "nothing": top - nothing,
            }
            for learner, facts in found.items():
                rows.append(base | {"learner": learner} | _summary(facts, top, nothing))
            chosen = {
                "point": np.where(found["refined"]["gain"] > 0, found["refined"]["point"], zero)
            }
            rows.append(base | {"learner": "chosen"} | _summary(chosen, top, nothing))
            print(
                f"{name} {kind} d={d} n={n}: {time.perf_counter() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return rows


def _summary(facts, top, nothing):
    """Quantiles of regret, and how often bounds held; None where a learner has none."""
    regret = top - np.asarray(facts["point"], float)
    low, middle, high = np.quantile(regret, (0.1, 0.5, 0.9))
    row = {"regret": middle, "regret_mean": regret.mean(), "regret_q10": low, "regret_q90": high}
    row |= {"worse": float(np.mean(regret > top - nothing + 1e-6))}
    row |= {"point": float(np.median(facts["point"]))}
    for key in ("smoothed", "bound", "ess", "certified", "gain"):
        row[key] = float(np.median(facts[key])) if key in facts else None
    for key in ("bound", "certified"):
        row[f"{key}_holds"] = (
            float(np.mean(facts[key] <= facts["smoothed"])) if key in facts else None
        )
    row["certified_gain"] = float(np.mean(facts["gain"] > 0)) if "gain" in facts else None
    row["accepted"] = float(np.mean(facts["accepted"])) if "accepted" in facts else None
    return row


def main(*names: str) -> None:
    """Write results/learning.parquet and results/learning.md: all shapes, or those named `d,n`,
    beside what is stored.

    Shapes run in two threads, so that compilations overlap.
    """
    started, path = time.perf_counter(), RESULTS / "learning.parquet"
    shapes = [shape for shape in SHAPES if not names or f"{shape[0]},{shape[1]}" in names]
    stored = storage.read_results(path)[0] if names and path.exists() else []
    rows = [row for row in stored if (row["d"], row["n"]) not in [shape[:2] for shape in shapes]]
    config = {"radius": RADIUS, "alpha": ALPHA, "scale": SCALE}
    with ThreadPoolExecutor(2) as pool:
        for part in pool.map(lambda shape: rows_for(*shape), shapes):
            rows += part
            about = storage.provenance(study=config, seconds=time.perf_counter() - started)
            storage.write_results(path, rows, about)
    report()


def report() -> None:
    """results/learning.md from the stored rows."""
    rows, _ = storage.read_results(RESULTS / "learning.parquet")
    text = f"{aims(rows)}\n\n{table(rows)}\n\n{claims(rows)}"
    (RESULTS / "learning.md").write_text(text + "\n")
    print(text)


def aims(rows: list[dict]) -> str:
    """Markdown: each aim beside what was reached."""
    of = {
        name: [row for row in rows if row["learner"] == name]
        for name in ("surface", "refined", "chosen")
    }
    ratio = [
        (a, a["regret"] / b["regret"]) for a, b in zip(of["surface"], of["refined"], strict=True)
    ]
    true = min(x for row, x in ratio if row["world"] == "quadratic")
    false = {
        kind: [x for row, x in ratio if row["world"] != "quadratic" and row["noise"] == kind]
        for kind in NOISES
    }
    many = ", ".join(
        f"{sum(x >= 10 for x in xs)} of {len(xs)} cells ({kind})" for kind, xs in false.items()
    )
    held = [(row["certified_holds"], row["replicates"]) for row in of["refined"]]
    short = sum(share < 0.95 - 2 * math.sqrt(0.95 * 0.05 / n) for share, n in held)
    shares = [share for share, _ in held]
    return "\n".join(
        (
            "| aim | reached |",
            "| --- | --- |",
            (
                "| at most 1.2 × the surface's median regret where rewards are quadratic | at most"
                f" {1 / true:.2f} × |"
            ),
            f"| at least 10 × lower elsewhere | {many} |",
            (
                f"| certificates hold in 95 % of logs | {min(shares):.1%} to {max(shares):.1%} a"
                f" cell, {np.mean(shares):.1%} in all; {short} of {len(held)} below by more than"
                " two standard errors |"
            ),
            (
                "| certified, yet worse than logging in at most 5 % | at most"
                f" {max(row['worse'] for row in of['chosen']):.1%} |"
            ),
        )
    )


def table(rows: list[dict]) -> str:
    """Markdown: median regret of each learner, a line a cell."""
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    head = ["world", "noise", "d", "n", "nothing", *learners]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " --: |" * (len(head) - 2)]
    cells = dict.fromkeys(
        (row["world"], row["noise"], row["d"], row["n"], row["nothing"]) for row in rows
    )
    for cell in sorted(cells):
        some = {
            row["learner"]: row
            for row in rows
            if (row["world"], row["noise"], row["d"], row["n"]) == cell[:4]
        }
        cells_of = [
            *map(str, cell[:4]),
            f"{cell[4]:.3f}",
            *(f"{some[name]['regret']:.4f}" for name in learners),
        ]
        lines.append("| " + " | ".join(cells_of) + " |")
    return "\n".join(lines)


def claims(rows: list[dict]) -> str:
    """Markdown: what was aimed at, cell by cell: regret over the surface's, certificates, harm."""
    head = (
        "world",
        "noise",
        "d",
        "n",
        "surface / refined",
        "bound that was maximised holds",
        "certificate holds",
        "gain certified",
        "certified, yet worse than nothing",
    )
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " --: |" * (len(head) - 2)]
    named = {(*(row[k] for k in ("world", "noise", "d", "n")), row["learner"]): row for row in rows}
    for *cell, _ in sorted(key for key in named if key[-1] == "refined"):
        surface, refined, chosen = (named[*cell, name] for name in ("surface", "refined", "chosen"))
        ratio = surface["regret"] / refined["regret"]
        shares = (
            refined["bound_holds"],
            refined["certified_holds"],
            refined["certified_gain"],
            chosen["worse"],
        )
        lines.append(
            f"| {' | '.join(map(str, cell))} | {ratio:.2f} |"
            f" {' | '.join(f'{share:.3f}' for share in shares)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
