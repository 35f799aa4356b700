"""Latency of one image, from decoded pixels to smoothed map and score: batch 1, backbone included, no feature bank."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from adcore.core.contracts import Method
from adcore.core.hardware import hardware, is_busy, waited
from adcore.features.extractor import Extractor, Pixels
from adcore.kernels.intervals import median_difference
from adcore.vision.maps import image_scores, postprocess

WARM_UP, LEAST, TIMED, SECONDS = 10, 20, 100, 2.0
SCOPES = ("extract", "score", "post", "total")

Timed = tuple[Method, Extractor | Pixels]
Times = dict[str, list[float]]  # scope -> milliseconds of each run


@torch.inference_mode()
def measure(method: Method, extractor: Extractor | Pixels, without: Timed | None = None) -> dict[str, Any]:
    """Milliseconds: median and 95th percentile of up to 100 runs (at most 2 s of them, at least 20), and by scope.

    extract: backbone and enhancers; score: the method; post: upsampling, smoothing, image score; total: all three.
    waited: the share of the time that a thread waited for a core, None where the system does not tell; busy: whether
    that is too much for the numbers to be those of the method. hardware: what they are of.
    `without`: the same method without an enhancer, run in turn with it (A, B, A, B), and the difference of medians with
    its 95 % interval. Why so: docs/papers/hosts.md#latency.
    """
    subjects = [(method, extractor), *([without] if without else [])]
    queued, started = waited(), time.perf_counter()
    times = _interleaved(subjects)
    since = waited()
    share = None if queued is None or since is None else (since - queued) / (time.perf_counter() - started)
    found: dict[str, Any] = {"hardware": hardware(method.context.device), "waited": share, "busy": is_busy(share)}
    found |= {name: _summary(times[0]["total"])[name] for name in ("median_ms", "p95_ms")}
    found["scopes"] = {scope: _summary(times[0][scope]) for scope in SCOPES}
    if without:
        found["without"] = {
            "scopes": {scope: _summary(times[1][scope]) for scope in SCOPES},
            "difference_ms": {scope: list(median_difference(times[0][scope], times[1][scope])) for scope in SCOPES},
        }
    return found


def _interleaved(subjects: Sequence[Timed]) -> list[Times]:
    size = subjects[0][0].context.image_size
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for subject in subjects:
        for _ in range(WARM_UP):
            _once(subject, image)
    times: list[Times] = [{scope: [] for scope in SCOPES} for _ in subjects]
    spent = 0.0
    while (runs := len(times[0]["total"])) < LEAST or (runs < TIMED and spent < SECONDS):
        for subject, kept in zip(subjects, times, strict=True):
            for scope, milliseconds in zip(SCOPES, _once(subject, image), strict=True):
                kept[scope].append(milliseconds)
        spent += times[0]["total"][-1] / 1e3
    return times


def _once(subject: Timed, image: torch.Tensor) -> tuple[float, float, float, float]:
    """Milliseconds of each scope of one image."""
    method, extractor = subject
    device = method.context.device
    started = _now(device)
    seen = extractor(image)
    extracted = _now(device)
    raw, given = method.score(seen)
    scored = _now(device)
    image_scores(postprocess(raw, method.context.image_size, method.smoothing), given).cpu()
    done = _now(device)
    spans = (extracted - started, scored - extracted, done - scored, done - started)
    return tuple(1e3 * span for span in spans)  # type: ignore[return-value]


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _summary(times: Sequence[float]) -> dict[str, float]:
    return {
        "median_ms": float(np.median(times)),
        "mean_ms": float(np.mean(times)),
        "p95_ms": float(np.quantile(times, 0.95)),
    }
