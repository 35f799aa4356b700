"""What methods for few normal images share: the maps that they read, turned copies of the images, and the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from adcore.core.contracts import TOKENS, Context, FeatureSource, Level, Levels, Maps, block_of

if TYPE_CHECKING:
    import torch

TOP = 0.01  # share of the values that an image's score is the mean of
BATCH = 16  # copies at once


def _are_maps(levels: Levels) -> Levels:
    if wrong := [level for level in levels if level not in (*range(5), TOKENS) and block_of(level) is None]:
        raise ValueError(f"'{wrong[0]}' is no map of a backbone; name some, as 2, block3 or tokens")
    return levels


MapLevels = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(_are_maps)]  # an option; no vectors


def side_by_side(maps: Maps) -> torch.Tensor:
    """(B, C, h, w): all channels on the grid of the first map."""
    import torch

    from adcore.vision.maps import resized

    grid = (maps[0].shape[2], maps[0].shape[3])
    return torch.cat([resized(one, grid) for one in maps], 1)


def rows(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, C, h, w) -> patches (B * h * w, C)."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


def turned_maps(
    name: str, features: FeatureSource, context: Context, degrees: Callable[[int], Sequence[float]], none: int = 0
) -> Iterator[Maps]:
    """Maps of each training image turned by `degrees(index)`, image by image, in blocks of at most BATCH copies.

    Raises ValueError for the method `name` where only features are given; `rotations: {none}` of it turns nothing.
    """
    from adcore.vision.turning import turned

    images = features.images
    if images is None or context.extractor is None:
        raise ValueError(
            f"{name}: rotations are of the training images, but only features are given; write rotations: {none}"
        )
    extractor = context.extractor()
    for index in range(len(features)):
        image, angles = images.at([index]), degrees(index)
        for begin in range(0, len(angles), BATCH):
            yield extractor(turned(image, angles[begin : begin + BATCH]))


def top_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean (B,) of the highest hundredth of each row of (B, n), of one value at least."""
    return values.topk(max(1, int(TOP * values.shape[1])), dim=1).values.mean(1)
