"""Studies: the TOML description of a coverage study, and the worlds and grid it stands for.

A study has `replicates`, `seed`, `alpha`, `n`, `estimators`, `intervals` and a list of
`[[world]]`; each world has a `name`, dimensions `d`, a `reward`, a `noise`, a `logging` policy,
named `target`s and optional `differences` of targets. `logging`, `target` and `differences` of
the study are those of every world that has none of its own. Numbers stand for constant vectors.
`mopl_jax/coverage/studies/default.toml` is the model.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from msgspec import Meta

from mopl_jax.coverage.study_entries import LoggingEntry, NoiseEntry, RewardEntry, TargetEntry
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators.registry import ESTIMATORS, MODIFIED
from mopl_jax.intervals import registry as intervals
from mopl_jax.intervals.facts import Facts
from mopl_jax.io.documents import ABSENT, Entry, Numbers, fit, full, load
from mopl_jax.io.refusals import within
from mopl_jax.numerics.check import MOST_WEIGHTS, check_alpha, choose
from mopl_jax.simulation.environments import Environment

DEFAULT = Path(__file__).parent / "studies" / "default.toml"
_MOST = 2**31 - 1  # rows of an array, and numbers of a log: 8 GiB
Dimension = Annotated[int, Meta(ge=1, le=MOST_WEIGHTS)]
Size = Annotated[int, Meta(ge=2, le=_MOST)]


class WorldEntry(Entry):
    """A [[world]]."""

    name: str
    d: Dimension | Annotated[list[Dimension], Meta(min_length=1)]
    reward: RewardEntry
    noise: NoiseEntry
    logging: LoggingEntry
    target: dict[str, dict[str, Any]]
    log_spread: Numbers = ABSENT
    differences: list[tuple[str, str]] = []

    def build(self, d: int) -> World:
        """ValueError with the entry that is wrong."""
        with within(f"world {self.name!r} at d={d}"):
            environment = self._environment(d)
            with within("logging"):
                logging = self.logging.build(d)
            _check_means(environment, logging)
            targets = {name: self._target(name, logging, d) for name in self.target}
            for pair in self.differences:
                choose(pair, targets, "target in the differences")
        smoothed = [name for name, entry in self.target.items() if entry.get("kind") == "smooth"]
        differences = tuple(self.differences)
        return World(self.name, d, environment, logging, targets, differences, tuple(smoothed))

    def _environment(self, d):
        with within("reward"):
            reward = self.reward.build(d)
        noise, spread = self.noise.build(d), None
        if self.log_spread is not None:
            if noise.reward_range is not None:
                raise ValueError(
                    "log_spread: expected none with noise in a range, whose mean sets its spread"
                )
            spread = jnp.asarray(full(self.log_spread, (d,), "log_spread"), float)
        return Environment(reward, noise, spread)

    def _target(self, name, logging, d):
        with within(f"target {name!r}"):
            entry = fit({"kind": "normal"} | self.target[name], TargetEntry)
            return entry.near(logging) if hasattr(entry, "near") else entry.build(d)


class StudyEntry(Entry):
    """The whole document, whose worlds have got its `logging`, `target` and `differences`."""

    n: Size | Annotated[list[Size], Meta(min_length=1)]
    world: list[WorldEntry] = []
    replicates: Size = 2000
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    alpha: Any = 0.05
    estimators: str | list[str] = "snips"
    intervals: str | Sequence[str] = tuple(intervals.WALD)
    logging: Any = None
    target: Any = None
    differences: Any = None

    def grid(self) -> Grid:
        """ValueError for a name that is not known, with the nearest that is."""
        estimators = choose(self.estimators, ESTIMATORS | MODIFIED, "estimator")
        known = intervals.METHODS
        named = choose(self.intervals, known, "interval")
        return Grid(_ascending(self.n), estimators, named, check_alpha(self.alpha))


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


def planned(source: Path | str | Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Study:
    """The study of a TOML file, of a dictionary or, of None, the default one, with `changes`;
    ValueError as of `read` and `build`, with the file.
    """
    if isinstance(source, Mapping):
        return build({**source, **changes})
    path = DEFAULT if source is None else Path(source)
    spec = read(path)
    with within("" if source is None else str(path)):
        return build({**spec, **changes})


def build(spec: Mapping[str, Any]) -> Study:
    """Worlds and grid of a study dictionary. ValueError says which entry, what was expected and
    what was found.
    """
    spec = _shared(dict(spec))
    study = fit(spec, StudyEntry)
    grid = study.grid()
    worlds = tuple(world.build(d) for world in study.world for d in _ascending(world.d))
    if not worlds:
        raise ValueError("expected at least one [[world]] in the study, got none")
    _check_available(worlds, grid.intervals)
    _check_sizes(worlds, grid.n)
    labels = [(world.name, world.d) for world in worlds]
    if len(set(labels)) < len(labels):
        raise ValueError("expected a different name for each [[world]] of the same d; rename one")
    return Study(worlds, grid, study.replicates, study.seed, spec)


def _shared(spec):
    """Every world with the logging policy, targets and differences that are those of all."""
    shared = {key: spec[key] for key in ("logging", "target", "differences") if key in spec}
    worlds = spec.get("world", [])
    if isinstance(worlds, list | tuple):
        worlds = [shared | world if isinstance(world, dict) else world for world in worlds]
    return spec | {"world": worlds}


def _ascending(sizes):
    return tuple(sorted({sizes} if isinstance(sizes, int) else set(sizes)))


def _check_means(environment, logging, draws=4096):
    """ValueError where logged actions have mean rewards that no reward in the noise's range can
    have.
    """
    if environment.reward_range is None:
        return
    action = jax.vmap(logging.sample)(jax.random.split(jax.random.key(0), draws))
    means, (low, high) = jax.vmap(environment.mean_reward)(action), environment.reward_range
    if not bool(jnp.all((means >= low) & (means <= high))):
        raise ValueError(
            f"expected mean rewards in [{low:g}, {high:g}], the range of this noise, got"
            f" {float(means.min()):.3g} to {float(means.max()):.3g} for logged actions; set"
            " amplitude and offset of a cosine or exponential reward"
        )


def _check_sizes(worlds, sizes):
    """ValueError for logs that no memory holds."""
    for world in worlds:
        if sizes[-1] * world.d > _MOST:
            raise ValueError(
                f"world {world.name!r} at d={world.d}: expected logs of at most"
                f" {_MOST // world.d:,} rows, which are held, got n = {sizes[-1]:,}; give a smaller"
                " one (--n)"
            )


def _check_available(worlds, names):
    """ValueError for an estimand of which no interval can be had."""
    if intervals.available(names, Facts()):
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
