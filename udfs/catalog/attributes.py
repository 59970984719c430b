"""Attributes of catalog items that session features read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Floats, Ints


@dataclass(frozen=True)
class Catalog:
    """What features read of a bundle's items, a row an item.

    vectors are on the ranking's grid (udfs.ranking.to_grid): whole numbers, whose sums and products are exact.
    """

    row_of: Mapping[str, int]  #: item id to row
    category: Ints  #: int64 [items], a number for each category, -1 without one
    brand: Ints  #: int64 [items], a number for each brand, -1 without one
    vectors: npt.NDArray[np.float32]  #: float32 [items, dimensions]

    @cached_property
    def squares(self) -> Floats:
        """float64 [items]: the squared length of each vector, a whole number."""
        return np.asarray(np.einsum("id,id->i", self.vectors, self.vectors, dtype=np.float64))
