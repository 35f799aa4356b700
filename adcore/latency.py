"""Latency of one image, from decoded pixels to smoothed map and score: batch 1, backbone included, no feature bank."""

from __future__ import annotations

import time

import numpy as np
import torch

from adcore.features import Extractor
from adcore.maps import image_scores, postprocess
from adcore.methods.base import Method

WARM_UP, TIMED, SECONDS = 10, 200, 6.0


@torch.inference_mode()
def measure(method: Method, extractor: Extractor) -> dict[str, float]:
    """Milliseconds: median and 95th percentile of up to 200 runs (at most 6 s of them, at least 20)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, *method.context.image_size), dtype=torch.uint8, generator=generator)

    def once() -> None:
        raw, given = method.score(extractor(image))
        image_scores(postprocess(raw, method.context.image_size, method.smoothing), given).cpu()

    for _ in range(WARM_UP):
        once()
    times: list[float] = []
    while len(times) < 20 or (len(times) < TIMED and sum(times) < SECONDS):
        started = time.perf_counter()
        once()
        times.append(time.perf_counter() - started)
    return {"median_ms": 1e3 * float(np.median(times)), "p95_ms": 1e3 * float(np.quantile(times, 0.95))}
