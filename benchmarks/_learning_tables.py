"""The tables of the learning study, from its stored rows."""

import numpy as np

from benchmarks._judge import fails
from benchmarks._north_stars import NOISES
from benchmarks._study import grouped, markdown

CELL = ("world", "noise", "d", "n")


def aims(rows: list[dict]) -> str:
    """Each aim beside what was reached."""
    of = {key[0]: some for key, some in grouped(rows, "learner").items()}
    pairs = zip(of["surface"], of["refined"], strict=True)
    ratios = [(a, a["regret"] / b["regret"]) for a, b in pairs]
    true = min(x for row, x in ratios if row["world"] == "quadratic")
    worse = max(row["worse"] for row in of["chosen"])
    surface = "at most 1.2 × the surface's median regret where rewards are quadratic"
    lines = [
        (surface, f"at most {1 / true:.2f} ×"),
        ("at least 10 × lower elsewhere", _lower(ratios)),
        ("certificates hold in 95 % of logs", _held(of["refined"])),
        ("certified, yet worse than logging in at most 5 %", f"at most {worse:.1%}"),
    ]
    return markdown(("aim", "reached"), lines, "l")


def _lower(ratios):
    """In how many cells without a quadratic truth, by noise."""
    counts = []
    for kind in NOISES:
        some = [x for row, x in ratios if row["world"] != "quadratic" and row["noise"] == kind]
        counts.append(f"{sum(x >= 10 for x in some)} of {len(some)} cells ({kind})")
    return ", ".join(counts)


def _held(rows):
    shares = [row["certified_holds"] for row in rows]
    short = sum(fails(row["certified_holds"], 0.95, row["replicates"]) for row in rows)
    return (
        f"{min(shares):.1%} to {max(shares):.1%} a cell, {np.mean(shares):.1%} in all; {short} of"
        f" {len(rows)} below by more than two standard errors"
    )


def regrets(rows: list[dict]) -> str:
    """Median regret of each learner, a line a cell."""
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    lines = []
    for cell, some in sorted(grouped(rows, *CELL).items()):
        regret = {row["learner"]: f"{row['regret']:.4f}" for row in some}
        named = [regret[name] for name in learners]
        lines.append([*map(str, cell), f"{some[0]['nothing']:.3f}", *named])
    return markdown((*CELL, "nothing", *learners), lines, "llr")


def claims(rows: list[dict]) -> str:
    """What was aimed at, cell by cell: regret over the surface's, certificates, harm."""
    head = ("surface / refined", "bound that was maximised holds", "certificate holds")
    head += ("gain certified", "certified, yet worse than nothing")
    lines = []
    for cell, some in sorted(grouped(rows, *CELL).items()):
        of = {row["learner"]: row for row in some}
        refined, ratio = of["refined"], of["surface"]["regret"] / of["refined"]["regret"]
        shares = [refined[key] for key in ("bound_holds", "certified_holds", "certified_gain")]
        shown = [f"{share:.3f}" for share in (*shares, of["chosen"]["worse"])]
        lines.append([*map(str, cell), f"{ratio:.2f}", *shown])
    return markdown((*CELL, *head), lines, "llr")
