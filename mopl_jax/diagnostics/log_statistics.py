"""What two passes over a log count for its examination: spans first, then everything else,
mergeable, in little memory.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.diagnostics.appearance import Appearance
from mopl_jax.diagnostics.log_report import Range
from mopl_jax.diagnostics.sketch import Sketch, hashes_of
from mopl_jax.io.log_reader import LogReader, Rows, declared_densities, precision, room
from mopl_jax.io.precision import Precision
from mopl_jax.policies.bounded import TruncatedNormal
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.transformed import Transformed
from mopl_jax.policies.uniform import Uniform

PERIODS = 10
HELD = 2**16  # rows: ten weights are then 5 MiB
GOLDEN = 0.5 * (math.sqrt(5) - 1)  # whose multiples are spread evenly over [0, 1), modulo one
CELLS = 1000  # of the Kolmogorov–Smirnov statistic, which is therefore up to 1/CELLS too small


class Spans(NamedTuple):
    """What the first pass finds.

    `n`: rows.
    `ranges`: of those columns of `RANGED` that the log has.
    """

    n: int
    ranges: dict[str, Range]


RANGED = ("reward", "action", "log_propensity", "time")
NOTHING = Spans(0, {})


def widen(spans: Spans, rows: Rows) -> Spans:
    """The spans with a chunk more."""
    here = {name: _range(getattr(rows, name), spans.ranges.get(name)) for name in RANGED}
    ranges = {name: both for name, both in here.items() if both is not None}
    return Spans(spans.n + len(rows.reward), ranges)


def _range(column, so_far):
    if column is None:
        return None
    column = column if so_far is None else np.concatenate([column, [*so_far]])
    return Range(column.min(axis=0), column.max(axis=0))


class Ratios(NamedTuple):
    """Of declared density over propensity, w.

    `sums`: count, Σw, Σw², and Σ of w times the largest error of the log propensity.
    `low`, `high`: the smallest and the largest log w.
    `beyond`: the largest |log w| beyond that error.
    """

    sums: np.ndarray
    low: float
    high: float
    beyond: float


class UserSizes(NamedTuple):
    """How many users there are, the rows of all, and the fewest, most and median rows of one."""

    number: int
    rows: int
    low: int
    high: int
    median: float


class LogStatistics:
    """What the second pass counts.

    `tested`: rows that the tests see, the first of each user; of a log whose rows speak for more or
        fewer rows, a sample of them in that proportion.
    `periods`: rows, sums and sums of squares of reward and actions, by period; None without order.
    `reward`: sum and sum of squares, from the smallest reward on.
    `sizes`: rows of each user; `users_there`: what they are like, where an engine counted them.
    `rows`: how often they repeat.
    `appearance`: what rewards and actions look like.
    `whitened`: second moments of (1, whitened action).
    `cells`: how often each uniform level of the actions fell into each of `CELLS`.
    `arms`: how often each action of a discrete policy was played.
    `log_ratio`: of declared density over propensity.
    `written`: how precisely propensities were.
    `held`: time, reward, user and action of a `share` of the units, all rows of a user or none.
    """

    def __init__(self, reader: LogReader, spans: Spans):
        self.reader, self.spans = reader, spans
        self.origin = np.concatenate(  # of the series
            [
                np.atleast_1d(sum(spans.ranges[name]) / 2)
                for name in RANGED[:2]
                if name in spans.ranges
            ]
        )
        self.series = len(self.origin)
        self.tested = 0
        self.periods: Any = np.zeros((3, PERIODS, self.series))
        self.sizes = np.zeros(0, np.int64)
        self.users_there: UserSizes | None = None
        self.rows: Any = Sketch()
        self.appearance = Appearance()
        self.whitened: np.ndarray | None = None
        self.cells: np.ndarray | None = None
        self.arms: np.ndarray | None = None
        self.log_ratio: Ratios | None = None
        self.written: Precision | None = None
        self.seen = 0
        self.random = np.random.default_rng(0)
        self.reward = np.zeros(2)
        self.held: list[tuple] = []
        self.share = min(room(reader, HELD) / max(spans.n, 1), 1)  # of the units

    @property
    def users(self) -> UserSizes | None:
        """What the users' numbers of rows are like; None without users."""
        here = self.sizes
        if self.users_there is not None or not len(here):
            return self.users_there
        median = float(np.median(here))
        return UserSizes(len(here), int(here.sum()), int(here.min()), int(here.max()), median)

    def add(self, rows: Rows) -> None:
        """Count a chunk."""
        columns = (rows.action, rows.reward, rows.cluster, rows.time)
        self.rows.add(hashes_of([column for column in columns if column is not None]))
        self.appearance.add(rows.reward, rows.action)
        kept = self._kept(rows)
        first = self._first_of_each_user(rows, kept)
        self.tested += len(first)
        at, span = self._clock(rows)
        self._add_periods(rows, first, at, span)
        self._hold(rows, kept, at)
        self._add_declared(rows, first, kept)
        centred = rows.reward - self.spans.ranges["reward"].low
        each = 1.0 if rows.log_sampling is None else np.exp(rows.log_sampling)
        self.reward += [(each * centred).sum(), (each * np.square(centred)).sum()]

    def _kept(self, rows):
        """Which rows to test: all; of those that speak for more or fewer rows a sample, as the
        platform's were.
        """
        sampling = self.reader.sampling
        if sampling is None:
            return np.ones(len(rows.reward), bool)
        share = np.exp(rows.log_sampling) / sampling.high
        return self.random.random(len(share)) < share * (1 + 1e-12)

    def _first_of_each_user(self, rows, kept):
        if rows.cluster is None:
            return np.flatnonzero(kept)
        known = len(self.sizes)
        here = np.bincount(rows.cluster, minlength=known)
        here[:known] += self.sizes
        self.sizes = here
        users, index = np.unique(rows.cluster, return_index=True)
        first = index[users >= known]
        return first[kept[first]]

    def _hold(self, rows, kept, at):
        """The rows of a share of the users, by their number."""
        if rows.action is None:
            return
        unit = np.arange(len(at)) + self.seen if rows.cluster is None else rows.cluster
        held = kept & ((unit * GOLDEN) % 1 < self.share)
        columns = (at, rows.reward, unit, rows.action)
        self.held.append(tuple(column[held] for column in columns))

    @np.errstate(over="ignore")  # squares that no float holds
    def _add_periods(self, rows, first, at, span):
        low, high = span
        share = (at - low) / max(high - low, 1e-300)
        period = np.clip((share * PERIODS).astype(int), 0, PERIODS - 1)[first]
        parts = [part for part in (rows.reward[:, None], rows.action) if part is not None]
        series = (np.concatenate(parts, axis=1) - self.origin)[first]
        for k, power in enumerate((np.ones_like(series), series, np.square(series))):
            for j in range(self.series):
                self.periods[k, :, j] += np.bincount(period, power[:, j], PERIODS)

    def _clock(self, rows):
        """When the rows were logged, and the range of all; by row number where there is no time."""
        start, self.seen = self.seen, self.seen + len(rows.reward)
        if rows.time is not None:
            return rows.time, self.spans.ranges["time"]
        return np.arange(start, self.seen), Range(0, self.spans.n)

    def _add_declared(self, rows, first, kept):
        policy = self.reader.logging
        if policy is None or rows.action is None:
            return
        if self.reader.columns.density:
            self.written = self.written or precision(self.reader, rows, "log_propensity")
            ratio = declared_densities(self.reader, rows) - rows.log_propensity
            rounding = np.asarray((self.written or Precision()).error(rows.log_propensity))
            rounding = np.broadcast_to(rounding, ratio.shape)[kept]
            self.log_ratio = _merge_ratio(self.log_ratio, ratio[kept], rounding)
        action = rows.action[first]
        if isinstance(policy, Discrete):
            arms = np.asarray(jax.vmap(policy.which)(jnp.asarray(action))).sum(axis=0)
            self.arms = arms + (0 if self.arms is None else self.arms)
        if isinstance(policy, Transformed):
            action = np.asarray(jax.vmap(policy.map.backward)(jnp.asarray(action)))
            policy = policy.base
        if isinstance(policy, Gaussian):
            z = _whiten(policy, action)
            ones = np.concatenate([np.ones((len(z), 1)), z], axis=1)
            self.whitened = ones.T @ ones + (0 if self.whitened is None else self.whitened)
            self._add_cells(_normal_levels(z))
        elif isinstance(policy, Uniform):
            low, high = np.asarray(policy.low), np.asarray(policy.high)
            self._add_cells((action - low) / (high - low))
        elif isinstance(policy, TruncatedNormal):
            self._add_cells(np.asarray(jax.vmap(policy.levels)(jnp.asarray(action))))

    def _add_cells(self, levels):
        cells = np.clip((levels * CELLS).astype(int), 0, CELLS - 1)
        counts = np.stack([np.bincount(column, minlength=CELLS) for column in cells.T])
        self.cells = counts + (0 if self.cells is None else self.cells)


def _whiten(policy: Gaussian, action) -> Float[np.ndarray, "n d"]:
    """Standard normal under the policy."""
    scale, centred = np.asarray(policy.scale), action - np.asarray(policy.mean)
    return centred / scale if scale.ndim == 1 else np.linalg.solve(scale, centred.T).T


def _normal_levels(z) -> Float[np.ndarray, "n d_and_1"]:
    """Φ of each entry of z, and the distribution function of |z|², which no entry shows: all
    uniform if z is standard normal.
    """
    from scipy.special import gammainc, ndtr  # on demand: its import takes a third of jax's

    radius = gammainc(0.5 * z.shape[1], 0.5 * np.square(z).sum(axis=1))
    return np.concatenate([ndtr(z), radius[:, None]], axis=1)


def _merge_ratio(so_far, ratio, rounding):
    """The ratios of the rows `so_far` and of those whose log `ratio` (m,) is given."""
    with np.errstate(over="ignore"):
        w = np.exp(ratio)
    here = Ratios(
        np.array([len(w), w.sum(), np.square(w).sum(), (w * rounding).sum()]),
        ratio.min(),
        ratio.max(),
        np.max(np.abs(ratio) - rounding),
    )
    if so_far is None:
        return here
    return Ratios(
        so_far.sums + here.sums,
        min(so_far.low, here.low),
        max(so_far.high, here.high),
        max(so_far.beyond, here.beyond),
    )
