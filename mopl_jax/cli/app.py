"""The commands, and how each of their ends becomes an exit code and one line."""

import os
import sys
from typing import Any

import jax
import typer
from rich.console import Console

from mopl_jax.cli.check import check
from mopl_jax.cli.compare import compare
from mopl_jax.cli.coverage import coverage
from mopl_jax.cli.evaluate import evaluate
from mopl_jax.cli.learn import learn
from mopl_jax.cli.metric import metric
from mopl_jax.cli.plan import plan
from mopl_jax.cli.simulate import simulate

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a log of randomised scalarisation weights to values and weights you can trust.",
)
app.command()(coverage)
app.command()(check)
app.command()(evaluate)
app.command()(compare)
app.command()(learn)
app.command()(metric)
app.command()(plan)
app.command()(simulate)


_UsageError: Any = typer.BadParameter.__mro__[
    1
]  # the parent that also covers missing options and unknown commands


RESUMES = ("coverage",)  # commands that store their parts as they go


def run() -> None:
    """Run the command; bad input is one line, never a traceback."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (ValueError, OSError) as error:
        _leave(2, str(error))
    except _UsageError as error:
        _leave(2, f"{error.format_message()} See mopl --help.")
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        _leave(
            4,
            "lost another process of this run; start it again, it resumes from the stored parts"
            f" ({_first(error)})",
        )
    except (KeyboardInterrupt, typer.Abort):
        _leave(130, f"interrupted; {_kept(*sys.argv[1:2])}")


def _kept(command=None):
    """What an interrupt leaves."""
    return (
        "what was finished is kept, the same command resumes"
        if command in RESUMES
        else "start it again"
    )


def _first(error):
    return str(error).strip().splitlines()[0][:120]


def _leave(code, message):
    """Say why on standard error, and exit."""
    Console(stderr=True, soft_wrap=True).print(
        f"mopl: {message}", style="red", highlight=False, markup=False
    )
    sys.stderr.flush()
    if jax.distributed.is_initialized():
        os._exit(code)  # the shutdown handshake would wait for a process that is gone
    sys.exit(code)
