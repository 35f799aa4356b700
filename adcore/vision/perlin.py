"""Perlin noise (Perlin 1985, fade curve of 2002), and the blobs that it gives above a threshold."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from adcore.core.arrays import BoolArray

FloatArray = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

THRESHOLD = 0.5  # of noise that reaches from -1 to 1
MAX_EXPONENT = 5  # up to 2**5 cells a side


def perlin_mask(shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """Blobs over an image of shape (H, W), True inside; now and then none at all.

    MemSeg: 2^a x 2^b lattice cells, a and b from 0..5, turned by up to 90 degrees either way. The noise is computed at
    the turned positions; turning a finished picture of it, as MemSeg's code does, leaves the corners without defects.
    """
    rows, columns = (2 ** int(a) for a in rng.integers(0, MAX_EXPONENT + 1, 2))
    return noise(shape, (rows, columns), rng.uniform(-90, 90), rng) > THRESHOLD


def noise(shape: tuple[int, int], cells: tuple[int, int], degrees: float, rng: np.random.Generator) -> FloatArray:
    """Perlin noise (H, W), float32 in [-1, 1]: `cells` lattice cells a side at a random phase, turned by `degrees`."""
    height, width = shape
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = np.array([[cosine, sine], [-sine, cosine]]) * np.array([[cells[0] / height], [cells[1] / width]])
    span = np.abs(steps) @ shape  # of the lattice that the turned image lies on
    corner = rng.random(2) - np.minimum(steps, 0) @ shape  # where its first pixel lies: nothing is at a negative place
    angles = rng.random([int(length) + 3 for length in span]) * (2 * math.pi)
    out = np.empty(shape, np.float32)
    _evaluate(np.sin(angles), np.cos(angles), corner, steps, out)
    return out


def _evaluate_at(down: Doubles, right: Doubles, corner: Doubles, steps: Doubles, out: FloatArray) -> None:
    """Fill `out` from the gradients (down, right) at the lattice's nodes; one pixel down moves by `steps[:, 0]`."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            v = corner[0] + steps[0, 0] * row + steps[0, 1] * column
            u = corner[1] + steps[1, 0] * row + steps[1, 1] * column
            i, j = int(v), int(u)
            v, u = v - i, u - j
            y, x = v * v * v * (v * (v * 6 - 15) + 10), u * u * u * (u * (u * 6 - 15) + 10)
            top_left = down[i, j] * v + right[i, j] * u
            top_right = down[i, j + 1] * v + right[i, j + 1] * (u - 1)
            bottom_left = down[i + 1, j] * (v - 1) + right[i + 1, j] * u
            bottom_right = down[i + 1, j + 1] * (v - 1) + right[i + 1, j + 1] * (u - 1)
            top = top_left + x * (top_right - top_left)
            bottom = bottom_left + x * (bottom_right - bottom_left)
            out[row, column] = math.sqrt(2) * (top + y * (bottom - top))


_evaluate = numba.njit(cache=True, nogil=True)(_evaluate_at)
