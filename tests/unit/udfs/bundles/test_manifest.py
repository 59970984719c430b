from pathlib import Path

import msgspec

from udfs.bundles.bundle import Bundle
from udfs.bundles.manifest import FORMAT, EncoderInfo, FileEntry, Manifest, Parity, Variant


def manifest(prefix: str, query_prefix: str | None) -> Manifest:
    variant = Variant("fp32.onnx", "fp32", ("cpu",), "cpu", Parity(1, *[1.0] * 7))
    info = EncoderInfo(9, "mean", True, prefix, 4, {"fp32": variant}, query_prefix)
    return Manifest(FORMAT, "", "none", {}, info, 0, 0, {"fp32.onnx": FileEntry("ab" * 32, 1)})


def test_manifest_without_a_query_prefix_is_as_before_there_was_one():
    before = manifest("a: ", None)
    assert "query_prefix" not in msgspec.to_builtins(before)["encoder"]
    assert msgspec.json.decode(msgspec.json.encode(before), type=Manifest) == before
    searches = manifest("a: ", "q: ")
    assert msgspec.json.decode(msgspec.json.encode(searches), type=Manifest) == searches
    assert searches.content_id() != before.content_id()


def test_vectors_of_titles_with_another_prefix_are_of_another_space():
    plain, passage, searches = (
        Bundle(Path(), manifest(*prefixes)).space for prefixes in (("", None), ("passage: ", None), ("", "query: "))
    )
    assert plain == searches == ("ab" * 8)
    assert passage != plain
    assert len(passage) == 16
