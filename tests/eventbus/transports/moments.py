"""Interrupting code at each moment at which Python calls signal handlers: no random signal finds them all."""

import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType

import eventbus

PACKAGE = str(Path(eventbus.__file__).parent)
MOMENTS = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"})
"""After these instructions Python looks for signals; but for a call of a function in Python: when that begins."""
RETURNS = frozenset({"RETURN_VALUE", "RETURN_CONST"})

TOOL = sys.monitoring.DEBUGGER_ID


class NoSuchMoment(Exception):
    """The code has ended before."""


def interrupted(act: Callable[[], object], handler: Callable[[], object], moment: int) -> None:
    """Call `act`, and within it `handler` at one moment of the package's own code: the first one is number 0.

    Raises:
        NoSuchMoment: there are not so many.
    """
    thread, left, last = get_ident(), moment, dict[FrameType, int]()
    caller: FrameType | None = None  # of the function that has just returned
    monitoring, event = sys.monitoring, sys.monitoring.events.INSTRUCTION

    def look(code: CodeType, offset: int) -> object:
        nonlocal left, caller
        if not code.co_filename.startswith(PACKAGE):
            return monitoring.DISABLE
        if get_ident() == thread and left >= 0:
            frame = sys._getframe(1)
            before, last[frame] = last.get(frame), offset
            returned, caller = caller is frame, frame.f_back if names_in(code)[offset] in RETURNS else None
            # The first instruction that is seen of a function follows RESUME.
            if before is None or (names_in(code)[before] in MOMENTS and not returned):
                left -= 1
                if left < 0:
                    handler()
        return None

    monitoring.use_tool_id(TOOL, "moments")
    monitoring.register_callback(TOOL, event, look)
    monitoring.restart_events()
    try:
        monitoring.set_events(TOOL, event)
        act()
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, event, None)
        monitoring.free_tool_id(TOOL)
    if left >= 0:
        raise NoSuchMoment


@cache
def names_in(code: CodeType) -> dict[int, str]:
    """The names of a function's instructions, by their place."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}
