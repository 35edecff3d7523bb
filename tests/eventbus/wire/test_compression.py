"""Compression: what is compressed comes back as it was, and what is no good costs nothing but an error."""

import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Compression, CompressionMissing, InvalidSettings, InvalidTopic
from eventbus.errors import PayloadDamaged, PayloadTooLarge
from eventbus.wire.compression import MAX_COMPRESSED_BYTES, MAX_INFLATED_BYTES, Compressor, inflate, inflated, is_compressed
from eventbus.wire.frames import topic_frame
from tests.support import run_threads

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MiB = 1 << 20
WORDS = [b'"value":', b'"quality":"good"', b"}, {", b"0", b"1.5", b"27", b"-3"]
ALL = [Compression.ZLIB, Compression.ZSTD, Compression.LZ4]
EXTRAS = [Compression.ZSTD, Compression.LZ4]


def unsized_zstd(content: bytes) -> bytes:
    """A frame without its size, as streaming compressors write it."""
    writer = zstd.ZstdCompressor(level=1)
    return writer.compress(content) + writer.flush()


# What others may write, of every kind that is recognised.
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib-1": lambda content: zlib.compress(content, 1),
    "zlib-3": lambda content: zlib.compress(content, 3),
    "zlib-6": lambda content: zlib.compress(content, 6),
    "zlib-9": lambda content: zlib.compress(content, 9),
    "zstd": lambda content: zstd.compress(content, 3),
    "zstd-unsized": unsized_zstd,
    "lz4": lz4.frame.compress,
    "lz4-unsized": lambda content: lz4.frame.compress(content, store_size=False, block_linked=False, content_checksum=True),
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


@cache
def text(size: int) -> bytes:
    """Something that can be made smaller, but not to nothing."""
    return b"".join(random.Random(size).choices(WORDS, k=size))[:size]


# Sending


@pytest.mark.parametrize("compression", ALL)
def test_what_is_over_the_threshold_is_compressed(compression: Compression) -> None:
    """A payload of as many bytes as the threshold stays as it is, one of more does not; receivers get it back."""
    compressor = Compressor(compression, 1_000)
    assert compressor.shrink(text(1_000)) == text(1_000)
    sent = compressor.shrink(text(1_001))
    assert is_compressed(sent)
    assert len(sent) < 1_001
    assert inflate(sent, 1_001) == text(1_001)


@pytest.mark.parametrize("compression", ALL)
def test_what_would_not_get_smaller_stays(compression: Compression) -> None:
    """A payload that compression makes larger, or no smaller, is sent as it is."""
    noise = random.Random(1).randbytes(5_000)
    assert Compressor(compression, 1).shrink(noise) is noise


def test_without_compression_everything_stays() -> None:
    """`none` leaves payloads of any size alone."""
    payload = bytes(MiB)
    assert Compressor(Compression.NONE, 1).shrink(payload) is payload


@pytest.mark.parametrize("compression", ALL)
def test_what_is_sent_begins_as_no_topic_can(compression: Compression) -> None:
    """The first bytes are not UTF-8, or a control character: subscribers never take such a payload for a topic."""
    start = Compressor(compression, 1).shrink(bytes(2_000))[:4]
    for length in range(2, 5):
        with pytest.raises(InvalidTopic):
            topic_frame(start[:length].decode(errors="surrogateescape"))


@pytest.mark.parametrize("compression", ALL)
def test_threads_share_a_compressor(compression: Compression) -> None:
    """Threads that compress with the same object at once each get what they gave."""
    compressor = Compressor(compression, 1)

    def use(number: int) -> None:
        for size in range(100 * number, 100 * number + 100):
            assert inflate(compressor.shrink(text(size + 500)), size + 500) == text(size + 500)

    run_threads(8, use)


# Arriving


@pytest.mark.patience
@every_writer
@given(content=st.binary(max_size=2_000) | st.integers(0, 300).map(text))
def test_what_was_compressed_comes_back(write: Callable[[bytes], bytes], content: bytes) -> None:
    """Whatever was compressed, by any writer, is recognised and comes back within a limit of exactly its size."""
    assert is_compressed(write(content))
    assert inflate(write(content), len(content)) == content
    if content:
        with pytest.raises(PayloadTooLarge):
            inflate(write(content), len(content) - 1)


@every_writer
@pytest.mark.parametrize(
    "content", [bytes(2 * MiB), text(2 * MiB), random.Random(2).randbytes(2 * MiB)], ids=["zeros", "text", "noise"]
)
def test_large_payloads_come_back(write: Callable[[bytes], bytes], content: bytes) -> None:
    """At every size round the steps in which payloads are inflated, all comes back, and the limit holds to the byte."""
    for size in (65_535, 65_536, 65_537, 65_536 + MiB, 65_537 + MiB):
        payload = write(content[:size])
        assert inflate(payload, size) == content[:size]
        with pytest.raises(PayloadTooLarge):
            inflate(payload, size - 1)


@every_writer
def test_what_is_cut_off_is_damaged(write: Callable[[bytes], bytes]) -> None:
    """Without its last bytes, however few, or with none but the first, a payload is refused."""
    payload = write(text(300))
    for end in range(4, len(payload)):
        with pytest.raises(PayloadDamaged):
            inflate(payload[:end], 300)


@every_writer
@pytest.mark.parametrize("what", ["bytes", "stream"])
def test_what_goes_on_is_damaged(write: Callable[[bytes], bytes], what: str) -> None:
    """A payload is one stream: other bytes behind it, or a second stream, are refused."""
    with pytest.raises(PayloadDamaged, match=r"\d+ bytes follow"):
        inflate(write(text(300)) + (write(text(300)) if what == "stream" else b"}"), 1_000)


@every_writer
def test_nothing_compressed_is_nothing(write: Callable[[bytes], bytes]) -> None:
    """An empty stream holds nothing, whatever the limit."""
    assert inflate(write(b""), 0) == b""


@every_writer
def test_only_the_outer_stream_is_inflated(write: Callable[[bytes], bytes]) -> None:
    """A payload that was compressed twice comes back compressed once."""
    inner = zlib.compress(text(300))
    assert inflate(write(inner), 1_000) == inner


@every_writer
@given(source=st.randoms(use_true_random=False), content=st.integers(0, 3_000).map(text))
def test_any_damage_is_an_error_or_small(write: Callable[[bytes], bytes], source: random.Random, content: bytes) -> None:
    """With any bytes changed, a payload gives one of the two errors, or no more than the limit."""
    payload = bytearray(write(content))
    for _ in range(source.randint(1, 4)):
        payload[source.randrange(4, len(payload))] = source.randrange(256)
    with suppress(PayloadDamaged, PayloadTooLarge):
        assert len(inflate(bytes(payload), 2_000)) <= 2_000


@given(start=st.sampled_from([WRITERS[name](b"")[:4] for name in WRITERS]), rest=st.binary(max_size=300))
def test_noise_is_an_error_or_small(start: bytes, rest: bytes) -> None:
    """Any bytes that begin as a compressed payload raise the same."""
    with suppress(PayloadDamaged, PayloadTooLarge):
        assert len(inflate(start + rest, 2_000)) <= 2_000


@pytest.mark.parametrize("payload", [b"", b"x", b"(", b"\x04", b"{}", b"[{}]", b" {}", b"xy", b"x\x00", b"\x1f\x8b\x08"])
def test_what_is_not_compressed(payload: bytes) -> None:
    """JSON is not recognised, nor are fragments and other formats."""
    assert not is_compressed(payload)


# Bombs


def zlib_bomb() -> bytes:
    writer = zlib.compressobj(9)
    start = writer.compress(bytes(MiB)) + writer.flush(zlib.Z_FULL_FLUSH)
    again = writer.compress(bytes(MiB)) + writer.flush(zlib.Z_FULL_FLUSH)
    return start + 1_022 * again + writer.compress(bytes(MiB)) + writer.flush()


def lz4_bomb() -> bytes:
    with lz4.frame.LZ4FrameCompressor() as writer:
        return b"".join([writer.begin(), *(writer.compress(bytes(4 * MiB)) for _ in range(64)), writer.flush()])


def zstd_bomb() -> bytes:
    writer = zstd.ZstdCompressor()
    return b"".join(writer.compress(bytes(16 * MiB)) for _ in range(64)) + writer.flush()


def zstd_frame(descriptor: int, window: bytes, size: bytes) -> bytes:
    """A frame whose header says so, and that holds nothing."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + window + size + b"\x01\0\0"


HUGE = (1 << 60).to_bytes(8, "little")
BOMBS: dict[str, Callable[[], bytes]] = {
    "zlib-1-GiB": zlib_bomb,
    "lz4-256-MiB": lz4_bomb,
    "zstd-1-GiB": zstd_bomb,
    "zstd-says-256-MiB": lambda: zstd.compress(bytes(256 * MiB)),
    "zstd-says-2^60": lambda: zstd_frame(0b1110_0000, b"", HUGE),
    "zstd-says-2^60-with-window": lambda: zstd_frame(0b1100_0000, b"\x88", HUGE),
    "zstd-looks-back-2-GiB": lambda: zstd_frame(0, bytes([(31 - 10) << 3]), b""),
}


def peak_memory() -> int:
    """The most bytes that this process has had in memory at once."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1_024


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory the process has taken")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_an_error_and_no_memory(name: str) -> None:
    """Whatever a payload holds or claims to hold, inflating it takes no more memory than the limit and a few steps."""
    bomb = BOMBS[name]()
    assert len(bomb) < 1.2 * MiB
    limit = 4 * MiB
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_memory()
    tracemalloc.start()
    try:
        with pytest.raises(PayloadDamaged if name == "zstd-looks-back-2-GiB" else PayloadTooLarge):
            inflate(bomb, limit)
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert traced < limit + 6 * MiB
    assert peak_memory() - before < limit + 16 * MiB  # also what C libraries take, and what tracing itself does


def deflated(block: str, count: int) -> bytes:
    """A zlib stream of one stored byte, and as many blocks, given by their bits; eight make whole bytes."""
    bits = 8 * block
    eight = bytes(int(bits[index : index + 8][::-1], 2) for index in range(0, len(bits), 8))
    return b"x\x01" + b"\x00\x01\x00\xfe\xffa" + eight * (count // 8)


NOTHING: dict[str, Callable[[], bytes]] = {
    "zlib": lambda: deflated("010" + "0000000", 1_600_000),  # blocks of fixed codes that end at once
    "zstd": lambda: b"\x28\xb5\x2f\xfd\0\x50" + bytes(3) * 600_000,
}


@pytest.mark.parametrize("name", NOTHING)
def test_blocks_that_hold_nothing_cost_nothing(name: str) -> None:
    """A stream of a million empty blocks is refused after the first of them."""
    payload = NOTHING[name]()
    assert is_compressed(payload)
    with pytest.raises(PayloadDamaged, match=r"^\d+ bytes of it hold \d+$") as caught:
        inflate(payload, 16 * MiB)
    assert int(str(caught.value).split()[0]) < MiB < len(payload)


@pytest.mark.parametrize("compression", ALL)
def test_compressed_payloads_have_a_limit(compression: Compression) -> None:
    """What would be larger is sent as it is; a receiver refuses it before it inflates any of it."""
    content = random.Random(1).randbytes(MAX_COMPRESSED_BYTES).hex().encode()
    assert Compressor(compression, 1).shrink(content) is content
    larger = Compressor(compression, 1).shrink(text(2_000)) + bytes(MAX_COMPRESSED_BYTES)
    with pytest.raises(PayloadDamaged, match="no publisher sends more than 2097152 compressed"):
        inflated(larger, 16 * MiB)


@pytest.mark.parametrize("compression", ALL)
def test_what_is_large_is_sent_as_it_is(compression: Compression) -> None:
    """Eight megabytes are compressed; one byte more is not."""
    most, more = bytes(MAX_INFLATED_BYTES), bytes(MAX_INFLATED_BYTES + 1)
    compressor = Compressor(compression, 1)
    assert inflate(compressor.shrink(most), 16 * MiB) == most
    assert compressor.shrink(more) is more


@every_writer
def test_no_more_is_inflated_than_publishers_compress(write: Callable[[bytes], bytes]) -> None:
    """Eight megabytes are inflated, whatever the limit for an event is; of a byte more nothing is taken."""
    assert len(inflate(write(bytes(MAX_INFLATED_BYTES)), 1 << 40)) == MAX_INFLATED_BYTES
    with pytest.raises(PayloadTooLarge, match="more than 8388608 bytes"):
        inflate(write(bytes(MAX_INFLATED_BYTES + 1)), 1 << 40)


# Missing libraries


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[Compression], None]:
    """Takes a library away, as if it were not installed."""

    def take(compression: Compression) -> None:
        gone: dict[Compression, ModuleType] = {Compression.ZSTD: zstd, Compression.LZ4: lz4.frame}
        monkeypatch.setitem(sys.modules, gone[compression].__name__, None)

    return take


@pytest.mark.parametrize("compression", EXTRAS)
def test_a_missing_library_is_an_error_with_a_remedy(
    compression: Compression, without: Callable[[Compression], None]
) -> None:
    """Compressing or inflating without the library is an error of settings that names the extra."""
    payload = Compressor(compression, 1).shrink(text(2_000))
    without(compression)
    for use in (lambda: Compressor(compression, 1), lambda: inflate(payload, 2_000)):
        with pytest.raises(CompressionMissing, match=rf"pip install 'eventbus\[{compression}\]'") as caught:
            use()
        assert caught.value.compression == compression
        assert isinstance(caught.value, InvalidSettings)


@pytest.mark.parametrize("compression", EXTRAS)
def test_other_compressions_need_no_library(compression: Compression, without: Callable[[Compression], None]) -> None:
    """Without one of the libraries, the others work."""
    without(compression)
    for other in set(ALL) - {compression}:
        assert inflate(Compressor(other, 1).shrink(text(2_000)), 2_000) == text(2_000)
