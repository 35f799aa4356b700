"""Defects that the network's resolution or crop loses are told by file; with the mend they are not lost."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from PIL import Image

from adcore.core.plan import ImageSpec
from adcore.datasets.sight import losses
from adcore.datasets.validation import CROPPED, THINNED, VANISHED

KEPT, GONE, CORNER = (slice(40, 43), slice(40, 43)), (slice(61, 63), slice(101, 103)), (slice(0, 3), slice(0, 3))


@pytest.fixture
def specks(tmp_path, files):
    """Photographs of 160 x 160 with specks: at 16, nearest neighbour takes the pixels 5, 15, 25 ..."""
    files.make_category(tmp_path / "line/cap", 0)
    for folder in ("train/good", "test/good", "test/hole"):
        for path in (tmp_path / "line/cap" / folder).iterdir():
            files.save(path, hash(path.name) % 1000, 160)
    kinds = [[(slice(44, 47), slice(44, 47))], [GONE], [GONE, (slice(44, 47), slice(44, 47))]]
    for number, parts in enumerate(kinds):
        mask = np.zeros((160, 160), np.uint8)
        for part in parts:
            mask[part] = 255
        Image.fromarray(mask).save(tmp_path / f"line/cap/ground_truth/hole/00{number}_mask.png")
    return tmp_path / "line"


def told(dataset, frame, image: ImageSpec, at: Literal["input", "original"] = "input") -> set[tuple[str, str]]:
    return {(problem.check, problem.path) for problem in losses(frame, dataset.root, image, at)}


def test_what_nearest_neighbour_loses_is_told_by_file(specks, dataset, build):
    folder = dataset("folder", root="line")
    frame = build(folder)
    gone, thinned = (VANISHED, "cap/test/hole/001.png"), (THINNED, "cap/test/hole/002.png")
    assert told(folder, frame, ImageSpec(resize=16)) == {gone, thinned}
    assert told(folder, frame, ImageSpec(resize=160)) == set()
    assert told(folder, frame, ImageSpec(resize=16), "original") == set()
    messages = [problem.message for problem in losses(frame, specks, ImageSpec(resize=16), "input")]
    assert messages[0].startswith("nearest neighbour leaves no pixel of its mask at 16 x 16 pixels")
    assert messages[1].startswith("nearest neighbour loses 1 of its 2 regions at 16 x 16 pixels")
    assert all("`masks: {reduce: area}`" in message for message in messages)


def test_masks_that_are_reduced_by_area_lose_nothing(specks, dataset, build):
    folder = dataset("folder", root="line", masks={"reduce": "area"})
    assert told(folder, build(folder), ImageSpec(resize=16)) == set()


@pytest.mark.parametrize("at", ["input", "original"])
def test_a_defect_outside_of_the_crop_is_told(specks, dataset, build, at):
    mask = np.zeros((160, 160), np.uint8)
    mask[CORNER] = 255
    Image.fromarray(mask).save(specks / "cap/ground_truth/hole/000_mask.png")
    folder = dataset("folder", root="line")
    found = told(folder, build(folder), ImageSpec(resize=160, crop=120), at)
    assert found == {(CROPPED, "cap/test/hole/000.png")}
