"""The work that a payload makes for those who decode it. Pure.

Decoding costs time for each value in the JSON, 0.1 µs, or up to 1 µs if it becomes a model, so a payload within the limit of
bytes may hold millions of values and stop a receiver for seconds. Counting them here takes a fraction of that, and ends as
soon as there are too many.

The time for a whole number grows with the square of its digits, so one of hundreds of digits counts as several values.
"""

_SEPARATORS = b",", b"[", b"{"  # each comma is followed by a value, each bracket by one or none
_QUOTES_OF_A_VALUE = 4  # at most: two of its name and two of its own
_STEP_BYTES = 65_536  # that are looked at between two looks at the limit, and that the processor's cache holds
_BACKSLASH = ord("\\")

# A run of 384 digits has 6 bytes of every 64th, and 24 of every 16th. The first are looked at in all JSON, the second where
# the first are digits, as often among numbers.
_DIGIT, _NO_DIGIT = b"\1", b"\0"
_IS_DIGIT = bytes(chr(byte) in "0123456789_" for byte in range(256))
_FEW_STRIDE, _FEW = 64, 6 * _DIGIT
_MANY_STRIDE, _MANY = 16, 24
_BEFORE_END, _AROUND_DIGITS = b"0123456789+- ", b' \t\r\n"[]{}+-'
_LEAST_DIGITS = _MANY_STRIDE * (_MANY - 1)  # that are surely found of a run, whose ends are not looked for
_MAX_DIGITS = 4_300  # of a whole number; nothing decodes more
_MAX_PART_BYTES = 2 * _MAX_DIGITS + 2 * _MANY_STRIDE  # of such a number with underscores, and of what may stand around it
# The square of the digits is divided by two to the power of these, which makes 0.5 µs for each value: a number may be for a
# field of decimals, which takes longest, and a text for one of whole numbers. But texts are texts as a rule: 16 MiB of them,
# each of up to 3,000 digits, are within the default limit.
_NUMBER_SHIFT, _TEXT_SHIFT = 15, 19


def has_more_values(json: bytes, limit: int) -> bool:
    """Whether valid JSON has more than about this many values: elements and members, at any depth.

    A whole number of about 384 digits counts as 4 more values, and one of 4,300 digits as 560 more. If it is all of a text,
    it counts as up to 35 more: the text may be for a field of whole numbers.

    What is no valid JSON is no trouble: it ends where the parser finds that out. Takes no time for short payloads.
    """
    return len(json) > limit and ValueCounter(limit).exceeds(json)


class ValueCounter:
    """Counts values as `has_more_values` does, in JSON that comes in pieces. One thread at a time.

    As long as few separators stand anywhere, in texts or not, it looks at nothing else, which takes 0.1 ms for a megabyte.

    Args:
        limit: the number of values; it need not be known how many more there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_digits = 0  # values that long numbers count as, beside one
        self._anywhere = 0  # separators, also those in texts
        self._pieces: list[bytes] | None = []  # all so far; None: there are many separators, those in texts do not count
        self._outside = self._quotes = 0  # separators outside of texts, and quotes that begin or end a text
        self._in_text = 0  # 1: the next piece begins within a text
        self._rest = b""  # a backslash at the end of the last piece, if it escapes the next byte

    def exceeds(self, piece: bytes) -> bool:
        """Take in the next piece; return whether there are more values than the limit by now."""
        if self._pieces is None:
            exceeds = self._look_closely(piece)
        else:
            self._pieces.append(piece)
            exceeds = self._has_many_separators(piece) and self._look_closely_at_all()
        return exceeds or (self._has_long_numbers(piece) and self._has_too_many())

    def _has_many_separators(self, piece: bytes) -> bool:
        for begin in range(0, len(piece), _STEP_BYTES):
            self._anywhere += _separators(piece, begin, begin + _STEP_BYTES)
            if self._anywhere + self._of_digits > self._limit:
                return True
        return False

    def _has_long_numbers(self, piece: bytes) -> bool:
        if not _may_have_long_numbers(piece, 0, len(piece)):
            return False
        before = self._of_digits
        for begin in range(0, len(piece), _STEP_BYTES):
            self._of_digits += _excess_of_digits(piece, begin, min(begin + _STEP_BYTES, len(piece)))
            if self._of_digits > self._limit:
                break
        return self._of_digits > before

    def _has_too_many(self) -> bool:
        """Whether there are, now that numbers are counted too."""
        if self._of_digits > self._limit:
            return True
        if self._pieces is None:
            return self._outside + self._of_digits > self._limit
        return self._anywhere + self._of_digits > self._limit and self._look_closely_at_all()

    def _look_closely_at_all(self) -> bool:
        pieces, self._pieces = self._pieces or [], None
        return any(map(self._look_closely, pieces))

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
            if self._outside + self._of_digits > self._limit or self._quotes > _QUOTES_OF_A_VALUE * self._limit:
                return True
            begin = end
        self._rest = piece[begin:]
        return False

    def _count(self, json: bytes, begin: int, end: int) -> None:
        """Count what is outside of texts in a part that begins and ends with no escape cut in two."""
        quotes = _count(json, b'"', begin, end)
        if quotes and json.find(b'\\"', begin, end) >= 0:
            # Backslashes before a quote may be escaped themselves. Counting is faster than removing escaped quotes, and will
            # do for a part of a text in which all are escaped.
            if json.find(b'\\\\"', begin, end) >= 0:
                json = json[begin:end].replace(rb"\\", b"--")
                begin, end = 0, len(json)
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


def _may_have_long_numbers(json: bytes, begin: int, end: int) -> bool:
    return _FEW in json[begin:end:_FEW_STRIDE].translate(_IS_DIGIT)


def _excess_of_digits(json: bytes, begin: int, end: int) -> int:
    """Return the values that long whole numbers in this part count as, beside the one that each is."""
    if not _may_have_long_numbers(json, begin, end):
        return 0
    are_digits = json[begin:end:_MANY_STRIDE].translate(_IS_DIGIT)
    long = _starts_of_long(are_digits)
    excess = 0
    at = long.find(_DIGIT)
    while at >= 0:
        after = are_digits.find(_NO_DIGIT, at)
        if after < 0:
            after = len(are_digits)
        first = begin + at * _MANY_STRIDE
        last = begin + (after - 1) * _MANY_STRIDE
        digits = json[first : last + 1]
        around = json[max(begin, first - _MANY_STRIDE) : first].rstrip(_BEFORE_END)[-1:]
        if around == b".":  # decimal places, which take no time
            digits = digits.partition(b",")[2]
        if not digits.isdigit():  # there are others between those that were looked at
            excess += _excess_between_commas(digits)
        elif around:
            excess += _excess_of(len(digits), around)
        else:  # they begin in the step before
            excess += _excess_of(len(digits), json[last : last + _MANY_STRIDE].lstrip(_BEFORE_END)[:1])
        at = long.find(_DIGIT, after)
    return excess


def _starts_of_long(are_digits: bytes) -> bytes:
    """Mark each byte from which on there are `_MANY` digits; nothing if there is none.

    Searching takes longer where there are many runs that are nearly as long.
    """
    runs = int.from_bytes(are_digits, "little")  # of one digit
    runs &= runs >> 8  # of two
    runs &= runs >> 16
    runs &= runs >> 32
    runs &= runs >> 64  # of 16
    runs &= runs >> 64  # of 24
    return runs.to_bytes(len(are_digits), "little") if runs else b""


def _excess_between_commas(json: bytes) -> int:
    excess = 0
    begin = 0
    while (comma := json.rfind(b",", begin, begin + _LEAST_DIGITS)) >= 0:
        begin = comma + 1
    if len(json) - begin < _LEAST_DIGITS:
        return 0  # splitting takes longer
    for part in json.split(b","):
        if _LEAST_DIGITS <= len(part) <= _MAX_PART_BYTES:
            digits = part.strip(_AROUND_DIGITS)
            if not digits.isdigit():  # there may be a name before it
                part = part.rpartition(b":")[2]
                digits = part.strip(_AROUND_DIGITS).replace(b"_", b"")
                if not digits.isdigit():
                    continue
            excess += _excess_of(len(digits), part)
    return excess


def _excess_of(digits: int, around: bytes) -> int:
    if not _LEAST_DIGITS <= digits <= _MAX_DIGITS:
        return 0
    return digits**2 >> (_TEXT_SHIFT if b'"' in around else _NUMBER_SHIFT)
