"""The whole loop on a platform: explore, learn a metric, learn weights with pessimism, certify,
test online, adopt or keep.

Every policy here is Gaussian, and it is the Gaussian policy that is estimated, certified and
played online: weights w are served as N(w, h²), production as well as proposals, so that all
gains are differences of means at one smoothing. A ranking has no scale, but smoothing has:
longer weights are blurred less. So w keeps the length of the first weights. A round explores
with N(production, s²), s > h, one draw for each user.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float

from mopl_jax import logs
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import Interval
from mopl_jax.learning import certification, constraints, objective, optimise
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.logs import Logs
from mopl_jax.metrics import experiments, objectives, rules
from mopl_jax.numerics import quadratic
from mopl_jax.numerics.shapes import OneKey, Vector
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.simulation import online
from mopl_jax.simulation.online import Recommender
from mopl_jax.simulation.small_rounds import Search
from mopl_jax.simulation.small_rounds import search as small_rounds


class Plan(NamedTuple):
    """How a round of the loop explores, learns and tests.

    `explore`, `test`: users who explore, and users in each arm of the online test.
    `small`: users of a small round, in which half of those who explore do, see `small_rounds`;
        0: all at once, around the production weights.
    `scale`: standard deviation s of the exploration.
    `fine`: h/s, the smoothing of what is served over that of the exploration.
    `radius`: how far a proposal may go from the production weights, in s.
    `recall`: how many earlier explorations are learnt from as well, never certified on.
    `alpha`: level of the certificate (one-sided) and of the test (two-sided).
    `rule`: by which the test decides, of `metrics.rules.RULES`.
    `pessimistic`: False maximises the plain estimate and tests whatever comes out.
    """

    explore: int = 200_000
    test: int = 50_000
    scale: float = 0.4
    fine: float = 0.8
    radius: float = 1.25
    recall: int = 2
    alpha: float = 0.05
    pessimistic: bool = True
    rule: str = rules.GUARDED
    small: int = 0


DEFAULT = Plan()


Explored = list[tuple[Logs, Gaussian]]  # rows of an earlier round, and what played them


class Round(NamedTuple):
    """What a round did; None: not tested.

    `users`: spent so far.
    `production`: the weights after the round.
    `proposal`: the weights that were proposed.
    `gain`, `bound`: the certificate's, in units of the reward that was learnt from.
    `ess`: effective rows of the certificate.
    `north_gain`: gain of the North Star in the online test.
    `p`, `north_p`: two-sided p-values of the online test, of the reward and of the North Star.
    `adopted`: whether the proposal became the production weights.
    """

    users: int
    production: Float[np.ndarray, " d"]
    proposal: Float[np.ndarray, " d"]
    gain: float
    bound: float
    ess: float
    north_gain: float | None = None
    p: float | None = None
    north_p: float | None = None
    adopted: bool = False


def rounds(
    platform: Recommender,
    production: ArrayLike,
    key: OneKey,
    count: int,
    plan: Plan = DEFAULT,
    metric: Float[np.ndarray, " k"] | None = None,
    mesh: Mesh | None = None,
) -> Iterator[Round]:
    """`count` rounds from the weights `production` (d,) ≠ 0; reward: `metric` (k,) times the
    signals, or the North Star.
    """
    now, users, earlier = np.asarray(production, np.float32), 0, []
    if not now.any():
        raise ValueError(
            "production: expected a weight that is not 0; with zeros alone there is no ranking to"
            " improve"
        )
    for number in range(count):
        done, explored = one_round(platform, now, fold_in(key, number), plan, metric, mesh, earlier)
        earlier = [explored, *earlier][: plan.recall]
        users += done.users
        now = done.production
        yield done._replace(users=users)


def one_round(
    platform: Any,
    production: Any,
    key: OneKey,
    plan: Plan,
    metric: Any = None,
    mesh: Mesh | None = None,
    earlier: Sequence[Explored] = (),
) -> tuple[Round, Explored]:
    """Explore, learn on half of the users, certify on the other half, test, adopt or keep.

    Users of `earlier` rounds are learnt from too; the certificate needs ones that had no say in
    what is proposed. Also returns what was explored.
    """
    explore = _in_small_rounds if plan.small else _at_once
    policy, certificate, explored = explore(
        platform, production, fold_in(key, 0), plan, metric, mesh, earlier
    )
    proposal = np.asarray(policy.mean)
    found = Round(
        plan.explore,
        production,
        proposal,
        float(certificate.gain),
        float(certificate.gain_bound),
        float(certificate.ess),
    )
    if not plan.pessimistic or not bool(certificate.keep):
        found = _tested(platform, found, policy.scale, fold_in(key, 1), plan, metric, mesh)
    return found, explored


def _at_once(platform, production, key, plan, metric, mesh, earlier):
    """Explore around `production`; half of the users teach, the other half certify."""
    logging = Gaussian.diagonal(jnp.asarray(production), plan.scale)
    explored = _explored(platform, logging, key, plan.explore, metric, mesh)
    rows, held = logs.split(explored)
    past = [pair for some in earlier for pair in some]
    policy, certificate = propose(_pooled([(rows, logging), *past]), held, logging, plan)
    return policy, certificate, [(explored, logging)]


def _in_small_rounds(platform, production, key, plan, metric, mesh, earlier):
    """Half of the users teach in small rounds; the others are explored with in the middle between
    the weights that these end with and `production`, and certify.
    """
    search = Search(plan.small, plan.scale, plan.radius)
    rounds = max(plan.explore // 2 // plan.small, 1)
    past = [rows for some in earlier for rows, _ in some]
    made = list(small_rounds(platform, production, key, rounds, search, metric, mesh, past))
    now, count = made[-1].weights.astype(np.float32), plan.explore - rounds * plan.small
    logging = Gaussian.diagonal(jnp.asarray(0.5 * (now + production)), plan.scale)
    held = _explored(platform, logging, fold_in(key, rounds), count, metric, mesh)
    policy = Gaussian(jnp.asarray(now), plan.fine * logging.scale)
    certificate = certified_between(policy, held, jnp.asarray(production), plan.alpha)
    explored = [(each.logs, each.logging) for each in made]
    return policy, certificate, [*explored, (held, logging)]


def _explored(platform, logging, key, users, metric, mesh) -> Logs:
    return online.log(online.play(platform, logging, key, (0, users), mesh), logging, metric)


@functools.partial(jax.jit, static_argnames="alpha")
def certified_between(
    policy: Gaussian, held: Logs, production: Vector, alpha: float
) -> certification.Certificate:
    """The certificate of a gain over `production` (d,), on rows that were explored between both."""
    return certification.certified(policy, held, production, alpha=alpha)


def _pooled(parts):
    """One log by the balance heuristic: every row's propensity is that of the mixture of the
    policies (see `io.pooling`).
    """
    if len(parts) == 1:
        return parts[0][0]
    logs, policies = zip(*parts, strict=True)
    action, reward = (
        jnp.concatenate([getattr(x, name) for x in logs]) for name in ("action", "reward")
    )
    mixture = Mixture.of(np.array([x.reward.shape[0] for x in logs], float), policies)
    return Logs(action, _density(mixture, action), reward)


@jax.jit
def _density(policy, action):
    return jax.vmap(policy.log_density)(action)


def _tested(platform, found, scale, key, plan, metric, mesh):
    """The round after its online test: adopted by the rule of the plan."""
    treatment, control = (
        Gaussian(jnp.asarray(mean), scale) for mean in (found.proposal, found.production)
    )
    test = online.ab_test(platform, treatment, control, key, plan.test, mesh)
    north = np.eye(test.difference.size)[-1]
    reward = north if metric is None else metric
    critical = -NormalDist().inv_cdf(plan.alpha / 2)
    adopted = bool(rules.RULES[plan.rule](test.z(reward), test.z(north), critical))
    return found._replace(
        users=found.users + 2 * plan.test,
        adopted=adopted,
        production=found.proposal if adopted else found.production,
        north_gain=float(test.difference[-1]),
        p=test.p(reward),
        north_p=test.p(north),
    )


@functools.partial(jax.jit, static_argnames="plan")
def propose(
    rows: Logs, held: Logs, logging: Gaussian, plan: Plan
) -> tuple[Gaussian, certification.Certificate]:
    """Learn within the trust region on `rows`; the certificate against the logging mean on rows
    `held` out.

    Both doubly robust, by the response surface of the learning rows.
    """
    value_estimator = objective.doubly_robust(fit_surface(rows.action, rows.reward, logging))
    near = constraints.spherical_cap(logging.mean, plan.radius * plan.scale)
    found = optimise.fit(
        rows,
        Gaussian(logging.mean, plan.fine * logging.scale),
        value_estimator=value_estimator,
        alpha=plan.alpha,
        interval=ess_exact if plan.pessimistic else point,
        project=near,
    )
    return found.policy, certification.certified(
        found.policy, held, logging.mean, value_estimator=value_estimator, alpha=plan.alpha
    )


def point(estimate: Estimate, alpha: float) -> Interval:
    """No pessimism: the estimate as its own bound."""
    return Interval(estimate.value, estimate.value)


# A history of experiments, and what only a simulation knows.


def history(platform: Recommender, *args: Any, **options: Any) -> objectives.History:
    """What a metric is learnt from, of the `past_tests` of a platform (same arguments)."""
    return history_of(past_tests(platform, *args, **options), platform.signals)


def history_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> objectives.History:
    """The history of past tests of a platform whose signals are `names`, the North Star last."""
    arms = [(Path("past tests"), experiments.arm_of(row, names)) for row in rows]
    return experiments.history(arms, names, names[-1])


def past_tests(
    platform: Recommender,
    production: ArrayLike,
    key: OneKey,
    count: int,
    users: int,
    plan: Plan = DEFAULT,
    step: float = 0.3,
    mesh: Mesh | None = None,
    done: Callable[[], None] = lambda: None,
) -> list[dict]:
    """Rows of the experiments table: `count` past A/B tests of random changes of the production
    weights; every fourth A/A.

    `users` in each arm. The change is normal with standard deviation `step` in each weight. The
    winner is known, as if by a longer test, where the true effect on the North Star is among the
    larger half: labels do not look at the measured difference.
    """
    base = np.asarray(production, np.float32)
    drawn = jax.random.normal(fold_in(key, count + 1), (count, base.size), jnp.float32)
    null = np.arange(count) % 4 == 3
    treated = [
        smoothed(base + x, plan) for x in np.where(null[:, None], 0, step * np.asarray(drawn))
    ]
    control, measured = smoothed(base, plan), []
    for number, policy in enumerate(treated):
        measured.append(online.arms(platform, (policy, control), fold_in(key, number), users, mesh))
        done()
    labels = _labels(
        online.gains(platform, treated, control, fold_in(key, count), LABEL, mesh), null
    )
    return [
        _row(platform, f"{number:04}", *arm)
        for number, (label, (new, old)) in enumerate(zip(labels, measured, strict=True))
        for arm in (("treatment", label, new), ("control", "control", old))
    ]


ARM = 2**13  # users in each arm of a past experiment, by default
LABEL = 2**13  # users met twice, with and without the change, whose difference labels an experiment


def _labels(truth, null):
    """A/A; winner or loser among the larger half of the true effects; unknown."""
    effect = np.array([value.mean for value in truth])
    known = np.abs(effect) >= np.median(np.abs(effect[~null]))
    winner = np.where(effect > 0, "winner", "loser")
    return np.where(null, "aa", np.where(known, winner, "unknown")).tolist()


def _row(platform, experiment, arm, label, signals):
    signals = signals.astype(float)
    means = dict(zip(platform.signals, signals.mean(axis=0), strict=True))
    return experiments.row(
        experiment, arm, label, len(signals), means, np.cov(signals, rowvar=False)
    )


def smoothed(weights: ArrayLike, plan: Plan) -> Gaussian:
    """Weights as they are served: N(w, h²)."""
    return Gaussian.diagonal(jnp.asarray(weights, float), plan.fine * plan.scale)


def optimum(
    platform: Recommender,
    start: ArrayLike,
    key: OneKey,
    plan: Plan = DEFAULT,
    users: int = 2**17,
    steps: int = 8,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, " d"]:
    """The weights of the highest true smoothed value among those as long as `start`.

    By Newton steps on quadratic surfaces of noiseless paired gains, which only a simulation has:
    each of `users` users is met under a perturbed and under the unperturbed weights.
    """
    now, length = np.asarray(start, float), float(np.linalg.norm(start))
    for step in range(steps):
        now = now + _newton(platform, now, fold_in(key, step), plan, users, mesh)
        now *= length / np.linalg.norm(now)
    return now


def _newton(platform, now, key, plan, users, mesh):
    policy = Gaussian.diagonal(jnp.asarray(now, jnp.float32), plan.scale)
    moved = online.play(platform, policy, key, (0, users), mesh)
    fixed = online.play(platform, smoothed(now, plan), key, (0, users), mesh)
    gain = (moved.expected - fixed.expected).astype(float)
    z = (moved.action - now) / plan.scale
    found = np.linalg.lstsq(quadratic.features(z), gain, rcond=None)[0]
    _, slope, curvature = quadratic.unpack(found, len(now))
    values, vectors = np.linalg.eigh(curvature)
    bend = np.maximum(-values, 0.2 * np.abs(values).max())
    move = vectors @ (vectors.T @ slope / bend)
    return plan.scale * move * min(1, 2 / np.linalg.norm(move))
