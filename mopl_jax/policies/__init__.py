"""Policies over scalarisation weights: what a platform plays, with its log density."""

from mopl_jax.policies.gaussian import Deterministic, Distribution, Gaussian, Mixture, Policy, Uniform, smooth

__all__ = ["Deterministic", "Distribution", "Gaussian", "Mixture", "Policy", "Uniform", "smooth"]
