"""A reader of the output that stops reading, as in `mopl … | head -1`, costs nothing but what it
leaves unread: files are written and the exit code is as if it had read on.
"""

import contextlib
import io
import os
import sys


class _Pipe(io.FileIO):
    """A file that goes nowhere from when nobody reads it."""

    def write(self, data, /):
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return super().write(data)


def install() -> None:
    """For what is printed from now on; a console is no pipe."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with contextlib.suppress(AttributeError, ValueError, OSError):  # closed, or no file
            if not stream.isatty():
                raw = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
                made = io.TextIOWrapper(
                    raw, stream.encoding, stream.errors, line_buffering=name == "stderr"
                )
                setattr(sys, name, made)
