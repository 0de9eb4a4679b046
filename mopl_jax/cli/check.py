"""`mopl check`: is a log what it is said to be?"""

from mopl_jax.cli import options, show

TIME = options.option(str, "Column of the time: numbers, dates or timestamps.")


@options.takes(
    log=options.LOG,
    **options.ROLES,
    time=TIME,
    show_sql=options.SQL,
    as_json=options.JSON,
)
def check(as_json, **log):
    """Is this log what it is said to be? Ranges, densities against the declared policy, repeats,
    users, drift.

    Name what there is: with --logging, the actions and any propensity column
    are tested against the declared policy; with --cluster, the users are
    counted; with --time, drift is over time and not over the row number.

    Exit code 0: trust or caution. 3: refuse. 2: it cannot be read.
    """
    from mopl_jax.diagnostics.check import check_log

    options.float64()
    reader = options.opened(log)
    report = check_log(reader, watch=options.watched(reader, as_json))
    show.answer(report, as_json, _show)
    options.leave(report.verdict)


def _show(report):
    from rich import box, table

    from mopl_jax.report import terminal

    names = (table.Column("check", no_wrap=True), table.Column("verdict", no_wrap=True), "found")
    rows = table.Table(*names, box=box.SIMPLE_HEAD, pad_edge=False)
    for check, level, found in report.findings:
        rows.add_row(check, terminal.coloured(level), found)
    terminal.console().print(rows, terminal.verdict_line(report.verdict), sep="\n")
