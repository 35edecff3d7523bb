"""Checking for free descriptors in advance, because libzmq aborts the process if it lacks one at a bad moment."""

import errno
import os
import resource
import socket

from eventbus.errors import DescriptorsExhausted


def require_descriptors(count: int) -> None:
    """Return if this process can open `count` more descriptors; it opens them and closes them again.

    Another thread may take them a moment later, so an abort becomes unlikely, not impossible. Any thread may call it.

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
