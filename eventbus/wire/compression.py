"""Compression: makes payloads smaller, and restores them on arrival, never to more bytes than allowed. Pure.

A compressed payload is exactly one stream: a zlib stream (RFC 1950), a zstd frame (RFC 8878) or an LZ4 frame. Its first
bytes tell which, so receivers need no setting. Libraries are imported when they are first needed.
"""

import sys
import zlib
from collections.abc import Callable
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
# log2 of how far back a zstd frame may refer: at least what every decoder should allow, at most what every platform does.
_ZSTD_WINDOW_LOGS = 23, 30


class Compressor:
    """Compresses payloads above a threshold, if that makes them smaller. Any thread may use it.

    Args:
        compression: the format.
        threshold: bytes; a payload of no more than these is not compressed.

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
        if len(payload) <= self.threshold:
            return payload
        compressed = self._compress(payload)
        return compressed if len(compressed) < len(payload) else payload


def is_compressed(payload: bytes) -> bool:
    """Whether this frame, known to be a payload, begins as a compressed one does. JSON does not."""
    return payload.startswith(_STARTS)


def inflate(payload: bytes, limit: int) -> bytes:
    """Return the content of a compressed payload. Only one layer is inflated.

    Whatever the payload holds or claims to hold, this takes little more memory than `limit`, and twice the size of the
    content for a moment at the end.

    Args:
        payload: one for which `is_compressed` is true.
        limit: the most bytes that may be returned.

    Raises:
        PayloadTooLarge: it holds, or claims to hold, more than the limit.
        PayloadDamaged: it is not one whole stream.
        CompressionMissing: the library for its format is not installed.
    """
    if payload.startswith(_ZSTD):
        return _inflate_zstd(payload, limit)
    if payload.startswith(_LZ4):
        frame = _lz4()
        return _inflate(frame.LZ4FrameDecompressor(), payload, limit, RuntimeError)
    return _inflate(zlib.decompressobj(), payload, limit, zlib.error)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _inflate(stream: _Decompressor, payload: bytes, limit: int, error: type[Exception]) -> bytes:
    found: list[bytes] = []
    left, rest = limit + 1, payload  # one byte more tells a stream that is too large from one that just fits
    try:
        # In steps, because the libraries hold what they return twice for a moment.
        while not stream.eof:
            part = stream.decompress(rest, min(left, _STEP_BYTES if found else _FIRST_STEP_BYTES))
            if not part and not stream.eof:
                raise PayloadDamaged("it is cut off")
            found.append(part)
            left -= len(part)
            if not left:
                raise PayloadTooLarge(limit)
            rest = getattr(stream, "unconsumed_tail", b"")  # zlib's; the others keep it
    except error as reason:
        raise PayloadDamaged(str(reason)) from None
    if stream.unused_data:
        raise PayloadDamaged(f"{len(stream.unused_data)} bytes follow")
    return found[0] if len(found) == 1 else b"".join(found)


def _inflate_zstd(payload: bytes, limit: int) -> bytes:
    zstd = _zstd()
    try:
        claimed = zstd.get_frame_info(payload).decompressed_size
    except zstd.ZstdError as reason:
        raise PayloadDamaged(str(reason)) from None
    if claimed is not None and claimed > limit:
        raise PayloadTooLarge(limit)
    least, most = _ZSTD_WINDOW_LOGS
    window = {zstd.DecompressionParameter.window_log_max: min(max(limit.bit_length(), least), most)}
    return _inflate(zstd.ZstdDecompressor(options=window), payload, limit, zstd.ZstdError)


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
