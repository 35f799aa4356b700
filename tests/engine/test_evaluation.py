"""Scoring, judging and latency against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from adcore import metrics
from adcore.core.contracts import Context, FeatureMethod, MethodOptions
from adcore.core.plan import ImageSpec
from adcore.engine import evaluation, latency, registry
from adcore.engine.evaluation import Judged, Lazy

SIGMA = 1.5


def judged(
    root: Path,
    masks: list[np.ndarray | None],
    image: ImageSpec,
    at: Literal["input", "original"] = "input",
    subsets: list[str] | None = None,
    size: tuple[int, int] = (40, 60),
    seed: int = 0,
) -> Judged:
    """An image a mask, of `size`, all defective but those without one; maps (8, 8) and scores of noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, mask in enumerate(masks):
        name = ""
        if mask is not None:
            name = f"{number}_mask.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / name)
        rows.append(
            {
                "path": f"{number}.png",
                "label": int(mask is not None),
                "defect": "good" if mask is None else "dent",
                "subset": subsets[number] if subsets else "",
                "mask": name,
                "mask_rule": "",
                "mask_sha256": "",
                "orientation": 1,
                "height": size[0],
                "width": size[1],
            }
        )
    maps = rng.random((len(masks), 8, 8)).astype(np.float32)
    scores = rng.random(len(masks)).astype(np.float32)
    return Judged(maps, scores, pd.DataFrame(rows), root, image, SIGMA, at)


def smooth(raw: np.ndarray, size: int) -> np.ndarray:
    """torch's resize, then SciPy's Gaussian, in float64."""
    tensor = torch.from_numpy(raw.astype(np.float64))[None, None]
    resized = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)[0, 0]
    found: np.ndarray = scipy.ndimage.gaussian_filter(resized.numpy(), SIGMA, truncate=4, mode="reflect")
    return found


def some_masks(size: tuple[int, int] = (40, 60)) -> list[np.ndarray | None]:
    rng = np.random.default_rng(1)
    masks: list[np.ndarray | None] = [None, None, None]
    for _ in range(3):
        mask = np.zeros(size, bool)
        top, left = rng.integers(8, 20, 2)
        mask[top : top + 12, left : left + 20] = True
        masks.append(mask)
    return masks


def test_metrics_at_the_resolution_of_the_input(tmp_path: Path) -> None:
    image = ImageSpec(resize=32, crop=24)
    case = judged(tmp_path, some_masks(), image)
    found = evaluation.evaluate(case)
    labels = case.rows["label"].to_numpy()
    assert found["i_auroc"] == pytest.approx(roc_auc_score(labels, case.scores))
    assert found["i_ap"] == pytest.approx(average_precision_score(labels, case.scores))
    truth = []
    for mask in some_masks():
        picture = Image.fromarray(np.zeros((40, 60), np.uint8) if mask is None else mask.astype(np.uint8))
        truth.append(np.asarray(picture.resize((32, 32), Image.Resampling.NEAREST))[4:28, 4:28])
    pixels = np.stack([smooth(raw, 24) for raw in case.maps]).astype(np.float32)
    assert found["p_auroc"] == pytest.approx(roc_auc_score(np.stack(truth).ravel(), pixels.ravel()), abs=1e-5)
    assert found["p_ap"] == pytest.approx(average_precision_score(np.stack(truth).ravel(), pixels.ravel()), abs=1e-4)
    assert 0 <= found["aupro"] <= 1 and 0 <= found["p_f1max"] <= 1


def window_by_brute_force(length: int, resize: int, crop: int) -> list[int]:
    """The pixels of the original whose centre falls inside the crop of the resized image (a tie: at its end only)."""
    offset = (resize - crop) // 2
    return [p for p in range(length) if offset < (p + 0.5) * resize / length <= offset + crop]


@pytest.mark.parametrize(("resize", "crop"), [(32, 24), (32, None), (64, 48), (30, 17)])
def test_metrics_at_the_original_resolution(tmp_path: Path, resize: int, crop: int | None) -> None:
    image = ImageSpec(resize=resize, crop=crop)
    case = judged(tmp_path, some_masks(), image, "original")
    rows, columns = (window_by_brute_force(n, resize, image.size) for n in (40, 60))
    truth, pixels = [], []
    for raw, mask in zip(case.maps, some_masks(), strict=True):
        whole = np.zeros((40, 60), bool) if mask is None else mask
        truth.append(whole[np.ix_(rows, columns)])
        small = torch.from_numpy(smooth(raw, image.size).astype(np.float32))[None, None]
        shape = (len(rows), len(columns))
        pixels.append(torch.nn.functional.interpolate(small, shape, mode="bilinear", align_corners=False)[0, 0].numpy())
    for index in range(len(truth)):
        assert case.mask(index).shape == case.smooth(index).shape == truth[index].shape
        np.testing.assert_array_equal(case.mask(index), truth[index])
        np.testing.assert_allclose(case.smooth(index), pixels[index], atol=1e-5)
    found = evaluation.evaluate(case)
    expected = roc_auc_score(np.stack(truth).ravel(), np.stack(pixels).ravel())
    assert found["p_auroc"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("at", ["input", "original"])
def test_a_map_that_points_at_the_defect_is_right_at_either_resolution(
    tmp_path: Path, at: Literal["input", "original"]
) -> None:
    """Geometry end to end: the defect lies at the lower left of a wide image, and so does the peak of the map."""
    mask = np.zeros((48, 96), bool)
    mask[30:36, 24:36] = True  # rows 5/8 to 6/8, columns 2/8 to 3/8
    case = judged(tmp_path, [mask, None], ImageSpec(resize=64), at, size=(48, 96))
    case.maps[:] = 0
    case.maps[0, 5, 2] = 1
    found = evaluation.evaluate(case)
    assert found["p_auroc"] > 0.99 and found["aupro"] > 0.97
    peak = np.unravel_index(case.smooth(0).argmax(), case.smooth(0).shape)
    assert case.mask(0)[peak]


def test_subsets_are_scored_apart_and_averaged(tmp_path: Path) -> None:
    masks = some_masks() + some_masks()[3:]
    subsets = ["", "", "", "logical", "logical", "structural", "structural", "logical", "logical"]
    case = judged(tmp_path, masks, ImageSpec(resize=32), subsets=subsets)
    found = evaluation.evaluate(case)
    labels = case.rows["label"].to_numpy()
    parts = []
    for name in ("logical", "structural"):
        chosen = np.isin(subsets, ["", name])
        parts.append(roc_auc_score(labels[chosen], case.scores[chosen]))
        assert found[f"i_auroc_{name}"] == pytest.approx(parts[-1])
    assert found["i_auroc"] == pytest.approx(np.mean(parts))
    for metric in ("p_auroc", "p_ap", "aupro", "i_f1max"):
        assert found[metric] == pytest.approx((found[f"{metric}_logical"] + found[f"{metric}_structural"]) / 2)
    assert found["i_auroc"] != pytest.approx(roc_auc_score(labels, case.scores))  # not the pool of both


@pytest.mark.parametrize("at", ["input", "original"])
@pytest.mark.parametrize(("resize", "crop"), [(32, None), (32, 24)])
def test_spro_is_taken_at_the_resolution_of_the_masks(
    tmp_path: Path, at: Literal["input", "original"], resize: int, crop: int | None
) -> None:
    """Wherever the other metrics are taken; subsets apart, and of a cropped image what the network saw."""
    image = ImageSpec(resize=resize, crop=crop)
    subsets = ["", "", "logical", "structural", "logical"]
    case = judged(tmp_path, some_masks()[1:], image, at, subsets)
    config: list[dict[str, float]] = [{"pixel_value": 255, "saturation_threshold": 100, "relative_saturation": False}]
    config += [{"pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True}]
    (tmp_path / "defects_config.json").write_text(json.dumps(config))
    rows, columns = (window_by_brute_force(n, resize, image.size) for n in (40, 60))
    regions: list[np.ndarray] = [np.zeros((0, len(rows), len(columns)), np.uint8)] * 2
    names = ["", ""]
    for number, mask in enumerate(some_masks()[3:], start=2):
        assert mask is not None
        small_mask = Image.fromarray(mask.astype(np.float32)).resize((8, 8), Image.Resampling.BOX)
        case.maps[number] += 0.3 * np.asarray(small_mask)
        corner = np.zeros_like(mask)
        corner[0, 0] = True  # a region that a crop does not see
        names.append(f"truth/{number}")
        (tmp_path / names[-1]).mkdir(parents=True)
        found = []
        for place, (value, region) in enumerate(((255, mask), (254, np.roll(mask, 3, 1)), (254, corner))):
            values = (region * value).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / names[-1] / f"{place}.png")
            found += [values[np.ix_(rows, columns)]] if values[np.ix_(rows, columns)].any() else []
        assert len(found) == (3 if crop is None else 2)
        regions.append(np.stack(found))
    case = replace(case, rows=case.rows.assign(mask=names, mask_rule=["", "", *["channels"] * 3]))
    maps = []
    for raw in case.maps:
        small = torch.from_numpy(smooth(raw, image.size).astype(np.float32))[None, None]
        shape = (len(rows), len(columns))
        maps.append(torch.nn.functional.interpolate(small, shape, mode="bilinear", align_corners=False)[0, 0].numpy())
    result = evaluation.evaluate(case)
    for subset, chosen in (("logical", [0, 1, 2, 4]), ("structural", [0, 1, 3])):
        expected = metrics.spro([maps[i] for i in chosen], [regions[i] for i in chosen], config)
        assert result[f"spro_{subset}"] == pytest.approx(expected, abs=1e-4) and 0 < expected < 1
    assert result["spro"] == pytest.approx((result["spro_logical"] + result["spro_structural"]) / 2)


def test_masks_without_a_config_have_no_spro(tmp_path: Path) -> None:
    assert math.isnan(evaluation.evaluate(judged(tmp_path, some_masks(), ImageSpec(resize=32)))["spro"])


def test_without_masks_pixel_metrics_are_empty(tmp_path: Path) -> None:
    case = judged(tmp_path, some_masks(), ImageSpec(resize=32))
    case = Judged(case.maps, case.scores, case.rows.assign(mask=""), tmp_path, case.image, SIGMA, "input")
    found = evaluation.evaluate(case)
    assert not case.has_masks and all(math.isnan(found[name]) for name in ("p_auroc", "p_ap", "p_f1max", "aupro"))
    assert found["i_auroc"] == pytest.approx(roc_auc_score(case.rows["label"], case.scores))
    assert set(evaluation.curves(case)) == {"image"}


def test_with_good_images_only_all_metrics_are_empty(tmp_path: Path) -> None:
    found = evaluation.evaluate(judged(tmp_path, [None] * 4, ImageSpec(resize=32)))
    assert set(found) == set(registry.metrics())
    assert all(math.isnan(value) for value in found.values())


def test_curves_and_table(tmp_path: Path) -> None:
    case = judged(tmp_path, some_masks(), ImageSpec(resize=32))
    curves = evaluation.curves(case)
    assert set(curves) == {"image", "pixel"}
    labels = case.rows["label"].to_numpy()
    area = np.trapezoid(curves["image"]["tpr"], curves["image"]["fpr"])
    assert area == pytest.approx(roc_auc_score(labels, case.scores))
    table = evaluation.table(case)
    assert list(table.columns) == ["path", "label", "defect", "subset", "score"]
    assert dict(zip(table["path"], table["score"], strict=True)) == {f"{n}.png": s for n, s in enumerate(case.scores)}


def test_a_lazy_sequence_is_a_sequence() -> None:
    made: list[int] = []

    def make(index: int) -> np.ndarray:
        made.append(index)
        return np.array(index * index)

    lazy = Lazy(4, make)
    assert lazy[cast(int, np.int64(2))] == 4 and made == [2]
    assert list(lazy) == [0, 1, 4, 9] and lazy[1:3] == [1, 4] and len(lazy) == 4
    with pytest.raises(IndexError):
        lazy[4]


def test_a_lazy_sequence_keeps_what_there_is_room_for() -> None:
    made: list[int] = []

    def make(index: int) -> np.ndarray:
        made.append(index)
        return np.full(10, index, np.uint8)

    lazy = Lazy(3, make, keep=25)
    assert [int(item[0]) for item in [*lazy, *lazy]] == [0, 1, 2, 0, 1, 2]
    assert made == [0, 1, 2, 2]


def test_a_map_is_smoothed_and_a_mask_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For metrics, also those of subsets, for curves and for the gallery."""
    image = ImageSpec(resize=32)
    case = judged(tmp_path, some_masks(), image, subsets=["", "", "", "cut", "bent", "bent"])
    made: list[str] = []

    def counted(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def make(self: Judged, index: int) -> Any:
            made.append(name)
            return whole(self, index)

        return make

    for name in ("smooth", "mask"):
        monkeypatch.setattr(Judged, name, counted(name, getattr(Judged, name)))
    evaluation.evaluate(case)
    evaluation.curves(case)
    assert len(list(case.smoothed)) == len(list(case.masks)) == 6
    assert sorted(made) == ["mask"] * 6 + ["smooth"] * 6


class Plain(FeatureMethod):
    """The mean over channels as map; image scores where `scored`."""

    name = "plain"
    scored = False
    spoil = False

    def fit(self, features: Any, progress: Any = None) -> None: ...

    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        maps = features[0].mean(1)
        if self.spoil:
            maps[-1, 0, 0] = math.nan
        return maps, features[0].sum((1, 2, 3)) if self.scored else None

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None: ...


class Source:
    """Seven images of noise in batches of three."""

    def __init__(self) -> None:
        self.images = torch.rand(7, 2, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Any:
        return iter([[batch] for batch in self.images.clone().split(3)])

    def at(self, indices: Any) -> list[torch.Tensor]:
        return [self.images[indices]]

    shapes = [(2, 8, 8)]  # noqa: RUF012


@pytest.mark.parametrize("scored", [False, True])
def test_scores_come_in_order_with_the_maximum_of_the_smooth_map_by_default(scored: bool) -> None:
    method = Plain(MethodOptions(), Context(0, image_size=(32, 32)))
    source: Any = Source()
    heard: list[float] = []
    method.scored = scored
    maps, scores = evaluation.score(method, source, heard.append)
    raw = source.images.mean(1).numpy()
    np.testing.assert_allclose(maps, raw, rtol=1e-6)
    assert maps.dtype == scores.dtype == np.float32 and scores.shape == (7,)
    smoothed = [
        scipy.ndimage.gaussian_filter(
            torch.nn.functional.interpolate(torch.from_numpy(m)[None, None], (32, 32), mode="bilinear")[0, 0].numpy(),
            Plain.smoothing,
        ).max()
        for m in raw
    ]
    expected = source.images.sum((1, 2, 3)).numpy() if scored else smoothed
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert heard == pytest.approx([3 / 7, 6 / 7, 1])


def test_a_score_that_is_not_finite_is_refused() -> None:
    method = Plain(MethodOptions(), Context(0, image_size=(32, 32)))
    method.spoil = True
    with pytest.raises(ValueError, match="method plain gave a score that is not finite"):
        evaluation.score(method, cast(Any, Source()), lambda done: None)


def test_an_image_score_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Plain(MethodOptions(), Context(0, image_size=(32, 32)))
    monkeypatch.setattr(Plain, "score", lambda self, f: (f[0].mean(1), torch.full((len(f[0]),), math.inf)))
    with pytest.raises(ValueError, match="not finite"):
        evaluation.score(method, cast(Any, Source()), lambda done: None)


def test_latency_is_of_one_image_and_includes_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    clock = [0.0]

    def extractor(image: torch.Tensor) -> list[torch.Tensor]:
        seen.append(tuple(image.shape))
        clock[0] += 0.005 if len(seen) % 10 else 0.1  # every tenth run is slow
        return [image.float()[..., ::4, ::4]]

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(latency, "SECONDS", 6.0)
    method = Plain(MethodOptions(), Context(0, image_size=(32, 32)))
    found = latency.measure(method, extractor)  # type: ignore[arg-type]
    assert set(seen) == {(1, 3, 32, 32)}
    assert found["median_ms"] == pytest.approx(5) and found["p95_ms"] == pytest.approx(100)
    assert len(seen) == latency.WARM_UP + latency.TIMED
    seen.clear()
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    latency.measure(method, extractor)  # type: ignore[arg-type]
    assert len(seen) == latency.WARM_UP + 20
