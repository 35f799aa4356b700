"""Twins in training: how many the check finds, and how many it finds where there are none.

    python -m benchmarks.leaks [--data FOLDER ...] [--backbone NAME]

Surfaces are cut out of photographs that come with scikit-image (bricks and gravel) and out of smooth noise, and each
is photographed six times: in a quarter to one and a quarter of the light, which slopes, moved by up to two pixels and
parts of one, with the noise of a sensor and JPEG. Dealt out at random, most test images have a twin in training
(`recall`: how many of those are found); dealt out by surface, none has (`false alarms`). With --data, categories in
MVTec's layout are looked at as they are (each image is taken for a piece of its own, so a true twin counts as a false
alarm: look at it) and with a fifth of the test images replaced by another exposure of a training image.

Beside adcore's check stand pHash (imagehash, if it is installed; 22 of 256 bits) and the nearest neighbour in a
backbone's pooled features, standardised, whose threshold is the one that makes 2 % false alarms by the truth: better
than any that could be set without knowing it.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from adcore.core.plan import BackboneSpec
from adcore.kernels.likeness import SIDE, likeness

LIGHT = (0.25, 0.4, 0.6, 0.8, 1.0, 1.25)
EDGE, MARGIN, SURFACES = 80, 4, 40  # pixels of a surface, and around it; surfaces of noise
Picture = npt.NDArray[np.uint8]  # (H, W), grey
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Dealt:
    """Pictures, the piece that each shows, and which are for test."""

    pictures: list[Picture]
    pieces: npt.NDArray[np.int64]
    test: npt.NDArray[np.bool_]

    @property
    def twinned(self) -> npt.NDArray[np.bool_]:
        """Of the test images, those whose piece is in training."""
        return np.isin(self.pieces[self.test], self.pieces[~self.test])


def photograph(scene: Floats, light: float, rng: np.random.Generator, reach: float, margin: int = 0) -> Picture:
    """A scene (H, W) under sloping light, moved, with noise, as JPEG; `margin` pixels are cut off."""
    moved = ndimage.shift(scene, rng.uniform(-reach, reach, 2), order=3, mode="nearest")
    inside = moved[margin : len(moved) - margin, margin : moved.shape[1] - margin]
    down, across = rng.uniform(-0.25, 0.25, 2)
    rows, columns = (np.linspace(-1, 1, length) for length in inside.shape)
    seen = inside * light * (1 + down * rows[:, None] + across * columns)
    seen += rng.normal(0, 1, seen.shape) * np.sqrt(2 + 0.05 * np.clip(seen, 0, None))
    stream = io.BytesIO()
    Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
    with Image.open(stream) as image:
        return np.asarray(image)


def surfaces(name: str) -> list[Floats]:
    """Surfaces that share no pixel: squares of a photograph of scikit-image, or `smooth` noise with grain."""
    whole = EDGE + 2 * MARGIN
    if name == "smooth":
        return [_smooth(np.random.default_rng(number), whole) for number in range(SURFACES)]
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    with Image.open(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.png") as image:
        picture = np.asarray(image.convert("L"), float)
    places = range(0, 512 - whole + 1, whole)
    return [picture[top : top + whole, left : left + whole] for top in places for left in places]


def _smooth(rng: np.random.Generator, side: int) -> Floats:
    coarse = Image.fromarray(rng.integers(60, 200, (12, 12)).astype(np.uint8))
    shape = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
    grain: Floats = 0.3 * shape + 80 + ndimage.gaussian_filter(rng.normal(0, 12, (side, side)), 0.7)
    return grain


def exposures(name: str, at_random: bool) -> Dealt:
    """Six photographs of every surface, a third of them (or of the surfaces) for test."""
    rng = np.random.default_rng(0)
    scenes = surfaces(name)
    pictures = [photograph(scene, light, rng, 2, MARGIN) for scene in scenes for light in LIGHT]
    pieces = np.repeat(np.arange(len(scenes)), len(LIGHT))
    order = rng.permutation(len(pictures)) if at_random else rng.permutation(len(scenes))[pieces]
    return Dealt(pictures, pieces, order < (order.max() + 1) // 3)


def folder(category: Path, planted: float) -> Dealt:
    """A category in MVTec's layout, every image a piece of its own; `planted`: the share of test images to replace."""
    paths = [*sorted(category.glob("train/good/*")), *sorted(category.glob("test/*/*"))]
    pictures = [np.asarray(Image.open(path).convert("L")) for path in paths]
    pieces, test = np.arange(len(paths)), np.array([path.parts[-3] == "test" for path in paths])
    rng = np.random.default_rng(0)
    training, tested = np.flatnonzero(~test), np.flatnonzero(test)
    for place in rng.permutation(tested)[: int(planted * len(tested))]:
        source = int(rng.choice(training))
        scene = pictures[source].astype(float)
        pictures[place] = photograph(scene, rng.uniform(0.4, 1.15), rng, 0.012 * len(scene))
        pieces[place] = source
    return Dealt(pictures, pieces, test)


# Contenders: each takes a Dealt and says of every test image whether it has a twin in training.


def adcore(dealt: Dealt) -> npt.NDArray[np.bool_]:
    small = [Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for picture in dealt.pictures]
    kin = likeness(np.stack([np.asarray(picture) for picture in small]), dealt.test)
    tested = [kin[place] for place in np.flatnonzero(dealt.test)]
    return np.array([(~dealt.test[one.alike]).any() for one in tested])


def perceptual_hash(dealt: Dealt) -> npt.NDArray[np.bool_]:
    import imagehash

    bits = np.stack([imagehash.phash(Image.fromarray(p), hash_size=16).hash.ravel() for p in dealt.pictures])
    apart = (bits[dealt.test][:, None] != bits[~dealt.test]).sum(axis=2)
    near: npt.NDArray[np.bool_] = apart.min(axis=1) <= 22
    return near


def features(dealt: Dealt, backbone: str) -> npt.NDArray[np.float64]:
    """Of every test image the largest cosine with a training image; standardised pictures, standardised features."""
    import torch

    from adcore.features.backbones import build

    model = build(BackboneSpec(name=backbone), (1, 2, 3), 224)
    pooled = []
    for picture in dealt.pictures:
        grey = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR), np.float32)
        grey = (grey - grey.mean()) / (grey.std() + 1)
        with torch.inference_mode():
            maps = model(torch.from_numpy(grey).expand(1, 3, -1, -1))
        pooled.append(torch.cat([torch.nn.functional.adaptive_avg_pool2d(m, 4).flatten() for m in maps]).numpy())
    table = np.stack(pooled)
    table = (table - table.mean(axis=0)) / (table.std(axis=0) + 1e-6)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    cosine: npt.NDArray[np.float64] = (table[dealt.test] @ table[~dealt.test].T).max(axis=1)
    return cosine


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--data", type=Path, nargs="*", default=[], help="categories in MVTec's layout")
    given.add_argument("--backbone", default="", help="compare with the pooled features of this backbone")
    options = given.parse_args()
    contenders: dict[str, Callable[[Dealt], npt.NDArray[np.bool_]]] = {"adcore": adcore}
    if importlib.util.find_spec("imagehash"):
        contenders["pHash"] = perceptual_hash
    print(f"{'set':24s} {'check':10s} {'recall':>14s} {'false alarms':>14s} {'s / image':>10s}")
    for name in ("brick", "gravel", "smooth"):
        _line(name, exposures(name, at_random=True), exposures(name, at_random=False), contenders, options.backbone)
    for category in options.data:
        planted, honest = folder(category, 0.2), folder(category, 0)
        _line(f"{category.parent.name}/{category.name}"[-24:], planted, honest, contenders, options.backbone)


def _line(
    name: str,
    leaky: Dealt,
    honest: Dealt,
    contenders: dict[str, Callable[[Dealt], npt.NDArray[np.bool_]]],
    backbone: str,
) -> None:
    for contender, check in contenders.items():
        started = time.process_time()
        found = check(leaky)[leaky.twinned]
        seconds = (time.process_time() - started) / len(leaky.pictures)
        _print(name, contender, found, check(honest)[~honest.twinned], seconds)
    if backbone:
        started = time.process_time()
        cosine = features(leaky, backbone)
        seconds = (time.process_time() - started) / len(leaky.pictures)
        others = features(honest, backbone)[~honest.twinned]
        limit = np.quantile(others, 0.98)
        _print(name, "features", cosine[leaky.twinned] > limit, others > limit, seconds)


def _print(
    name: str, contender: str, found: Sequence[bool] | np.ndarray, alarms: Sequence[bool] | np.ndarray, seconds: float
) -> None:
    recall, false = (f"{np.sum(flags)} of {len(flags)}" for flags in (found, alarms))
    print(f"{name:24s} {contender:10s} {recall:>14s} {false:>14s} {seconds:10.4f}", flush=True)


if __name__ == "__main__":
    main()
