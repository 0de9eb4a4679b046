"""Checks of what users pass in, names, levels, seeds and sizes, with complaints of one line."""

import difflib
from collections.abc import Mapping, Sequence


def choose(names: Sequence[str], known: Mapping[str, object], what: str) -> tuple[str, ...]:
    """`names` as a tuple; ValueError for an unknown `what`, with the nearest `known` name."""
    if isinstance(names, str):
        names = [names]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown {what}: {name!r}; {hint}known: {', '.join(known)}")
    return tuple(names)


def check_alpha(alpha: float) -> float:
    """`alpha`, or ValueError unless it is strictly between 0 and 1."""
    if not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise ValueError(
            f"expected alpha strictly between 0 and 1, got {alpha}; 0.05 gives 95 % intervals"
        )
    return float(alpha)


def check_seed(seed: int, name: str = "--seed", least: int = 0) -> int:
    """`seed`, or ValueError unless it is at least `least` and has 64 bits at most."""
    if not least <= seed < 2**63:
        raise ValueError(f"{name}: expected a whole number from {least} to 2⁶³ − 1, got {seed}")
    return seed


MOST_WEIGHTS = 1000  # d: matrices of d² numbers, and d³ steps, still take seconds
MOST_PARTS = 200  # of a mixture: each is compiled


def check_count(count: int, most: int, what: str, remedy: str) -> int:
    """`count`, or ValueError unless it is from 1 to `most`: what costs too much is refused before
    it begins.
    """
    if not 1 <= count <= most:
        raise ValueError(f"{what}: expected 1 to {most:,}, got {count:,}; {remedy}")
    return count
