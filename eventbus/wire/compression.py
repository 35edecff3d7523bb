"""Compression: payloads smaller on their way, and as they were on arrival, never larger than allowed. Pure.

A compressed payload is exactly one stream: zlib's (RFC 1950), one frame of zstd (RFC 8878) or of LZ4. Its first bytes tell
which, so receivers need no setting. Libraries are imported when they are first needed.
"""

import sys
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

from eventbus.errors import CompressionMissing, PayloadDamaged, PayloadTooLarge
from eventbus.policies import Compression

# How a zlib stream begins, by how hard its writer tried. What this package writes begins as no topic can.
_ZLIB = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
_ZSTD = b"\x28\xb5\x2f\xfd"
_LZ4 = b"\x04\x22\x4d\x18"
_STARTS = (*_ZLIB, _ZSTD, _LZ4)
FIRST_BYTES = bytes({start[0] for start in _STARTS})

# Low ones: for a bus, what the higher ones save is not worth their time (see docs/compression.md).
_ZLIB_LEVEL, _ZSTD_LEVEL = 1, 1

_FIRST_STEP, _STEP = 65_536, 1_048_576  # bytes that are inflated at once
# log2 of how far back a zstd frame may refer: at least what every decoder should allow, at most what every platform does.
_ZSTD_WINDOWS = 23, 30


class Compressor:
    """Compresses payloads above a threshold, where that makes them smaller. Any thread may use it.

    Args:
        compression: with what.
        threshold: bytes; a payload of no more than these stays as it is.

    Attributes:
        threshold: as given; without compression no payload is larger.

    Raises:
        CompressionMissing: what does it is not installed.
    """

    def __init__(self, compression: Compression, threshold: int) -> None:
        self.threshold = sys.maxsize if compression is Compression.NONE else threshold
        self._compress = _compress_with(Compression(compression))

    def shrink(self, payload: bytes) -> bytes:
        """Return what is to be sent: the payload as it is, or compressed."""
        if len(payload) <= self.threshold:
            return payload
        compressed = self._compress(payload)
        return compressed if len(compressed) < len(payload) else payload


def is_compressed(payload: bytes) -> bool:
    """Whether this frame, known to be a payload, begins as a compressed one does. JSON does not."""
    return payload.startswith(_STARTS)


def inflate(payload: bytes, limit: int) -> bytes:
    """Return what was compressed. What is compressed again inside stays so.

    Whatever the payload holds or claims to hold, this takes not much more memory than `limit` until it is all there, and
    then twice its size for a moment.

    Args:
        payload: one of which `is_compressed` is true.
        limit: the most bytes to return.

    Raises:
        PayloadTooLarge: it holds, or claims to hold, more.
        PayloadDamaged: it is no whole stream, or something follows.
        CompressionMissing: what inflates it is not installed.
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
        # In steps, for what the libraries return is in their memory twice for a moment.
        while not stream.eof:
            part = stream.decompress(rest, min(left, _STEP if found else _FIRST_STEP))
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
    least, most = _ZSTD_WINDOWS
    window = {zstd.DecompressionParameter.window_log_max: min(max(limit.bit_length(), least), most)}
    return _inflate(zstd.ZstdDecompressor(options=window), payload, limit, zstd.ZstdError)


def _compress_with(compression: Compression) -> Callable[[bytes], bytes]:
    match compression:
        case Compression.NONE:
            return bytes
        case Compression.ZLIB:
            return lambda payload: zlib.compress(payload, _ZLIB_LEVEL)
        case Compression.ZSTD:
            # The same one for all: a new one takes longer than a small payload. It has a lock, and each frame is one call.
            made = _zstd().ZstdCompressor(level=_ZSTD_LEVEL)
            whole = made.FLUSH_FRAME
            return lambda payload: made.compress(payload, whole)
        case Compression.LZ4:
            compress: Callable[[bytes], bytes] = _lz4().compress
            return compress


# With `import … as`, for that looks only for the module itself.


def _zstd() -> ModuleType:
    try:
        if sys.version_info >= (3, 14):
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
