"""How much of their own detail two photographs share, whatever the light, and how much it takes to be of one piece.

Photographs of different pieces are alike in what all pieces have: edges, leads, mortar. Photographs of one piece under
two exposures are alike in the rest as well: grain, scratches, dirt. So each image is compared with those that come
nearest to it: brightness and exposure are taken out by local contrast, each neighbour is registered to a fraction of a
pixel, the median of all of them, which is what the pieces have in common, is subtracted, and the correlation of what
remains is its share of detail. The measure is set by the set itself, image by image: two thirds of the way (in Fisher's
z) from what a piece shares with others to what it shares with itself, photographed again.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

SIDE = 96  # pixels to which images are reduced
REACH = SIDE // 12  # pixels by which one piece may lie elsewhere in its photographs
NEAREST = 12  # neighbours on either side of the split that an image is compared with
PIECE = 8  # from this nearest on, neighbours are taken for other pieces: one may stand in so many photographs
WAY = 0.65  # from what a piece shares with others to what it shares with itself
LEAST = 0.5  # of detail that photographs of one piece share in any case
COARSE, STEPS = 32, 2  # pixels and shifts at which neighbours are looked for
SIGMA = SIDE / 24  # pixels of the neighbourhood that contrast is taken from
FLOOR = 2.0  # grey levels: contrast below it is the sensor's
GAIN, TILT, NOISE = 0.5, 0.2, 1.0  # of the second exposure: light, its slope, grey levels
MOVED = (0.4, -0.7)  # pixels by which it lies elsewhere
FINE = np.arange(-3, 4) / 8  # of a pixel, looked at around the best whole shift
FEWEST = 4  # neighbours to tell what pieces have in common
ROWS = 256  # images taken at once

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]  # (..., SIDE, SIDE)
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

_HANN = np.sqrt(np.hanning(SIDE + 2)[1:-1])
_WINDOW = np.outer(_HANN, _HANN).astype(np.float32)
_DOWN, _ACROSS = np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE)
_TWICE = np.where((_ACROSS > 0) & (_ACROSS < 0.5), 2.0, 1.0)  # a real image's other half of the frequencies
_WHOLE = np.r_[-REACH : REACH + 1]
_SENSOR = np.random.default_rng(0).normal(0, NOISE, (SIDE, SIDE)).astype(np.float32)
_INSIDE = slice(REACH + 1, -REACH - 1)  # what no shift within reach wraps around


@dataclass(frozen=True)
class Kin:
    """The nearest of one image: who they are (K,), the `shares` of detail with them (K,) in -1 to 1, and the `measure`
    from which on both show one piece, infinite where that cannot be told."""

    others: Indices
    shares: Floats
    measure: float

    @property
    def alike(self) -> Indices:
        """Who shows the same piece, most likely first."""
        order = np.argsort(-self.shares, kind="stable")
        chosen: Indices = self.others[order][self.shares[order] >= self.measure]
        return chosen


def likeness(pictures: Grey, test: Flags) -> list[Kin]:
    """Compare grey images (N, SIDE, SIDE), of which `test` are on the test side, with their nearest on either side."""
    parts = range(0, len(pictures), ROWS)
    detail = np.concatenate([_detail(pictures[start : start + ROWS].astype(np.float32)) for start in parts])
    nearest = _nearest(detail, test)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(partial(_kin, pictures, detail), range(len(pictures)), nearest))


def _detail(pictures: Floats) -> Floats:
    """Local contrast of images (N, SIDE, SIDE), of mean 0 and deviation 1; zeros for one without any."""
    near = partial(ndimage.gaussian_filter, sigma=(0, SIGMA, SIGMA))
    high = pictures - near(pictures)
    contrast = high / (np.sqrt(near(high * high)) + FLOOR)
    contrast -= contrast.mean(axis=(1, 2), keepdims=True)
    spread: Floats = contrast.std(axis=(1, 2), keepdims=True)
    even: Floats = contrast / np.maximum(spread, 1e-6) * (spread > 1e-3)
    return even


def _nearest(detail: Floats, test: Flags) -> list[Indices]:
    """The most alike of each image at COARSE pixels and the best of a few shifts: NEAREST of either side at most."""
    count, factor = len(detail), SIDE // COARSE
    coarse = (detail * _WINDOW).reshape(count, COARSE, factor, COARSE, factor).mean(axis=(2, 4))
    coarse /= np.maximum(np.linalg.norm(coarse, axis=(1, 2), keepdims=True), 1e-6)
    sides = [np.flatnonzero(test), np.flatnonzero(~test)]
    found = []
    for start in range(0, count, ROWS):
        for row, alike in enumerate(_alike(coarse[start : start + ROWS], coarse), start):
            alike[row] = -np.inf
            chosen = np.concatenate([side[_largest(alike[side])] for side in sides])
            found.append(chosen[chosen != row])
    return found


def _alike(rows: Floats, columns: Floats) -> Floats:
    shifts = itertools.product(range(-STEPS, STEPS + 1), repeat=2)
    flat = columns.reshape(len(columns), -1).T
    products = (np.roll(rows, shift, (1, 2)).reshape(len(rows), -1) @ flat for shift in shifts)
    best: Floats = functools.reduce(np.maximum, products)
    return best


def _largest(values: Floats) -> Indices:
    return np.argpartition(-values, NEAREST)[:NEAREST] if len(values) > NEAREST else np.arange(len(values))


def _kin(pictures: Grey, detail: Floats, row: int, others: Indices) -> Kin:
    """Compare one image with its nearest and with itself under a second exposure."""
    again = _detail(_photographed_again(pictures[row])[None])
    near = _registered(detail[row], np.concatenate([detail[others], again]))
    common = np.median(near[:-1], axis=0) if len(others) else np.zeros_like(near[0])
    shares = _correlation(detail[row][_INSIDE, _INSIDE] - common, near - common)
    return Kin(others, shares[:-1], _measure(shares[:-1], float(shares[-1])))


def _photographed_again(picture: Grey) -> Floats:
    """The image in half the light, which slopes, a little moved, with the noise of a sensor."""
    moved = ndimage.shift(picture.astype(np.float32), MOVED, order=1, mode="nearest")
    light = GAIN * (1 + TILT * np.linspace(-1, 1, SIDE, dtype=np.float32))
    seen: Floats = np.rint(np.clip(moved * light + _SENSOR, 0, 255))
    return seen


def _registered(image: Floats, others: Floats) -> Floats:
    """The inside of images (K, SIDE, SIDE), each shifted to where it correlates best with the one image."""
    spectra = fft.rfft2(others)
    crossed = fft.rfft2(image * _WINDOW) * fft.rfft2(others * _WINDOW).conj()
    peaks = fft.irfft2(crossed, s=(SIDE, SIDE))[:, _WHOLE][:, :, _WHOLE].reshape(len(others), -1).argmax(axis=1)
    down, across = (_WHOLE[at][:, None] + FINE for at in np.unravel_index(peaks, (len(_WHOLE), len(_WHOLE))))
    rows = np.exp(2j * np.pi * down[..., None] * _DOWN).astype(np.complex64)
    columns = (_TWICE * np.exp(2j * np.pi * across[..., None] * _ACROSS)).astype(np.complex64)
    finer = (rows @ crossed @ columns.transpose(0, 2, 1)).real.reshape(len(others), -1).argmax(axis=1)
    i, j = np.unravel_index(finer, (len(FINE), len(FINE)))
    each = np.arange(len(others))
    # The phases of the best shift, of the half spectrum this time, so without its weights.
    phases = rows[each, i][:, :, None].conj() * np.exp(-2j * np.pi * across[each, j][:, None, None] * _ACROSS)
    shifted: Floats = fft.irfft2(spectra * phases.astype(np.complex64), s=(SIDE, SIDE))[:, _INSIDE, _INSIDE]
    return shifted


def _correlation(one: Floats, others: Floats) -> Floats:
    """Pearson's, of one image with each of others (K, h, w); 0 where either is flat."""
    one, others = one.ravel() - one.mean(), others.reshape(len(others), -1)
    others = others - others.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    shares: Floats = np.where(norms > 1e-3, others @ one / np.maximum(norms, 1e-3), 0)
    return shares


def _measure(shares: Floats, own: float) -> float:
    """WAY between what an image shares with others, beyond its own piece, and with itself photographed again."""
    if len(shares) < FEWEST or own <= LEAST:
        return math.inf
    rank = max(2, min(PIECE, len(shares) // 3))
    other, itself = np.arctanh(np.clip([np.sort(shares)[-rank], own], -0.99, 0.999))
    return max(LEAST, math.tanh(other + WAY * abs(itself - other)))
