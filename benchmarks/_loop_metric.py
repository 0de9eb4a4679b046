"""How sensitive is the learnt metric on fresh changes of the weights? Part of `closed_loop`."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks._loop import PLAN, START, World
from benchmarks._study import markdown
from mopl_jax.metrics import objectives, validation
from mopl_jax.simulation import closed_loop

LEARNT = ("proxy", "gls", "log_p")


def learnt(world: World, options) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The weights of each metric, and what the history's own validation says of `proxy`."""
    history = closed_loop.history(
        world.platform,
        START,
        world.part(1),
        options.experiments,
        options.arm,
        PLAN,
        mesh=world.mesh,
    )
    found = {name: np.asarray(objectives.learn(history, objectives.NAMED[name])) for name in LEARNT}
    rate = float(objectives.exchange_rate(jnp.asarray(found["proxy"]), history))
    return found, _validated(validation.validate(history, objectives.proxy)) | {"rate": rate}


def _validated(said: validation.Validation) -> dict[str, Any]:
    """What a platform can know: every past test judged by a metric learnt without it."""
    ends = [said.false_positives, said.false_positives_low, said.false_positives_high]
    return {
        "known": said.known,
        "nulls": said.nulls,
        "agreement": said.metric.agreement,
        "power": said.metric.power,
        "north_power": said.north_star.power,
        "factor": said.factor,
        "factor_se": said.factor_se,
        "false_positives": ends,
    }


def rows(world: World, metrics: dict[str, np.ndarray], changes: int) -> list[dict]:
    """How sensitive each metric is to fresh changes of known truth."""
    fresh = START + 0.3 * np.random.default_rng(1).normal(size=(changes, START.size))
    arms = [world.play(weights) for weights in fresh]
    effect = np.stack([(arm.signals.astype(float) - world.base.signals).mean(0) for arm in arms])
    truth = np.array([float((arm.expected - world.base.expected).mean()) for arm in arms])
    signals = world.base.signals.astype(float)
    days = signals[:, -1].std()
    return [
        {"metric": name}
        | _sensitivity(effect @ w, (signals @ w).std(), truth, days)
        | {"weights": w.tolist(), "signals": list(world.platform.signals)}
        for name, w in metrics.items()
    ]


def _sensitivity(effect, spread, truth, days):
    """How many times fewer users for the same power: (Δ/σ)² over the North Star's; bootstrap over
    changes for its error.
    """
    squares = np.stack([(effect / spread) ** 2, (truth / days) ** 2])
    draws = np.random.default_rng(0).integers(0, truth.size, (1000, truth.size))
    factors = np.divide(*squares[:, draws].sum(axis=-1))
    agree = np.sign(effect) == np.sign(truth)
    large = np.abs(truth) >= np.median(np.abs(truth))
    return {
        "factor": float(squares[0].sum() / squares[1].sum()),
        "factor_se": float(factors.std()),
        "correlation": float(np.corrcoef(effect, truth)[0, 1]),
        "signs_agree": float(agree.mean()),
        "signs_agree_large": float(agree[large].mean()),
        "changes": truth.size,
        "effects": (effect / spread).tolist(),
        "truth": truth.tolist(),
    }


def table(rows: list[dict], held: dict[str, Any]) -> str:
    """The metrics, and the history's own validation."""
    head = ("learnt metric", "times fewer users", "correlation with the truth")
    lines = [
        [r["metric"], f"{r['factor']:.0f} ± {r['factor_se']:.0f}", f"{r['correlation']:.3f}"]
        for r in rows
    ]
    rejected, low, high = held["false_positives"]
    return (
        f"{markdown(head, lines)}\n\nEach past test by a proxy learnt without it: sign right in"
        f" {held['agreement']:.1%} of {held['known']} known winners and losers, power"
        f" {held['power']:.0%} against {held['north_power']:.0%}, {held['factor']:.0f} ±"
        f" {held['factor_se']:.0f} × fewer users, {rejected:.1%} of {held['nulls']} A/A tests"
        f" reject [{low:.1%}, {high:.1%}]."
    )
