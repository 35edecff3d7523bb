"""Emitting on an event loop: it waits for room in the send buffer without blocking the loop."""

from collections.abc import Callable

from eventbus._base.deadline import Deadline
from eventbus.errors import SendBufferFull, SendTimeout
from eventbus.options import ClientOptions
from eventbus.policies import SendPolicy
from eventbus.transports.waiting import without_waiting

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02


async def emit_without_blocking[**Arguments](
    options: ClientOptions, emit: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs
) -> None:
    """Call ``emit(*arguments, **named)`` until there is room for what it sends, as the send policy says.

    If the task is cancelled while it waits, nothing was sent.

    Raises:
        SendBufferFull: there is no room, and the send policy is to raise.
        SendTimeout: there was no room within the send timeout.
    """
    try:
        with without_waiting():
            emit(*arguments, **named)
        return
    except SendBufferFull:
        if options.send_policy is not SendPolicy.BLOCK:
            raise
    import asyncio  # already loaded, because a loop is running

    deadline, pause = Deadline(options.send_timeout), _FIRST_PAUSE_S
    while True:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        try:
            with without_waiting():
                emit(*arguments, **named)
            return
        except SendBufferFull as error:
            if deadline.passed():
                raise SendTimeout(error.endpoint, error.limit, options.send_timeout, error.peer) from None
