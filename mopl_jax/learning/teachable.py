"""Logs that cannot teach: refused in one line before anything is compiled."""

from collections.abc import Sequence

import numpy as np

from mopl_jax.learning.guardrails import Guardrail
from mopl_jax.logs import Logs, check


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
    least = 4 * (d + 1) * (d + 2)
    if n < least:
        raise ValueError(
            f"{place}: expected at least {least} rows to learn {d} weights, got {n}; {remedy}"
        )
    spread = np.linalg.svd(np.cov(logs.action.T).reshape(d, d), compute_uv=False)
    if spread[-1] < 1e-10 * spread[0]:
        raise ValueError(
            f"{place}: the logged weights are linearly dependent (do they add up to a constant?): "
            f"{', '.join(names or ['action'])}; leave one column out, and its weight out of the"
            " densities; or, where they are shares, compare policies of kind logistic_normal or"
            " dirichlet"
        )


def check_outcomes(logs: Logs, guardrails: Sequence[Guardrail], trades: int, place: str) -> None:
    """ValueError for an outcome that does not vary, and for a front without a second outcome."""
    if trades and not (trades >= 2 and guardrails):
        raise ValueError(
            f"trades: expected 2 policies or more and a guardrail whose outcome they trade, got"
            f" {trades} and {len(guardrails)} guardrails"
        )
    for k, each in enumerate(guardrails):
        outcome = np.asarray(logs.context)[:, k]
        if not np.isfinite(outcome).all():
            row = int(np.argmin(np.isfinite(outcome)))
            raise ValueError(f"{place}: guardrail {each.name!r}: not a finite number in row {row}")
        if np.ptp(outcome) == 0:
            raise ValueError(
                f"{place}: guardrail {each.name!r}: all {len(outcome)} rows are {outcome[0]:g}:"
                " nothing can break it; leave it out"
            )
