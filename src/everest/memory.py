"""Large buffers that come and go: keep their memory instead of asking the system for it again and again."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1  # bytes at the end of the heap that are given back only when there are more


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next request of this process.

    A batch of clips, or an activation, is larger than what glibc takes from its heap: each one is mapped anew, and
    every page of it costs a fault when it is first written. Training asks for the same sizes in every step. What a
    process needs at its peak hardly changes; what it keeps afterwards does. For programs, not for libraries.

    Returns:
        Whether that could be arranged: on Linux with glibc, unless ``MALLOC_`` variables say how it is to be.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
