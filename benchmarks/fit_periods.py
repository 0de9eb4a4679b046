"""May `--fit-logging` look for periods by itself, where the logging policy changed?

Logs of one normal weight whose mean changes once, in three steps, slowly, or every week, and whose
rewards have a season beside it, which changes once, or with the same weeks. The value of another
policy by SNIPS within periods, each weighed by its rows: with the densities that were played,
within the periods that they were played in; with densities fitted in the two periods that actions
speak for (as `--fit-logging` names them); and with one fitted to the whole log. `missed`: nominal
95 % intervals without the true value.
"""

import numpy as np

from benchmarks import _study
from mopl_jax.io.fitting import changed_most

SIZES = {"replicates": 400, "n": (1000, 4000), "seed": 0}
QUICK = {"replicates": 10, "n": (400,)}
TARGET, WEEKS = (0.5, 0.8), 8
MEANS = {
    "once": lambda t: np.where(t < 0.4, 0.0, 0.8),
    "three times": lambda t: np.select([t < 0.2, t < 0.5, t < 0.8], [0.0, 0.8, -0.4], 0.5),
    "slowly": lambda t: 0.8 * t,
    "every week": lambda t: 0.4 * np.sin(2 * np.pi * WEEKS * t),
}


def _season(name, t):
    return np.sin(2 * np.pi * WEEKS * t) if name == "every week" else 1.0 * (t > 0.5)


def _log_density(action, mean, scale):
    return -0.5 * np.square((action - mean) / scale) - np.log(scale)


def _value(action, reward, mean, scale, period):
    """Value and standard error, by SNIPS in each period."""
    weight = np.exp(_log_density(action, *TARGET) - _log_density(action, mean, scale))
    value = variance = 0.0
    for k in np.unique(period):
        w, r = weight[period == k] / weight[period == k].sum(), reward[period == k]
        share = np.mean(period == k)
        value += share * (w @ r)
        variance += share**2 * (np.square(w) @ np.square(r - w @ r))
    return value, np.sqrt(variance)


def _fitted(action, period):
    """Mean and scale of each row's period."""
    each = [
        (action[period == k].mean(), action[period == k].std()) for k in range(period.max() + 1)
    ]
    return np.array(each)[period].T


def _ways(action, reward, played):
    n = len(action)
    _, periods = np.unique(played, return_inverse=True)
    few = periods if periods.max() < 5 else np.arange(n) * 40 // n
    yield "as played", _value(action, reward, played, 1.0, few)
    found = 1 * (np.arange(n) >= changed_most(action[:, None], np.arange(n)))
    mean, scale = _fitted(action, found)
    yield "two periods found", _value(action, reward, mean, scale, found)
    whole = np.zeros(n, int)
    mean, scale = _fitted(action, whole)
    yield "one policy fitted", _value(action, reward, mean, scale, whole)


def run(options) -> _study.Rows:
    """One row for each change, n and way."""
    rng, found = np.random.default_rng(options.seed), _study.Rows()
    for n in options.n:
        t = np.arange(n) / n
        for name, mean in MEANS.items():
            truth = 0.5 * TARGET[0] + _season(name, t).mean()
            made: dict[str, list] = {}
            for _ in range(options.replicates):
                action = mean(t) + rng.standard_normal(n)
                reward = 0.5 * action + _season(name, t) + rng.standard_normal(n)
                for way, answer in _ways(action, reward, mean(t)):
                    made.setdefault(way, []).append(answer)
            for way, answers in made.items():
                value, error = np.array(answers).T
                about = {"change": name, "n": n, "way": way, "replicates": options.replicates}
                missed = float(np.mean(np.abs(value - truth) > 1.96 * error))
                bias = float(value.mean() - truth)
                found.append(about | {"bias": bias, "error": float(error.mean()), "missed": missed})
    return found
