"""A platform replayed from a table of interactions: logged candidates, ranked anew, with
outcomes that are known.

One row for each candidate that a user was shown: a user column, an item column, and one column
of 0/1 (or counts) for each objective; optionally a session column (candidates are ranked within
user and session), a column that marks rows exposed at random (only those are kept: what was
shown because the old ranking liked it is no fair candidate), and extra outcome columns.
`KUAIRAND` is the layout of the files log_random_*.csv and log_standard_*.csv of KuaiRand (Gao et
al., CIKM 2022, arXiv 2208.08696): columns user_id, video_id, date, hourmin, time_ms, is_click,
is_like, is_follow, is_comment, is_forward, is_hate, long_view, play_time_ms, duration_ms,
profile_stay_time, comment_stay_time, is_profile_enter, is_rand, tab.

The scores are the item's shrunken rates without the row itself, so no outcome is its own
predictor. What a table cannot replay: items nobody logged, retention, and any effect of the
slate on the outcome of an item in it. The North Star is therefore an outcome of what is shown.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from mopl_jax.io.table import read_columns
from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import OneKey, Scalar, Vector
from mopl_jax.simulation.recommender import Visit


class Columns(NamedTuple):
    """Which columns of the table are what; `objectives` are scored and ranked, `outcomes` only
    counted, the North Star last.
    """

    user: str
    item: str
    objectives: tuple[str, ...]
    outcomes: tuple[str, ...]
    session: str | None = None
    random: str | None = None


KUAIRAND = Columns(
    user="user_id",
    item="video_id",
    objectives=("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_profile_enter"),
    outcomes=("play_time_ms", "long_view"),
    session="date",
    random="is_rand",
)


@pytree_dataclass(static=("objectives", "outcomes", "slate"))
class ReplayPlatform:
    """g sessions of at most c candidates: `scores` in units of their spread, `known` outcomes,
    `there` 0 where padded.

    A visit draws a session uniformly, shows its `slate` best candidates, and counts their
    outcomes with the weight `seen` (slate,) of their position.
    """

    scores: Float[Array, "g c d"]
    known: Float[Array, "g c k"]
    there: Float[Array, "g c"]
    seen: Float[Array, " s"]
    objectives: tuple[str, ...]
    outcomes: tuple[str, ...]
    slate: int

    @property
    def signals(self) -> tuple[str, ...]:
        """The objectives and the other outcomes, the North Star last."""
        return (*self.objectives, *self.outcomes)

    def visit(self, key: OneKey, action: Vector) -> Visit:
        """One session, drawn by the key. All but its draw is known: `expected` is the North Star
        itself.
        """
        draw = random.uniform(key, 1)[0]
        sessions = self.scores.shape[0]
        return self.show(jnp.minimum((draw * sessions).astype(jnp.int32), sessions - 1), action)

    def show(self, session: Int[Array, ""], action: Vector) -> Visit:
        """What the candidates of a session give when they are ranked with weights `action`."""
        rank = jnp.where(self.there[session] > 0, self.scores[session] @ action, -jnp.inf)
        shown = lax.top_k(rank, self.slate)[1]
        weight = self.seen * self.there[session][shown]
        signals = weight @ self.known[session][shown]
        return Visit(signals, signals[-1])


def value(platform: ReplayPlatform, action: Vector) -> Scalar:
    """The exact North Star of weights `action`: the mean over all sessions."""
    sessions = jnp.arange(platform.scores.shape[0])
    return jnp.mean(jax.vmap(lambda g: platform.show(g, action).expected)(sessions))


def read(
    path: Path | str,
    columns: Columns = KUAIRAND,
    slate: int = 5,
    least: int = 2,
    prior: float = 20.0,
) -> ReplayPlatform:
    """The platform of a table; sessions with fewer than `least` candidates are left out, as they
    leave no choice.

    `prior`: how many average exposures an item's rate is shrunk by. ValueError in one line for a
    missing column, an empty table, entries that are no numbers, negative objectives, or no
    session with a choice.
    """
    wanted = [*columns.objectives, *columns.outcomes, *filter(None, [columns.random])]
    labels = [columns.user, columns.item, *filter(None, [columns.session])]
    table = read_columns(path, wanted, labels)
    return build(table, columns, slate, least, prior, str(path))


def build(
    table: Mapping[str, Any],
    columns: Columns,
    slate: int,
    least: int,
    prior: float,
    where: str = "the table",
) -> ReplayPlatform:
    """The platform of a `table` already read, a mapping name -> (n,)."""
    if slate < 1 or least < 2:
        raise ValueError(f"expected slate ≥ 1 and least ≥ 2 candidates, got {slate} and {least}")
    if columns.random:
        kept = table[columns.random] == 1
        if not kept.any():
            raise ValueError(
                f"{where}: no row with {columns.random} = 1; use the file of random exposures"
            )
        table = {name: column[kept] for name, column in table.items()}
    _check_outcomes(table, columns, where)
    group = _groups([table[name] for name in (columns.user, columns.session) if name])
    place, kept = _places(group, least)
    if not kept.any():
        raise ValueError(
            f"{where}: no session has {least} candidates or more; leave out the session column"
        )
    objective = np.column_stack([table[name] for name in columns.objectives])
    scores = leave_one_out(table[columns.item], objective, prior)
    spread = scores[kept].std(axis=0)
    outcomes = np.column_stack([objective, *(table[name] for name in columns.outcomes)])
    number = np.unique(group[kept], return_inverse=True)[1]
    shape = (int(number.max()) + 1, max(int(place[kept].max()) + 1, slate))
    fill = lambda x: _padded(shape, number, place[kept], x[kept])  # noqa: E731
    return ReplayPlatform(
        fill(scores / np.where(spread > 0, spread, 1)),
        fill(outcomes),
        fill(np.ones(len(place))),
        _position(slate),
        columns.objectives,
        columns.outcomes,
        slate,
    )


def leave_one_out(
    item: Float[np.ndarray, " n"], outcome: Float[np.ndarray, "n d"], prior: float
) -> Float[np.ndarray, "n d"]:
    """(sum over the item's other rows + prior · rate) / (other rows + prior): a predictor that has
    not seen its own row.
    """
    number = np.unique(item, return_inverse=True)[1]
    total = np.stack([np.bincount(number, column) for column in outcome.T], axis=1)
    count = np.bincount(number)[number][:, None]
    return (total[number] - outcome + prior * outcome.mean(axis=0)) / (count - 1 + prior)


def _check_outcomes(table, columns, where):
    for name in columns.objectives:
        bad = np.flatnonzero(table[name] < 0)
        if bad.size:
            raise ValueError(
                f"{where}: column {name!r}: expected 0, 1 or counts, got {table[name][bad[0]]:g};"
                " repair it"
            )


def _groups(keys):
    return np.unique(np.column_stack(keys), axis=0, return_inverse=True)[1].reshape(-1)


def _places(group, least):
    """The number of each row within its session, in the order of the table; and whether its session
    has a choice.
    """
    order = np.argsort(group, kind="stable")
    size = np.bincount(group)
    place = np.empty(len(group), int)
    place[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return place, size[group] >= least


def _padded(shape, number, place, values):
    full = np.zeros((*shape, *values.shape[1:]))
    full[number, place] = values
    return jnp.asarray(full, float)


def _position(slate):
    """Seen with weight 1/log₂(1 + rank), the discount of DCG (Järvelin & Kekäläinen 2002)."""
    return jnp.asarray(1 / np.log2(np.arange(slate) + 2), float)
