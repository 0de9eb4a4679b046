"""Policies over scalarisation weights: what a platform plays, with its log density."""

from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.context_normal import ContextNormal
from mopl_jax.policies.contextual import Segmented
from mopl_jax.policies.deterministic import Deterministic, smooth
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.distribution import Distribution
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mapped_normal import log_normal, logistic_normal, soft_clipped_normal
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.product import Product
from mopl_jax.policies.transformed import Transformed
from mopl_jax.policies.uniform import Uniform

__all__ = [
    "ClippedNormal",
    "ContextNormal",
    "Deterministic",
    "Dirichlet",
    "Discrete",
    "Distribution",
    "Gaussian",
    "Mixture",
    "Policy",
    "Product",
    "Segmented",
    "Transformed",
    "TruncatedNormal",
    "Uniform",
    "log_normal",
    "logistic_normal",
    "smooth",
    "soft_clipped_normal",
]
