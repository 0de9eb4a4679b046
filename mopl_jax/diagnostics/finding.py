"""What one check found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """What one check found.

    `check`: its name.
    `level`: one of `VERDICTS`.
    `found`: a sentence.
    """

    check: str
    level: str
    found: str
