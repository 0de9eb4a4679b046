"""Ways of exploring, compared before traffic is spent: what a log of each will say, and its cost.

A `Design` is one logging policy with what a log of n rows by it will be able to say of a step of
the weights. Gains are of the target N(current + step, s²) over production N(current, s²) on the
same rows, by SNIPS; the formulas are those of `precision`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.diagnostics.verdicts import CAUTION_ESS
from mopl_jax.estimators.divergence import population_max_weight
from mopl_jax.io.files import finite
from mopl_jax.io.policy_json import read_policy
from mopl_jax.io.refusals import within
from mopl_jax.learning.space import WEIGHTS, Space
from mopl_jax.logs import Logs
from mopl_jax.numerics.check import MOST_WEIGHTS, check_alpha, check_count
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Vector
from mopl_jax.planning import precision
from mopl_jax.planning.pilot import NO_PILOT, Pilot, pilot_of
from mopl_jax.planning.precision import Surface
from mopl_jax.policies.bounded import ClippedNormal
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform

LEAST_IN_BOX = 0.95  # of the target's mass: below, what a box cannot evaluate is worth a warning
NARROWEST = 0.3  # of the target's scale: logging narrower than that has weights without bound
STEP = 0.5  # of the exploration's scale: the length of the step where none is given
SMOOTHED = 0.5  # of the exploration's scale: that of the target where none is given
UNSEEN = (  # what a box cannot tell of a target that leaves it
    *("gain_standard_error", "gain_width", "standard_error", "power", "rows_for_power"),
    *("certified_regret", "best_rows"),
)
KINDS = {  # of a policy whose covariance is explored, by what is planned of
    "logarithms": "log_normal",
    "log ratios": "logistic_normal",
    "soft bounds": "soft_clipped_normal",
    "unclipped": "clipped_normal",
}
CERTAIN = 2.0  # errors of a pilot's gain, below which it may be none
WIDEST = 10.0  # times the target's reach: wider logging has fewer effective rows in any dimension


Bounds = tuple[Vector, Vector]
Number = Any  # a traced scalar inside jit, a float in a `Plan`


@pytree_dataclass(static=("name",))
class Design:
    """One logging policy, and what a log of n rows by it will say; None: cannot be told.

    `scale`: root mean variance of a weight.
    `d2`, `w_max`: second moment and largest value of the importance weight of the target.
    `in_box`: the target's mass where the policy plays.
    `ess`, `ess_share`: effective rows, and their share of n.
    `standard_error`: of the target's value.
    `gain_standard_error`, `gain_width`: of the gain, and of its 1 − 2α interval.
    `rows_for_ess`: rows for the fewest effective rows that are no reason for caution.
    `power`, `rows_for_power`: to certify the gain with n rows, and rows for the power wanted.
    `cost`, `total_cost`: of exploring, a decision and n decisions.
    `certified_regret`, `best_rows`: over the horizon, and the rows where it is least.
    """

    scale: Number
    d2: Number
    w_max: Number
    in_box: Number
    ess: Number
    ess_share: Number
    standard_error: Number
    gain_standard_error: Number
    gain_width: Number
    rows_for_ess: Number
    power: Number = None
    rows_for_power: Number = None
    cost: Number = None
    total_cost: Number = None
    certified_regret: Number = None
    best_rows: Number = None
    name: str = ""


@pytree_dataclass()
class Assumed:
    """The world that designs are compared in, d weights; None: not known.

    `current` (d,): the weights in production.
    `step` (d,): the change hoped for.
    `target_scale` (d,): smoothing of target and production, standard deviations.
    `slope` (d,), `curvature` (d, d): of the mean reward at `current`.
    `noise`: standard deviation of the reward around it.
    `gain`: what the step is hoped to earn.
    `n`, `horizon`: decisions logged, and decisions that will follow the change.
    `alpha`, `power`: one-sided level of the certificate, and the probability wanted for it.
    `bounds`: (d,) each, at which weights are clipped that are drawn beyond them.
    """

    current: Float[np.ndarray, " d"]
    step: Float[np.ndarray, " d"]
    target_scale: Float[np.ndarray, " d"]
    slope: Float[Array, " d"]
    noise: float
    n: float
    alpha: float
    power: float
    gain: float | None = None
    curvature: Float[np.ndarray, "d d"] | None = None
    horizon: float | None = None
    bounds: Bounds | None = None

    @property
    def target(self) -> Any:
        """N(current + step, target_scale²), as it is played."""
        return self._smoothed(self.current + self.step)

    @property
    def production(self) -> Any:
        """N(current, target_scale²), as it is played."""
        return self._smoothed(self.current)

    def _smoothed(self, mean):
        return self.played(Gaussian.diagonal(jnp.asarray(mean), self.target_scale))

    def played(self, normal: Gaussian) -> Gaussian | ClippedNormal:
        """The policy of the weights that are drawn by `normal`."""
        return normal if self.bounds is None else ClippedNormal(normal, *self.bounds)

    @property
    def centre(self) -> Vector:
        """`current` as it is played, (d,)."""
        at = jnp.asarray(self.current)
        return at if self.bounds is None else jnp.clip(at, *self.bounds)


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """Designs compared in one world.

    `pilot`: what a pilot log told of the surface
    `objectives`: its names of the weights
    `space`: what weights, steps and scales are of: logarithms, of a log-normal pilot, whose normal
        exploration is log-normal; log ratios, of shares; …
    `minimise`: whether the reward is a cost, and gains are savings
    """

    designs: tuple[Design, ...]
    assumed: Assumed
    pilot: Surface | None
    warnings: tuple[str, ...]
    objectives: tuple[str, ...] = ()
    space: Space = WEIGHTS
    minimise: bool = False

    def __repr__(self) -> str:
        told = (f"{design.name}: ESS {design.ess:,.0f}" for design in self.designs)
        return f"Plan(n={self.assumed.n:,}; {'; '.join(told)})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl plan --json`."""
        designs = {design.name: _known(design) for design in self.designs}
        for known in designs.values():
            del known["name"]
        return finite(
            {
                "designs": designs,
                "assumed": _known(self.assumed),
                "pilot": self.pilot and _known(self.pilot),
                "warnings": self.warnings,
                "objectives": list(self.objectives),
                "space": self.space.name,
                "minimise": self.minimise,
            }
        )

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`, one row a design."""
        import pyarrow as pa

        return pa.Table.from_pylist([vars(design) for design in self.designs])


def _known(record):
    return {name: value for name, value in vars(record).items() if value is not None}


def plan(
    d: int | None = None,
    *,
    current: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    covariance: Float[ArrayLike, "d d"] | None = None,
    step: ArrayLike | None = None,
    target_scale: ArrayLike | None = None,
    gain: float | None = None,
    noise: float | None = None,
    curvature: ArrayLike | None = None,
    n: int = 100_000,
    horizon: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    minimise: bool = False,
    pilot: Logs | Pilot | None = None,
) -> Plan:
    """Compare ways of exploring around the weights `current`, for one `step` of them.

    Vectors are (d,) or one number for all; `step` may be the length of a step along the slope of
    the `pilot`, or along all weights alike. `covariance` is explored instead of `scale`. What is
    not given is the pilot's: the weights around which it explored and how widely, gain, noise and
    curvature. Without a pilot the weights are zeros and the scale is 1. The step is half a
    scale long, and the target is smoothed by half the scale of each weight. Where the pilot knows
    its users, their rows depend on one another, and the noise counts as much more as the errors of
    its slope. Of a pilot of log-normal weights `current` are the weights, and all else is of their
    logarithms; likewise of the log ratios of shares, of truncated weights as they are before a
    smooth map keeps them between the bounds, and of clipped ones before they are clipped, of which
    slope and curvature are those of what is played. `minimise`: its reward is a cost, and the gain
    a saving. What less than `LEAST_IN_BOX` of the target can be told of is None. The designs:
    normal logging, uniform logging of the same variance (not of clipped weights), normal logging
    with the most effective rows, and with a curvature and a horizon that of least certified regret.
    Asymptotic: few effective rows are among the warnings. ValueError for what cannot be, by the
    name of the command's option.
    """
    check_alpha(alpha)
    _check_level(power, "--power")
    whole = {"--n": n, "--horizon": horizon, "--noise": noise, "--gain": gain}
    for option, number in whole.items():
        _check_positive(number, option)
    known = pilot_of(pilot) if isinstance(pilot, Logs) else pilot or NO_PILOT
    known = known.of_costs if minimise else known
    current = None if current is None else _point(known, current)
    vectors = {"--current": current, "--scale": scale, "--step": step}
    vectors |= {"--target-scale": target_scale, "--curvature": curvature}
    d = _dimension(vectors, d, covariance, known.logs)
    around, spread = _explored(known, current, scale, d)
    own = spread if covariance is None else np.sqrt(np.diagonal(np.asarray(covariance)))
    smoothing = SMOOTHED * own if target_scale is None else target_scale
    smoothing = _positive_vector(smoothing, d, "--target-scale")
    bend = None if curvature is None else np.diag(_vector(curvature, d, "--curvature"))
    clipped = known.space.clipped
    assumed = Assumed(
        current=around,
        step=np.zeros(d),
        target_scale=smoothing,
        slope=jnp.zeros(d),
        noise=1.0,
        n=n,
        alpha=alpha,
        power=power,
        horizon=horizon,
        bounds=None if clipped is None else (clipped.low, clipped.high),
    )
    told = None if known.logs is None else _surface(known.logs, assumed.centre)
    length = STEP * math.sqrt(np.mean(np.square(own)))
    assumed = dataclasses.replace(
        assumed,
        step=_step(length if step is None else step, d, told),
        noise=_noise(noise, told),
        curvature=_curvature(told) if bend is None else bend,
    )
    slope, hoped = _slope(assumed, gain, told)
    assumed = dataclasses.replace(assumed, slope=slope, gain=hoped)
    shift = assumed.step
    found = tuple(_named(*each, assumed) for each in _loggers(spread, covariance, assumed))
    doubts = *_warnings(found, told), *(_in_noise(shift, hoped, told) if gain is None else ())
    return Plan(found, assumed, told, doubts, known.names, known.space, minimise)


def _point(known, current):
    """Where the weights in production are in the space of the pilot."""
    if known.logs is None or known.space == WEIGHTS:
        return current
    d = known.logs.action.shape[1] + (known.space.map.grows if known.space.map else 0)
    weights = _vector(current, d, "--current")
    with within("--current"):
        return known.space.point(weights)


def _named(name, logging, assumed):
    design = dataclasses.replace(jax.tree.map(float, _design(logging, assumed)), name=name)
    if design.in_box >= LEAST_IN_BOX:
        return design
    unknown = {field: None for field in UNSEEN if getattr(design, field) is not None}
    return dataclasses.replace(design, **unknown)


def _explored(known, current, scale, d):
    """Around which weights and how widely to explore: what is given, else as a pilot did, else
    around 0 by 1.
    """
    middle, width, where = 0.0, 1.0, "--scale"
    if known.logs is not None:
        middle, width = _of_pilot(known)
        where = "the weights of --pilot" if scale is None else where
    around = _vector(middle if current is None else current, d, "--current")
    return around, _positive_vector(width if scale is None else scale, d, where)


def _of_pilot(known):
    """Around which weights and how widely a pilot explored, (d,) each."""
    if known.space.clipped is not None:
        return tuple(
            np.asarray(x)
            for x in (known.space.clipped.normal.mean, known.space.clipped.normal.scale)
        )
    action = np.asarray(known.logs.action)
    return action.mean(axis=0), np.std(action, axis=0)


def explored_covariance(path: Any, pilot: Pilot | None = None) -> Float[np.ndarray, "d d"]:
    """The covariance of a policy in JSON, normal or of the pilot's kind, to be explored around the
    current weights, in the order of the pilot's weights.
    """
    policy, _ = read_policy(path, pilot.names if pilot else ())
    space = pilot.space if pilot else WEIGHTS
    normal = space.behind(policy)
    if normal is None:
        kind = KINDS.get(space.name, "normal")
        raise ValueError(
            f"{path}: expected a policy of kind {kind!r}, got another; write mean and covariance"
        )
    return np.asarray(normal.covariance)


# The logging policies, by name.


def _loggers(scale, covariance, assumed) -> list[tuple[str, Policy]]:
    """The widened policies keep the shape of the one that was asked for; boxes have none, and no
    draws beyond a bound.
    """
    centre, boxes = jnp.asarray(assumed.current), []
    if covariance is not None and assumed.bounds is None:
        normal = Gaussian.full(centre, covariance)
    else:
        normal = Gaussian.diagonal(centre, scale if covariance is None else _diagonal(covariance))
    if covariance is None and assumed.bounds is None:
        edge = math.sqrt(3) * normal.scale
        boxes = [("uniform", Uniform(centre - edge, centre + edge))]
    found = [("normal", normal), ("normal, most ESS", _densest(normal, assumed))]
    if assumed.curvature is not None and assumed.horizon is not None:
        found.append(("normal, least regret", _thriftiest(normal, assumed)))
    played = [(name, assumed.played(policy)) for name, policy in found]
    return [*played[:1], *boxes, *played[1:]]


def _diagonal(covariance):
    """Standard deviations of clipped weights, which are independent."""
    return np.sqrt(np.diagonal(covariance))


@jax.jit
def _densest(normal, assumed):
    target = assumed.target
    return _widened(normal, lambda x: 1 / precision.ess_share(x, target), assumed)


@jax.jit
def _thriftiest(normal, assumed):
    target = assumed.target

    def regret(logging):
        cost = _cost(logging, assumed)
        variance = precision.variance(
            logging, target, assumed.slope, assumed.noise, assumed.production
        )
        return precision.certified_regret(assumed.n, cost, variance, assumed.horizon, assumed.alpha)

    return _widened(normal, regret, assumed)


def _widened(normal, loss, assumed):
    """The multiple of `normal` with the least `loss` as it is played, between the two limits."""
    target = getattr(assumed.target, "normal", assumed.target)
    own = jnp.exp(jnp.mean(jnp.log(jnp.linalg.eigvalsh(normal.covariance)))) ** 0.5
    reach = jnp.linalg.norm(target.mean - normal.mean) + jnp.max(target.scale)
    ends = NARROWEST * jnp.min(target.scale) / own, WIDEST * reach / own
    widened = lambda s: assumed.played(Gaussian(normal.mean, s * normal.scale))  # noqa: E731
    multiple = precision.least(lambda s: loss(widened(s)), *ends)
    return Gaussian(normal.mean, normal.scale * multiple)


# One design.


@jax.jit
def _design(logging, assumed) -> Design:
    """Everything that can be told of one logging policy."""
    share = precision.ess_share(logging, assumed.target)
    alone = precision.variance(logging, assumed.target, assumed.slope, assumed.noise)
    difference = precision.variance(
        logging, assumed.target, assumed.slope, assumed.noise, assumed.production
    )
    error = jnp.sqrt(difference / assumed.n)
    design = Design(
        scale=jnp.sqrt(jnp.mean(jnp.diagonal(_covariance(getattr(logging, "normal", logging))))),
        d2=1 / share,
        w_max=population_max_weight(logging, assumed.target),
        in_box=precision.coverage_of_box(logging, assumed.target),
        ess=assumed.n * share,
        ess_share=share,
        standard_error=jnp.sqrt(alone / assumed.n),
        gain_standard_error=error,
        gain_width=-2 * ndtri(assumed.alpha) * error,
        rows_for_ess=CAUTION_ESS / share,
    )
    return _with_cost(_with_power(design, difference, assumed), difference, logging, assumed)


def _with_power(design, difference, assumed):
    if assumed.gain is None:
        return design
    rows = precision.rows_needed(assumed.gain, difference, assumed.alpha, assumed.power)
    return dataclasses.replace(
        design,
        power=precision.power(assumed.gain, design.gain_standard_error, assumed.alpha),
        rows_for_power=jnp.ceil(rows),
    )


def _with_cost(design, difference, logging, assumed):
    if assumed.curvature is None:
        return design
    cost = _cost(logging, assumed)
    design = dataclasses.replace(design, cost=cost, total_cost=assumed.n * cost)
    if assumed.horizon is None:
        return design
    long_run = cost, difference, assumed.horizon, assumed.alpha
    return dataclasses.replace(
        design,
        certified_regret=precision.certified_regret(assumed.n, *long_run),
        best_rows=precision.best_rows(*long_run),
    )


def _cost(logging, assumed):
    """What a decision of exploring loses. Clipped draws have another mean than the weights that
    they are drawn around: what the slope makes of that, and its square, count as well.
    """
    if assumed.bounds is None:
        return precision.exploration_cost(assumed.curvature, _covariance(logging))
    shift = logging.mean - assumed.centre
    spread = logging.covariance + jnp.outer(shift, shift)
    return precision.exploration_cost(assumed.curvature, spread) - assumed.slope @ shift


def _covariance(logging):
    if not isinstance(logging, Uniform):
        return logging.covariance
    return jnp.diag(jnp.square(logging.high - logging.low) / 12)


# What is assumed of the surface, with the pilot's help.


def _surface(pilot, current):
    columns = map(jnp.asarray, (pilot.action, pilot.reward, current))
    return precision.surface(*columns, cluster=pilot.cluster)


def _step(step, d, told):
    """The step (d,); a length goes along the pilot's slope, or spreads evenly over the weights."""
    step = np.atleast_1d(np.asarray(step, float))
    if step.size == d and d > 1:
        shift = step
    elif step.size == 1:
        along = np.ones(d) if told is None else np.asarray(told.slope)
        shift = step[0] * along / np.linalg.norm(along)
    else:
        raise ValueError(f"--step: expected a length or {d} numbers, got {step.size} numbers")
    if not np.any(shift):
        raise ValueError(
            "--step: expected a step that is not zero; without one there is nothing to certify"
        )
    return shift


def _slope(assumed, gain, told):
    """Slope and gain: the pilot's, or the smallest slope that gives the gain, or no gain."""
    shift = assumed.step
    if told is None:
        even = 0 * shift if gain is None else gain * shift / (shift @ shift)
        return jnp.asarray(even), gain
    expected = _expected(assumed, told)
    if gain is None and expected <= 0:
        raise ValueError(
            f"--step: the pilot expects a loss of {-expected:.4g} from it; give another --step,"
            " or a --gain"
        )
    return told.slope, expected if gain is None else gain


def _expected(assumed, told) -> float:
    """What the pilot expects of the target over production."""
    if assumed.bounds is None:
        change, square = assumed.step, np.outer(assumed.step, assumed.step)
    else:
        made, now = assumed.target, assumed.production
        change, square = made.mean - now.mean, made.covariance - now.covariance
        gaps = made.mean - assumed.centre, now.mean - assumed.centre
        square = square + jnp.outer(gaps[0], gaps[0]) - jnp.outer(gaps[1], gaps[1])
    bend = 0.0 if _is_flat(told) else float(0.5 * jnp.sum(told.curvature * square))
    return float(told.slope @ change) - bend


def _noise(noise, told):
    if noise is not None:
        return noise
    return 1.0 if told is None else float(told.noise * np.sqrt(told.inflation))


def _curvature(told):
    return None if told is None or _is_flat(told) else np.asarray(told.curvature)


def _is_flat(told):
    """Whether the pilot had too few rows for a curvature."""
    return bool(jnp.isnan(told.curvature).any())


def _warnings(designs, told):
    texts = [text for design in designs for text in _doubts(design)]
    if told is not None and _is_flat(told):
        texts.append(
            "the pilot has too few rows for the curvature; give --curvature to cost the exploration"
        )
    return texts


def _in_noise(shift, gain, told):
    """A warning where the gain that a pilot expects is no more than its slope's errors."""
    error = 0.0 if told is None else float(np.linalg.norm(np.asarray(told.slope_se) * shift))
    if gain is not None and error * CERTAIN > gain:
        yield (
            f"the pilot expects a gain of {gain:.3g} ± {error:.2g}, which may be none: rows and"
            " power are for a gain that is so large; name the one hoped for (--gain)"
        )


def _doubts(design):
    """Reasons to doubt a design, a sentence each."""
    if design.ess < CAUTION_ESS:
        yield (
            f"{design.name}: {design.ess:.1f} effective rows; widths and power are asymptotic,"
            " expect worse"
        )
    if math.isinf(design.w_max):
        yield (
            f"{design.name}: weights are unbounded (target wider than logging); a log will show"
            " too small an error"
        )
    if design.in_box < LEAST_IN_BOX:
        yield (
            f"{design.name}: only {design.in_box:.1%} of the target lies in the box; the rest"
            " cannot be evaluated"
        )
    if design.cost is not None and design.cost < 0:
        yield (
            f"{design.name}: exploring costs less than nothing: the curvature is not that of a"
            " maximum, or noise"
        )


# Checks of what is asked for.


def _dimension(vectors: Mapping[str, ArrayLike | None], d, covariance, pilot) -> int:
    """d, of whatever tells it; ValueError if two disagree or none does."""
    sizes = {name: np.size(x) for name, x in vectors.items() if x is not None and np.size(x) > 1}
    told = {"--d": d, "--covariance": None if covariance is None else len(np.asarray(covariance))}
    told["--pilot"] = None if pilot is None else pilot.action.shape[1]
    sizes |= {name: size for name, size in told.items() if size is not None}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            "expected one number of weights, got"
            f" {', '.join(f'{size} by {name}' for name, size in sizes.items())}"
        )
    if not sizes:
        raise ValueError(
            "expected the number of weights, got none; give --d, a vector of weights or a --pilot"
        )
    name, size = next(iter(sizes.items()))
    return check_count(_check_positive(size, name), MOST_WEIGHTS, name, "explore fewer weights")


def _vector(values, d, option):
    values = np.atleast_1d(np.asarray(values, float))
    if values.size not in (1, d):
        raise ValueError(f"{option}: expected one number or {d}, got {values.size}")
    return np.broadcast_to(values, d).copy()


def _positive_vector(values, d, option):
    least = np.min(values)
    if not least > 0:
        raise ValueError(f"{option}: expected standard deviations > 0, got {least:g}")
    return _vector(values, d, option)


def _check_positive(value, option):
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{option}: expected a number > 0, got {value}")
    return value


def _check_level(value, option):
    if not 0 < value < 1:
        raise ValueError(
            f"{option}: expected a probability strictly between 0 and 1, got {value}; 0.8 is usual"
        )
