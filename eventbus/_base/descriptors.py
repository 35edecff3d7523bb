"""Descriptors: libzmq aborts the whole process when it misses one at a bad moment, so they are asked for beforehand."""

import errno
import os
import resource
import socket

from eventbus.errors import DescriptorsExhausted


def require_descriptors(count: int) -> None:
    """Return if this process can open so many descriptors more, which is tried.

    Other threads may take them a moment later: it makes an abort unlikely, not impossible. Any thread may call it.

    Raises:
        DescriptorsExhausted: it cannot.
    """
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(socket.socket().detach())
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise DescriptorsExhausted(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
