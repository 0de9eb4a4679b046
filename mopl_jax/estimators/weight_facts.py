"""Second moment and largest importance weight of two policies of one kind, in closed form."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from mopl_jax.estimators.divergence import population_d2, population_max_weight, product
from mopl_jax.numerics.shapes import Scalar
from mopl_jax.policies.bounded import ClippedNormal
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.product import Product
from mopl_jax.policies.transformed import Transformed


class WeightFacts(NamedTuple):
    """d₂ = E w² and w_max = sup w under the logging policy; inf where there is none."""

    d2: Scalar
    w_max: Scalar


def closed_form(logging: Any, target: Any) -> WeightFacts | None:
    """The facts of two policies, None where they have no closed form."""
    try:
        return weight_facts(logging, target)
    except (TypeError, ValueError):
        return None


def weight_facts(logging: Any, target: Any) -> WeightFacts:
    """The facts of two policies; TypeError or ValueError where they have no closed form.

    Two policies seen through one map have the weights of those behind it, and independent parts
    those of each, multiplied; clipped at the same bounds those of what is played. Of arms Σp²/p₀
    and max p/p₀; of Dirichlet policies B(α₀) B(2α − α₀) / B(α)², and the weight at α − α₀ over its
    sum.
    """
    if type(logging) is type(target):
        if isinstance(target, Transformed) and logging.map == target.map:
            return weight_facts(logging.base, target.base)
        if isinstance(target, Product):
            return _product(logging.parts, target.parts)
        if isinstance(target, ClippedNormal) and _same_bounds(logging, target):
            return WeightFacts(
                product(logging, target, target).size, population_max_weight(logging, target)
            )
        if isinstance(target, Discrete):
            return _arms(logging, target)
        if isinstance(target, Dirichlet):
            return _dirichlet(logging.concentration, target.concentration)
    if not isinstance(target, Gaussian):
        raise TypeError(f"expected policies of one kind, got a target {type(target).__name__}")
    d2, w_max = population_d2(logging, target), population_max_weight(logging, target)
    return WeightFacts(jnp.asarray(d2), jnp.asarray(w_max))


def _same_bounds(logging, target):
    ends = (logging.low, target.low), (logging.high, target.high)
    return all(np.array_equal(*pair) for pair in ends)


def _product(logging, target):
    if [x.dim for x in logging] != [x.dim for x in target]:
        raise ValueError("expected parts of the same weights, got others")
    each = [weight_facts(*pair) for pair in zip(logging, target, strict=True)]
    return WeightFacts(*(jnp.prod(jnp.stack(x)) for x in zip(*each, strict=True)))


def _arms(logging, target):
    log_weight = target.log_probability - jax.vmap(logging.log_density)(target.actions)
    weight = jnp.exp(log_weight)
    return WeightFacts(jnp.exp(target.log_probability) @ weight, jnp.max(weight))


def _dirichlet(logging, target):
    def log_beta(alpha):
        return jnp.sum(gammaln(alpha)) - gammaln(jnp.sum(alpha))

    twice, more = 2 * target - logging, target - logging
    log_d2 = log_beta(logging) + log_beta(jnp.maximum(twice, 1e-300)) - 2 * log_beta(target)
    share = more / jnp.maximum(jnp.sum(more), 1e-300)
    peak = jnp.sum(jnp.where(more > 0, more * jnp.log(jnp.where(more > 0, share, 1)), 0))
    log_max = log_beta(logging) - log_beta(target) + peak
    return WeightFacts(
        jnp.where(jnp.all(twice > 0), jnp.exp(log_d2), jnp.inf),
        jnp.where(jnp.all(more >= 0), jnp.exp(log_max), jnp.inf),
    )
