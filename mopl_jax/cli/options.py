"""Checks of what comes from the command line, shared by the commands."""

from mopl_jax._names import check_alpha, choose

__all__ = ["check_alpha", "choose"]
