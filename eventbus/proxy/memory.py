"""The memory of this process: how much is resident, and returning what is free to the system."""

import os
from contextlib import suppress

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell (it is read from /proc)."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:
            return int(statm.read(200).split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None


def trim() -> None:
    """Return free memory to the system, if the C library can: glibc keeps what small pieces have left behind."""
    import ctypes  # only when there is something to return: it would make the process heavier

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
