"""What results are printed with: a console, a table, numbers of one precision."""

import math
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {"trust": "green", "caution": "yellow", "refuse": "red"}


def console() -> Console:
    """Standard output, 100 columns. Names are text: no brackets or colons in them are markup."""
    return _Screen(width=100, highlight=False, markup=False, emoji=False)


class _Screen(Console):
    """A console that obeys no escape sequences in names of files and columns."""

    def render(self, renderable, options=None):
        """Its segments, without letters that have no shape, and no width."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_shown(segment.text))


def _shown(text):
    return "".join(x for x in text if x.isprintable() or x == "\n")


def table(*headers: str, title: str | None = None) -> Table:
    """A table whose first column is words and whose others are numbers."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for i, header in enumerate(headers):
        made.add_column(header, justify="right" if i else "left", no_wrap=True)
    return made


def filled(header: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> Table:
    """A table of the `header` with these rows."""
    made = table(*header, title=title)
    for row in rows:
        made.add_row(*row)
    return made


def coloured(verdict: str, *more: str) -> Text:
    """One of `diagnostics.verdicts.VERDICTS`, in its colour and `more` styles."""
    return Text(verdict, " ".join((STYLES[verdict], *more)))


def verdict_line(verdict: str) -> Text:
    """A verdict by itself."""
    return Text("verdict: ").append_text(coloured(verdict, "bold"))


def judge(out: Console, made: Any) -> None:
    """The verdict of a result, and its reasons."""
    out.print(verdict_line(made.verdict))
    for text in made.reasons:
        out.print(f"  {text}")


def advise(out: Console, made: Any) -> None:
    """The advice of what was learnt, and its reason."""
    out.print()
    out.print(headed(made.advice, f": {made.reason}"), soft_wrap=True)


def headed(head: str, rest: str) -> Text:
    """`head` in bold and the rest of a line."""
    return Text(head, "bold").append(rest, "not bold")


def number(x: float | None, form: str = "{:.4g}", unknown: str = "unknown") -> str:
    """A number in four digits, or in another `form`; ∞ and what is not known in words."""
    if x is None or math.isnan(x):
        return unknown
    return form.format(x) if math.isfinite(x) else ("∞" if x > 0 else "-∞")


def form_of(*ends: tuple[float, float]) -> str:
    """The form of numbers beside intervals with these ends: as many decimals as give half the
    narrowest width two digits, and four digits of each number where no width says more.
    """
    widths = [upper - lower for lower, upper in ends]
    known = [width / 2 for width in widths if math.isfinite(width) and width > 0]
    decimals = 1 - math.floor(math.log10(min(known))) if known else -1
    return f"{{:.{decimals}f}}" if 0 <= decimals <= 9 else "{:.4g}"


def share(x: float | None) -> str:
    """A share in percent."""
    return number(x, "{:.1%}")


def count(x: float | None) -> str:
    """A number of rows, users or decisions."""
    return number(x, "{:,.0f}")


def units(n: int, units: int) -> str:
    """How many rows there are, and how many users where these are the independent units."""
    return f"n = {n:,}" + ("" if units == n else f", {units:,} clusters")


def warn(out: Console, texts: Iterable[str], head: str = "warning: ") -> None:
    """Each text on a line of its own, behind the `head`."""
    for text in texts:
        out.print(f"{head}{text}", style="yellow")
