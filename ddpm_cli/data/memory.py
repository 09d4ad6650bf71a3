"""Memory that the C library keeps."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Let the C library give freed memory back to the system.

    glibc keeps what a thread frees for that thread alone: each that has decoded one large picture would hold its hundreds of
    megabytes for ever. It does nothing elsewhere.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
