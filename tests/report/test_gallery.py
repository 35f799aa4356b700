"""Galleries: which images are chosen, what is stored, and that one scale colours all of them."""

import io

import numpy as np
import pytest
from PIL import Image

from adcore.report import heatmaps
from adcore.vision.gallery import chosen, make_gallery, normal_scale


@pytest.fixture
def cell(tmp_path):
    """Writes a gallery of seeded images; returns its folder and what went in."""

    def build(name="cell", factor=1.0, labels=(0, 0, 0, 1, 1, 1), masked=True, side=96):
        rng = np.random.default_rng(0)
        labels = np.array(labels)
        images = rng.integers(0, 255, (len(labels), side, side, 3)).astype(np.uint8)
        maps = (factor * rng.random((len(labels), side, side))).astype(np.float32)
        scores = maps.max(axis=(1, 2))
        masks = np.zeros((len(labels), side, side), np.uint8)
        masks[labels == 1, 20:40, 20:40] = 1
        folder = tmp_path / name
        folder.mkdir()
        make_gallery(
            folder, images, maps, scores, labels, [f"{i}.png" for i in range(len(labels))], masks if masked else None
        )
        return folder, maps, scores

    return build


def test_hardest_are_the_highest_normals_and_the_lowest_defects():
    scores = np.array([5.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0])
    labels = np.array([0, 0, 0, 0, 1, 1, 1]).astype(bool)
    picks = chosen(scores, labels)
    assert [i for kind, _, i in picks if kind == "hardest normal"] == [2, 0, 3, 1]
    assert [i for kind, _, i in picks if kind == "hardest defect"] == [5, 6, 4]


def test_no_image_is_both_hardest_and_typical():
    scores, labels = np.arange(40.0), np.arange(40) % 2 == 1
    picks = [i for _, _, i in chosen(scores, labels)]
    assert len(picks) == len(set(picks)) == 10


def test_outranked_is_the_share_on_the_wrong_side(cell):
    folder, _, scores = cell()
    for _, _, entry in heatmaps.hardest({"c": folder}, "hardest normal", 9):
        index = int(entry.path.removesuffix(".png"))
        assert entry.outranked == np.mean(scores[3:] <= scores[index]) and entry.score == scores[index]


def test_scale_is_that_of_normal_images_and_a_run_takes_the_median_of_its_cells(cell):
    folders = [cell(str(f), factor=f)[0] for f in (1.0, 2.0, 9.0)]
    low, high = heatmaps.shared_scale(folders)
    assert (low, high) == (pytest.approx(1.0, abs=0.05), pytest.approx(2.0, abs=0.02))


def test_scale_ignores_defects_and_survives_a_test_set_without_normals():
    flat = [np.full((8, 8), v, np.float32) for v in (1.0, 3.0)]
    assert normal_scale(flat)[0] == 2.0 and normal_scale([]) == (0.0, 1.0)


def test_one_colour_means_one_value_whatever_the_image():
    grey = np.full((16, 16, 3), 128, np.uint8)
    quiet, loud = np.full((8, 8), 0.2, np.float32), np.full((8, 8), 0.2, np.float32)
    loud[0, 0] = 50.0  # with a scale an image, this would turn all else clear
    a, b = (heatmaps.overlay(grey, heat, (0.0, 1.0)) for heat in (quiet, loud))
    assert (a[-1, -1] == b[-1, -1]).all() and not (a[0, 0] == b[0, 0]).all()
    assert (heatmaps.overlay(grey, quiet - 1, (0.0, 1.0)) == grey).all()  # below the scale nothing is coloured


def test_outline_is_the_inner_border_of_the_mask():
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    drawn = (heatmaps.outlined(np.zeros((6, 6, 3), np.uint8), mask) != 0).any(axis=2)
    assert drawn.sum() == 12 and not drawn[2:4, 2:4].any()


@pytest.mark.parametrize(("masked", "panels"), [(True, 3), (False, 2)])
def test_strip_shows_image_heat_and_the_mask_where_there_is_one(cell, masked, panels):
    folder, _, _ = cell(masked=masked)
    ((_, _, entry),) = heatmaps.hardest({"c": folder}, "hardest defect", 1)
    with Image.open(io.BytesIO(heatmaps.strip(folder, entry, (0.0, 1.0)))) as picture:
        assert picture.size == (panels * 96 + (panels - 1) * 2, 96)


def test_categories_take_turns(cell):
    folders = {name: cell(name, factor=f)[0] for name, f in (("a", 1.0), ("b", 100.0))}
    found = heatmaps.hardest(folders, "hardest normal", 4)
    assert [(name, entry.rank) for name, _, entry in found] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


@pytest.mark.parametrize("labels", [(0, 0), (1, 1), (0, 1)])
def test_one_class_or_few_images_still_make_a_gallery_and_a_sheet(cell, labels):
    folder, _, _ = cell(labels=labels)
    assert heatmaps.sheet({"c": folder}).width >= 420


def test_a_gallery_is_small(cell):
    folder, _, _ = cell(labels=[0, 1] * 20, side=256)
    assert sum(p.stat().st_size for p in folder.iterdir()) < 300_000  # noise, which JPEG likes least
