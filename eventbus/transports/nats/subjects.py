"""Topics as NATS subjects, and back. Pure functions on bytes.

A subject is the prefix, a dot and the topic. Letters, digits, ``_``, ``/`` and ``-`` stay, and so do dots between parts that
are not empty: so permissions such as ``eb.plant.>`` mean what they say. Each other byte is written as ``%XX``, because
subjects must not hold blanks, wildcards or empty parts.
"""

import re

_KEPT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/-")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


def subject_of(topic: bytes, prefix: bytes) -> bytes:
    """Return the subject of a topic; of an empty one the wildcard that matches all topics."""
    if not topic:
        return prefix + b".>"
    parts = [""]
    last = len(text := topic.decode(errors="surrogateescape")) - 1
    for index, letter in enumerate(text):
        if letter == "." and parts[-1] and index < last:
            parts.append("")
        elif letter in _KEPT or (letter > "\x7f" and letter.isalpha()):
            parts[-1] += letter
        else:
            parts[-1] += "".join(f"%{byte:02X}" for byte in letter.encode(errors="surrogateescape"))
    return prefix + b"." + ".".join(parts).encode()


def topic_of(subject: bytes, prefix: bytes) -> bytes:
    """Return the topic of a subject that begins with the prefix; anything may stand behind that."""
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), subject[len(prefix) + 1 :])
