"""Does an interval from one real policy's log agree with what the other policy really earned?

Open Bandit Dataset, small version (Saito, Aihara, Matsutani, Narita, arXiv 2008.07146): an A/B
test of the policies `random` and `bts`, 10,000 impressions each for men and for women. The value
of `bts` is estimated from the log of `random`, by the code of `mopl evaluate`, and put beside
the click rate in the log of `bts`. The density of `bts` is the share of the item at that
position in the `bts` log; its `propensity_score` is per impression, and averages of it are
size-biased. Neither the noise of these shares nor of the on-policy rate is part of the
intervals: "compatible" is not "covers".

    python -m benchmarks open_bandit --path PATH

PATH holds random_men.parquet, bts_men.parquet, random_women.parquet, bts_women.parquet.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from benchmarks import _study
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.intervals import WALD
from mopl_jax.io.table import read_columns

SIZES = {"path": Path("open_bandit"), "alpha": 0.05}
ON_DEMAND = True  # needs a path to data: left out of `all`
CAMPAIGNS = ("men", "women")
SHOWN = ("normal", "ess_exact", "ess_safe", "ess_student")
Columns = Mapping[str, Float[np.ndarray, " n"]]


def run(options) -> list[dict]:
    """One row per campaign and interval."""
    jax.config.update("jax_enable_x64", True)
    if not options.path.is_dir():
        raise ValueError(
            f"{options.path}: expected the folder of the Open Bandit logs (random_men.parquet,"
            " ...), found none"
        )
    return [row for name in CAMPAIGNS for row in campaign(options.path, name, options.alpha)]


def campaign(path: Path, name: str, alpha: float) -> Iterator[dict[str, Any]]:
    """`bts` evaluated from the log of `random`; each interval says whether it contains the
    on-policy rate.
    """
    columns = ("item_id", "position", "click", "propensity_score")
    random = read_columns(path / f"random_{name}.parquet", columns)
    bts = read_columns(path / f"bts_{name}.parquet", columns[:3])
    report = _evaluate(random, item_share(bts, random), alpha)
    rate, check = on_policy(bts["click"], alpha), report["mean_weight"]
    about = {"campaign": name} | {key: report[key] for key in ("n", "estimator", "alpha", "value")}
    about |= {"ess": report["ess"]["kish"], "mean_weight": check["mean"]}
    about |= {"mean_weight_standard_error": check["standard_error"]}
    about |= {f"on_policy_{key}": rate[key] for key in ("rate", "lower", "upper", "n")}
    for entry in report["intervals"]:
        ends = {key: _finite(entry[key]) for key in ("lower", "upper")}
        inside = entry["lower"] <= rate["rate"] <= entry["upper"]
        yield about | {"interval": entry["name"]} | ends | {"compatible": inside}


def _finite(end):
    """An end that is nowhere is none."""
    return end if math.isfinite(end) else None


def item_share(log: Columns, asked: Columns) -> Float[np.ndarray, " n"]:
    """Share of each asked item at its position in the impressions of `log`, (n,); 0 where it was
    never shown.
    """
    shown = list(zip(log["item_id"], log["position"], strict=True))
    item, position = Counter(shown), Counter(place for _, place in shown)
    places = zip(asked["item_id"], asked["position"], strict=True)
    return np.array([item[place] / max(position[place[1]], 1) for place in places])


def on_policy(click: Float[np.ndarray, " n"], alpha: float) -> dict[str, Any]:
    """Click rate with Wilson's score interval (Wilson 1927)."""
    n, rate, z2 = click.size, click.mean(), NormalDist().inv_cdf(1 - alpha / 2) ** 2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * rate * (1 - rate) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    ends = {"rate": float(rate), "lower": centre - half, "upper": centre + half}
    return ends | {"clicks": int(click.sum()), "n": n}


def _evaluate(random, density, alpha):
    """Through a log file, as a user would."""
    columns = {"click": random["click"], "propensity": random["propensity_score"]}
    columns |= {"target_propensity": density}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        pq.write_table(pa.table(columns), path)
        return evaluate(
            path,
            interval=["recommended", *WALD],
            reward="click",
            propensity="propensity",
            target_propensity="target_propensity",
            alpha=alpha,
        ).to_dict()


def table(rows: list[dict]) -> str:
    """The table of docs/results.md; rates in percent, `*` marks an interval without the on-policy
    rate.
    """
    head = ("campaign", "n", "value %", "ESS", "mean weight", "on-policy % (Wilson)", *SHOWN)
    return _study.markdown(head, map(_line, _study.grouped(rows, "campaign").values()))


def _line(some):
    row, ends = some[0], {row["interval"]: row for row in some}
    weight = f"{row['mean_weight']:.3f} ± {row['mean_weight_standard_error']:.3f}"
    wilson = _percent(row["on_policy_lower"], row["on_policy_upper"])
    return (
        row["campaign"],
        f"{row['n']:,}",
        f"{100 * row['value']:.3f}",
        f"{row['ess']:,.0f}",
        weight,
        f"{100 * row['on_policy_rate']:.3f} {wilson}",
        *(_percent(ends[name]["lower"], ends[name]["upper"]) + _mark(ends[name]) for name in SHOWN),
    )


def _mark(row):
    return "" if row["compatible"] else " *"


def _percent(low, high):
    return f"[{100 * low:.3f}, {100 * high:.3f}]"
