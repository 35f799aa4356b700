"""Masks: what their values mean, and folders of regions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcore.images import ImageError
from adcore.masks import load_channels, load_config, load_mask, marked


@pytest.mark.parametrize("value", [1, 128, 255])
def test_a_mask_is_true_above_zero(tmp_path, value):
    marks = np.zeros((8, 8), np.uint8)
    marks[2:4, 5] = value
    Image.fromarray(marks).save(tmp_path / "m.png")
    assert np.array_equal(load_mask(tmp_path / "m.png"), marks > 0)


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
        assert np.array_equal(load_mask(path), marks), path.name


def test_a_resized_mask_takes_values_of_the_mask_only(tmp_path):
    marks = np.zeros((50, 50), np.uint8)
    marks[10:30, 20:40] = 255
    Image.fromarray(marks).save(tmp_path / "m.png")
    assert np.array_equal(load_mask(tmp_path / "m.png", 100, 100), np.kron(marks, np.ones((2, 2))) > 0)
    assert np.array_equal(load_mask(tmp_path / "m.png", 50, 30), (marks > 0)[10:40, 10:40])


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
    assert np.array_equal(load_mask(tmp_path / "m.png", rule=rule), np.array(expected, bool))


def test_an_inverted_mask_of_one_bit(tmp_path: Path) -> None:
    marks = np.zeros((8, 8), bool)
    marks[2:4, 5] = True
    Image.fromarray(~marks).save(tmp_path / "m.bmp")
    assert Image.open(tmp_path / "m.bmp").mode == "1"
    assert np.array_equal(load_mask(tmp_path / "m.bmp", rule="inverted"), marks)
    assert np.array_equal(load_mask(tmp_path / "m.bmp", 8, 4, "inverted"), marks[2:6, 2:6])
    assert np.array_equal(marked(~marks, "inverted"), marks)


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """The layout of MVTec LOCO AD: two regions of one image, that overlap."""
    folder = tmp_path / "bottle/ground_truth/logical_anomalies/007"
    folder.mkdir(parents=True)
    for number, (value, rows) in enumerate({255: slice(0, 3), 254: slice(2, 5)}.items()):
        values = np.zeros((6, 4), np.uint8)
        values[rows, :2] = value
        Image.fromarray(values).save(folder / f"{number:03d}.png")
    return folder


def test_a_folder_of_regions(regions: Path) -> None:
    channels = load_channels(regions)
    assert channels.shape == (2, 6, 4)
    assert [int(channel.max()) for channel in channels] == [255, 254]
    union = np.zeros((6, 4), bool)
    union[:5, :2] = True
    assert np.array_equal(load_mask(regions, rule="channels"), union)


def test_the_config_of_a_folder_of_regions(regions: Path) -> None:
    with pytest.raises(ImageError, match=r"no defects_config\.json above 007"):
        load_config(regions)
    content = [{"defect_name": "a", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}]
    path = regions.parents[2] / "defects_config.json"
    path.write_text(json.dumps(content))
    assert load_config(regions) == content
    for broken in ("{", "[1]", '[{"pixel_value": 3}]', "{}"):
        path.write_text(broken)
        with pytest.raises(ImageError, match=r"defects_config\.json cannot be used"):
            load_config(regions)


def test_an_empty_folder_and_regions_of_several_sizes(regions: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no masks in none"):
        load_channels(tmp_path / "none")
    Image.new("L", (9, 9)).save(regions / "002.png")
    with pytest.raises(ImageError, match="several sizes"):
        load_channels(regions)
