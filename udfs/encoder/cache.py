"""A cache of text vectors."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from udfs.core.arrays import Bools
from udfs.encoder.encoder import Encoder, Vectors


class CachedEncoder:
    """An encoder that keeps the vectors of the most recently used texts, so that each text is encoded once.

    The cache changes no result, since a text's vector does not depend on the texts encoded with it.
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder = encoder
        self._size = size
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self.stats = encoder.stats

    def encode(self, texts: Sequence[str], queries: Bools | None = None) -> Vectors:
        """Encode texts: float32 [texts, dimensions]. A text repeated within one call is encoded once in any case.

        queries: bool [texts], which of them are searches; None: none is. The cache's keys have their prefixes.
        """
        texts = self._encoder.given(texts, queries)
        found: dict[str, Vectors] = {}
        for text in dict.fromkeys(texts):
            vector = self._cache.get(text)
            if vector is not None:
                self._cache.move_to_end(text)
                found[text] = vector
        self.stats.cached += len(found)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        found.update(zip(missing, self._encoder.encode_given(missing), strict=True))
        if self._size:
            for text in missing:
                self._cache[text] = found[text].copy()  # a view would keep the whole batch
            while len(self._cache) > self._size:
                self._cache.popitem(last=False)
        if not texts:
            return np.empty((0, self._encoder.info.dimensions), dtype=np.float32)
        return np.stack([found[text] for text in texts])
