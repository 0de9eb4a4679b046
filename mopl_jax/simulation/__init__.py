"""Simulated platforms: users who meet weights, the loop around them, and what only it knows."""

from mopl_jax.doors import opened

DOORS = {
    name: f"mopl_jax.simulation.{name}"
    for name in ("closed_loop", "environments", "online", "recommender", "replay")
} | {"simulate": "mopl_jax.simulation.run", "Simulation": "mopl_jax.simulation.run"}

__getattr__, __dir__ = opened(__name__, DOORS)
