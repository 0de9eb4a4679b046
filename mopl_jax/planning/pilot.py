"""What a pilot explored: its rows, what its weights are called, and the space it explored in."""

import dataclasses
from typing import NamedTuple

from mopl_jax.diagnostics.appearance import Appearance, findings_of
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.learning.space import LOGARITHMS
from mopl_jax.learning.which_space import has_log_normal_densities
from mopl_jax.logs import Logs, check_unsampled

REMEDY = "; drop --pilot and give --d, --scale, --noise and --gain in units of what will be played"


class Pilot(NamedTuple):
    """What a pilot explored.

    `logs`: its rows, with the logarithms of weights that are log-normal; None without a pilot
    `names`: of the weights; none of rows in memory
    `logarithms`: whether all that is planned is of the weights' logarithms
    """

    logs: Logs | None
    names: tuple[str, ...] = ()
    logarithms: bool = False

    @property
    def of_costs(self) -> "Pilot":
        """The same where the reward is a cost, of which the rows then have the negative."""
        if self.logs is None:
            return self
        logs = dataclasses.replace(self.logs, reward=0.0 - self.logs.reward)
        return self._replace(logs=logs)


NO_PILOT = Pilot(None)


def pilot_of(logs: Logs, names: tuple[str, ...] = (), logarithms: bool | None = None) -> Pilot:
    """The pilot of rows in memory; by their densities whether it explored `logarithms`, where that
    is not known. ValueError for arms, shares and clipped weights: what is planned is normal.
    """
    seen = Appearance.of(check_unsampled(logs, "pilot").reward, logs.action)
    clustered = logs.cluster is not None
    for finding in findings_of(seen, names or None, clustered=clustered, continuous=True):
        if finding.level == VERDICTS[-1]:
            raise ValueError(f"--pilot: {finding.check}: {finding.found}{REMEDY}")
    if logarithms is None:
        logarithms = has_log_normal_densities(logs)
    return Pilot(LOGARITHMS.rows(logs) if logarithms else logs, names, logarithms)
