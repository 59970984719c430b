"""Lets kafka-python read every compression of Kafka with Arrow's codecs, which are here anyway."""

import kafka.codec
import kafka.record.default_records
import pyarrow as pa

_CONTINUES = 0x80


def _lz4(frame: bytes) -> bytes:
    return _whole_stream(frame, "lz4")


def _zstd(frames: bytes) -> bytes:
    return _whole_stream(frames, "zstd")


def _whole_stream(data: bytes, codec: str) -> bytes:
    with pa.CompressedInputStream(pa.py_buffer(data), codec) as stream:
        whole: bytes = stream.read()
    return whole


class _Snappy:
    """What kafka-python calls of the package python-snappy."""

    @staticmethod
    def decompress(block: bytes) -> bytes:
        size = shift = 0  # a block begins with its size, seven bits per byte, the lowest first
        for byte in block:
            size |= (byte & ~_CONTINUES) << shift
            shift += 7
            if not byte & _CONTINUES:
                break
        whole: bytes = pa.decompress(block, size, codec="snappy", asbytes=True)
        return whole


def install() -> None:
    """Gives kafka-python the codecs for which it finds no package of its own."""
    if not kafka.codec.has_lz4():
        kafka.codec.has_lz4 = lambda: True
        kafka.record.default_records.lz4_decode = _lz4
    if not kafka.codec.has_zstd():
        kafka.codec.has_zstd = lambda: True
        kafka.record.default_records.zstd_decode = _zstd
    if not kafka.codec.has_snappy():
        kafka.codec.snappy = _Snappy
