"""Principal components of features that come in blocks, for methods that score by what a subspace does not explain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

BLOCK = 2**22  # float64 values at once (32 MB)
NOISE = 1e-12  # share of the variance that is rounding, not a component


class Subspace(NamedTuple):
    """mean (d,) and components (r, d), orthonormal rows, the largest variance first, both float32; their variances
    (r,), float64, divided by the number of samples. r = min(samples - 1, d); one without variance may be 0."""

    mean: torch.Tensor
    components: torch.Tensor
    variances: torch.Tensor

    def kept(self, share: float) -> int:
        """The fewest components that explain `share` of the variance; 0 where there is none."""
        explained = self.variances.cumsum(0)
        if not len(explained) or explained[-1] <= 0:
            return 0
        return int((explained < (share - NOISE) * explained[-1]).sum()) + 1

    def coordinates(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Of rows (m, d) along the first `count` components: (m, count)."""
        return (rows - self.mean) @ self.components[:count].T

    def residual(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """What the first `count` components leave of rows (m, d): (m, d)."""
        centred = rows - self.mean
        return centred - (centred @ self.components[:count].T) @ self.components[:count]


def subspace_bytes(samples: int, dims: int) -> int:
    """Of the three tensors."""
    rank = min(samples - 1, dims)
    return 4 * dims + (4 * dims + 8) * rank


def fit(blocks: Iterable[torch.Tensor], samples: int, dims: int) -> Subspace:
    """All components of `samples` rows, which come once, as blocks (n, dims), float32, on one device.

    In float64. Where there are more rows than dimensions, of their covariance, so that no two blocks are held together;
    else of their inner products, for which the rows themselves are held once, in float32.
    """
    rank = min(samples - 1, dims)
    variances, mean, components = (_of_covariance if samples > dims else _of_products)(blocks, samples, dims)
    return Subspace(mean.float(), components[:rank], variances[:rank].clamp(min=0))


def _of_covariance(
    blocks: Iterable[torch.Tensor], samples: int, dims: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Descending variances (dims,), mean (dims,), and components (dims, dims), float32."""
    shift: torch.Tensor | None = None  # near the mean, so that squares do not lose what is between them
    for block in blocks:
        if shift is None:
            shift = block.double().mean(0)
            total, scatter = torch.zeros_like(shift), shift.new_zeros(dims, dims)
        for rows in torch.split(block, max(1, BLOCK // dims)):
            apart = rows.double() - shift
            total += apart.sum(0)
            scatter.addmm_(apart.T, apart)
    assert shift is not None
    scatter.sub_(torch.outer(total, total) / samples).div_(samples)
    variances, vectors = torch.linalg.eigh(scatter)
    return variances.flip(0), shift + total / samples, vectors.T.flip(0).float().contiguous()


def _of_products(
    blocks: Iterable[torch.Tensor], samples: int, dims: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Descending variances (samples,), mean (dims,), and components (samples, dims), float32."""
    matrix: torch.Tensor | None = None
    filled = 0
    for block in blocks:
        if matrix is None:
            matrix = block.new_empty(samples, dims)
        matrix[filled : filled + len(block)] = block
        filled += len(block)
    assert matrix is not None and filled == samples
    mean = matrix.mean(0, dtype=torch.float64)
    columns = max(1, BLOCK // samples)
    parts = [slice(begin, begin + columns) for begin in range(0, dims, columns)]
    products = mean.new_zeros(samples, samples)
    for part in parts:
        apart = matrix[:, part] - mean[part]
        products.addmm_(apart, apart.T)
    squares, vectors = (found.flip(-1) for found in torch.linalg.eigh(products))
    # A direction that is rounding alone would neither have length 1 nor stand upright on the others.
    lengths = torch.where(squares > NOISE * squares[0], squares, torch.inf).sqrt()
    weights = (vectors / lengths).T
    for part in parts:  # in place: each part's rows are read before their components are written
        matrix[:, part] = (weights @ (matrix[:, part] - mean[part])).float()
    return torch.where(lengths.isinf(), 0, squares) / samples, mean, matrix
