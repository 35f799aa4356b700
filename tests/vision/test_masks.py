"""Masks: what their values mean, and folders of regions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcore.core.rules import MaskRule
from adcore.vision.images import ChangedError, ImageError, file_bytes
from adcore.vision.masks import MaskFile, fingerprint, rule_of


@pytest.mark.parametrize("value", [1, 128, 255])
def test_a_mask_is_true_above_zero(tmp_path, value):
    marks = np.zeros((8, 8), np.uint8)
    marks[2:4, 5] = value
    Image.fromarray(marks).save(tmp_path / "m.png")
    assert np.array_equal(MaskFile(tmp_path / "m.png").whole(), marks > 0)


def test_masks_of_other_kinds(tmp_path):
    marks = np.zeros((4, 4), bool)
    marks[1, 2] = True
    rgb = np.repeat(marks[..., None] * np.uint8(255), 3, axis=2)
    rgba = np.concatenate([rgb, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    Image.fromarray(marks).save(tmp_path / "bit.png")
    Image.fromarray(marks.astype(np.uint16)).save(tmp_path / "deep.png")  # 0 and 1 in 16 bits
    Image.fromarray(rgb * np.array([0, 1, 0], np.uint8)).save(tmp_path / "green.png")
    Image.fromarray(rgba).save(tmp_path / "opaque.png")
    Image.fromarray(rgb).convert("P").save(tmp_path / "palette.png")
    for path in tmp_path.iterdir():
        assert np.array_equal(MaskFile(path).whole(), marks), path.name


def test_a_resized_mask_takes_values_of_the_mask_only(tmp_path):
    marks = np.zeros((50, 50), np.uint8)
    marks[10:30, 20:40] = 255
    Image.fromarray(marks).save(tmp_path / "m.png")
    assert np.array_equal(MaskFile(tmp_path / "m.png").seen(100, 100), np.kron(marks, np.ones((2, 2))) > 0)
    assert np.array_equal(MaskFile(tmp_path / "m.png").seen(50, 30), (marks > 0)[10:40, 10:40])


VALUES = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", [[0, 1, 1], [1, 1, 1]]),
        ("levels", [[0, 1, 1], [1, 1, 1]]),
        ("half", [[0, 0, 0], [1, 1, 1]]),
        ("inverted", [[1, 0, 0], [0, 0, 0]]),
    ],
)
def test_what_values_mean(tmp_path: Path, rule: str, expected: list[list[int]]) -> None:
    Image.fromarray(VALUES).save(tmp_path / "m.png")
    assert np.array_equal(MaskFile(tmp_path / "m.png", rule).whole(), np.array(expected, bool))


def test_an_inverted_mask_of_one_bit(tmp_path: Path) -> None:
    marks = np.zeros((8, 8), bool)
    marks[2:4, 5] = True
    Image.fromarray(~marks).save(tmp_path / "m.bmp")
    assert Image.open(tmp_path / "m.bmp").mode == "1"
    assert np.array_equal(MaskFile(tmp_path / "m.bmp", "inverted").whole(), marks)
    assert np.array_equal(MaskFile(tmp_path / "m.bmp", "inverted").seen(8, 4), marks[2:6, 2:6])


CONFIG = [{"defect_name": "a", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}]


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """The layout of MVTec LOCO AD: two regions of one image, that overlap."""
    folder = tmp_path / "bottle/ground_truth/logical_anomalies/007"
    folder.mkdir(parents=True)
    for number, (value, rows) in enumerate({255: slice(0, 3), 254: slice(2, 5)}.items()):
        values = np.zeros((6, 4), np.uint8)
        values[rows, :2] = value
        Image.fromarray(values).save(folder / f"{number:03d}.png")
    (tmp_path / "bottle/defects_config.json").write_text(json.dumps(CONFIG))
    return folder


def test_a_folder_of_regions(regions: Path) -> None:
    channels = MaskFile(regions, "channels").regions()
    assert channels.shape == (2, 6, 4)
    assert [int(channel.max()) for channel in channels] == [255, 254]
    union = np.zeros((6, 4), bool)
    union[:5, :2] = True
    assert np.array_equal(MaskFile(regions, "channels").whole(), union)


def test_the_config_of_a_folder_of_regions(regions: Path) -> None:
    path = regions.parents[2] / "defects_config.json"
    path.unlink()
    with pytest.raises(ImageError, match=r"007: there is no defects_config\.json above it"):
        MaskFile(regions, "channels").config()
    path.write_text(json.dumps(CONFIG))
    assert MaskFile(regions, "channels").config() == CONFIG
    for broken in ("{", "[1]", '[{"pixel_value": 3}]', "{}"):
        path.write_text(broken)
        with pytest.raises(ImageError, match=r"defects_config\.json cannot be used"):
            MaskFile(regions, "channels").config()


def test_an_empty_folder_and_regions_of_several_sizes(regions: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="none: there are no masks in it"):
        MaskFile(tmp_path / "none", "channels").regions()
    Image.new("L", (9, 9)).save(regions / "002.png")
    with pytest.raises(ImageError, match="several sizes"):
        MaskFile(regions, "channels").regions()


def test_a_rule_is_the_kind_s_own_and_then_the_plan_s() -> None:
    assert rule_of("") == MaskRule()
    assert rule_of("half") == MaskRule(threshold=0.5)
    assert rule_of("inverted threshold=0.25 fit=pad") == MaskRule(inverted=True, threshold=0.25, fit="pad")
    assert rule_of("threshold=0.25") == MaskRule(threshold=0.25)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_threshold_is_a_share_of_the_range(tmp_path: Path, dtype: type, white: int) -> None:
    values = np.array([[0, 0.49, 0.51, 1]]) * white
    Image.fromarray(values.astype(dtype)).save(tmp_path / "m.png")
    assert MaskFile(tmp_path / "m.png", "threshold=0.5").whole().tolist() == [[False, False, True, True]]
    assert MaskFile(tmp_path / "m.png", "threshold=0.5 inverted=True").whole().tolist() == [[True, True, False, False]]


def test_a_mask_in_the_transparency(tmp_path: Path) -> None:
    marks = np.zeros((5, 5), bool)
    marks[1:3, 2] = True
    for name, colours in (("LA.png", 1), ("RGBA.png", 3)):
        Image.fromarray(np.dstack([np.zeros((5, 5, colours), np.uint8), marks * np.uint8(255)])).save(tmp_path / name)
        assert Image.open(tmp_path / name).mode == name.removesuffix(".png")
        assert not MaskFile(tmp_path / name).whole().any()
        assert np.array_equal(MaskFile(tmp_path / name, "channel=alpha").whole(), marks)
    Image.fromarray(marks).save(tmp_path / "grey.png")
    with pytest.raises(ImageError, match=r"grey\.png: it has no transparency"):
        MaskFile(tmp_path / "grey.png", "channel=alpha").whole()


@pytest.mark.parametrize("palette", [[255, 255, 255, 255, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_a_mask_in_the_numbers_of_a_palette(tmp_path: Path, palette: list[int]) -> None:
    marks = np.zeros((5, 5), np.uint8)
    marks[1:3, 2] = 1
    image = Image.fromarray(marks, "P")
    image.putpalette(palette)
    image.save(tmp_path / "m.png")
    assert np.array_equal(MaskFile(tmp_path / "m.png", "channel=index").whole(), marks > 0)
    assert MaskFile(tmp_path / "m.png").whole().mean() in (0, 1)  # by colours it is all or nothing


@pytest.mark.parametrize("shape", [(7, 9), (9, 7), (8, 8), (9, 9)])
def test_a_mask_that_does_not_quite_fit_is_cut_or_padded(tmp_path: Path, shape: tuple[int, int]) -> None:
    marks = np.zeros(shape, np.uint8)
    marks[2:4, 5] = 255
    Image.fromarray(marks).save(tmp_path / "m.png")
    mask = MaskFile(tmp_path / "m.png", "fit=pad", size=(8, 8)).whole()
    expected = np.zeros((8, 8), bool)
    expected[2:4, 5] = True
    assert np.array_equal(mask, expected)


def stored_pixels(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores that asks for a turn, by the EXIF specification: what its row 0 and its column 0 are."""
    turn: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
    }
    turn |= {6: np.rot90, 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1)}
    return turn[orientation](upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("own_tag", [1, 6])
def test_a_mask_on_stored_pixels_is_turned_as_its_image_is(tmp_path: Path, orientation: int, own_tag: int) -> None:
    upright = np.random.default_rng(0).integers(0, 2, (4, 6)).astype(np.uint8) * 255
    exif = Image.Exif()
    exif[0x0112] = own_tag
    Image.fromarray(np.ascontiguousarray(stored_pixels(upright, orientation))).save(tmp_path / "m.png", exif=exif)
    mask = MaskFile(tmp_path / "m.png", "frame=stored", orientation=orientation).whole()
    assert np.array_equal(mask, upright > 0)


def test_a_mask_that_changed_is_refused_by_name(tmp_path: Path, regions: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(VALUES).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert MaskFile(path, "", sha256).whole().any()
    with pytest.raises(ChangedError, match=f"{path}: it changed"):
        MaskFile(path, "threshold=0.5", sha256).whole()  # by another rule it is another mask
    Image.fromarray(VALUES[::-1]).save(path)
    with pytest.raises(ChangedError, match=f"{path}: it changed"):
        MaskFile(path, "", sha256).whole()


@pytest.mark.parametrize("change", ["000.png", "extra.png", "../../../defects_config.json"])
def test_any_change_of_a_folder_of_regions_is_seen(regions: Path, change: str) -> None:
    files = [*sorted(regions.glob("*.png")), regions.parents[2] / "defects_config.json"]
    sha256 = fingerprint([(path.name, file_bytes(path)) for path in files], "channels")
    mask = MaskFile(regions, "channels", sha256)
    assert mask.regions().any()
    (regions / change).write_bytes((regions / "001.png").read_bytes() if change.endswith("png") else b"[]")
    for method in (mask.whole, mask.regions, mask.config):
        with pytest.raises(ChangedError, match="007: it changed"):
            method()
