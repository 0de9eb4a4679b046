"""Policies over scalarisation weights: what a platform plays, with its log density."""

from mopl_jax.policies.deterministic import Deterministic, smooth
from mopl_jax.policies.distribution import Distribution
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform

__all__ = ["Deterministic", "Distribution", "Gaussian", "Mixture", "Policy", "Uniform", "smooth"]
