"""Masks that are outlines in the JSON of labelme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.draw import polygon2mask

from adcore.vision.images import ImageError
from adcore.vision.masks import MaskFile
from adcore.vision.polygons import drawn


def told(*shapes: dict[str, Any], width: int = 40, height: int = 30) -> bytes:
    return json.dumps({"imageWidth": width, "imageHeight": height, "shapes": shapes}).encode()


def shape(*points: tuple[float, float], kind: str = "polygon") -> dict[str, Any]:
    return {"label": "Pitting", "points": points, "shape_type": kind}


def test_a_square_is_filled_to_its_edges() -> None:
    expected = np.zeros((30, 40), np.uint8)
    expected[5:11, 8:21] = 255
    found = drawn(told(shape((8, 5), (20, 5), (20, 10), (8, 10))))
    assert np.array_equal(np.asarray(found), expected)


def test_a_rectangle_is_told_by_two_corners_in_any_order() -> None:
    expected = np.zeros((30, 40), np.uint8)
    expected[5:11, 8:21] = 255
    found = drawn(told(shape((20, 5), (8, 10), kind="rectangle")))
    assert np.array_equal(np.asarray(found), expected)


def test_an_outline_of_fractions_is_that_of_another_library_but_for_its_edge() -> None:
    points = [(5.2, 3.1), (30.7, 8.4), (26.3, 25.9), (9.8, 21.5)]
    ours = np.asarray(drawn(told(shape(*points)))) > 0
    other = polygon2mask((30, 40), [(y, x) for x, y in points])
    assert not (binary_erosion(other) & ~ours).any()
    assert not (ours & ~binary_dilation(other, np.ones((3, 3)))).any()


def test_several_outlines_are_one_mask() -> None:
    both = drawn(told(shape((0, 0), (4, 0), (4, 4), (0, 4)), shape((10, 10), (14, 10), (14, 14), (10, 14))))
    assert (np.asarray(both) > 0).sum() == 50


def test_a_mask_file_of_outlines_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(told(shape((8, 5), (20, 5), (20, 10), (8, 10))))
    assert MaskFile(tmp_path / "a.json", "polygons").whole().sum() == 13 * 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no json", "it is no JSON of labelme with imageWidth, imageHeight and shapes"),
        (b"[]", "it is no JSON of labelme"),
        (b'{"imageWidth": 4, "shapes": []}', "without 'imageHeight'"),
        (told(shape((1, 1), (2, 2))), "it holds a polygon of 2 points"),
        (told(shape((1, 1), kind="point")), "it holds a point of 1 points"),
        (told(width=0), "its imageWidth and imageHeight are 0 and 30"),
        (told(width=10**6, height=10**6), "its imageWidth and imageHeight are"),
    ],
)
def test_what_is_no_outline_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        drawn(content)
