"""A finished cell applied to files: what the benchmark gave, thresholds, boxes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adcore.core.conformal import p_values
from adcore.engine import calibrated
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.engine.enhancement import image_set
from adcore.line.scorer import Scored, Scorer
from adcore.vision import images
from adcore.vision.images import ImageError, ImageFile


@pytest.fixture(scope="module", params=["padim", "patchcore"])
def scorer(request: pytest.FixtureRequest, done: Bench, cells: dict[str, Cell]) -> Scorer:
    return Scorer(done, cells[request.param])


def all_scored(scorer: Scorer, files: list[ImageFile]) -> list[Scored]:
    found = list(scorer.scored(files))
    return [each for each in found if isinstance(each, Scored)]


def test_test_images_get_the_bits_that_the_benchmark_gave(done: Bench, scorer: Scorer) -> None:
    found = all_scored(scorer, image_set(scorer.cell, "test").files)
    folder = done.store.path("maps", scorer.cell.maps_key)
    np.testing.assert_array_equal(np.stack([each.raw for each in found]), np.load(folder / "maps.npy"))
    scores = np.array([each.score for each in found], np.float32)
    np.testing.assert_array_equal(scores, np.load(folder / "scores.npy"))


def test_an_image_alone_scores_as_among_others(scorer: Scorer) -> None:
    files = image_set(scorer.cell, "test").files
    together = [each.score for each in all_scored(scorer, files)]
    alone = [all_scored(scorer, [file])[0].score for file in files]
    np.testing.assert_allclose(alone, together, rtol=1e-4)


def test_a_file_that_cannot_be_read_stands_in_its_place(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = image_set(scorer.cell, "test").files[:2]
    found = list(scorer.scored([files[0], ImageFile(tmp_path / "bad.png"), files[1]]))
    assert [isinstance(each, ImageError) for each in found] == [False, True, False]


def test_only_bad_files_are_told_too(scorer: Scorer, tmp_path: Path) -> None:
    assert [type(each) for each in scorer.scored([ImageFile(tmp_path / "none.png")])] == [ImageError]


def test_p_values_are_those_of_the_calibration(done: Bench, scorer: Scorer) -> None:
    calibration = calibrated.read(done.store, scorer.cell)
    assert calibration is not None
    middle = float(np.median(calibration.scores))
    assert scorer.p_value(middle) == p_values([middle], calibration.scores)[0]


def test_without_a_share_of_alarms_there_is_no_threshold(done: Bench, cells: dict[str, Cell]) -> None:
    plain = Bench(done.plan.model_copy(update={"alarms": None}), done.layout.workspace, done.manifests)
    scorer = Scorer(plain, next(cell for cell in plain.cells if cell.key == cells["padim"].key))
    assert scorer.image is None and scorer.map is None and np.isnan(scorer.p_value(1.0))


def scored(smooth: np.ndarray, window: tuple[slice, slice], size: tuple[int, int]) -> Scored:
    return Scored(np.zeros((*size, 3), np.uint8), size, window, smooth, smooth, 0.0)


def test_boxes_are_in_pixels_of_the_image_the_highest_first() -> None:
    smooth = np.zeros((8, 8), np.float32)
    smooth[0:2, 0:3], smooth[5, 6] = 1.0, 2.0
    found = scored(smooth, (slice(10, 26), slice(20, 52)), (40, 60))  # each value is 2 x 4 pixels
    assert found.boxes(0.5) == [(44, 20, 48, 22), (20, 10, 32, 14)]


def test_what_touches_at_a_corner_is_one_box() -> None:
    smooth = np.eye(4, dtype=np.float32)
    assert scored(smooth, (slice(0, 4), slice(0, 4)), (4, 4)).boxes(0.5) == [(0, 0, 4, 4)]


def test_the_area_is_a_share_of_the_map() -> None:
    smooth = np.zeros((4, 4), np.float32)
    smooth[0] = 1
    assert scored(smooth, (slice(0, 4), slice(0, 4)), (4, 4)).area(0.5) == 0.25


def test_a_larger_image_is_taken_too(scorer: Scorer, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 150, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    (found,) = all_scored(scorer, [ImageFile(tmp_path / "x.png")])
    assert found.pixels.shape == (90, 150, 3) and found.window == (slice(0, 90), slice(0, 150))


def test_of_a_large_image_only_a_small_one_is_kept(scorer: Scorer, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "x.png")
    (found,) = all_scored(scorer, [ImageFile(tmp_path / "x.png")])
    assert found.pixels.shape == (512, 1024, 3) and found.size == (1500, 3000)
    assert found.window == (slice(0, 1500), slice(0, 3000))


def test_a_file_is_read_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = images.file_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(images, "file_bytes", counted)
    files = image_set(scorer.cell, "test").files
    all_scored(scorer, files)
    assert sorted(read) == sorted(file.path for file in files)


def test_an_image_without_a_finite_score_is_no_normal_one(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(scorer.method).score

    def broken(method: Any, seen: Any) -> Any:
        maps, scores = original(method, seen)
        maps[1] = torch.nan
        return maps, scores

    monkeypatch.setattr(type(scorer.method), "score", broken)
    found = list(scorer.scored(image_set(scorer.cell, "test").files[:3]))
    assert [str(each) for each in found if isinstance(each, ImageError)] == [
        f"method {scorer.method.name} gave a score that is not finite"
    ]
    assert isinstance(found[1], ImageError)


def test_a_gallery_that_is_gone_is_made_again(done: Bench, scorer: Scorer) -> None:
    shutil.rmtree(done.store.path("gallery", scorer.cell.gallery_key))
    assert Scorer(done, scorer.cell).scale == scorer.scale
