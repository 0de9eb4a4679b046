"""The command `mopl`. Thin: it reads, calls the library, prints and writes; no mathematics.

Exit codes: 0 done · 2 bad input or usage, one line on standard error says what, where, what was expected and the remedy ·
130 interrupted, what was finished is kept.
"""

import sys

import typer
from rich.console import Console

from mopl_jax.cli.coverage import coverage
from mopl_jax.cli.evaluate import evaluate

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a log of randomised scalarisation weights to values and weights you can trust.",
)
app.command()(coverage)
app.command()(evaluate)


def main() -> None:
    """Run the command; bad input is one line, never a traceback."""
    try:
        app()
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"mopl: {error}", style="red", highlight=False, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("mopl: interrupted; what was finished is kept")
        sys.exit(130)
