"""Images turned about their centre."""

from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample


def turned(image: torch.Tensor, degrees: Sequence[float]) -> torch.Tensor:
    """An image (1, 3, H, W), uint8, turned about its centre against the clock by each angle: (len(degrees), 3, H, W).

    Bilinear; what comes from beyond the border is reflected there.
    """
    height, width = image.shape[2:]
    angles = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    cosines, sines = (value[:, None, None].to(image.device) for value in (angles.cos(), angles.sin()))
    y, x = torch.meshgrid(
        *(torch.arange(side, device=image.device) + 0.5 - side / 2 for side in (height, width)), indexing="ij"
    )
    # Where a pixel of the turned image comes from, in pixels from the centre; then in the units of grid_sample.
    source = torch.stack([(cosines * x - sines * y) * 2 / width, (sines * x + cosines * y) * 2 / height], 3)
    found = grid_sample(
        image.float().expand(len(source), -1, -1, -1), source, padding_mode="reflection", align_corners=False
    )
    return found.round_().clamp_(0, 255).to(torch.uint8)
