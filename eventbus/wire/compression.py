"""Compression: makes payloads smaller, and restores them on arrival, never to more bytes than allowed. Pure.

A compressed payload is exactly one stream: a zlib stream (RFC 1950), a zstd frame (RFC 8878) or an LZ4 frame. Its first
bytes tell which, so receivers need no setting. Libraries are imported when they are first needed.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Protocol

from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.policies import Compression

# A zlib stream begins with one of these, depending on its level. No topic begins as the streams that this package writes.
_ZLIB = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
_ZSTD = b"\x28\xb5\x2f\xfd"
_LZ4 = b"\x04\x22\x4d\x18"
_STARTS = (*_ZLIB, _ZSTD, _LZ4)
FIRST_BYTES = bytes({start[0] for start in _STARTS})

# Low levels: on a bus, what higher ones save is not worth their time (see docs/compression.md).
_ZLIB_LEVEL, _ZSTD_LEVEL = 1, 1

_FIRST_STEP_BYTES, _STEP_BYTES = 65_536, 1_048_576  # that are inflated at once
_INPUT_STEP_BYTES = 65_536  # of which they are inflated: zlib copies what it leaves over
# The bytes by which a stream may be ahead of its content, because a decompressor yields a block when it has taken all of it.
# A stream that takes more is made of blocks that hold nothing, perhaps a million of them. A block of LZ4 may have 4 MiB.
_ZLIB_SLACK, _ZSTD_SLACK, _LZ4_SLACK = 131_072, 524_288, sys.maxsize
# log2 of how far back a zstd frame may refer: at least what every decoder should allow, at most what every platform does.
_ZSTD_WINDOW_LOGS = 23, 30


MAX_COMPRESSED_BYTES = 2_097_152
"""No publisher sends a larger compressed payload, and no receiver inflates one: this bounds the time that inflating takes,
also of a stream that was made to be slow."""

MAX_INFLATED_BYTES = 8_388_608
"""No publisher compresses a larger payload, and no receiver inflates more, whatever the limit for an event is. It is the
default of that limit."""


class Compressor:
    """Compresses payloads above a threshold, if that makes them smaller and no larger than may be. Any thread may use it.

    Args:
        compression: the format.
        threshold: bytes; a payload of no more than these is not compressed, nor is one of more than `MAX_INFLATED_BYTES`.

    Attributes:
        threshold: as given; without compression, larger than any payload.

    Raises:
        CompressionMissing: the library for this format is not installed.
    """

    def __init__(self, compression: Compression, threshold: int) -> None:
        self.threshold = sys.maxsize if compression is Compression.NONE else threshold
        self._compress = _compress_with(Compression(compression))

    def shrink(self, payload: bytes) -> bytes:
        """Return the payload to be sent: compressed, or as it is."""
        if len(payload) <= self.threshold or len(payload) > MAX_INFLATED_BYTES:
            return payload
        compressed = self._compress(payload)
        return compressed if len(compressed) < min(len(payload), MAX_COMPRESSED_BYTES + 1) else payload


def is_compressed(payload: bytes) -> bool:
    """Whether this frame, known to be a payload, begins as a compressed one does. JSON does not."""
    return payload.startswith(_STARTS)


def inflate(payload: bytes, limit: int) -> bytes:
    """Return the content of a compressed payload. Only one layer is inflated.

    Whatever the payload holds or claims to hold, this takes little more memory than `limit`, and twice the size of the
    content for a moment at the end.

    Args:
        payload: one for which `is_compressed` is true.
        limit: the most bytes that may be returned; more than `MAX_INFLATED_BYTES` never are.

    Raises:
        PayloadTooLarge: it holds, or claims to hold, more than that.
        PayloadDamaged: it is not one whole stream, takes more bytes than its content has, or is larger than publishers send.
        CompressionMissing: the library for its format is not installed.
    """
    return joined(list(inflated(payload, limit)))


def inflated(payload: bytes, limit: int) -> Iterator[bytes]:
    """Yield the content of a compressed payload in pieces of at most a megabyte, of which none is empty.

    The arguments and errors are those of `inflate`; what is wrong with the stream may be found after its last piece.
    """
    if len(payload) > MAX_COMPRESSED_BYTES:
        raise PayloadDamaged(
            f"it has {len(payload)} bytes, and no publisher sends more than {MAX_COMPRESSED_BYTES} compressed"
        )
    limit = min(limit, MAX_INFLATED_BYTES)
    if payload.startswith(_ZSTD):
        return _inflated_zstd(payload, limit)
    if payload.startswith(_LZ4):
        return _inflated(_lz4().LZ4FrameDecompressor(), payload, limit, RuntimeError, _LZ4_SLACK)
    return _inflated(zlib.decompressobj(), payload, limit, zlib.error, _ZLIB_SLACK)


def joined(pieces: list[bytes]) -> bytes:
    """Return the pieces as one; no copy of a single one."""
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


def _inflated(stream: _Decompressor, payload: bytes, limit: int, error: type[Exception], slack: int) -> Iterator[bytes]:
    content = memoryview(payload)
    taken = size = 0
    rest: bytes | memoryview = b""  # zlib returns what it leaves over; the others keep it, and tell when they need more
    while not stream.eof:
        if not rest and getattr(stream, "needs_input", True):
            rest = content[taken : taken + _INPUT_STEP_BYTES]
            taken += len(rest)
        given = len(rest)
        try:
            # In steps, because the libraries hold what they return twice for a moment. One byte more than the limit tells a
            # stream that is too large from one that just fits.
            piece = stream.decompress(rest, min(limit + 1 - size, _STEP_BYTES if size else _FIRST_STEP_BYTES))
        except error as reason:
            raise PayloadDamaged(str(reason)) from None
        rest = getattr(stream, "unconsumed_tail", b"")
        if piece:
            size += len(piece)
            if size > limit:
                raise PayloadTooLarge(limit)
            yield piece
        elif not stream.eof and not given and taken == len(content):
            raise PayloadDamaged("it is cut off")
        if taken - len(rest) > size + slack:
            raise PayloadDamaged(f"{taken - len(rest)} bytes of it hold {size}")
    following = len(stream.unused_data or b"") + len(content) - taken
    if following:
        raise PayloadDamaged(f"{following} bytes follow")


def _inflated_zstd(payload: bytes, limit: int) -> Iterator[bytes]:
    zstd = _zstd()
    try:
        claimed = zstd.get_frame_info(payload).decompressed_size
    except zstd.ZstdError as reason:
        raise PayloadDamaged(str(reason)) from None
    if claimed is not None and claimed > limit:
        raise PayloadTooLarge(limit)
    least, most = _ZSTD_WINDOW_LOGS
    window = {zstd.DecompressionParameter.window_log_max: min(max(limit.bit_length(), least), most)}
    return _inflated(zstd.ZstdDecompressor(options=window), payload, limit, zstd.ZstdError, _ZSTD_SLACK)


def _compress_with(compression: Compression) -> Callable[[bytes], bytes]:
    match compression:
        case Compression.NONE:
            return bytes
        case Compression.ZLIB:
            return lambda payload: zlib.compress(payload, _ZLIB_LEVEL)
        case Compression.ZSTD:
            # One for all payloads: making it takes longer than a small payload. It has a lock, and each frame is one call.
            made = _zstd().ZstdCompressor(level=_ZSTD_LEVEL)
            whole = made.FLUSH_FRAME
            return lambda payload: made.compress(payload, whole)
        case Compression.LZ4:  # pragma: no branch # the last
            compress: Callable[[bytes], bytes] = _lz4().compress
            return compress


# `import … as` looks for the module itself only.


def _zstd() -> ModuleType:
    try:
        if sys.version_info >= (3, 14):  # pragma: no cover
            import compression.zstd as zstd
        else:
            import backports.zstd as zstd
    except ImportError:
        raise CompressionMissing(Compression.ZSTD) from None
    return zstd


def _lz4() -> ModuleType:
    try:
        import lz4.frame as frame
    except ImportError:
        raise CompressionMissing(Compression.LZ4) from None
    module: ModuleType = frame
    return module
