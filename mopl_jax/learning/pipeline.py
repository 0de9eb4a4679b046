"""From a log to certified new weights, stage by stage, so that an interrupt finds the best policy
so far.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.learning import certification, refinement
from mopl_jax.learning.optimise import Learnt
from mopl_jax.learning.refinement import Plan
from mopl_jax.logs import Logs
from mopl_jax.policies.gaussian import Gaussian


def check_log(
    logs: Logs,
    *,
    names: Sequence[str] | None = None,
    reward: str = "reward",
    place: str = "log",
) -> None:
    """ValueError for a log that cannot teach: one reward, one action, too few rows.

    `names` of the weights, `reward` the name of its column and `place` that of the file are for
    the complaint.
    """
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
            f"{place}: expected at least {least} rows to learn {d} weights, got {n}; collect more"
        )
    spread = np.linalg.svd(np.cov(logs.action.T).reshape(d, d), compute_uv=False)
    if spread[-1] < 1e-10 * spread[0]:
        raise ValueError(
            f"{place}: the logged weights are linearly dependent (do they add up to a constant?): "
            f"{', '.join(names or ['action'])}; leave one column out"
        )


def advice(outcome) -> str:
    """Whether to change anything."""
    return (
        "keep the current weights"
        if bool(_deciding(outcome).keep)
        else "change to the learnt weights"
    )


def reason(outcome, alpha: float) -> str:
    """Why: what is certain of the gain over what is played now."""
    made = _deciding(outcome)
    over = "production" if "against_production" in outcome else "the logging mean"
    least, gain = float(made.gain_bound), float(made.gain)
    if not made.keep:
        return (
            f"they gain at least {least:.4g} over {over}, with confidence {1 - alpha:.4g} (estimate"
            f" {gain:.4g})"
        )
    certain = (
        f"at least {least:.4g} with confidence {1 - alpha:.4g}"
        if np.isfinite(least)
        else "no bound"
    )
    return f"no gain over {over} is certain ({certain}, estimate {gain:.4g})"


def _deciding(outcome):
    return outcome.get("against_production", outcome["certificate"])


# Running, stage by stage, so that an interrupt finds the best policy so far.


def run(
    parts: Sequence[tuple[Logs, Logs]],
    plan: Plan,
    scales: tuple[float, ...],
    current: Float[np.ndarray, " d"] | None = None,
    advance: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Learn and certify each (learning rows, certification rows): the policy of the best
    certified gain, and what was found.

    With several parts each certificate is at alpha over their number, so that all hold at once,
    that of the best included. `advance()` is called after each stage, and then `stop()`: where
    it is true, or after KeyboardInterrupt, the result is the best policy so far, certified.
    """
    level = plan.alpha / len(parts)
    interrupted, done = False, []
    for learning, held in parts:
        found: dict[str, Any] = {}
        try:
            for stage in _stages(_floats(learning), plan, scales):
                found = stage
                advance()
                if stop():
                    interrupted = True
                    break
        except KeyboardInterrupt:
            interrupted = True
        if not found and not done:
            raise KeyboardInterrupt
        if found:
            done.append(found | _certified(found, _floats(held), plan, level, current))
            advance()
        if interrupted:
            break
    best = max(done, key=lambda found: float(found["certificate"].gain_bound))
    together = (
        certification.combine([found["certificate"] for found in done]) if len(done) > 1 else None
    )
    return best | {
        "mixture": together,
        "interrupted": interrupted,
        "scales": scales,
        "parts": len(done),
        "current": current,
    }


def _floats(logs):
    """Rows in JAX's default precision."""
    return jax.tree.map(jnp.asarray, logs)


def _stages(logs, plan, scales):
    """What is known after each stage of `refinement.learn`: surface, each scale, the last fit."""
    begin = jax.jit(refinement.begin, static_argnames="plan")
    refine = jax.jit(refinement.refine, static_argnums=0)
    finish = jax.jit(refinement.finish, static_argnames="plan")
    factor = jnp.asarray(
        scales, logs.reward.dtype
    )  # strongly typed, as what `refine` returns: else it compiles twice
    state = begin(logs, factor[0], plan=plan)
    history: list[tuple[float, bool]] = []
    yield _so_far(logs, state, history, plan)
    for scale in factor:
        state, (accepted, score) = refine(plan, state, scale)
        history.append((float(score), bool(accepted)))
        yield _so_far(logs, state, history, plan)
    learnt = jax.block_until_ready(finish(state, plan=plan))
    yield _so_far(logs, state, history, plan) | {"learnt": learnt}


def _so_far(logs, state, history, plan):
    """The policy that is ahead, before its last fit."""
    whitening = state.whitening
    policy = Gaussian(
        refinement.unwhiten(state.mean, whitening),
        refinement.rescaled(whitening, jnp.broadcast_to(state.scale, state.mean.shape)),
    )
    nothing = jnp.asarray(jnp.nan)
    no = jnp.asarray(False)
    learnt = Learnt(
        policy,
        nothing,
        nothing,
        nothing,
        jnp.full(1, jnp.nan),
        jnp.zeros((), jnp.int32),
        ~no,
        no,
        no,
    )
    return {
        "learnt": learnt,
        "surface": refinement.surface_of(state),
        "whitening": whitening,
        "by_half": jax.vmap(lambda mean: refinement.unwhiten(mean, whitening))(state.ahead),
        "history": list(history),
        "surface_p": float(state.surface_p),
        "logs": logs,
    }


def _certified(found, held, plan, level, current):
    value_estimator = plan.value_estimator(found["surface"])
    if held.cluster is not None:
        value_estimator = certification.by_cluster(value_estimator, int(held.cluster.max()) + 1)
    certify = jax.jit(
        functools.partial(
            certification.certify,
            value_estimator=value_estimator,
            interval=plan.certificate,
            alpha=level,
        )
    )
    policy = found["learnt"].policy
    against = {"certificate": certify(policy, held, found["whitening"].mean)}
    if current is not None:
        against["against_production"] = certify(
            policy, held, jnp.asarray(current, policy.mean.dtype)
        )
    return against | {"held": held}
