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


def mvtec_ad_2(root: Path) -> None:
    """Two lights a scene of test_public; the private images lie in their folders themselves, and one is of another
    size."""
    for seed, category in enumerate(("can", "fabric")):
        folder, rng = root / category, np.random.default_rng(50 + seed)
        for split, bad, number, image, mask in pictures(seed):
            place = folder / ("train/good" if split == "train" else f"test_public/{'bad' if bad else 'good'}")
            for light, gain in (("regular", 1.0), ("underexposed", 0.8)) if split == "test" else (("regular", 1.0),):
                name = f"{number:03d}_{light}"
                save(place / f"{name}.png", np.maximum(image * gain, 201 * (mask[..., None] > 0)).astype(np.uint8))
                if bad:
                    save(folder / "test_public/ground_truth/bad" / f"{name}_mask.png", mask)
        for number in range(2):
            save(folder / "validation/good" / f"{number:03d}_regular.png", picture(rng, False)[0])
        for number in range(3):
            save(folder / "test_private" / f"{number:03d}_regular.png", picture(rng, False, 64, 80)[0])
            save(folder / "test_private_mixed" / f"{number:03d}_mixed.png", picture(rng, True)[0])
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")


def autovi(root: Path) -> None:
    for seed, category in enumerate(("pipe_clip", "tank_screw")):
        folder = root / category
        for split, bad, number, image, mask in pictures(seed):
            defect = ("missing", "operator")[number % 2] if bad else "good"
            save(folder / split / defect / f"{number:04d}.png", image)
            if bad:
                save(folder / "ground_truth" / defect / f"{number:04d}" / "0000.png", mask)
        (folder / "defects_config.json").write_text(json.dumps(CONFIG))


def mpdd(root: Path) -> None:
    mvtec_ad(root, ("bracket_black", "tubes"), "scratches")


def vad(root: Path) -> None:
    """With defective training images, which are not used."""
    for seed in range(2):
        for split, bad, number, image, _ in pictures(seed):
            kind = ("bad", "bad_unseen_defects")[number % 2] if bad else "good"
            save(root / "vad" / split / kind / f"{seed}{number:03d}.png", image)
    save(root / "vad/train/bad/9000.png", picture(np.random.default_rng(9), True)[0])
    (root / "vad/low_shot_train.json").write_text("[]")


def kolektor_sdd2(root: Path) -> None:
    """Images of several sizes; each has a mask, an empty one where it is good."""
    rng = np.random.default_rng(0)
    for split, first, good, bad in (("train", 10000, 12, 2), ("test", 20000, 8, 5)):
        for number in range(good + bad):
            image, mask = picture(rng, number >= good, 64 + 8 * (number % 2))
            save(root / split / f"{first + number}.png", image)
            save(root / split / f"{first + number}_GT.png", mask)


def bsdata(root: Path) -> None:
    """Six spots at seven times: four good images, two outlined ones, and a defective one without an outline."""
    rng = np.random.default_rng(0)
    for spot in range(6):
        for time in range(7):
            state = "1" if time > 4 else "2"
            name = f"01_2008281100{time:02d}_{277500 + spot}_315_crop_{state}"
            image, mask = picture(rng, time > 3)
            (root / "data").mkdir(exist_ok=True)
            Image.fromarray(image).save(root / "data" / f"{name}.jpg", quality=97)
            if time in (4, 5):
                labelme(root / "label" / f"{name}.json", mask)
    save(root / "data/KGT1-S-065-A02_crop_0.jpg", image)
    labelme(root / "label/KGT1-S-065-A02_crop_0.json", mask)
    (root / "image_data.json").write_text("{}")


def labelme(path: Path, mask: np.ndarray) -> None:
    """The outline of the square in a mask, as labelme writes it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (int(edge) for edge in (rows[0], rows[-1], columns[0], columns[-1]))
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    shape = {"label": "Pitting", "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}
    size = {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "4.5.6", "flags": {}, "shapes": [shape], "imageData": None, **size}))


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
    "mvtec_ad_2": mvtec_ad_2,
    "mvtec_3d": mvtec_3d,
    "visa": visa,
    "btad": btad,
    "mtl_ad": mtl_ad,
    "piped": piped,
    "magnetic_tile": magnetic_tile,
    "autovi": autovi,
    "mpdd": mpdd,
    "vad": vad,
    "kolektor_sdd2": kolektor_sdd2,
    "bsdata": bsdata,
}


def write(kind: str, root: Path) -> Path:
    """A tiny copy of a set."""
    root.mkdir(parents=True)
    WRITERS[kind](root)
    return root
