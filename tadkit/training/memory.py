"""Memory of training on a CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of giving it back to the kernel.

    A step allocates and frees gigabytes of activations in large blocks. By default each block is mapped afresh and its
    pages are cleared at first touch: four steps of the room's teacher took 12.9 s of system time beside 17.8 s of user
    time, and 4.7 s beside 18.7 s with this. Memory is held until the process ends. Elsewhere than on Linux with glibc
    nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
