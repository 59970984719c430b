import struct

import kafka.codec
import kafka.record.default_records
import pyarrow as pa
import pytest

from flink_jobs.brokers import codecs

TEXT = b"a mug, " * 30_000


def compressed(codec: str, part: bytes = TEXT) -> bytes:
    return bytes(pa.compress(part, codec=codec, asbytes=True))


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch):
    """Kafka's client as it is without any package for compression, and changes to it undone afterwards."""
    for name in ("has_lz4", "has_zstd", "has_snappy"):
        monkeypatch.setattr(kafka.codec, name, lambda: False)
    for name in ("lz4_decode", "zstd_decode"):
        monkeypatch.setattr(kafka.record.default_records, name, None)
    monkeypatch.setattr(kafka.codec, "snappy", None)
    codecs.install()
    monkeypatch.setattr(kafka.codec, "has_snappy", lambda: True)


@pytest.mark.usefixtures("without_packages")
def test_arrow_decompresses_for_kafka():
    records = kafka.record.default_records
    assert records.lz4_decode(compressed("lz4")) == TEXT
    assert records.zstd_decode(compressed("zstd") + compressed("zstd", b"!")) == TEXT + b"!"
    assert kafka.codec.snappy_decode(compressed("snappy")) == TEXT
    assert kafka.codec.snappy_decode(compressed("snappy", b"")) == b""


@pytest.mark.usefixtures("without_packages")
def test_snappy_blocks_of_java_producers():
    blocks = [compressed("snappy", part) for part in (TEXT, b"the rest")]
    stream = b"\x82SNAPPY\0" + struct.pack("!ii", 1, 1) + b"".join(struct.pack("!i", len(b)) + b for b in blocks)
    assert kafka.codec.snappy_decode(stream) == TEXT + b"the rest"
