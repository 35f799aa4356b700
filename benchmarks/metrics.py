"""Pixel metrics side by side with peers, and what the AUPRO variants in circulation do to the number.

    python -m benchmarks.metrics [--images 83 --size 256]

Prints two tables of one run on one generated set. Speed: seconds and peak memory above the inputs, one thread, each
contender in a process of its own and warm; `x` is the contender over adcore's row, which computes all four metrics; the
rest is the difference in value. A peer that cannot be imported is "not installed": run with an interpreter that has it.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from adcore.metrics import pixel_metrics
from adcore.metrics._pro import EIGHT_CONNECTED, area_under_pro, region_weights
from adcore.metrics._ranking import rank

LIMIT = 0.3
KEYS = ("p_auroc", "p_ap", "p_f1max", "aupro")
Values = dict[str, float]


def generated(images: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, H, W) float32 maps in [0, 1] (peers apply a sigmoid outside it) and masks, 3 of 4 not empty."""
    rng = np.random.default_rng(0)
    maps = np.stack([ndimage.gaussian_filter(rng.standard_normal((size, size)), 4) for _ in range(images)])
    masks = np.zeros(maps.shape, dtype=bool)
    rows, columns = np.mgrid[:size, :size]
    for mask in masks[: images * 3 // 4]:
        for _ in range(rng.integers(1, 4)):
            row, column = rng.integers(0, size, 2)
            mask |= (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(2, size / 12) ** 2
        if rng.random() < 0.3:
            start, length = rng.integers(0, size // 2), rng.integers(size // 16, size // 4)
            mask[range(start, start + length), range(start, start + length)] = True
    maps = maps / maps.std() + 1.5 * masks * rng.random((images, 1, 1))
    maps -= maps.min()
    return (maps / maps.max()).astype(np.float32), masks


# Contenders: each takes (maps, masks) and returns the metrics it computes.


def adcore(maps: np.ndarray, masks: np.ndarray) -> Values:
    return pixel_metrics(maps, masks, LIMIT)


def scikit_learn(maps: np.ndarray, masks: np.ndarray) -> Values:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    labels, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "p_auroc": roc_auc_score(labels, scores),
        "p_ap": average_precision_score(labels, scores),
        "p_f1max": f1.max(),
    }


def torchmetrics(maps: np.ndarray, masks: np.ndarray) -> Values:
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    scores, labels = torch.from_numpy(maps).flatten(), torch.from_numpy(masks).flatten().int()
    return {"p_auroc": float(binary_auroc(scores, labels)), "p_ap": float(binary_average_precision(scores, labels))}


def anomalib(maps: np.ndarray, masks: np.ndarray) -> Values:
    import torch
    from anomalib.metrics.aupr import _AUPR
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from anomalib.metrics.f1_score import _F1Max

    scores, labels = torch.from_numpy(maps), torch.from_numpy(masks).int()
    values = {}
    for key, metric in zip(KEYS, (_AUROC(), _AUPR(), _F1Max(), _AUPRO(fpr_limit=LIMIT)), strict=True):
        flat = key != "aupro"
        metric.update(scores.flatten() if flat else scores, labels.flatten() if flat else labels)
        values[key] = float(metric.compute())
    return values


def anomalib_aupro(maps: np.ndarray, masks: np.ndarray) -> Values:
    import torch
    from anomalib.metrics.aupro import _AUPRO

    metric = _AUPRO(fpr_limit=LIMIT)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return {"aupro": float(metric.compute())}


def loop_of_200_thresholds(maps: np.ndarray, masks: np.ndarray) -> Values:
    return {"aupro": area(*binned_pro(maps, masks))}


CONTENDERS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], Values]]] = {
    "adcore": ("numpy", adcore),
    "scikit-learn": ("sklearn", scikit_learn),
    "torchmetrics": ("torchmetrics", torchmetrics),
    "anomalib, all four": ("anomalib", anomalib),
    "anomalib, AUPRO only": ("anomalib", anomalib_aupro),
    "200-threshold loop": ("numpy", loop_of_200_thresholds),
}


# AUPRO as it should not be computed.


def labelled(masks: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """(N, H, W) region numbers from 1 over all images, 0 for normal pixels."""
    return ndimage.label(masks, structure=np.stack([np.zeros((3, 3)), structure, np.zeros((3, 3))]))[0]


def binned_pro(maps: np.ndarray, masks: np.ndarray, thresholds: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """FPR and PRO at equally spaced thresholds between the smallest and the largest score, FPR ascending."""
    labels = labelled(masks, EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel())
    points = []
    for threshold in np.linspace(maps.max(), maps.min(), thresholds):
        found = np.bincount(labels[maps > threshold], minlength=areas.size) / areas
        points.append((found[0], found[1:].mean()))
    fpr, pro = np.transpose(points)
    return fpr, pro


def area(fpr: np.ndarray, pro: np.ndarray) -> float:
    """Area to the limit, PRO interpolated there."""
    below = fpr < LIMIT
    fpr, pro = np.append(fpr[below], LIMIT), np.append(pro[below], np.interp(LIMIT, fpr, pro))
    return float(np.trapezoid(pro, fpr) / LIMIT)


def rescaled_area(fpr: np.ndarray, pro: np.ndarray, stretch_pro: bool) -> float:
    """The curve cut at the last point below the limit, FPR divided by that point's instead of the limit."""
    fpr, pro = fpr[fpr < LIMIT], pro[fpr < LIMIT]
    if stretch_pro:
        pro = (pro - pro.min()) / np.ptp(pro)
    return float(np.trapezoid(pro, fpr / fpr.max())) if fpr.max() > 0 else float("nan")


def four_connected(maps: np.ndarray, masks: np.ndarray) -> float:
    """Exact AUPRO over 4-connected regions, the default of most labelling functions."""
    regions = labelled(masks, ndimage.generate_binary_structure(2, 1))[masks] - 1
    order = np.argsort(maps[masks])
    ranking = rank(np.sort(maps[~masks]), maps[masks][order])
    return area_under_pro(ranking, region_weights(regions, np.bincount(regions))[order], LIMIT)


def variants(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AUPRO by every variant."""
    curve = binned_pro(maps, masks)
    per_image = [pixel_metrics([m], [k], LIMIT)["aupro"] for m, k in zip(maps, masks, strict=True) if k.any()]
    return {
        "exact": pixel_metrics(maps, masks, LIMIT)["aupro"],
        "200 equally spaced thresholds": area(*curve),
        "... 50 of them": area(*binned_pro(maps, masks, 50)),
        "200, FPR rescaled by its own maximum": rescaled_area(*curve, stretch_pro=False),
        "... and PRO stretched to [0, 1]": rescaled_area(*curve, stretch_pro=True),
        "per image, then averaged": float(np.mean(per_image)),
        "4-connected regions": four_connected(maps, masks),
    }


# Measuring.


def peak_bytes() -> tuple[int, int]:
    """Resident bytes of this process, at their peak and now (Linux)."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak, now = (int(fields[key].split()[0]) * 1024 for key in ("VmHWM", "VmRSS"))
    return peak, now


def measure(name: str, maps: np.ndarray, masks: np.ndarray) -> tuple[Values, float, float] | None:
    """Values, seconds and peak bytes above the start; None if the library is missing. Best of three runs."""
    library, function = CONTENDERS[name]
    try:
        importlib.import_module(library)
    except ImportError:
        return None
    function(maps[:2, :32, :32].copy(), np.eye(32, dtype=bool)[None].repeat(2, axis=0))  # imports and caches
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the warm-up
    start = peak_bytes()[1]
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        values = function(maps, masks)
        seconds.append(time.perf_counter() - begin)
    return values, min(seconds), max(peak_bytes()[0] - start, 1)  # small sets fit in what the warm-up freed


def in_own_process(name: str, maps: np.ndarray, masks: np.ndarray) -> tuple[Values, float, float] | None:
    """`measure` in a fork, which shares the inputs and keeps imports and peaks apart."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(measure(name, maps, masks)))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def print_speed(maps: np.ndarray, masks: np.ndarray) -> None:
    print(f"{'':24}{'s':>8}{'x':>7}{'peak MB':>9}{'x':>7}" + "".join(f"{key:>11}" for key in KEYS))
    ours = None
    for name in CONTENDERS:
        result = in_own_process(name, maps, masks)
        if result is None:
            print(f"{name:24}not installed")
            continue
        values, seconds, peak = result
        ours = ours or result
        shown = values if result is ours else {key: value - ours[0][key] for key, value in values.items()}
        form = "11.6f" if result is ours else "+11.1e"
        cells = "".join(f"{shown[key]:{form}}" if key in shown else f"{'':11}" for key in KEYS)
        print(
            f"{name:24}{seconds:8.2f}{seconds / ours[1]:7.1f}{peak / 1e6:9.1f}{peak / ours[2]:7.1f}{cells}", flush=True
        )


def print_variants(maps: np.ndarray, masks: np.ndarray) -> None:
    warped = np.exp(12 * maps.astype(np.float64))  # the same ranking, another scale
    plain, other = variants(maps, masks), variants(warped, masks)
    print(f"\n{'AUPRO at FPR <= ' + str(LIMIT):40}{'maps':>8}{'exp(12 maps)':>14}")
    for name, value in plain.items():
        print(f"{name:40}{value:8.3f}{other[name]:14.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=83)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch, which only the forks import
    maps, masks = generated(arguments.images, arguments.size)
    print(f"{arguments.images} maps of {arguments.size} x {arguments.size}, {masks.mean():.1%} of the pixels anomalous")
    print_speed(maps, masks)
    print_variants(maps, masks)


if __name__ == "__main__":
    main()
