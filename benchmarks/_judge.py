"""When does an interval fail? One rule for every study, and the aim of each reward family.

A share (of logs whose interval holds the truth) fails below its aim by more than two Monte-Carlo
standard errors at the aim: a 2.3 % false alarm in each cell that holds it exactly.
"""

SKEWED = ("zero_inflated", "log_normal", "bernoulli_1")
APART = ("hidden_tail",)  # no sample shows its weights


def fails(share: float, aim: float, replicates: int) -> bool:
    """Whether share < aim − 2 √(aim (1 − aim) / replicates)."""
    return share < aim - 2 * (aim * (1 - aim) / replicates) ** 0.5


def family(row: dict) -> str:
    """The reward family of a row: its world, whatever the logging policy."""
    return row["world"].removesuffix("_box")


def aim(row: dict) -> float:
    """The coverage asked of a default at nominal 0.95: a little less where rewards are skewed."""
    return 0.94 if family(row) in SKEWED else 0.945


def below(row: dict) -> bool:
    """Whether the coverage of a cell fails its family's aim."""
    return fails(row["coverage"], aim(row), row["replicates"])


def bound_fails(row: dict, side: str, alpha: float = 0.05) -> bool:
    """Whether one end misses (`miss_above`: the lower one, `miss_below`) beyond its alpha/2."""
    return fails(1 - row[side], 1 - alpha / 2, row["replicates"])


def answerable(rows: list[dict]) -> list[dict]:
    """Cells that a default answers for: SNIPS of what it estimates, ESS of two, no hidden tail."""
    kept = (row for row in rows if row["estimator"] == "snips" and row["ess_median"] >= 2)
    return [
        row for row in kept if row["world"] not in APART and "unsmoothed" not in row["estimand"]
    ]
