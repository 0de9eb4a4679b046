"""The verb `check_log`."""

from collections.abc import Callable
from typing import Any

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.io.read import open_log


def check_log(log: Any, *, watch: Callable = iter, **columns: Any) -> LogReport:
    """Is a log, a path, a table or a `LogReader`, what it is said to be?

    `columns` and `logging` as in `open_log`; `watch` is handed the chunks of each of both passes,
    and gives them back. ValueError for entries that are no numbers, as for any log.
    """
    return check_rows(open_log(log, **columns), watch)
