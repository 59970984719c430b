"""The interface of a loaded model."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


class Runtime(Protocol):
    """A loaded model; several threads may run it."""

    def run(self, ids: Ids, mask: Ids) -> npt.NDArray[np.float32]:
        """int64 [texts, tokens] each to hidden states [texts, tokens, hidden] or vectors [texts, hidden], float32.

        What it gives is overwritten by the thread's next call.
        """
