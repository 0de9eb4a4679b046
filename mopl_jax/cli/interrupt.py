"""Ctrl-C and SIGTERM end the process at once: one line on standard error, exit code 130 or 143.

Nothing is raised: an error in the middle of an import or a callback becomes another error there,
or is dropped. Files are written whole or not at all, so there is nothing to put in order.
"""

import os
import signal
import sys
import threading


class Interrupted(BaseException):
    """A KeyboardInterrupt that typer does not take for its own."""


def heed(line: str) -> None:
    """From now on both signals end the process with that line; those that are ignored, as by nohup,
    still are.
    """

    def end(number, _):
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # progress bars hide it
        os.write(2, f"{cursor}mopl: {line}\n".encode())
        os._exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, end)
