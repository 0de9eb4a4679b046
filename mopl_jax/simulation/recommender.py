"""A small short-video platform: users, candidates, d predictors, a ranked slate, signals, and
days of return.

The action is the vector of scalarisation weights: candidates are ranked by Σ_k w_k s_k. Contract
of a platform, simulated here or replayed from a table (`replay`): `platform.visit(key, action
(d,)) -> Visit`, and `platform.signals`, the names, the North Star last. Physics are fields: a
sweep over worlds is a `vmap`. Chance hangs on the user's key and, for an item, on its number
among the candidates: two policies on one key meet the same user and the same items (common
random numbers).

Not modelled: dependence between the items of a slate, users who meet twice, drift, interference
between users.
"""

import dataclasses
import functools
import math
import operator
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.random import fold_in
from jaxtyping import Array, Bool, Float, Int

from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Batch, OneKey, Scalar, Vector

DAYS = 7
Vectors = list[
    Array
]  # one vector over items for each factor or objective: lists, so that they fuse into one loop


@pytree_dataclass()
class Visit:
    """One user's week: `signals` (k,) as the platform records them, the North Star last, and its
    conditional mean.

    `expected` () is the mean of the North Star given the session. Only a simulation knows it: it
    makes true values cheap and never enters a log.
    """

    signals: Float[Array, "*batch k"]
    expected: Batch


class User(NamedTuple):
    """What stays with a user: `taste` (q,), `habit` (they come anyway), `stay` (how far they
    scroll), `pace`.
    """

    taste: Float[Array, " q"]
    habit: Scalar
    stay: Scalar
    pace: Scalar


@pytree_dataclass(static=("objectives", "candidates", "slate"))
class Platform:
    """The physics of a platform with d objectives and q item factors (uniform, mean 0, variance
    1, independent).

    An item with factors v has margin m_k = base_k + loading_kᵀ v + personal_k tasteᵀ v/√q for
    objective k. The score is Φ(m_k) and the event has exactly that probability given all scores
    (calibrated): it happens if m_k + ρ_k g + √(1−ρ_k²) ε > 0, with `unseen` ρ and a quality g
    that no predictor sees (noisy; events of an item are correlated). Scores are ranked in units
    of their standard deviation over items, `unit`. A user sees the first `n` of the slate, n
    geometric (position bias). Each item seen adds contentᵀ v + content_personal tasteᵀ v/√q +
    content_unseen g to satisfaction, and the user comes back on each of seven days with
    probability Φ(habit + devotion · satisfaction).
    """

    loading: Float[Array, "d q"]
    personal: Vector
    base: Vector
    unit: Vector
    unseen: Vector
    content: Float[Array, " q"]
    content_personal: Scalar
    content_unseen: Scalar
    devotion: Scalar
    habit: Float[Array, " 2"]  # mean and standard deviation over users
    stay: Float[Array, " 2"]  # likewise; Φ(stay) is the chance of one more item
    pace: Float[
        Array, " 4"
    ]  # log minutes of a click, what a long view adds; standard deviation over items, over users
    objectives: tuple[str, ...]
    candidates: int = 100
    slate: int = 10

    @property
    def signals(self) -> tuple[str, ...]:
        """One count for each objective, items seen, minutes watched, and the North Star: days of
        the next week.
        """
        return (*self.objectives, "seen", "minutes", "days")

    def visit(self, key: OneKey, action: Vector) -> Visit:
        """The week of the user behind `key` whose candidates are ranked with weights `action`
        (d,).
        """
        user = self.user(fold_in(key, 0))
        items = jax.random.key_data(fold_in(key, 1))
        shown = lax.top_k(self.ranking(user, items, action), self.slate)[1]
        return self.session(user, items, shown, fold_in(key, 2))

    def user(self, key: OneKey) -> User:
        """The user behind a key; who comes often also scrolls far (correlation ½)."""
        q = self.loading.shape[1]
        z = random.normal(key, q + 3).astype(self.base.dtype)
        habit = self.habit[0] + self.habit[1] * z[q]
        stay = self.stay[0] + self.stay[1] * (0.5 * z[q] + math.sqrt(0.75) * z[q + 1])
        return User(z[:q], habit, stay, self.pace[3] * z[q + 2])

    def ranking(self, user: User, items: OneKey, action: Vector) -> Float[Array, " c"]:
        """Σ_k w_k s_k of every candidate, (c,)."""
        return _mix(
            action / self.unit, self.scores(user, self.factors(items, jnp.arange(self.candidates)))
        )

    def factors(self, items: OneKey, index: Int[Array, " c"]) -> Vectors:
        """Factors of the candidates `index`: q vectors (c,)."""
        blocks = range(-(-self.loading.shape[1] // 4))
        halves = [half for block in blocks for half in _halves(_words(items, index, block))]
        return [
            math.sqrt(12) * (half.astype(self.base.dtype) - 0.5)
            for half in halves[: self.loading.shape[1]]
        ]

    def scores(self, user: User, factors: Vectors) -> Vectors:
        """Calibrated probabilities of the d events, each (c,)."""
        return [_normal_cdf(margin) for margin in self.margins(user, factors)]

    def margins(self, user: User, factors: Vectors) -> Vectors:
        """m_k = base_k + loading_kᵀ v + personal_k tasteᵀ v/√q, each (c,)."""
        match = _match(user, factors)
        return [
            base + _mix(loading, factors) + personal * match
            for base, loading, personal in zip(self.base, self.loading, self.personal, strict=True)
        ]

    def session(self, user: User, items: OneKey, shown: Int[Array, " s"], key: OneKey) -> Visit:
        """What the user does with the ranked items `shown`, and how often they come back."""
        factors = lax.optimization_barrier(self.factors(items, shown))
        quality, swing = random.box_muller(_words(items, shown, 16))
        quality, swing = quality.astype(self.base.dtype), swing.astype(self.base.dtype)
        draws = random.uniform(key, 1 + DAYS).astype(self.base.dtype)
        seen = _seen(draws[0], _normal_cdf(user.stay), shown.shape[0])
        events = [
            event & seen
            for event in self.events(self.margins(user, factors), quality, items, shown)
        ]
        content = _mix(self.content, factors) + self.content_personal * _match(user, factors)
        content = content + self.content_unseen * quality
        back = _normal_cdf(user.habit + self.devotion * jnp.sum(jnp.where(seen, content, 0)))
        days = jnp.sum(draws[1:] < back, dtype=back.dtype)
        counts = [jnp.sum(event, dtype=back.dtype) for event in (*events, seen)]
        return Visit(jnp.stack([*counts, self.minutes(user, events, swing), days]), DAYS * back)

    def events(
        self, margins: Vectors, quality: Vector, items: OneKey, shown: Int[Array, " s"]
    ) -> list[Bool[Array, " s"]]:
        """Which events happen on which item: independent given the unseen quality."""
        blocks = range(17, 17 + -(-self.base.shape[0] // 4))
        halves = [
            half.astype(quality.dtype)
            for block in blocks
            for half in _halves(_words(items, shown, block))
        ]
        # Computed once: without the barrier every event's loop would draw and mix the factors anew.
        margins, halves = lax.optimization_barrier((margins, halves[: len(margins)]))
        happens = zip(margins, self.unseen, halves, strict=True)
        return [
            u < _normal_cdf((m + rho * quality) * lax.rsqrt(1 - rho * rho)) for m, rho, u in happens
        ]

    def minutes(
        self, user: User, events: list[Bool[Array, " s"]], swing: Float[Array, " s"]
    ) -> Scalar:
        """Minutes watched: log-normal for each item clicked (objective 0), longer on a long view
        (objective 1).
        """
        log_minutes = (
            self.pace[0]
            + self.pace[1] * events[1].astype(swing.dtype)
            + self.pace[2] * swing
            + user.pace
        )
        return jnp.sum(jnp.where(events[0], jnp.exp(log_minutes), 0))


def _seen(u, further, slate):
    """Which positions (slate,) are seen: position r with probability further^(r+1), all by one
    uniform.
    """
    return jnp.log(u) < jnp.log(further) * jnp.arange(1, slate + 1, dtype=u.dtype)


def _mix(weights, vectors):
    """Σ_k weight_k vector_k."""
    return functools.reduce(operator.add, (weights[k] * vector for k, vector in enumerate(vectors)))


def _match(user, factors):
    return _mix(user.taste, factors) / math.sqrt(len(factors))


def _normal_cdf(x):
    return 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))


def _words(items, index, block):
    """Two uniform words for each candidate in `index`: counter (block, candidate) under the user's
    own key.
    """
    index = index.astype(jnp.uint32)
    return random.threefry2x32((items[0], items[1]), (jnp.full_like(index, block), index))


def _halves(words):
    """Four uniforms on (0, 1) from two words: 16 bits are enough for an item, and the draw is most
    of the cost.
    """
    halves = [
        half for word in words for half in (word >> jnp.uint32(16), word & jnp.uint32(0xFFFF))
    ]
    return [(half.astype(jnp.float32) + np.float32(0.5)) * np.float32(2**-16) for half in halves]


# The default world.

# Rate, unseen, personal, and the loading on each factor: quality, bait, depth, emotion,
# controversy, creator, novelty, recency.
_EVENTS = {
    "click": (0.30, 0.3, 0.35, (0.35, 0.60, -0.10, 0.15, 0.10, 0.10, -0.05, 0.10)),
    "long_view": (0.20, 0.5, 0.45, (0.50, -0.30, 0.45, 0.10, 0.00, 0.10, -0.05, 0.00)),
    "like": (0.05, 0.5, 0.25, (0.40, 0.00, 0.00, 0.40, -0.15, 0.20, 0.00, 0.05)),
    "share": (0.012, 0.4, 0.15, (0.25, 0.10, 0.00, 0.45, 0.20, 0.00, 0.05, 0.15)),
    "comment": (0.015, 0.2, 0.10, (0.05, 0.25, 0.00, 0.25, 0.60, 0.10, 0.00, 0.10)),
    "follow": (0.010, 0.5, 0.30, (0.30, -0.10, 0.10, 0.05, 0.00, 0.55, 0.30, 0.00)),
    "new_creator": (0.40, 0.0, 0.00, (0.00, 0.00, 0.00, 0.00, 0.00, -0.40, 0.80, 0.10)),
    "fresh": (0.30, 0.0, 0.00, (0.00, 0.05, 0.00, 0.00, 0.05, 0.00, 0.10, 0.80)),
}
_CONTENT = (0.50, -0.45, 0.25, 0.15, -0.30, 0.20, 0.25, 0.10)
PRODUCTION = (1.0, 0.6, 0.4, 0.3, 0.3, 0.2, 0.0, 0.1)  # weights tuned by hand, for engagement


def short_video(devotion: float = 0.02, candidates: int = 100, slate: int = 10) -> Platform:
    """The default world: eight objectives on eight factors; clicks like bait, satisfaction does
    not.

    `devotion`: what a standard unit of content adds to the probit of coming back; it sets the
    size of every effect on the North Star.
    """
    rate, unseen, personal, loading = map(np.array, zip(*_EVENTS.values(), strict=True))
    spread = np.sqrt(1 + np.square(loading).sum(axis=1) + personal**2)
    base = np.array([NormalDist().inv_cdf(p) for p in rate]) * spread
    fields = {
        "loading": loading,
        "personal": personal,
        "base": base,
        "unit": np.ones(len(base)),
        "unseen": unseen,
        "content": _CONTENT,
        "content_personal": 0.45,
        "content_unseen": 0.5,
        "devotion": devotion,
        "habit": (0.1, 1.0),
        "stay": (0.7, 0.6),
        "pace": (-1.6, 1.0, 0.8, 0.6),
    }
    arrays = {name: jnp.asarray(np.asarray(value), float) for name, value in fields.items()}
    platform = Platform(**arrays, objectives=tuple(_EVENTS), candidates=candidates, slate=slate)
    return dataclasses.replace(platform, unit=_score_spread(platform))


@jax.jit
def _score_spread(platform):
    """Standard deviation of each score over users and items, from 2¹⁶ of them."""

    def scores(key):
        user = platform.user(fold_in(key, 0))
        factors = math.sqrt(12) * (
            random.uniform(key, user.taste.shape[0]).astype(user.taste.dtype) - 0.5
        )
        return jnp.stack(platform.scores(user, list(factors)))

    return jnp.std(jax.vmap(scores)(random.row_keys(jax.random.key(0), 2**16)), axis=0)
