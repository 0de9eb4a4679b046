"""Logs that cannot teach: refused in one line before anything is compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from mopl_jax.learning.guardrails import Guardrail
from mopl_jax.logs import Logs, check, check_precision
from mopl_jax.numerics import quadratic

LEAST = 4  # rows for each weight and two more: a half of them, or three of four folds, has a spread
MOST_TRADES = 100  # policies of a front, each of them certified
EACH = 8  # rows a coefficient, from which a log teaches more than its prior


def check_teaches(
    logs: Logs,
    *,
    names: Sequence[str] | None = None,
    reward: str = "reward",
    place: str = "log",
    remedy: str = "collect more",
) -> None:
    """ValueError for a log that cannot teach: one reward, one action, too few rows.

    `names` of the weights, `reward` the name of its column, `place` that of the file and the
    `remedy` for too few rows are for the complaint.
    """
    check(logs)
    n, d = logs.action.shape
    if np.ptp(logs.reward) == 0:
        raise ValueError(
            f"{place}: column {reward!r}: all {n} rewards are {logs.reward[0]:g}: nothing can be"
            " learnt; name a reward that varies"
        )
    for k, name in enumerate(names or [f"action[{k}]" for k in range(d)]):
        if np.ptp(logs.action[:, k]) == 0:
            raise ValueError(
                f"{place}: weight {name!r}: all {n} rows played {logs.action[0, k]:g}: "
                "randomise it, or leave the column out"
            )
    least = LEAST * (d + 2)
    if n < least:
        raise ValueError(
            f"{place}: expected at least {least} rows to learn {d} weights, got {n}; {remedy}"
        )
    if _depend(logs.action):
        raise ValueError(
            f"{place}: the logged weights are linearly dependent (do they add up to a constant?): "
            f"{', '.join(names or ['action'])}; leave one column out, and its weight out of the"
            " densities; or, where they are shares, compare policies of kind logistic_normal or"
            " dirichlet"
        )


def check_part(action: Float[ArrayLike, "n d"], kept: Any = None) -> None:
    """ValueError where the actions of the rows `kept`, all unless given, do not tell weights apart:
    those that teach while the others certify.
    """
    part = np.asarray(action, float) if kept is None else np.asarray(action, float)[kept]
    n, d = part.shape
    if n < d + 2 or _depend(part):
        raise ValueError(
            f"expected rows of {d + 2} or more different actions to teach {d} weights while the"
            f" others certify, got {len(np.unique(part, axis=0))}; collect more, or change the"
            " share or the number of folds"
        )


def _depend(action):
    """Whether weights are linearly dependent."""
    spread = np.linalg.svd(np.atleast_2d(np.cov(np.asarray(action, float).T)), compute_uv=False)
    return spread[-1] < 1e-10 * spread[0]


def thin(n: int, d: int) -> str | None:
    """What so few rows can teach of d weights, where that is hardly more than the prior."""
    enough = EACH * quadratic.size(d)
    if n >= enough:
        return None
    return (
        f"{n:,} rows teach {d} weights: fewer than {EACH} for each coefficient of a quadratic"
        f" ({enough:,}); the surface is as much its prior, the mean reward, as what these rows say,"
        " and a gain that it predicts is a guess until rows certify it"
    )


def check_outcomes(logs: Logs, guardrails: Sequence[Guardrail], trades: int, place: str) -> None:
    """ValueError for an outcome that does not vary, and for a front without a second outcome."""
    if trades and not (2 <= trades <= MOST_TRADES and guardrails):
        raise ValueError(
            f"trades: expected 2 to {MOST_TRADES} policies and a guardrail whose outcome they"
            f" trade, got {trades} and {len(guardrails)} guardrails"
        )
    for k, each in enumerate(guardrails):
        outcome = np.asarray(logs.context)[:, k]
        if not np.isfinite(outcome).all():
            row = int(np.argmin(np.isfinite(outcome)))
            raise ValueError(
                f"{place}: guardrail {each.name!r}: not a finite number in row {row}; repair or"
                " drop the row"
            )
        check_precision(outcome, f"{place}: guardrail {each.name!r}")
        if np.ptp(outcome) == 0:
            raise ValueError(
                f"{place}: guardrail {each.name!r}: all {len(outcome)} rows are {outcome[0]:g}:"
                " nothing can break it; leave it out"
            )
