"""Tiny copies of the public sets, each in the exact layout that its owners publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, DEFECT = 64, 14
TRAIN, GOOD, BAD = 6, 3, 3  # images of a category


def picture(rng: np.random.Generator, bad: bool, height: int = SIDE, width: int = SIDE) -> tuple[np.ndarray, ...]:
    """A random texture and on it, where `bad`, a bright square: image (H, W, 3) and mask (H, W) of 0 and 255, uint8."""
    image = rng.integers(60, 140, (height // 8, width // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    mask = np.zeros(image.shape[:2], np.uint8)
    if bad:
        top, left = rng.integers(4, height - DEFECT - 4), rng.integers(4, width - DEFECT - 4)
        mask[top : top + DEFECT, left : left + DEFECT] = 255
        image[mask > 0] = 250
    return image.astype(np.uint8), mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pictures(
    seed: int, height: int = SIDE, width: int = SIDE
) -> Iterator[tuple[str, bool, int, np.ndarray, np.ndarray]]:
    """(split, bad, number, image, mask) of the images of one category."""
    rng = np.random.default_rng(seed)
    for split, bad, count in (("train", False, TRAIN), ("test", False, GOOD), ("test", True, BAD)):
        for number in range(count):
            image, mask = picture(rng, bad, height, width)
            yield split, bad, number, image, mask


def mvtec_ad(root: Path, categories: tuple[str, ...] = ("bottle", "carpet"), defect: str = "contamination") -> None:
    for seed, category in enumerate(categories):
        for split, bad, number, image, mask in pictures(seed):
            save(root / category / split / (defect if bad else "good") / f"{number:03d}.png", image)
            if bad:
                save(root / category / "ground_truth" / defect / f"{number:03d}_mask.png", mask)
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")


def mtl_ad(root: Path) -> None:
    mvtec_ad(root, ("ostrich", "lychee"), "broken")


CONFIG = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 100, "relative_saturation": False},
    {"defect_name": "swapped", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
    {"defect_name": "broken", "pixel_value": 253, "saturation_threshold": 1.0, "relative_saturation": True},
]


def mvtec_loco(root: Path) -> None:
    """Wide images; a logical anomaly has two regions, one of them twice as large as its saturation."""
    for seed, category in enumerate(("juice_bottle", "pushpins")):
        folder = root / category
        for split, bad, number, image, mask in pictures(seed, 64, 96):
            if not bad:
                save(folder / split / "good" / f"{number:03d}.png", image)
                continue
            other = np.roll(mask, 20, axis=1)
            for defect, values in (("logical_anomalies", (255, 254)), ("structural_anomalies", (253,))):
                save(folder / "test" / defect / f"{number:03d}.png", image)
                truth = folder / "ground_truth" / defect / f"{number:03d}"
                for place, (value, region) in enumerate(zip(values, (mask, other), strict=False)):
                    save(truth / f"{place:03d}.png", (region > 0) * np.uint8(value))
                image = image ^ 1  # another file, the same to the eye
        for number in range(2):
            aside, _ = picture(np.random.default_rng(90 + 2 * seed + number), False, 64, 96)
            save(folder / "validation" / "good" / f"{number:03d}.png", aside)
        (folder / "defects_config.json").write_text(json.dumps(CONFIG))


def mvtec_3d(root: Path) -> None:
    for seed, category in enumerate(("bagel", "rope")):
        for split, bad, number, image, mask in pictures(seed):
            folder = root / category / split / ("hole" if bad else "good")
            save(folder / "rgb" / f"{number:03d}.png", image)
            save(folder / "xyz" / f"{number:03d}.tiff", image[..., 0].astype(np.float32))
            if split == "test":
                save(folder / "gt" / f"{number:03d}.png", mask)
        save(root / category / "validation/good/rgb/000.png", picture(np.random.default_rng(99), False)[0])
        (root / category / "calibration").mkdir()
        (root / category / "calibration/camera_parameters.json").write_text("{}")


def visa(root: Path) -> None:
    """Two kinds of defects in one mask, as values 1 and 2; normal images have names that go through both splits."""
    lines = ["object,split,label,image,mask"]
    for seed, category in enumerate(("candle", "pcb1")):
        for split, bad, number, image, mask in pictures(seed):
            name = f"{number:03d}" if bad else f"{number + TRAIN * (split == 'test'):04d}"
            path = f"{category}/Data/Images/{'Anomaly' if bad else 'Normal'}/{name}.JPG"
            save(root / path, image)
            truth = f"{category}/Data/Masks/Anomaly/{name}.png" if bad else ""
            if bad:
                rows = np.flatnonzero(mask.any(axis=1))
                save(
                    root / truth,
                    np.where(np.arange(SIDE)[:, None] < rows[DEFECT // 2], 1, 2).astype(np.uint8) * (mask > 0),
                )
            lines.append(f"{category},{split},{'anomaly' if bad else 'normal'},{path},{truth}")
        (root / category / "image_anno.csv").write_text("image,label,mask\n")
    for name in ("1cls", "2cls_fewshot", "2cls_highshot"):
        (root / "split_csv").mkdir(exist_ok=True)
        (root / "split_csv" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (root / "LICENSE-DATASET").write_text("CC BY 4.0")


def btad(root: Path) -> None:
    """01: bmp with masks in png; 02: png; 03: bmp, masks too."""
    for seed, (category, kind, truth) in enumerate((("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp"))):
        for split, bad, number, image, mask in pictures(seed):
            save(root / category / split / ("ko" if bad else "ok") / f"{number:04d}.{kind}", image)
            if bad:
                save(root / category / "ground_truth/ko" / f"{number:04d}.{truth}", mask)


def piped(root: Path) -> None:
    """Six sheets of four patches; masks of one bit, 0 on the defect, in folders of two spellings."""
    for seed, (paper, light, spelling) in enumerate((("BTN01", "RL", "GroundTruth"), ("ZPB01", "RL", "GroundThruth"))):
        rng, name = np.random.default_rng(seed), f"PA_{paper}_{light}"
        for sheet in range(1, 7):
            for patch in range(1, 5):
                good, _ = picture(rng, False)
                bad, mask = picture(rng, True)
                save(root / name / "NoDefects" / f"{name}_S_ND_{sheet}_{patch}.bmp", good)
                save(root / name / "Defects" / f"{name}_S_D_{sheet:02d}_{patch}.bmp", bad)
                save(root / name / "Defects" / spelling / f"{name}_S_GT_{sheet}_{patch}.bmp", mask == 0)
    save(root / "PU_PNG01_TL/NoDefect/PL_PNG_1_1wo.bmp", picture(np.random.default_rng(9), False)[0])


EXPOSURES = (0.35, 0.5, 0.65, 0.8, 0.95, 1.1)
TILES, TILE = 8, 128  # tiles, and their side in pixels


def magnetic_tile(root: Path) -> None:
    """Eight good tiles under six exposures; five bad ones, one of them also seen good; and one with an empty mask."""
    empty = np.zeros((TILE, TILE), np.uint8)
    for tile in range(TILES):
        for exposure, gain in enumerate(EXPOSURES, start=1):
            tile_files(root / "MT_Free/Imgs", exposure, tile, exposed(tile_scene(tile), gain, exposure), empty)
    for tile, defect in enumerate(("Blowhole", "Break", "Crack", "Fray", "Uneven"), start=100):
        mask = empty.copy()
        mask[40:60, 40:68] = 255
        for exposure in (1, 4):
            image = exposed(np.where(mask > 0, 30, tile_scene(tile)), EXPOSURES[exposure], exposure)
            tile_files(root / f"MT_{defect}/Imgs", exposure, tile, image, mask)
    tile_files(root / "MT_Uneven/Imgs", 2, 110, exposed(tile_scene(110), 1, 2), empty)
    tile_files(root / "MT_Free/Imgs", 2, 100, exposed(tile_scene(100), 1, 2), empty)


def tile_scene(tile: int) -> np.ndarray:
    """A grey surface (H, W), the same for all exposures of a tile."""
    rng = np.random.default_rng(1000 + tile)
    coarse = Image.fromarray(rng.integers(60, 200, (12, 12)).astype(np.uint8))
    smooth = coarse.resize((TILE, TILE), Image.Resampling.BICUBIC)
    return np.asarray(smooth).astype(np.float64) + rng.normal(0, 6, (TILE, TILE))


def exposed(scene: np.ndarray, gain: float, seed: int) -> np.ndarray:
    """A photograph of a scene: a gain, and the noise of the sensor."""
    noise = np.random.default_rng(seed).normal(0, 2, scene.shape)
    return np.clip(scene * gain + noise, 0, 255).astype(np.uint8)


def tile_files(folder: Path, exposure: int, tile: int, image: np.ndarray, mask: np.ndarray) -> None:
    """A photograph and its mask, whose values are not quite 0 and 255."""
    save(folder / f"exp{exposure}_num_{tile}.jpg", image)
    grey = np.minimum(mask, 250) + np.random.default_rng(tile).integers(0, 5, mask.shape).astype(np.uint8)
    save(folder / f"exp{exposure}_num_{tile}.png", grey)


WRITERS: dict[str, Callable[[Path], None]] = {
    "mvtec_ad": mvtec_ad,
    "mvtec_loco": mvtec_loco,
    "mvtec_3d": mvtec_3d,
    "visa": visa,
    "btad": btad,
    "mtl_ad": mtl_ad,
    "piped": piped,
    "magnetic_tile": magnetic_tile,
}


def write(kind: str, root: Path) -> Path:
    """A tiny copy of a set."""
    root.mkdir(parents=True)
    WRITERS[kind](root)
    return root
