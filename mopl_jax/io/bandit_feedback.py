"""The `bandit_feedback` dict of Open Bandit Pipeline (Saito et al., arXiv 2008.07146), with
vector actions, from and to `Logs`.

obp itself is not needed: the dict is its interface. obp logs one number as the action and a
propensity `pscore`; here `action` is (n_rounds, d) (a vector of n_rounds is d = 1) and `pscore`
the density of the logged action.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mopl_jax.logs import Logs, check


def from_bandit_feedback(feedback: Mapping[str, Any]) -> Logs:
    """Logs of a feedback dict: `action`, `reward`, `pscore`, optionally `context`; checked.

    ValueError for a key that is missing, for discrete actions, a propensity that is not
    positive, or slates.
    """
    for key in ("action", "reward", "pscore"):
        if feedback.get(key) is None:
            raise ValueError(
                f"bandit_feedback: no key {key!r}; keys: {', '.join(map(str, feedback))}"
            )
    action, reward, pscore = (np.asarray(feedback[key]) for key in ("action", "reward", "pscore"))
    if action.dtype.kind in "iub" and feedback.get("n_actions") is not None:
        raise ValueError(
            "bandit_feedback: expected actions that are weight vectors, got one of"
            f" {feedback['n_actions']} items each; evaluate those by density columns (mopl evaluate"
            " --target-propensity)"
        )
    position = feedback.get("position")
    if position is not None and np.ptp(np.asarray(position)) > 0:
        raise ValueError(
            "bandit_feedback: expected one action a round, got slates of several positions;"
            " keep one"
        )
    pscore = pscore.astype(float)
    if not (pscore > 0).all():
        row = int(np.argmin(pscore > 0))
        raise ValueError(
            f"bandit_feedback: expected pscore > 0, got {pscore[row]} in round {row}; drop or"
            " repair it"
        )
    rows = action[:, None] if action.ndim == 1 else action
    columns: dict[str, Any] = {"action": rows, "log_propensity": np.log(pscore), "reward": reward}
    if feedback.get("context") is not None:
        columns["context"] = feedback["context"]
    columns = {name: np.asarray(x, float) for name, x in columns.items()}
    return check(Logs(**columns))


def to_bandit_feedback(logs: Logs) -> dict[str, Any]:
    """The dict that obp's estimators for continuous actions take; (n,) actions where d = 1.

    `pscore` are densities: 0 or infinite where a float64 cannot hold them. Clusters and times
    have no place in it.
    """
    action = np.asarray(logs.action, float)
    return {
        "n_rounds": len(action),
        "n_actions": None,
        "context": None if logs.context is None else np.asarray(logs.context),
        "action": action[:, 0] if action.shape[1] == 1 else action,
        "position": None,
        "reward": np.asarray(logs.reward, float),
        "pscore": np.exp(np.asarray(logs.log_propensity, float)),
    }
