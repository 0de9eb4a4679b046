"""The commands, and how each of their ends becomes an exit code and one line.

A command's module is imported when the command is called: help waits for no library.
"""

import contextlib
import os
import sys
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from mopl_jax.cli import interrupt, pipe
from mopl_jax.numerics import compiled

COMMANDS = {  # each with the first line of its help
    "coverage": "How often do intervals cover, and how many samples does an ESS correction save?",
    "check": "Is this log what it is said to be? Ranges, densities against the declared policy,"
    " repeats, users, drift.",
    "example": "A small log, its logging policy and a target, so that every command can be tried.",
    "evaluate": "What would another policy have earned? Value, intervals, effective sample size, a"
    " verdict.",
    "compare": "Which policy would have earned more? Differences to the first policy, with"
    " simultaneous intervals.",
    "learn": "New weights from a log, and what they certainly gain.",
    "metric": "Learn a sensitive metric from past A/B tests, and check it on experiments held out.",
    "monitor": "Watch a running A/B test: intervals that hold at all looks, so that one may stop at"
    " any.",
    "draw": "Draw weights from a policy, with the log densities that a server must log.",
    "plan": "How many decisions must be explored, how widely, and at what cost?",
    "simulate": "The whole loop, simulated: randomise, log, learn, certify, test online.",
}
RESUMES = ("coverage",)  # commands that store their parts as they go

UsageError: Any = typer.BadParameter.__mro__[1]  # also of missing options and unknown commands


class OnDemand(TyperGroup):
    """A group that lists `COMMANDS` and imports the one that is called."""

    def resolve_command(self, ctx, args):
        """The command of the first argument, with its real options."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, command(str(name)), rest

    def invoke(self, ctx):
        """Run it; typer would end an interrupt in silence."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise interrupt.Interrupted from None


def command(name: str) -> Any:
    """The command `name`: the function of that name in the module of that name."""
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command(name)(getattr(import_module(f"mopl_jax.cli.{name}"), name))
    return get_command(one)


app = typer.Typer(
    cls=OnDemand,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a log of randomised scalarisation weights to values and weights you can trust.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"mopl {metadata.version('mopl_jax')}")
        raise typer.Exit


UNCACHED = "Keep no compiled functions in the user's cache folder, and use none."


@app.callback()
def settings(
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help=UNCACHED, envvar="MOPL_NO_CACHE")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What all commands share: their compiled functions are kept, so that they start faster."""
    compiled.keep(not no_cache)


for name, line in COMMANDS.items():
    app.command(name, help=line)(lambda: None)


def _help(error):
    context = error.ctx
    return f"{context.command_path if context else 'mopl'} --help"


def run() -> None:
    """Run the command; bad input is one line, never a traceback."""
    interrupted = f"interrupted; {_kept(sys.argv[1:])}"
    interrupt.heed(interrupted)
    try:
        code = app(standalone_mode=False) or 0
        pipe.flush()
        sys.exit(code)
    except UnicodeEncodeError as error:  # of arguments, in which a shell may put any bytes
        _leave(2, f"expected text in UTF-8, got {error.object!r}; write it so")
    except (ValueError, OSError) as error:
        _leave(2, str(error))
    except (MemoryError, OverflowError) as error:
        _leave(2, f"expected what this machine can hold, got more ({error}); use smaller numbers")
    except UsageError as error:
        _leave(2, f"{error.format_message().rstrip('.')}. See {_help(error)}.")
    except (KeyboardInterrupt, interrupt.Interrupted, typer.Abort):
        _leave(130, interrupted)
    except Exception as error:
        if missing := _missing_platform():
            _leave(2, f"JAX_PLATFORMS: expected a platform that JAX finds here, got {missing}")
        if not _lost_another(error):
            raise
        _leave(
            4,
            "lost another process of this run; start it again, it resumes from the stored parts"
            f" ({str(error).strip().splitlines()[0][:120]})",
        )


def _missing_platform():
    """The platform that the environment names, where there is no such device."""
    platform, jax = os.environ.get("JAX_PLATFORMS"), sys.modules.get("jax")
    try:
        if jax is not None and platform:
            jax.devices()
    except Exception:
        return platform
    return None


def _lost_another(error):
    """Whether a run of several processes ends because another of them is gone."""
    jax = sys.modules.get("jax")
    return (
        jax is not None
        and isinstance(error, jax.errors.JaxRuntimeError)
        and jax.process_count() > 1
    )


def _kept(arguments):
    """What an interrupt leaves."""
    called = next((text for text in arguments if not text.startswith("-")), None)
    return (
        "what was finished is kept, the same command resumes"
        if called in RESUMES
        else "start it again"
    )


def _leave(code, message):
    """Say why on standard error, and exit."""
    from rich.console import Console

    from mopl_jax.io.refusals import one_line

    Console(stderr=True, soft_wrap=True).print(
        f"mopl: {one_line(message)}", style="red", highlight=False, markup=False
    )
    sys.stderr.flush()
    with contextlib.suppress(ValueError):  # one complaint is enough
        pipe.flush()
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        os._exit(code)  # the shutdown handshake would wait for a process that is gone
    sys.exit(code)
