"""Studies: the TOML description of a coverage study, and the worlds and grid it stands for.

A study has `replicates`, `seed`, `alpha`, `n`, `estimators`, `intervals` and a list of
`[[world]]`; each world has a `name`, dimensions `d`, a `reward`, a `noise`, a `logging` policy,
named `target`s and optional `differences` of targets. `logging` and `target` of the study are
those of every world that has none of its own. Numbers stand for constant vectors.
`mopl_jax/coverage/studies/default.toml` is the model.
"""

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import intervals
from mopl_jax.coverage.overlap import overlapping
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators.registry import ESTIMATORS, MODIFIED
from mopl_jax.numerics.check import check_alpha, choose
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform
from mopl_jax.simulation import environments

DEFAULT = Path(__file__).parent / "studies" / "default.toml"


class Study(NamedTuple):
    """A validated study. `spec` is the plain dictionary it came from, for provenance."""

    worlds: tuple[World, ...]
    grid: Grid
    replicates: int
    seed: int
    spec: dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The dictionary in a TOML file; ValueError names the file and the line that cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); expected a study in TOML"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not valid TOML: {error}; compare it with"
            " mopl_jax/coverage/studies/default.toml"
        ) from None


def build(spec: Mapping[str, Any]) -> Study:
    """Worlds and grid of a study dictionary. ValueError says which entry, what was expected and
    what was found.
    """
    _known(
        spec,
        ("replicates", "seed", "alpha", "n", "estimators", "intervals", *_SHARED, "world"),
        "the study",
    )
    grid = Grid(
        _sizes(spec.get("n", ()), "n", least=2),
        choose(spec.get("estimators", ["snips"]), ESTIMATORS | MODIFIED, "estimator"),
        choose(
            spec.get("intervals", list(intervals.WALD)),
            intervals.METHODS,
            "interval",
        ),
        check_alpha(spec.get("alpha", 0.05)),
    )
    if not isinstance(spec.get("world", []), list | tuple):
        raise ValueError(
            f"world: expected [[world]] tables, got {spec['world']!r}; see"
            " mopl_jax/coverage/studies/default.toml"
        )
    shared = {key: spec[key] for key in _SHARED if key in spec}
    entries = [shared | dict(_table(entry, "world")) for entry in spec.get("world", [])]
    worlds = tuple(
        _world(entry, d)
        for entry in entries
        for d in _sizes(_table(entry, "world").get("d", ()), "d", least=1)
    )
    if not worlds:
        raise ValueError("expected at least one [[world]] in the study, got none")
    _check_available(worlds, grid.intervals)
    labels = [(world.name, world.d) for world in worlds]
    if len(set(labels)) < len(labels):
        raise ValueError("expected a different name for each [[world]] of the same d; rename one")
    replicates = _sizes([spec.get("replicates", 2000)], "replicates", least=2)[0]
    return Study(
        worlds,
        grid,
        replicates,
        _integer(spec.get("seed", 0), "seed"),
        dict(spec) | {"world": entries},
    )


_SHARED = ("logging", "target")


def _world(entry, d):
    where = f"world {entry.get('name', '?')!r} at d={d}"
    _known(
        entry,
        ("name", "d", "reward", "noise", "log_spread", "logging", "target", "differences"),
        where,
    )
    for key in ("name", "reward", "noise", "logging", "target"):
        if key not in entry:
            raise ValueError(
                f"{where}: expected an entry {key!r}; see mopl_jax/coverage/studies/default.toml"
            )
    if "log_spread" in entry and entry["noise"].get("kind") in ("bernoulli", "zero_inflated"):
        raise ValueError(
            f"{where}: log_spread: expected none with {entry['noise']['kind']} noise, whose mean"
            " sets its spread"
        )
    spread = entry.get("log_spread")
    environment = environments.Environment(
        _make(REWARDS, entry["reward"], d, f"{where}, reward"),
        _make(NOISES, entry["noise"], d, f"{where}, noise"),
        None if spread is None else _vector(spread, d, f"{where}, log_spread"),
    )
    logging = _make(POLICIES, entry["logging"], d, f"{where}, logging")
    _check_means(environment, logging, where)
    targets = {
        name: _target(target, d, f"{where}, target {name!r}", logging)
        for name, target in _table(entry["target"], where).items()
    }
    smoothed = tuple(
        name for name, target in entry["target"].items() if target.get("kind") == "smooth"
    )
    differences = tuple(_pair(pair, where) for pair in entry.get("differences", ()))
    for name in {name for pair in differences for name in pair}:
        choose([name], targets, f"target in the differences of {where}")
    return World(entry["name"], d, environment, logging, targets, differences, smoothed)


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


def _target(entry, d, where, logging):
    makers = {
        "normal": _gaussian,
        "smooth": _smooth,
        "mixture": _mixture,
        "overlap": partial(_overlap, logging),
    }
    return _make(makers, {"kind": "normal"} | dict(_table(entry, where)), d, where)


def _table(entry, where):
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"{where}: expected a table, got {entry!r}; see mopl_jax/coverage/studies/default.toml"
        )
    return entry


def _pair(pair, where):
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{where}, differences: expected pairs of target names, got {pair!r}")
    return tuple(pair)


# Makers: each takes the dimension and where it stands, then the entry's own keys.


def _linear(d, where, slope=None, intercept=0.0):
    return environments.Linear(
        _vector(1 / d if slope is None else slope, d, where), _number(intercept, where)
    )


def _quadratic(d, where, peak=0.0, optimum=0.0, curvature=1.0):
    return environments.Quadratic(
        _number(peak, where), _vector(optimum, d, where), _matrix(curvature, d, where)
    )


def _cosine(d, where, frequency=None, amplitude=1.0, offset=0.0):
    frequency = _vector(1 / d if frequency is None else frequency, d, where)
    return environments.Cosine(frequency, _number(amplitude, where), _number(offset, where))


def _exponential(d, where, rate=None, amplitude=1.0, offset=0.0):
    rate = _vector(1 / d if rate is None else rate, d, where)
    return environments.Exponential(rate, _number(amplitude, where), _number(offset, where))


def _normal(d, where, scale=1.0):
    return environments.Normal(_positive(scale, f"{where}: scale"))


def _student_t(d, where, df=3.0, scale=1.0):
    return environments.StudentT(_positive(df, f"{where}: df"), _positive(scale, f"{where}: scale"))


def _log_normal(d, where, shape=1.0, scale=1.0):
    return environments.LogNormal(
        _positive(shape, f"{where}: shape"), _positive(scale, f"{where}: scale")
    )


def _bernoulli(d, where):
    return environments.Bernoulli()


def _zero_inflated(d, where, share=0.3, shape=1.0):
    share = _positive(share, f"{where}: share")
    if not share <= 1:
        raise ValueError(f"{where}: share: expected a probability, got {share}")
    return environments.ZeroInflated(share, _positive(shape, f"{where}: shape"))


def _gaussian(d, where, mean=0.0, scale=None, covariance=None) -> Gaussian:
    if (scale is None) == (covariance is None):
        raise ValueError(
            f"{where}: expected either scale (standard deviations) or covariance, exactly one of"
            " them"
        )
    mean = _vector(mean, d, where)
    if covariance is None:
        return Gaussian.diagonal(mean, _positive(_vector(scale, d, where), f"{where}: scale"))
    policy = Gaussian.full(mean, _matrix(covariance, d, where))
    if not np.all(np.isfinite(policy.scale)):
        raise ValueError(
            f"{where}: expected a positive definite covariance, got {covariance}; check its"
            " eigenvalues"
        )
    return policy


def _smooth(d, where, mean=0.0, bandwidth=0.1) -> Gaussian:
    return _gaussian(d, where, mean, bandwidth)


def _mixture(d, where, weight=(), component=()) -> Mixture:
    parts = [
        _make(POLICIES, entry, d, f"{where}, component {i + 1}")
        for i, entry in enumerate(component)
    ]
    if not parts or np.shape(weight) != (len(parts),):
        raise ValueError(
            f"{where}: expected one weight for each component, got {weight!r} for {len(parts)}"
        )
    return Mixture.of(_positive(weight, f"{where}: weight"), parts)


def _overlap(logging, d, where, ess=0.1, width="narrow") -> Gaussian:
    if not 0 < _number(ess, where) <= 1:
        raise ValueError(f"{where}: ess: expected a fraction of n in (0, 1], got {ess}")
    try:
        return overlapping(logging, float(ess), width)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _uniform(d, where, low=-1.0, high=1.0) -> Policy:
    low, high = _vector(low, d, where), _vector(high, d, where)
    _positive(high - low, f"{where}: high - low")
    return Uniform(low, high)


REWARDS: dict[str, Callable] = {
    "linear": _linear,
    "quadratic": _quadratic,
    "cosine": _cosine,
    "exponential": _exponential,
}
NOISES: dict[str, Callable] = {
    "normal": _normal,
    "student_t": _student_t,
    "log_normal": _log_normal,
    "bernoulli": _bernoulli,
    "zero_inflated": _zero_inflated,
}
POLICIES: dict[str, Callable] = {"normal": _gaussian, "uniform": _uniform, "mixture": _mixture}


def _make(makers, entry, d, where):
    if not isinstance(entry, Mapping) or "kind" not in entry:
        raise ValueError(
            f"{where}: expected a table with a kind, one of {', '.join(makers)}; got {entry!r}"
        )
    (kind,) = choose([entry["kind"]], makers, f"kind of {where}")
    options = _no_kind(entry)
    _known(options, tuple(inspect.signature(makers[kind]).parameters)[2:], where)
    return makers[kind](d, where, **options)


def _no_kind(entry):
    return {key: value for key, value in entry.items() if key != "kind"}


# Values, each with one line of complaint.


def _known(entry, known: Sequence[str], where):
    choose(list(entry), dict.fromkeys(known), f"entry of {where}")


def _numbers(value, where):
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected numbers, got {value!r}") from None
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{where}: expected finite numbers, got {value!r}")
    return array


def _shaped(value, shape, where):
    array = _numbers(value, where)
    if array.shape not in ((), shape):
        raise ValueError(
            f"{where}: expected one number or shape {shape}, got shape {array.shape}; match the"
            " world's d"
        )
    return array


def _number(value, where):
    return jnp.asarray(_shaped(value, (), where), float)


def _vector(value, d, where):
    return jnp.broadcast_to(jnp.asarray(_shaped(value, (d,), where), float), (d,))


def _matrix(value, d, where):
    array = _shaped(value, (d, d), where)
    return jnp.asarray(array * np.eye(d) if array.ndim == 0 else array, float)


def _positive(value, where):
    array = _numbers(value, where)
    if not np.all(array > 0):
        raise ValueError(f"{where}: expected positive numbers, got {array.tolist()}")
    return jnp.asarray(array, float)


def _integer(value, where):
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where}: expected a whole number, got {value!r}")
    return value


def _sizes(values, where, least):
    values = sorted(
        {
            _integer(value, where)
            for value in (values if isinstance(values, list | tuple) else [values])
        }
    )
    if not values or values[0] < least:
        raise ValueError(f"{where}: expected whole numbers of at least {least}, got {values}")
    return tuple(values)
