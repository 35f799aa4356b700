"""Scores of normal pixels, never more than a part of them at once where they can be had a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from adcore.metrics._growing import Growing
from adcore.metrics._ranking import Floats

HELD = 2**27  # scores at once, half a GiB of float32


class Normals:
    """Normal scores, gathered while the anomalous ones are, and handed out for counting once those are known.

    again: yields all of them anew, in any parts. When there are more than HELD, they are dropped and asked for again
    when they are counted. None: they can be had only once, so that all are kept.
    """

    def __init__(self, again: Callable[[], Iterator[Floats]] | None) -> None:
        self._again = again
        self._kept = Growing(np.float32)
        self._dropped = False
        self._count = 0

    def extend(self, part: Floats) -> None:
        """Add (n,) scores."""
        self._count += part.size
        if self._again is not None and self._kept.values.size + part.size > HELD:
            self._kept, self._dropped = Growing(np.float32), True
        if not self._dropped:
            self._kept.extend(part)

    def parts(self) -> Iterator[Floats]:
        """All of them in parts of at most HELD (or one image), each ascending and gone with the next. To be asked for
        once. Raises ValueError where the second time gives another number of them."""
        if self._dropped and self._again is not None:
            self._kept, seen = Growing(np.float32), 0
            for part in self._again():
                seen += part.size
                if self._kept.values.size and self._kept.values.size + part.size > HELD:
                    yield self._ascending()
                    self._kept.clear()
                self._kept.extend(part)
            if seen != self._count:
                raise ValueError("maps and masks gave other pixels the second time; give arrays or sequences")
        yield self._ascending()

    def _ascending(self) -> Floats:
        values = self._kept.values
        values.sort()
        return values


def once(*given: Iterable[object]) -> bool:
    """Whether one of these can be gone through only once, as a generator."""
    return any(isinstance(one, Iterator) for one in given)
