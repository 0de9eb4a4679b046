"""What learning maximises: estimators as functions of the policy, and their one-sided lower bound.

`value_estimator(logs)(policy) -> Estimate` is an estimator of a policy's value on a log; what
does not depend on the policy is computed once. `estimates` puts one row a user in its place where
the log has users: everything in `learning` that judges a policy asks there.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Estimator
from mopl_jax.estimators.importance import beta_ips, ips, snips
from mopl_jax.learning.response_surface import Surface
from mopl_jax.logs import Logs, log_weights, num_units
from mopl_jax.numerics.check import choose
from mopl_jax.policies.gaussian import Gaussian

ValueEstimator = Callable[[Logs], Callable[[Gaussian], Estimate]]


def estimates(
    logs: Logs, value_estimator: ValueEstimator | None = None
) -> Callable[[Gaussian], Estimate]:
    """The estimate of each policy's value on `logs`, of rows, or of users where the log has users.

    SNIPS unless a `value_estimator` is given.
    """
    value = (value_estimator or importance_weighted())(logs)
    if logs.cluster is None:
        return value
    cluster, num_clusters = logs.cluster, num_units(logs)
    return lambda policy: clustered(value(policy), cluster, num_clusters)


def importance_weighted(estimator: Callable[..., Estimate] = snips) -> ValueEstimator:
    """The value_estimator of an estimator that needs log weights (n,) and rewards (n,)."""
    return lambda logs: lambda policy: estimator(log_weights(policy, logs), logs.reward)


def doubly_robust(surface: Surface, estimator: Callable[..., Estimate] = snips) -> ValueEstimator:
    """Doubly robust: E_π q exactly, plus the estimate of what q leaves of the rewards, V̂ = E_π
    q + Σ p (r − q(a)).

    Self-normalised, so exact for r = q + constant (Thomas & Brunskill, ICML 2016, "weighted
    doubly robust"). The surface is taken as given: unbiased, to SNIPS' 1/n, for any q fitted on
    other rows. Fitted on these rows, what it leaves is orthogonal to 1, a, aaᵀ, hence to the
    weights of a small step at the logging scale, exp(Δᵀa) to second order: there the estimate is
    the surface's, and noise enters only as finer policies are weighed.
    """

    def of(logs):
        rest = dataclasses.replace(logs, reward=logs.reward - surface.of_rows(logs.action))

        def value(policy):
            made = estimator(log_weights(policy, rest), rest.reward)
            return dataclasses.replace(
                made, value=made.value + surface.expectation(policy), reward=logs.reward
            )

        return value

    return of


class Valuation(NamedTuple):
    """How policies are valued that were learnt with a surface.

    `estimator`: of the rewards, or of what the surface leaves of them, `of_rest`
    """

    estimator: Estimator
    of_rest: bool = False

    def __call__(self, surface: Surface) -> ValueEstimator:
        """The value_estimator, given the surface."""
        if self.of_rest:
            return doubly_robust(surface, self.estimator)
        return importance_weighted(self.estimator)


VALUATIONS = {
    "doubly_robust": Valuation(snips, of_rest=True),
    "snips": Valuation(snips),
    "beta_ips": Valuation(beta_ips),
    "ips": Valuation(ips),
}


def valuation_of(estimator: str | Estimator) -> Valuation:
    """By name, or of an estimator of one's own that needs log weights and rewards; ValueError for
    others.
    """
    if isinstance(estimator, Estimator):
        return Valuation(estimator)
    return VALUATIONS[choose([estimator], VALUATIONS, "estimator")[0]]


def cross_fitted(valuation: Valuation, surfaces: Surface, fold: Int[Array, " n"]) -> ValueEstimator:
    """A valuation of the mixture of K policies, stacked, each weighed on the rows of
    its own `fold`, which it and its surface, one of the K `surfaces`, were not fitted on.

    Row i of fold k has the weight πₖ/π₀ and the reward r − qₖ + E qₖ, so that Σ p (r − qₖ + E qₖ)
    estimates Σ (nₖ/n) V(πₖ). Rows of other folds enter nowhere; given what taught it each fold's
    term is that of a fixed policy, and all share one normaliser and one bound (cross-fitting:
    Schick 1986; Chernozhukov et al., Econometrics Journal 2018).
    """

    def of(logs):
        mine = fold, jnp.arange(len(fold))

        def value(policies):
            def on_all(pair):
                policy, surface = pair
                log_weight = log_weights(policy, logs)
                if not valuation.of_rest:
                    return log_weight, jnp.zeros_like(log_weight)
                return log_weight, surface.of_rows(logs.action) - surface.expectation(policy)

            log_weight, model = lax.map(on_all, (policies, surfaces))
            made = valuation.estimator(log_weight[mine], logs.reward - model[mine])
            return dataclasses.replace(made, reward=logs.reward)

        return value

    return of
