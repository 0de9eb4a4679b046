"""Memory that is used no more, given back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Have the C library return what it keeps of freed memory, where it can (glibc): compiling a
    search takes some hundred MiB, which it would keep until the process ends. Arrow as well.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
