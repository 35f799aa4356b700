"""An array that grows in place: joining a list of parts at the end would hold every score twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Growing:
    """A 1-d array that is added to."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> NDArray[Any]:
        """What was added, as a view."""
        return self._buffer[: self._size]

    def clear(self) -> None:
        """Empty it, and keep its room."""
        self._size = 0

    def extend(self, part: NDArray[Any]) -> None:
        """Append a 1-d part, widening the dtype where it is wider."""
        end = self._size + part.size
        wider = np.promote_types(self._buffer.dtype, part.dtype)
        self._buffer = self._buffer.astype(wider, copy=False)
        if end > self._buffer.size:
            self._buffer.resize(end + end // 8, refcheck=False)  # realloc: no second copy of a large buffer
        self._buffer[self._size : end] = part
        self._size = end
