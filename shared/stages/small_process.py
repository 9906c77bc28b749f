"""What keeps workers and the api small and quick: how the interpreter and the C library look after its memory."""

import ctypes
import gc

_GARBAGE_THRESHOLD = 20_000
"""New objects after which the interpreter searches the youngest ones for garbage cycles."""
_M_ARENA_MAX = -8
"""`mallopt`'s parameter (glibc's malloc.h)."""


def share_one_heap() -> None:
    """Let all threads allocate from one heap. Call before threads start.

    glibc gives each thread a heap of its own, and what one has freed another cannot use. The interpreter's lock lets one
    thread at a time allocate anyway. Does nothing where the C library has no such setting.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return


def settle_after_imports() -> None:
    """Call once, when everything is imported: no later search for garbage looks at modules and classes again, and what the
    imports have freed goes back to the system.

    Searches become rarer too: by default there is one after every 700 new objects, and a full one took 120 ms, together a tenth
    of the CPU of a row stage. Rows hold no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
