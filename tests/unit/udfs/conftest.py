"""A bundle with a trained ranker, and sessions that ask it."""

import shutil

import msgspec
import numpy as np
import pytest
from histories import VECTORS, catalog, encode, trained, walks

from export.history.interactions import Interactions
from export.ranker.positions import prefixes
from export.ranker.train import Shop
from udfs.bundles.bundle import INDEX, Bundle
from udfs.bundles.manifest import FileEntry
from udfs.catalog.index import build_index


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a ranker, without an encoder."""
    folder = tmp_path_factory.mktemp("learned")
    return Shop(walks(900, 1), catalog(7), VECTORS, encode).bundle(walks(900, 1), folder, trained())


@pytest.fixture(scope="session")
def indexed(learned: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same bundle with an index."""
    folder = tmp_path_factory.mktemp("indexed")
    shutil.copytree(learned.path, folder, dirs_exist_ok=True)
    build_index(VECTORS, folder / INDEX)
    manifest = msgspec.structs.replace(learned.manifest, files={INDEX: FileEntry("0" * 64, 1)})
    return Bundle(folder, manifest)


@pytest.fixture(scope="session")
def sofar() -> Interactions:
    """Sessions so far: every position of some sessions but the first."""
    log = walks(60, 2)
    return prefixes(log, np.flatnonzero(np.arange(len(log.item)) > log.offsets[:-1][log.session]))
