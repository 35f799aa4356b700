"""Synthetic defects: only what the mask says is changed, and only on the object."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcore.core.contracts import Threshold
from adcore.core.draws import generator
from adcore.vision import defects
from adcore.vision.defects import Synthesiser, blend, deformed, procedural
from adcore.vision.foreground import foreground
from adcore.vision.images import ImageError, ImageFile
from adcore.vision.pictures import from_picture, to_picture


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A picture in one colour that occurs nowhere else."""
    path = tmp_path / "green.png"
    Image.new("RGB", (40, 30), (10, 250, 30)).save(path)
    return path


@pytest.mark.parametrize("is_texture", [True, False])
def test_images_are_equal_outside_the_mask_and_differ_inside(thing: np.ndarray, source: Path, is_texture: bool) -> None:
    draw = Synthesiser(is_texture, [ImageFile(source)])
    changed = []
    for index in range(60):
        image, mask = draw(thing, generator(0, index))
        assert mask.dtype == np.bool_ and mask.shape == (96, 96)
        differs = (image != thing).any(0)
        assert not (differs & ~mask).any()
        assert mask.mean() >= defects.SMALLEST
        changed.append(differs[mask].mean())
        if not is_texture:
            assert not (mask & ~foreground(thing, False)).any()
    assert np.median(changed) > 0.95


def test_half_of_the_defects_are_textures_and_their_opacity_is_in_its_range(thing: np.ndarray, source: Path) -> None:
    draw = Synthesiser(True, [ImageFile(source)], procedural=0)
    opacity = []
    for index in range(200):
        image, mask = draw(thing, generator(0, index))
        under, over = thing[:, mask].astype(float), image[:, mask].astype(float)
        towards = np.array([10, 250, 30])[:, None] - under
        delta = (towards * (over - under)).sum() / (towards**2).sum()
        if np.abs(under + delta * towards - over).max() <= 1:  # a blend with the one colour
            opacity.append(delta)
    assert 70 < len(opacity) < 130
    assert 0.14 < min(opacity) < 0.25 and 0.9 < max(opacity) < 1.01


def test_delta_0_returns_the_original_and_delta_1_the_source(thing: np.ndarray, texture: np.ndarray) -> None:
    mask = np.random.default_rng(0).random((96, 96)) < 0.3
    assert (blend(thing, texture, mask, 0) == thing).all()
    assert (blend(thing, texture, mask, 1) == np.where(mask, texture, thing)).all()
    half = blend(thing, texture, mask, 0.5).astype(float)
    assert np.abs(half - np.where(mask, (thing.astype(float) + texture) / 2, thing)).max() <= 0.5
    almost = blend(thing, texture, mask, 1e-4)
    assert (almost == thing).all()


def test_where_there_is_no_object_the_image_comes_back_as_normal() -> None:
    blank = np.full((3, 64, 64), 90, np.uint8)
    image, mask = Synthesiser(False)(blank, generator(0))
    assert (image == blank).all() and not mask.any()


def test_a_known_threshold_finds_the_object(thing: np.ndarray) -> None:
    everywhere, nowhere = Threshold(0, bright=True), Threshold(255, bright=True)
    masks = [Synthesiser(False, threshold=everywhere)(thing, generator(0, i))[1] for i in range(40)]
    assert (np.any(masks, axis=0) & ~foreground(thing, False)).sum() > 500
    assert not Synthesiser(False, threshold=nowhere)(thing, generator(0))[1].any()


def test_defects_on_grey_images_are_grey(source: Path) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8), 3, axis=0)
    for index in range(40):
        image, mask = Synthesiser(True, [ImageFile(source)])(grey, generator(0, index))
        assert mask.any() and (image == image[0]).all()


def test_without_sources_textures_are_computed(thing: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defects, "TEXTURE_SHARE", 1)
    calls = []

    def noted(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        calls.append(shape)
        return procedural(shape, rng)

    monkeypatch.setattr(defects, "procedural", noted)
    Synthesiser(True, [], procedural=0)(thing, generator(0))
    assert calls == [(96, 96)]


def test_a_source_that_cannot_be_read_is_named(thing: np.ndarray, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png: it is no image"):
        for index in range(20):
            Synthesiser(True, [ImageFile(broken)], procedural=0)(thing, generator(0, index))


def test_computed_textures_vary_and_fill_any_shape() -> None:
    made = [procedural((37, 64), generator(0, index)) for index in range(20)]
    assert all(texture.shape == (3, 37, 64) and texture.dtype == np.uint8 for texture in made)
    assert np.std([texture.mean() for texture in made]) > 20
    assert np.median([texture.std(axis=(1, 2)).max() for texture in made]) > 10


@pytest.mark.parametrize("side", [96, 74])  # 74 is no multiple of the grid
def test_deformed_images_keep_their_shape_and_stand_apart(side: int, thing: np.ndarray) -> None:
    image = np.ascontiguousarray(thing[:, :side, :side])
    for index in range(30):
        found = deformed(image, generator(0, index))
        assert found.shape == image.shape and found.dtype == np.uint8
        assert (found != image).mean() > 0.2


@pytest.mark.parametrize("operation", defects._OPERATIONS)
def test_every_operation_keeps_the_size_and_most_change_the_picture(operation, thing: np.ndarray) -> None:
    picture = to_picture(thing)
    made = [from_picture(operation(picture, generator(0, index))) for index in range(8)]
    assert all(image.shape == thing.shape for image in made)
    assert np.mean([(image != thing).mean() > 0.05 for image in made]) > 0.5


def test_a_turned_picture_has_no_black_corners() -> None:
    white = to_picture(np.full((3, 50, 50), 255, np.uint8))
    for index in range(20):
        assert (from_picture(defects._rotate(white, generator(0, index))) == 255).all()
