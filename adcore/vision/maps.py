"""From raw anomaly maps to smooth ones at the resolution of the masks, and from those to image scores."""

from functools import lru_cache

import torch
from torch.nn import functional

CHUNK = 32  # images at once; more only costs memory


def postprocess(maps: torch.Tensor, size: tuple[int, int], sigma: float) -> torch.Tensor:
    """Maps (B, h, w) -> (B, H, W): bilinear resize (align_corners=False), then a Gaussian of `sigma` output pixels.

    Equals `torch.nn.functional.interpolate` followed by `scipy.ndimage.gaussian_filter(sigma, truncate=4,
    mode="reflect")`. Both are linear and separable, so that each axis is one small matrix and a map two products.
    """
    height, width = size
    rows = axis_operator(maps.shape[1], height, sigma).to(maps.device)
    columns = axis_operator(maps.shape[2], width, sigma).to(maps.device)
    smooth = torch.empty(len(maps), height, width, device=maps.device)
    for start in range(0, len(maps), CHUNK):
        part = slice(start, start + CHUNK)
        torch.matmul(rows, maps[part].float() @ columns.T, out=smooth[part])
    return smooth


def image_scores(maps: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
    """Image scores (B,): those the method gave, or else the maximum of each smoothed map (B, H, W)."""
    return maps.flatten(1).amax(1) if given is None else given


def pooled_maximum(maps: torch.Tensor, side: int = 16) -> torch.Tensor:
    """Image scores (B,): the greatest mean over side x side pixels of each map (B, H, W), which may be smaller."""
    return functional.avg_pool2d(maps[:, None], min(side, *maps.shape[1:]), stride=1).flatten(1).amax(1)


def resized(features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Maps (B, C, H, W) on `grid`: averaged where that is coarser, bilinear where it is finer."""
    if features.shape[2:] == grid:
        return features
    if features.shape[2] >= grid[0]:
        return functional.adaptive_avg_pool2d(features, grid)
    return functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)


@lru_cache(maxsize=64)
def axis_operator(source: int, target: int, sigma: float) -> torch.Tensor:
    """The matrix (target, source), float32, that resizes and then smooths one axis."""
    return (_smoothing(target, sigma) @ _resizing(source, target)).float()


def _resizing(source: int, target: int) -> torch.Tensor:
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5).clamp(min=0)
    left = position.floor().long().clamp(max=source - 1)
    right = (left + 1).clamp(max=source - 1)
    share = position - left
    matrix = torch.zeros(target, source, dtype=torch.float64)
    row = torch.arange(target)
    matrix.index_put_((row, left), 1 - share, accumulate=True)
    matrix.index_put_((row, right), share, accumulate=True)
    return matrix


def _smoothing(length: int, sigma: float) -> torch.Tensor:
    if sigma <= 0:
        return torch.eye(length, dtype=torch.float64)
    radius = int(4 * sigma + 0.5)
    offset = torch.arange(-radius, radius + 1)
    weight = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    # scipy's "reflect" repeats the edge pixel (d c b a | a b c d | d c b a), so an index folds with period 2 * length.
    folded = (torch.arange(length)[:, None] + offset) % (2 * length)
    column = torch.where(folded < length, folded, 2 * length - 1 - folded)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, column, (weight / weight.sum()).expand(length, -1).contiguous())
