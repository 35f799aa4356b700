"""Anomaly maps and image scores of an image set by a fitted method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from adcore.core.contracts import FeatureSource, ImageSource, Method, Progress
from adcore.vision.maps import image_scores, postprocess

Floats = npt.NDArray[np.float32]


@torch.inference_mode()
def score(method: Method, source: FeatureSource | ImageSource, progress: Progress) -> tuple[Floats, Floats]:
    """Raw maps (N, h, w) at the method's own grid and image scores (N,), both float32, in the order of `source`.

    Raises ValueError where the method gives a value that is not finite.
    """
    maps: list[Floats] = []
    scores: list[Floats] = []
    done = 0
    for batch in source:
        raw, given = method.score(batch)
        smooth = postprocess(raw, method.context.image_size, method.smoothing)
        scored = image_scores(smooth, given)
        if not (torch.isfinite(raw).all() and torch.isfinite(scored).all()):
            raise ValueError(f"method {method.name} gave a score that is not finite")
        maps.append(raw.float().cpu().numpy())
        scores.append(scored.float().cpu().numpy())
        done += len(raw)
        progress(done / len(source))
    return np.concatenate(maps), np.concatenate(scores)
