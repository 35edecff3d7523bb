"""The work that a payload makes for those who decode it. Pure.

Decoding costs time for each value in the JSON, 0.1 µs, or up to 1 µs if it becomes a model, so a payload within the limit of
bytes may hold millions of values and stop a receiver for seconds. Counting them here takes a fraction of that, and ends as
soon as there are too many.
"""

_SEPARATORS = b",", b"[", b"{"  # each comma is followed by a value, each bracket by one or none
_QUOTES_OF_A_VALUE = 4  # at most: two of its name and two of its own
_STEP_BYTES = 65_536  # that are looked at between two looks at the limit, and that the processor's cache holds
_BACKSLASH = ord("\\")


def has_more_values(json: bytes, limit: int) -> bool:
    """Whether valid JSON has more than about this many values: elements and members, at any depth.

    What is no valid JSON is no trouble: it ends where the parser finds that out. Takes no time for short payloads.
    """
    return len(json) > limit and ValueCounter(limit).exceeds(json)


class ValueCounter:
    """Counts values as `has_more_values` does, in JSON that comes in pieces. One thread at a time.

    As long as few separators stand anywhere, in texts or not, it looks at nothing else, which takes 0.05 ms for a megabyte.

    Args:
        limit: the number of values; it need not be known how many more there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._anywhere = 0  # separators, also those in texts
        self._pieces: list[bytes] | None = []  # all so far; None: there are many separators, those in texts do not count
        self._outside = self._quotes = 0  # separators outside of texts, and quotes that begin or end a text
        self._in_text = 0  # 1: the next piece begins within a text
        self._rest = b""  # a backslash at the end of the last piece, if it escapes the next byte

    def exceeds(self, piece: bytes) -> bool:
        """Take in the next piece; return whether there are more values than the limit by now."""
        if self._pieces is None:
            return self._look_closely(piece)
        self._pieces.append(piece)
        for begin in range(0, len(piece), _STEP_BYTES):
            self._anywhere += _separators(piece, begin, begin + _STEP_BYTES)
            if self._anywhere > self._limit:
                pieces, self._pieces = self._pieces, None
                return any(map(self._look_closely, pieces))
        return False

    def _look_closely(self, piece: bytes) -> bool:
        piece = self._rest + piece
        begin = 0
        while begin < len(piece):
            end = min(begin + _STEP_BYTES, len(piece))
            if piece[end - 1] == _BACKSLASH:  # an escaped byte is looked at together with its backslash
                backslashes = end - begin - len(piece[begin:end].rstrip(b"\\"))
                end += backslashes % 2
            if end > len(piece):
                break
            self._count(piece, begin, end)
            if self._outside > self._limit or self._quotes > _QUOTES_OF_A_VALUE * self._limit:
                return True
            begin = end
        self._rest = piece[begin:]
        return False

    def _count(self, json: bytes, begin: int, end: int) -> None:
        """Count what is outside of texts in a part that begins and ends with no escape cut in two."""
        quotes = _count(json, b'"', begin, end)
        if quotes and json.find(b'\\"', begin, end) >= 0:
            # Escaped quotes are removed. Backslashes before a quote may be escaped themselves; otherwise counting will do.
            if json.find(b'\\\\"', begin, end) >= 0:
                json = json[begin:end].replace(rb"\\", b"--").replace(rb"\"", b"--")
                begin, end = 0, len(json)
                quotes = json.count(b'"')
            else:
                quotes -= json.count(b'\\"', begin, end)
                if quotes:
                    json = json[begin:end].replace(rb"\"", b"--")
                    begin, end = 0, len(json)
        if quotes:
            outside = b"".join(json[begin:end].split(b'"')[self._in_text :: 2])
            self._outside += _separators(outside, 0, len(outside))
        elif not self._in_text:
            self._outside += _separators(json, begin, end)
        self._quotes += quotes
        self._in_text ^= quotes % 2


def _separators(json: bytes, begin: int, end: int) -> int:
    return sum(_count(json, one, begin, end) for one in _SEPARATORS)


def _count(json: bytes, one: bytes, begin: int, end: int) -> int:
    first = json.find(one, begin, end)  # ten times as fast as counting
    return 0 if first < 0 else json.count(one, first, end)
