"""The work that a payload makes for those who decode it. Pure.

Decoding costs time for each value in the JSON, 0.1 µs, or up to 1 µs if it becomes a model, so a payload within the limit of
bytes may hold millions of values and stop a receiver for seconds. Counting them here takes a fraction of that.
"""


def has_more_values(json: bytes, limit: int) -> bool:
    """Whether valid JSON has more than about this many values: elements and members, at any depth.

    What is no valid JSON is no trouble: it ends where the parser finds that out. Takes no time for short payloads.
    """
    if len(json) <= limit or _separators(json) <= limit:
        return False
    # Commas may stand in texts. What is left between the quotes, without those that are escaped, is outside of texts.
    parts = json.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"', 4 * limit)
    return len(parts) > 4 * limit or _separators(b"".join(parts[::2])) > limit


def _separators(json: bytes) -> int:
    """The commas and opening brackets: each comma is followed by a value, each bracket by one or none."""
    return json.count(b",") + json.count(b"[") + json.count(b"{")
