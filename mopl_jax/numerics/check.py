"""Checks of what users pass in, names and levels, with complaints of one line."""

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
