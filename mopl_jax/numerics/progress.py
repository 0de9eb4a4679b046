"""Progress of a long computation, told to whoever wants to know."""

from collections.abc import Callable

Advance = Callable[[str, int, int], None]  # a task's name, its steps done since, its steps in all


def silent(task: str, steps: int, total: int) -> None:
    """Tell nobody."""
