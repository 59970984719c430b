"""Our side of `python -m bench encode`: one encoder of a bundle, in its own process."""

from pathlib import Path

from bench.encode.peers import Begin, Config, serve
from udfs.bundles.bundle import open_bundle
from udfs.encoder.cache import CachedEncoder
from udfs.encoder.encoder import open_encoder
from udfs.encoder.options import EncoderOptions


def load_ours(config: Config) -> Begin:
    """Load the bundle's encoder. Each run starts with an empty cache, if any; the encoder chooses the batch sizes."""
    options = EncoderOptions(variant=config["variant"], provider=config["provider"], threads=config["threads"])
    encoder = open_encoder(open_bundle(Path(config["bundles"])), options)
    cache = config["cache"]
    return lambda _: CachedEncoder(encoder, cache).encode if cache else encoder.encode


if __name__ == "__main__":
    serve(load_ours)
