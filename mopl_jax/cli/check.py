"""`mopl check`: is a log what it is said to be?"""

import jax
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax.cli import options
from mopl_jax.cli.evaluate import REFUSED
from mopl_jax.diagnostics import log_checks

_STYLES = {"ok": "green", "warning": "yellow", "refuse": "red"}


def check(
    log: options.Log,
    reward: options.Reward = None,
    action: options.Action = None,
    propensity: options.Propensity = None,
    log_propensity: options.LogPropensity = None,
    logging: options.Logging = None,
    cluster: options.Cluster = None,
    time: options.Time = None,
    as_json: options.Json = False,
) -> None:
    """Is this log what it is said to be? Ranges, densities against the declared policy, repeats,
    users, drift.

    Name what there is: with --logging, the actions and any propensity column
    are tested against the declared policy; with --cluster, the users are
    counted; with --time, drift is over time and not over the row number.

    Exit code 0: ok, perhaps with warnings. 3: refuse. 2: it cannot be read.
    """
    jax.config.update("jax_enable_x64", True)
    reader = options.read(
        log,
        reward=reward,
        action=action,
        propensity=propensity,
        log_propensity=log_propensity,
        logging=logging,
        cluster=cluster,
        time=time,
    )
    findings, numbers = log_checks.examine(reader, options.watched(reader, as_json))
    verdict = log_checks.verdict(findings)
    if as_json:
        rows = [finding._asdict() for finding in findings]
        options.print_json(
            {"log": reader.source.name, "verdict": verdict, "findings": rows} | numbers
        )
    else:
        _show(findings, verdict, Console(width=100))
    if verdict == "refuse":
        raise typer.Exit(REFUSED)


def _show(findings, verdict, console):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("check", "verdict"):
        table.add_column(header, no_wrap=True)
    table.add_column("found")
    for check, level, found in findings:
        table.add_row(check, f"[{_STYLES[level]}]{level}[/]", found)
    console.print(table)
    console.print(f"verdict: [bold {_STYLES[verdict]}]{verdict}[/]")
