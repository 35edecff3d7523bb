"""What ``eventbus check`` says of the historian of a bus."""

from time import monotonic
from typing import TYPE_CHECKING

from eventbus._base.printable import counted
from eventbus.errors import HistorianMissing
from eventbus.history.lookup import may_have_historian
from eventbus.transports.contract import Transport

if TYPE_CHECKING:
    from eventbus.wire.history import Kept

_TIMEOUT_S = 1.0  # for a historian to answer, if anybody subscribes to all topics
_NONE = "no historian: who comes late gets nothing, and what is lost stays lost"
_UNITS = {"GiB": 1_073_741_824, "MiB": 1_048_576, "KiB": 1_024}


def ask_historian(transport: Transport, public_key: str | None) -> str:
    """Ask for what is kept, and return it as a text. Having no historian is no failure: most buses need none.

    Raises:
        EventBusError: it cannot be asked.
    """
    if not may_have_historian(transport, _TIMEOUT_S):
        return _NONE
    from eventbus.history.reader import HistoryReader  # late, because most buses have none

    reader = HistoryReader(transport, public_key)
    try:
        reader.status(_TIMEOUT_S)  # opens the connection for answers
        began = monotonic()
        kept = reader.status(_TIMEOUT_S)
        return described(kept, monotonic() - began)
    except HistorianMissing:
        return _NONE
    finally:
        reader.close()


def described(kept: "Kept", taken: float) -> str:
    """What a historian keeps, in words.

    Args:
        kept: its answer.
        taken: seconds until it came: so far it is behind at most, because it takes messages one after the other.
    """
    parts = [
        f"a historian keeps {counted(kept.messages, 'message')} of {counted(kept.topics, 'topic')} in {_size(kept.bytes)}",
        f"is {taken * 1000:.1f} ms behind at most",
    ]
    if kept.behind:
        parts.append(f"has not got {counted(kept.behind, 'message')} that passed: yet, or for good")
    if kept.dropped:
        parts.append(f"dropped {counted(kept.dropped, 'message')} because memory was full (EVENTBUS_HISTORY_BYTES)")
    if kept.unwritten:
        parts.append(f"could not write {counted(kept.unwritten, 'message')} to its file")
    return ", ".join(parts)


def _size(count: int) -> str:
    return next((f"{count / size:.1f} {unit}" for unit, size in _UNITS.items() if count >= size), f"{count} bytes")
