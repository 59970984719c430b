"""The attributes of items that session features read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from udfs.core.arrays import Floats, Ints


@dataclass(frozen=True)
class Catalog:
    """The columns of items that features read, one row per item.

    vectors are on the ranking's grid (udfs.core.exact.to_grid): whole numbers, whose sums and products are exact.
    """

    row_of: Mapping[str, int]  #: item id to row
    category: Ints  #: int64 [items], the number of the item's category, -1 for none
    brand: Ints  #: int64 [items], the number of the item's brand, -1 for none
    vectors: npt.NDArray[np.float32]  #: float32 [items, dimensions]

    @cached_property
    def squares(self) -> Floats:
        """float64 [items]: the squared length of each vector, a whole number."""
        return np.asarray(np.einsum("id,id->i", self.vectors, self.vectors, dtype=np.float64))
