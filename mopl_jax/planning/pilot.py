"""What a pilot explored: its rows, what its weights are called, and the space it explored in."""

import dataclasses
from typing import NamedTuple

from mopl_jax.diagnostics.appearance import Appearance, findings_of
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.learning.space import LOG_RATIOS, WEIGHTS, Space
from mopl_jax.learning.which_space import looks_like
from mopl_jax.logs import Logs, check_unsampled

REMEDY = "; drop --pilot and give --d, --scale, --noise and --gain in units of what will be played"


class Pilot(NamedTuple):
    """What a pilot explored.

    `logs`: its rows, with the actions of the space; None without a pilot
    `names`: of the weights; none of rows in memory
    `space`: of all that is planned; clipped weights are as they were played
    """

    logs: Logs | None
    names: tuple[str, ...] = ()
    space: Space = WEIGHTS

    @property
    def of_costs(self) -> "Pilot":
        """The same where the reward is a cost, of which the rows then have the negative."""
        if self.logs is None:
            return self
        logs = dataclasses.replace(self.logs, reward=0.0 - self.logs.reward)
        return self._replace(logs=logs)


NO_PILOT = Pilot(None)


def pilot_of(logs: Logs, names: tuple[str, ...] = (), space: Space | None = None) -> Pilot:
    """The pilot of rows in memory; by what they look like where the `space` is not known.

    ValueError for arms, which no normal policy explores, and for clipped weights of a policy that
    is not known.
    """
    seen = Appearance.of(check_unsampled(logs, "pilot").reward, logs.action)
    space = space or looks_like(logs)
    known = {"clustered": logs.cluster is not None, "continuous": space.clipped is None}
    for finding in findings_of(seen, names or None, simplex=space == LOG_RATIOS, **known):
        if finding.level == VERDICTS[-1]:
            raise ValueError(f"--pilot: {finding.check}: {finding.found}{REMEDY}")
    return Pilot(logs if space.clipped else space.rows(logs), names, space)
