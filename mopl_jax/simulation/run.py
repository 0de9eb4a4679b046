"""The whole loop, simulated from the first past experiment to the last adopted weights.

The verb `simulate` runs `closed_loop.rounds` on the default platform, or on a table of
interactions that is replayed, and adds what only a simulation knows: the true gains.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.random import fold_in
from jax.sharding import Mesh
from jaxtyping import Float

from mopl_jax.io import files, storage
from mopl_jax.io.files import finite
from mopl_jax.metrics import experiments, objectives, rules
from mopl_jax.numerics.check import check_alpha, check_seed
from mopl_jax.numerics.progress import Advance, silent
from mopl_jax.simulation import closed_loop, online, recommender
from mopl_jax.simulation.replay import KUAIRAND
from mopl_jax.simulation.replay import read as read_replay

TRUTH = 2**15  # users met under both policies for the true gains
LEAST = {"rounds": 1, "explore": 1000, "test": 100, "experiments": 0}
MOST = 10**8  # of each: a billion users fill the memory of a large machine, or take weeks
WRITTEN = ("rounds.parquet", "experiments.parquet")
SMALL = 512  # users of a small round, of 256, 512 and 2,048 in `benchmarks/small_rounds.py`
FEWEST = 50
LEAST_EXPERIMENTS = 8  # six changes and two A/A tests


@dataclasses.dataclass(frozen=True)
class Played:
    """A round, its number from 1, and what only a simulation knows of it.

    `true_gain`, `true_gain_se`: gain of the weights after the round over the first weights, in
    the North Star, and the standard error of its simulation.
    `true_proposal`: the gain of the proposal, adopted or not.
    """

    number: int
    done: closed_loop.Round
    true_gain: float
    true_gain_se: float
    true_proposal: float

    def to_dict(self) -> dict[str, Any]:
        """One row of rounds.parquet."""
        truth = dict(vars(self))
        row = {"round": truth.pop("number"), **truth.pop("done")._asdict()} | truth
        lists = {name: row[name].tolist() for name in ("production", "proposal")}
        return row | lists


@dataclasses.dataclass(frozen=True, repr=False)
class Simulation:
    """What the loop did, d objectives and k signals.

    `rounds`: one record a round.
    `objectives`, `signals`: names of the weights and of what users do, the North Star last.
    `metric` (k,): what was learnt from past experiments; None: the North Star itself.
    `provenance`: settings, seconds, versions and device.
    """

    rounds: tuple[Played, ...]
    objectives: tuple[str, ...]
    signals: tuple[str, ...]
    metric: Float[np.ndarray, " k"] | None
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        last, adopted = self.rounds[-1], sum(each.done.adopted for each in self.rounds)
        return (
            f"Simulation({len(self.rounds)} rounds, {adopted} adopted, true gain"
            f" {last.true_gain:+.4f} ± {last.true_gain_se:.4f} {self.signals[-1]})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl simulate --json`."""
        rows = [each.to_dict() for each in self.rounds]
        return finite({"provenance": self.provenance, "rounds": rows})

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`, one row a round."""
        import pyarrow as pa

        return pa.Table.from_pylist([each.to_dict() for each in self.rounds])


def simulate(
    rounds: int = 4,
    *,
    explore: int = 100_000,
    small: int = SMALL,
    test: int = 50_000,
    experiments: int = 60,
    scale: float = closed_loop.DEFAULT.scale,
    alpha: float = closed_loop.DEFAULT.alpha,
    pessimistic: bool = True,
    replay: Path | str | None = None,
    slate: int = 5,
    seed: int = 0,
    out: Path | str | None = None,
    mesh: Mesh | None = None,
    advance: Advance = silent,
) -> Simulation:
    """Explore, learn, certify, test online, and that for so many `rounds`.

    `explore` users of a round get weights randomised with standard deviation `scale`, `test`
    users are in each arm of its online test. Half of those who explore do so in rounds of `small`
    users, each around the weights that all before it make the best, and the others certify; 0: all
    at once. A metric is learnt from so many past `experiments`
    first; 0: the North Star alone. `replay` is a table in the KuaiRand layout of which `slate`
    items a session are shown: it has no past experiments. The folder `out` gets rounds.parquet
    and experiments.parquet. ValueError for too few of anything.
    """
    asked = {"rounds": rounds, "explore": explore, "test": test, "experiments": experiments}
    _check(asked, small, scale, slate, seed)
    level = {"alpha": check_alpha(alpha), "pessimistic": pessimistic}
    plan = closed_loop.Plan(explore, test, scale, small=small, **level)
    platform, start = _platform(replay, slate)
    began, key = time.perf_counter(), jax.random.key(seed)
    loop = _Loop(platform, start, plan, mesh, advance)
    past = experiments if replay is None else 0
    inputs = () if replay is None else (Path(replay),)
    with files.claimed(out, WRITTEN, inputs) as folder:
        metric = None
        if past:
            metric, rule = _metric(loop, fold_in(key, 0), past, folder)
            loop = dataclasses.replace(loop, plan=plan._replace(rule=rule))
        played = tuple(_rounds(loop, fold_in(key, 1), rounds, metric))
        settings = loop.plan._asdict() | asked
        settings |= {"seed": seed, "replay": None if replay is None else str(replay)}
        about = storage.provenance(
            study=settings,
            seconds=time.perf_counter() - began,
            signals=platform.signals,
            production=start.tolist(),
            metric=None if metric is None else metric.tolist(),
        )
        found = Simulation(played, platform.objectives, platform.signals, metric, about)
        if folder is not None:
            rows = [each.to_dict() for each in played]
            storage.write_results(folder / "rounds.parquet", rows, about)
    return found


@dataclasses.dataclass(frozen=True)
class _Loop:
    """Where the loop runs: platform, first weights (d,), plan of a round, devices, progress."""

    platform: Any
    start: Float[np.ndarray, " d"]
    plan: closed_loop.Plan
    mesh: Mesh | None
    advance: Advance


def _check(numbers, small, scale, slate, seed):
    for name, value in numbers.items():
        if not LEAST[name] <= value <= MOST:
            wanted = f"at least {LEAST[name]:,}" if value < MOST else f"at most {MOST:,}"
            raise ValueError(f"--{name}: expected {wanted}, got {value:,}")
    if 0 < numbers["experiments"] < LEAST_EXPERIMENTS:
        raise ValueError(
            f"--experiments: expected 0 or at least {LEAST_EXPERIMENTS} to learn a metric from, got"
            f" {numbers['experiments']}"
        )
    if not (small == 0 or FEWEST <= small <= numbers["explore"] // 2):
        raise ValueError(
            f"--small: expected 0, or {FEWEST} users and at most half of those who explore"
            f" ({numbers['explore'] // 2:,}), got {small:,}"
        )
    if not 0 < scale < float("inf"):
        raise ValueError(f"--scale: expected a positive standard deviation, got {scale:g}")
    check_seed(seed, least=-(2**63))
    if slate < 1:
        raise ValueError(f"--slate: expected at least 1 item, got {slate}")


def _platform(table, slate):
    """The platform and its production weights: equal ones where nobody has tuned any."""
    if table is None:
        return recommender.short_video(), np.array(recommender.PRODUCTION, np.float32)
    platform = read_replay(table, KUAIRAND, slate)
    return platform, np.full(len(platform.objectives), 0.5, np.float32)


def _metric(loop, key, past, folder):
    """The metric of so many past tests, which are stored in the `folder`, and the rule that would
    have earned most on them, cross-validated.
    """
    signals = loop.platform.signals
    rows = closed_loop.past_tests(
        loop.platform,
        loop.start,
        key,
        past,
        closed_loop.ARM,
        loop.plan,
        mesh=loop.mesh,
        done=lambda: loop.advance("past experiments", 1, past),
    )
    if folder is not None:
        experiments.write(folder / "experiments.parquet", rows)
    history = closed_loop.history_of(rows, signals)
    weights = np.asarray(objectives.learn(history, objectives.proxy), float)
    return weights, rules.best(rules.of_history(history, objectives.proxy, alpha=loop.plan.alpha))


def _rounds(loop, key, count, metric):
    base, truth_key = closed_loop.smoothed(loop.start, loop.plan), fold_in(key, count)
    played = closed_loop.rounds(loop.platform, loop.start, key, count, loop.plan, metric, loop.mesh)
    for number, done in enumerate(played, start=1):
        policies = [closed_loop.smoothed(x, loop.plan) for x in (done.production, done.proposal)]
        now, proposal = online.gains(loop.platform, policies, base, truth_key, TRUTH, loop.mesh)
        loop.advance("rounds", 1, count)
        yield Played(number, done, now.mean, now.se, proposal.mean)
