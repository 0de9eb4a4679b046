"""Studies: the TOML description of a coverage study, and the worlds and grid it stands for.

A study has `replicates`, `seed`, `alpha`, `n`, `estimators`, `intervals` and a list of
`[[world]]`; each world has a `name`, dimensions `d`, a `reward`, a `noise`, a `logging` policy,
named `target`s and optional `differences` of targets. `logging` and `target` of the study are
those of every world that has none of its own. Numbers stand for constant vectors.
`mopl_jax/coverage/studies/default.toml` is the model; the structs here are its description.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta

from mopl_jax.coverage.overlap import overlapping
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators.registry import ESTIMATORS, MODIFIED
from mopl_jax.intervals import registry as intervals
from mopl_jax.io import policy_json
from mopl_jax.io.documents import (
    ABSENT,
    Entry,
    KindEntry,
    Number,
    Numbers,
    Positive,
    fit,
    flat,
    full,
    load,
    positive,
    within,
)
from mopl_jax.numerics.check import check_alpha, choose
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.simulation import environments

DEFAULT = Path(__file__).parent / "studies" / "default.toml"
_SHARED = ("logging", "target")
_MOST = 2**31 - 1  # rows or dimensions of an array
Dimension = Annotated[int, Meta(ge=1, le=_MOST)]
Size = Annotated[int, Meta(ge=2, le=_MOST)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Study(NamedTuple):
    """A validated study.

    `worlds`: one for each [[world]] and each of its d.
    `grid`: what is evaluated on every log.
    `replicates`: logs of a world.
    `seed`: of all randomness.
    `spec`: the plain dictionary it came from, for provenance.
    """

    worlds: tuple[World, ...]
    grid: Grid
    replicates: int
    seed: int
    spec: dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The dictionary in a TOML file; ValueError names the file and the line that cannot be read."""
    refusal = "not valid TOML: {}; compare it with mopl_jax/coverage/studies/default.toml"
    return load(path, tomllib.loads, refusal)


def build(spec: Mapping[str, Any]) -> Study:
    """Worlds and grid of a study dictionary. ValueError says which entry, what was expected and
    what was found.
    """
    spec = _shared(dict(spec))
    study = fit(spec, StudyEntry)
    with flat():
        worlds = tuple(world.build(d) for world in study.world for d in _ascending(world.d))
    if not worlds:
        raise ValueError("expected at least one [[world]] in the study, got none")
    grid = study.grid()
    _check_available(worlds, grid.intervals)
    labels = [(world.name, world.d) for world in worlds]
    if len(set(labels)) < len(labels):
        raise ValueError("expected a different name for each [[world]] of the same d; rename one")
    return Study(worlds, grid, study.replicates, study.seed, spec)


def _shared(spec):
    """Every world with the logging policy and the targets that are those of all."""
    shared, worlds = {key: spec[key] for key in _SHARED if key in spec}, spec.get("world", [])
    if not isinstance(worlds, list | tuple):
        return spec
    return spec | {
        "world": [shared | world if isinstance(world, dict) else world for world in worlds]
    }


def _ascending(sizes):
    return tuple(sorted({sizes} if isinstance(sizes, int) else set(sizes)))


def _check_means(environment, logging, where, draws=4096):
    """ValueError where logged actions have mean rewards that no reward in the noise's range can
    have.
    """
    if environment.reward_range is None:
        return
    action = jax.vmap(logging.sample)(jax.random.split(jax.random.key(0), draws))
    means, (low, high) = jax.vmap(environment.mean_reward)(action), environment.reward_range
    if not bool(jnp.all((means >= low) & (means <= high))):
        raise ValueError(
            f"{where}: expected mean rewards in [{low:g}, {high:g}], the range of this noise, got"
            f" {float(means.min()):.3g} to {float(means.max()):.3g} for logged actions; set"
            " amplitude and offset of a cosine or exponential reward"
        )


def _check_available(worlds, names):
    """ValueError for an estimand of which no interval can be had."""
    if intervals.available(names, intervals.Facts()):
        return
    for world in worlds:
        for estimand in world.estimands:
            facts = world.facts(estimand)
            if not intervals.available(names, facts):
                lacks = dict.fromkeys(
                    fact for name in names for fact in intervals.missing(name, facts)
                )
                raise ValueError(
                    f"world {world.name!r} at d={world.d}, {estimand}: expected an interval that it"
                    f" has the facts for, got {', '.join(names)}, without {', '.join(lacks)}; add"
                    " one that needs none, as recommended"
                )


# The entries of a study. `build` makes what an entry stands for in a world of d weights.


def _scalar(number: float) -> Float[Array, ""]:
    return jnp.asarray(number, float)


def _vector(numbers: Numbers, d: int, key: str) -> Float[Array, " d"]:
    return jnp.asarray(full(numbers, (d,), key), float)


def _mean_if_absent(numbers, d, key):
    """1/d each, whose product with an action is its mean, where the key is left out."""
    return jnp.full(d, 1 / d, float) if numbers is None else _vector(numbers, d, key)


class LinearEntry(KindEntry, tag="linear"):
    """`slope` 1/d if left out."""

    slope: Numbers = ABSENT
    intercept: Number = 0.0

    def build(self, d: int) -> environments.Linear:
        slope = _mean_if_absent(self.slope, d, "slope")
        return environments.Linear(slope, _scalar(self.intercept))


class QuadraticEntry(KindEntry, tag="quadratic"):
    """`curvature` times I, or (d, d)."""

    peak: Number = 0.0
    optimum: Numbers = np.zeros(())
    curvature: Numbers = np.ones(())

    def build(self, d: int) -> environments.Quadratic:
        curvature = jnp.asarray(full(self.curvature, (d, d), "curvature"), float)
        optimum = _vector(self.optimum, d, "optimum")
        return environments.Quadratic(_scalar(self.peak), optimum, curvature)


class CosineEntry(KindEntry, tag="cosine"):
    """`frequency` 1/d if left out."""

    frequency: Numbers = ABSENT
    amplitude: Number = 1.0
    offset: Number = 0.0

    def build(self, d: int) -> environments.Cosine:
        frequency = _mean_if_absent(self.frequency, d, "frequency")
        return environments.Cosine(frequency, _scalar(self.amplitude), _scalar(self.offset))


class ExponentialEntry(KindEntry, tag="exponential"):
    """`rate` 1/d if left out."""

    rate: Numbers = ABSENT
    amplitude: Number = 1.0
    offset: Number = 0.0

    def build(self, d: int) -> environments.Exponential:
        rate = _mean_if_absent(self.rate, d, "rate")
        return environments.Exponential(rate, _scalar(self.amplitude), _scalar(self.offset))


class NoiseEntry(KindEntry):
    """A noise, whose numbers are the fields of its record."""

    record: ClassVar[type]

    def build(self) -> environments.Noise:
        return self.record(*map(_scalar, msgspec.structs.astuple(self)))


class NormalNoiseEntry(NoiseEntry, tag="normal"):
    """Normal noise."""

    record = environments.Normal
    scale: Positive = 1.0


class StudentEntry(NoiseEntry, tag="student_t"):
    """Heavy tails."""

    record = environments.StudentT
    df: Positive = 3.0
    scale: Positive = 1.0


class LogNormalEntry(NoiseEntry, tag="log_normal"):
    """Skewed noise."""

    record = environments.LogNormal
    shape: Positive = 1.0
    scale: Positive = 1.0


class BernoulliEntry(NoiseEntry, tag="bernoulli"):
    """Clicks."""

    record = environments.Bernoulli


class ZeroInflatedEntry(NoiseEntry, tag="zero_inflated"):
    """Watch time; `share` of it is not zero."""

    record = environments.ZeroInflated
    share: Share = 0.3
    shape: Positive = 1.0


class NormalEntry(policy_json.NormalEntry, tag="normal", forbid_unknown_fields=True):
    """Around 0 if `mean` is left out."""

    mean: Numbers = np.zeros(())


class UniformEntry(policy_json.UniformEntry, tag="uniform", forbid_unknown_fields=True):
    """[−1, 1] if `low` and `high` are left out."""

    low: Numbers = -np.ones(())
    high: Numbers = np.ones(())


class MixtureEntry(KindEntry, tag="mixture"):
    """k policies, and k weights."""

    weight: Numbers
    component: list["LoggingEntry"]

    def build(self, d: int) -> Mixture:
        """ValueError with the component that is wrong."""
        if not self.component or self.weight.shape != (len(self.component),):
            raise ValueError(
                f"expected one weight for each component, got {self.weight.tolist()} for"
                f" {len(self.component)}"
            )
        parts = policy_json.components_of(self.component, d)
        return Mixture.of(positive(self.weight, "weight"), parts)


class SmoothEntry(KindEntry, tag="smooth"):
    """A deterministic policy, smoothed."""

    mean: Numbers = np.zeros(())
    bandwidth: Numbers = np.full((), 0.1)

    def build(self, d: int) -> Gaussian:
        return NormalEntry(mean=self.mean, scale=self.bandwidth).build(d)


class OverlapEntry(KindEntry, tag="overlap"):
    """A target at a distance from the logging policy: ESS/n is `ess`."""

    ess: Share = 0.1
    width: str = "narrow"


LoggingEntry = NormalEntry | UniformEntry | MixtureEntry
TargetEntry = NormalEntry | SmoothEntry | MixtureEntry | OverlapEntry
NoiseEntry = NormalNoiseEntry | StudentEntry | LogNormalEntry | BernoulliEntry | ZeroInflatedEntry
Dimension = Annotated[int, Meta(ge=1, le=_MOST)]
Size = Annotated[int, Meta(ge=2, le=_MOST)]


class WorldEntry(Entry):
    """A [[world]]."""

    name: str
    d: Dimension | Annotated[list[Dimension], Meta(min_length=1)]
    reward: LinearEntry | QuadraticEntry | CosineEntry | ExponentialEntry
    noise: NormalNoiseEntry | StudentEntry | LogNormalEntry | BernoulliEntry | ZeroInflatedEntry
    logging: LoggingEntry
    target: dict[str, dict[str, Any]]
    log_spread: Numbers = ABSENT
    differences: list[tuple[str, str]] = []

    def build(self, d: int) -> World:
        """ValueError with the entry that is wrong."""
        where = f"world {self.name!r} at d={d}"
        if self.log_spread is not None and isinstance(
            self.noise, BernoulliEntry | ZeroInflatedEntry
        ):
            raise ValueError(
                f"{where}: log_spread: expected none with {self.noise.__struct_config__.tag} noise,"
                " whose mean sets its spread"
            )
        with within(f"{where}, reward"):
            reward = self.reward.build(d)
        with within(where):
            spread = None if self.log_spread is None else _vector(self.log_spread, d, "log_spread")
        environment = environments.Environment(reward, self.noise.build(), spread)
        with within(f"{where}, logging"):
            logging = self.logging.build(d)
        _check_means(environment, logging, where)
        targets = {}
        for name, entry in self.target.items():
            with within(f"{where}, target {name!r}"):
                targets[name] = _target(entry, logging, d)
        for name in {name for pair in self.differences for name in pair}:
            choose([name], targets, f"target in the differences of {where}")
        smoothed = [name for name, entry in self.target.items() if entry.get("kind") == "smooth"]
        differences = tuple(self.differences)
        return World(self.name, d, environment, logging, targets, differences, tuple(smoothed))


def _target(entry, logging: Policy, d: int):
    target = fit({"kind": "normal"} | entry, TargetEntry)
    if isinstance(target, OverlapEntry):
        return overlapping(logging, target.ess, target.width)
    return target.build(d)


class StudyEntry(Entry):
    """The whole document; `logging` and `target` have been handed to the worlds."""

    n: Size | Annotated[list[Size], Meta(min_length=1)]
    world: list[WorldEntry] = []
    replicates: Size = 2000
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    alpha: Any = 0.05
    estimators: str | list[str] = "snips"
    intervals: str | Sequence[str] = tuple(intervals.WALD)
    logging: Any = None
    target: Any = None

    def grid(self) -> Grid:
        """ValueError for a name that is not known, with the nearest that is."""
        estimators = choose(self.estimators, ESTIMATORS | MODIFIED, "estimator")
        known = intervals.METHODS
        named = choose(self.intervals, known, "interval")
        return Grid(_ascending(self.n), estimators, named, check_alpha(self.alpha))
