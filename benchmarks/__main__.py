"""`python -m benchmarks` lists the studies; `python -m benchmarks NAME …` (or `all`) runs them into
benchmarks/results.
"""

import importlib
import sys

STUDIES = (
    "coverage",
    "stress",
    "calibration",
    "clicks",
    "click_rates",
    "after_selection",
    "verdict",
    "dimension",
    "bandwidth",
    "metrics",
    "design",
    "speed",
    "roofline",
    "scaling",
    "precision",
    "randomness",
    "sharded",
    "memory",
    "learning",
    "learning_speed",
    "gp_search",
    "obp_learner",
    "platform",
    "closed_loop",
    "open_bandit",
)
ON_DEMAND = ("open_bandit",)  # needs a path to data: left out of `all`


def main(names: list[str]) -> int:
    """Run the named studies, or list them."""
    if not names:
        print(
            "\n".join(
                f"{name:12} {(_study(name).__doc__ or '').splitlines()[0]}" for name in STUDIES
            )
        )
        return 0
    if names[0] in ON_DEMAND:
        sys.argv[1:] = names[1:]
        return _study(names[0]).main() or 0
    wanted = [name for name in STUDIES if name not in ON_DEMAND] if names == ["all"] else names
    if unknown := [name for name in wanted if name not in STUDIES]:
        print(f"unknown study {unknown[0]!r}; known: {', '.join(STUDIES)}, all", file=sys.stderr)
        return 2
    for name in wanted:
        _study(name).main()
    return 0


def _study(name):
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
