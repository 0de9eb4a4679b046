"""Does an interval from one real policy's log agree with what the other policy really earned?

Open Bandit Dataset, small version (Saito, Aihara, Matsutani, Narita, arXiv 2008.07146): an A/B
test of the policies `random` and `bts`, 10,000 impressions each for men and for women. The value
of `bts` is estimated from the log of `random`, by the code of `mopl evaluate`, and put beside
the click rate in the log of `bts`. The density of `bts` is the share of the item at that
position in the `bts` log; its `propensity_score` is per impression, and averages of it are
size-biased. Neither the noise of these shares nor of the on-policy rate is part of the
intervals: "compatible" is not "covers".

    python -m benchmarks.open_bandit PATH    # PATH holds random_men.parquet, bts_men.parquet,
    ..._women.parquet
"""

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax.cli.evaluate import evaluate_file, finite
from mopl_jax.io.files import write_atomically
from mopl_jax.io.read import read_columns
from mopl_jax.io.storage import provenance

CAMPAIGNS = ("men", "women")
SHOWN = ("normal", "ess_exact", "ess_safe", "ess_student")
RESULTS = Path(__file__).parent / "results"
Columns = Mapping[str, Float[np.ndarray, " n"]]


def run(path: Path, alpha: float = 0.05) -> list[dict[str, Any]]:
    """The report of `mopl evaluate` on each campaign, plus `campaign` and `on_policy` (rate and
    Wilson interval).
    """
    if not Path(path).is_dir():
        raise ValueError(
            f"{path}: expected the folder of the Open Bandit logs (random_men.parquet, ...), found"
            " none"
        )
    return [campaign_report(Path(path), campaign, alpha) for campaign in CAMPAIGNS]


def campaign_report(path: Path, campaign: str, alpha: float) -> dict[str, Any]:
    """`bts` evaluated from the log of `random`; each interval says whether it contains the
    on-policy rate.
    """
    random = read_columns(
        path / f"random_{campaign}.parquet", ("item_id", "position", "click", "propensity_score")
    )
    bts = read_columns(path / f"bts_{campaign}.parquet", ("item_id", "position", "click"))
    report = _evaluate(random, item_share(bts, random), alpha)
    rate = on_policy(bts["click"], alpha)
    for entry in report["intervals"]:
        entry["compatible"] = entry["lower"] <= rate["rate"] <= entry["upper"]
    return {"campaign": campaign, "on_policy": rate} | report


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
    return {
        "rate": float(rate),
        "lower": centre - half,
        "upper": centre + half,
        "clicks": int(click.sum()),
        "n": n,
    }


def _evaluate(random, density, alpha):
    """Through a log file, as a user would."""
    columns = {
        "click": random["click"],
        "propensity": random["propensity_score"],
        "target_propensity": density,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        pq.write_table(pa.table(columns), path)
        return evaluate_file(
            path,
            reward="click",
            propensity="propensity",
            target_propensity="target_propensity",
            alpha=alpha,
        )


# Results: tidy JSON, a Markdown table, a table on the screen.


def tidy(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per campaign and interval."""
    return [_common(report) | _ends(entry) for report in reports for entry in report["intervals"]]


def _ends(entry):
    return {"interval": entry["name"]} | {
        key: entry[key] for key in ("lower", "upper", "compatible")
    }


def _common(report):
    rate, check = report["on_policy"], report["mean_weight"]
    return {
        "campaign": report["campaign"],
        "n": report["n"],
        "estimator": report["estimator"],
        "alpha": report["alpha"],
        "value": report["value"],
        "ess": report["ess"]["kish"],
        "mean_weight": check["mean"],
        "mean_weight_standard_error": check["standard_error"],
        "on_policy_rate": rate["rate"],
        "on_policy_lower": rate["lower"],
        "on_policy_upper": rate["upper"],
        "on_policy_n": rate["n"],
    }


def markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """The table for the README; rates in percent, `*` marks an interval without the on-policy
    rate.
    """
    head = ("campaign", "n", "value %", "ESS", "mean weight", "on-policy % (Wilson)", *SHOWN)
    rows = [head, ("---",) * len(head), *map(_cells, reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cells(report):
    rate, check = report["on_policy"], report["mean_weight"]
    found = {entry["name"]: entry for entry in report["intervals"]}
    return (
        report["campaign"],
        f"{report['n']:,}",
        f"{100 * report['value']:.3f}",
        f"{report['ess']['kish']:,.0f}",
        f"{check['mean']:.3f} ± {check['standard_error']:.3f}",
        f"{100 * rate['rate']:.3f} {_percent(rate)}",
        *(_percent(found[name]) + ("" if found[name]["compatible"] else " *") for name in SHOWN),
    )


def _percent(ends):
    return f"[{100 * ends['lower']:.3f}, {100 * ends['upper']:.3f}]"


def _show(report, console):
    rate, check = report["on_policy"], report["mean_weight"]
    console.print(
        f"[bold]{report['campaign']}[/]: bts from the log of random {report['value']:.5f}, on"
        f" policy {_rate(rate)}\nn = {report['n']:,}, ESS {report['ess']['kish']:,.0f}, mean weight"
        f" {check['mean']:.3f}: {check['verdict']}"
    )
    table = Table("interval", "lower", "upper", "on-policy rate inside", box=box.SIMPLE_HEAD)
    for entry in report["intervals"]:
        ends = (f"{entry[end]:.5f}" for end in ("lower", "upper"))
        table.add_row(entry["name"], *ends, "yes" if entry["compatible"] else "NO")
    console.print(table)


def _rate(rate):
    return f"{rate['rate']:.5f} (Wilson {rate['lower']:.5f} to {rate['upper']:.5f})"


def _write(reports, folder):
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(
        finite({"provenance": provenance(), "rows": tidy(reports)}), indent=1, allow_nan=False
    )
    write_atomically(folder / "open_bandit.json", lambda path: path.write_text(document + "\n"))
    write_atomically(folder / "open_bandit.md", lambda path: path.write_text(markdown(reports)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both campaigns, print, write `open_bandit.json` and `open_bandit.md`; exit code 2 if the
    logs are absent.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "path", type=Path, help="folder of random_men.parquet, bts_men.parquet, ..."
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    try:
        reports = run(options.path)
        _write(reports, options.out)
    except (ValueError, OSError) as error:
        print(f"open_bandit: {error}", file=sys.stderr)
        sys.exit(2)
    for report in reports:
        _show(report, Console(width=100, highlight=False))
    print(f"written: {options.out}/open_bandit.json, open_bandit.md")


if __name__ == "__main__":
    main()
