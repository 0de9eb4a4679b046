"""A reader of the output that stops reading, as in `mopl … | head -1`, costs nothing but what it
leaves unread: files are written and the exit code is as if it had read on. An output that cannot be
written, as on a full disk, is one complaint.
"""

import contextlib
import io
import os
import sys


class _Pipe(io.FileIO):
    """A file that goes nowhere from when nobody reads it, or it cannot be written: of standard
    output that is a ValueError, of complaints there is nobody to tell.
    """

    def write(self, data, /):
        try:
            return super().write(data)
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            if self.fileno() == 1 and not isinstance(error, BrokenPipeError):
                raise ValueError(
                    f"standard output: cannot be written ({error.strerror}); free some space, or"
                    " write to another place"
                ) from None
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


def flush() -> None:
    """Write what was printed so far: what goes wrong after the end has no exit code."""
    if sys.stdout is not None:
        sys.stdout.flush()
