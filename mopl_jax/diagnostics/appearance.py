"""What the rewards and actions of a log look like, whatever is declared of them: arms, clipping, a
simplex, draws that repeat, values that stand for something else.

`Appearance` counts rows in one pass, in any chunks; `findings_of` says what was seen. A policy with
a density plays no action twice: where a log shows otherwise, densities are probabilities, or rows
are not independent.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.sketch import Sketch, hashes_of
from mopl_jax.io.precision import decimals_of
from mopl_jax.policies.support import ARMS, ATOMS, SIMPLEX, shapes_of

KEPT = 16  # different values kept at each end of a column
ROWS_A_LEVEL = 10  # rows for each value of a weight that is said to have a few
ATOM = 0.01  # of the rows on a bound: below, the weights of so few rows decide nothing
REPEATED = 0.05  # of the rows: below, repeats hardly narrow an interval
CHANCE = 4  # times the pairs that rounding gives
RARE = 0.05  # of the rows: what stands for something else is rare, or it would have been noticed
FAR = 10  # times the range of all other values, and no value between
STRAYS = 2  # values at each end that are looked at together
CODES = {sign * (10**k - 1) for k in range(2, 8) for sign in (-1, 1)} | {
    -1,
    -9,
    -(2**31),
    2**31 - 1,
}


class Values:
    """The different values of a column and how many rows have each: all of them where there are at
    most 2 `KEPT`, else those at both ends.
    """

    def __init__(self):
        self.value: np.ndarray = np.zeros(0)
        self.count: np.ndarray = np.zeros(0)
        self.many = False

    def add(self, column: Float[np.ndarray, " n"]) -> None:
        """Count rows."""
        value, count = np.unique(column, return_counts=True)
        value, where = np.unique(np.concatenate([self.value, value]), return_inverse=True)
        count = np.bincount(where, np.concatenate([self.count, count]))
        if len(value) > 2 * KEPT:
            value, count = (np.concatenate([x[:KEPT], x[-KEPT:]]) for x in (value, count))
            self.many = True
        self.value, self.count = value, count


class Appearance:
    """What one pass over a log counts.

    `n`: rows.
    `reward`, `action`: the different values of the rewards and of each weight.
    `actions`: how often whole actions repeat.
    `decimals`: of each weight, those that it is rounded to; inf where it is not.
    `sums`: smallest and largest sum of an action's weights.
    """

    def __init__(self):
        self.n, self.reward = 0, Values()
        self.actions: Any = Sketch()
        self.action: list[Values] = []
        self.decimals: list[float] = []
        self.sums = math.inf, -math.inf

    def add(self, reward: Float[np.ndarray, " n"], action: Float[np.ndarray, "n d"] | None) -> None:
        """Count rows."""
        self.n += len(reward)
        self.reward.add(np.asarray(reward, float))
        if action is None:
            return
        columns = list(np.asarray(action, float).T)
        self.actions.add(hashes_of([action]))
        self.action = self.action or [Values() for _ in columns]
        self.decimals = self.decimals or [0.0] * len(columns)
        for values, column in zip(self.action, columns, strict=True):
            values.add(column)
        self.decimals = [
            max(known, decimals_of(column))
            for known, column in zip(self.decimals, columns, strict=True)
        ]
        total = np.asarray(action, float).sum(axis=1)
        self.sums = min(self.sums[0], total.min()), max(self.sums[1], total.max())

    @classmethod
    def of(cls, reward: Any, action: Any) -> "Appearance":
        """What a log in memory looks like, by its rewards (n,) and actions (n, d)."""
        seen = cls()
        seen.add(np.asarray(reward), np.asarray(action))
        return seen

    @property
    def few(self) -> list[bool]:
        """Of each weight, whether it takes a few values only."""
        return [_is_few(values, self.n) for values in self.action]

    @property
    def repeated(self) -> bool:
        """Whether actions repeat more often than rounding explains."""
        share, pairs = self.actions.repeated, self.actions.pairs
        return share > REPEATED and pairs > CHANCE * _rounded_pairs(self)


def findings_of(
    seen: Appearance,
    names: Sequence[str] | None = None,
    *,
    clustered: bool,
    continuous: bool,
    simplex: bool = False,
    declared: Any = None,
) -> list[Finding]:
    """What was seen, the grave first; nothing where all is as usual.

    `names` are those of the weights. `clustered`: whether the log knows its users. `continuous`:
    whether a policy with a density is declared or asked about, which an action that repeats cannot
    come from. `simplex`: whether that is one of shares. `declared`: the policy that was logging,
    where it is known; what it plays is not asked to be declared, and where it is refused it is the
    target that has no such actions.
    """
    names = names or [f"action[{k}]" for k in range(len(seen.action))]
    played = shapes_of(declared)
    found = [
        _of_shape(each, continuous and not (each.kind == SIMPLEX and simplex), played)
        for each in _shapes(seen, names)
    ]
    if seen.repeated and not clustered and not found:
        each = seen.n / max(seen.actions.distinct, 1)
        text = (
            f"each is played {each:.1f} times on average: rows of one user? name the column with"
            " --cluster"
        )
        found.append(Finding("repeated actions", "caution", text))
    columns = {"reward": seen.reward} | dict(zip(names, seen.action, strict=True))
    return found + [
        Finding("reward" if name == "reward" else "action", "caution", f"{name}: {text}")
        for name, values in columns.items()
        for text in _strays(values, seen.n)
    ]


# Shapes that no density in all weights has.


class _Shape(NamedTuple):
    """What is seen: of what `kind`, and what to do where no policy is declared that plays so."""

    kind: str
    seen: str
    remedy: str


WRITE = {  # the target, beside a logging policy that plays so
    ARMS: "cannot be weighed against arms: give its probabilities (--target-propensity), or write"
    " it of kind discrete",
    SIMPLEX: "plays weights that do not add up so: write it of kind dirichlet or logistic_normal",
    ATOMS: "plays no value twice: write it of kind clipped_normal, with the same bounds",
}


def _of_shape(shape, refused, played) -> Finding:
    """A finding by what the declared policy is known to play."""
    if shape.kind not in played:
        text = f"{shape.seen}{shape.remedy}"
    elif refused:
        text = (
            f"{shape.seen}, as the logging policy plays; the target has a density in all weights,"
            f" and {WRITE[shape.kind]}"
        )
    else:
        text = f"{shape.seen}, as the declared policy plays"
    return Finding("action", "refuse" if refused else "trust", text)


def _shapes(seen, names) -> Iterator[_Shape]:
    """What is seen that has no density in all weights."""
    few = [name for name, yes in zip(names, seen.few, strict=True) if yes]
    if few:
        which = "" if len(few) == len(names) else f" ({', '.join(few)} of a few values)"
        yield _Shape(
            ARMS,
            f"{seen.actions.distinct:,.0f} distinct actions in {seen.n:,} rows{which}: arms",
            ", whose propensities are probabilities and not densities; a policy with a density"
            " cannot be weighed against them: give the target's probabilities"
            " (--target-propensity), or a policy of kind discrete",
        )
        return
    low, high = seen.sums
    if len(names) > 1 and high - low <= 1e-6 * max(abs(low), abs(high)):
        yield _Shape(
            SIMPLEX,
            f"the weights of every row add up to {high:.6g}: a simplex",
            ", on which no policy has a density in all weights; leave one column out, or declare a"
            " policy of kind dirichlet or logistic_normal",
        )
    for name, values in zip(names, seen.action, strict=True):
        for value, share in _atoms(values, seen.n):
            yield _Shape(
                ATOMS,
                f"{share:.0%} of {name} are exactly {value:g}: clipped",
                "? a policy with a density plays no value twice, and what is at the bound has a"
                " probability: declare a policy of kind clipped_normal",
            )


def _is_few(values, n):
    return not values.many and 1 < len(values.value) <= n / ROWS_A_LEVEL


def _atoms(values, n):
    """Ends of a weight of many values that have far more rows than the values beside them."""
    if not values.many:
        return
    for end, beside in ((0, slice(1, KEPT)), (-1, slice(-KEPT, -1))):
        count = values.count[end]
        if count >= max(ATOM * n, ROWS_A_LEVEL * values.count[beside].max()):
            yield values.value[end], count / n


def _rounded_pairs(seen):
    """Pairs of equal actions that rounding gives, of weights that are about normal: ∫f² = 1/2√πσ.

    A weight that is not rounded never repeats by chance. A quarter of the range stands for σ.
    """
    chance = 1.0
    for values, decimals in zip(seen.action, seen.decimals, strict=True):
        spread = (values.value[-1] - values.value[0]) / 4
        step = 10.0**-decimals
        chance *= min(1.0, step / max(2 * math.sqrt(math.pi) * spread, 1e-300))
    return 0.5 * seen.n * (seen.n - 1) * chance


# Values that stand for something else.


def _strays(values, n) -> Iterator[str]:
    """What is rare at the ends of a column and does not belong to the other values."""
    value, rows, strays = values.value, values.count, []
    while here := _fewest_strays(value, rows, n):
        low, high = here
        kept = slice(low, len(value) - high)
        strays += [*zip(value[:low], rows[:low], strict=True)]
        strays += [*zip(value[kept.stop :], rows[kept.stop :], strict=True)]
        value, rows = value[kept], rows[kept]
    for stray, count in sorted(strays):
        yield (
            f"{stray:g} in {count / n:.2g} of the rows, far from the others, which are"
            f" {value[0]:g} to {value[-1]:g}: a code for what is missing? drop these rows or repair"
            " them"
        )


def _fewest_strays(value, rows, n):
    """How many values at the low and at the high end are strays, the fewest that are; or None."""
    for low, high in sorted(product(range(STRAYS + 1), repeat=2), key=sum):
        last = len(value) - high
        rare = rows[:low].sum() + rows[last:].sum() <= RARE * n
        if low + high and last - low >= 2 and rare:
            inner = value[low], value[last - 1]
            below = not low or _apart(value[low - 1], value[low] - value[low - 1], *inner)
            above = not high or _apart(value[last], value[last] - value[last - 1], *inner)
            if below and above:
                return low, high
    return None


def _apart(stray, gap, first, last):
    """Whether a value does not belong to those from `first` to `last`, from which `gap` parts it.

    A code, or the one negative value, needs less of a gap.
    """
    negative = stray < 0 <= first
    if stray in CODES:
        return gap >= (0 if negative else last - first)
    return gap >= (last - first) * (1 if negative else FAR)
