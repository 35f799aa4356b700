"""What is written for the server of MVTec AD 2, against a checker of its own and another reader of TIFF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from adcore.core.plan import DatasetSpec
from adcore.datasets import submission
from adcore.datasets.base import DataError
from adcore.datasets.mvtec_ad_2 import MvtecAd2
from tests.datasets import layouts

LIMITS = {"can": 0.5, "fabric": 0.25}
SIZES = {"test_private": (64, 80), "test_private_mixed": (64, 64)}
Maps = Iterator[tuple[str, np.ndarray]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.write("mvtec_ad_2", tmp_path_factory.mktemp("copy") / "mvtec_ad_2")


@pytest.fixture
def dataset(root: Path) -> MvtecAd2:
    return MvtecAd2(DatasetSpec(name="mvtec_ad_2", root=root), root)


def maps(dataset: MvtecAd2, side: int = 16) -> Maps:
    """A map of random scores between 0 and 1 for each image."""
    rng = np.random.default_rng(0)
    return ((path, rng.random((side, side), np.float32)) for path in dataset.private())


def expected(suffix: str) -> dict[str, tuple[int, int]]:
    """The files that the owners' directory tree shows, and the size of their images."""
    names = {"test_private": "regular", "test_private_mixed": "mixed"}
    return {
        f"{category}/{split}/{number:03d}_{light}{suffix}": SIZES[split]
        for category in ("can", "fabric")
        for split, light in names.items()
        for number in range(3)
    }


def check(folder: Path, suffix: str, read: Callable[[Path], np.ndarray], dtype: type, values: set[int] | None) -> None:
    """Names, sizes, one channel, the type of values, and nothing that is missing or too much."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(expected(suffix))
    for name, size in expected(suffix).items():
        pixels = read(folder / name)
        assert pixels.shape == size
        assert pixels.dtype == dtype
        assert values is None or set(np.unique(pixels)) <= values


def test_the_private_images_are_listed_each_with_its_object(dataset: MvtecAd2) -> None:
    assert dataset.private() == {name: name.split("/")[0] for name in sorted(expected(".png"))}


def test_a_submission_has_the_owners_layout(dataset: MvtecAd2, tmp_path: Path) -> None:
    submission.write(dataset, tmp_path / "new", maps(dataset), LIMITS)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"anomaly_images", "anomaly_images_thresholded"}
    check(tmp_path / "new/anomaly_images", ".tiff", tifffile.imread, np.float16, None)
    check(tmp_path / "new/anomaly_images_thresholded", ".png", lambda p: np.asarray(Image.open(p)), np.uint8, {0, 255})


def test_without_thresholds_there_are_anomaly_images_only(dataset: MvtecAd2, tmp_path: Path) -> None:
    submission.write(dataset, tmp_path / "new", maps(dataset))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["anomaly_images"]


def test_a_map_of_the_size_of_its_image_is_rounded_to_16_bits_and_nothing_else(root: Path, tmp_path: Path) -> None:
    can = MvtecAd2(DatasetSpec(name="mvtec_ad_2", root=root, categories=("can",)), root)
    rng = np.random.default_rng(1)
    raw = {path: rng.normal(size=SIZES[path.split("/")[1]]).astype(np.float32) for path in can.private()}
    submission.write(can, tmp_path / "new", raw.items(), LIMITS)
    for path, values in raw.items():
        name = path.removesuffix(".png")
        assert np.array_equal(tifffile.imread(tmp_path / f"new/anomaly_images/{name}.tiff"), values.astype(np.float16))
        marked = np.asarray(Image.open(tmp_path / f"new/anomaly_images_thresholded/{name}.png"))
        assert np.array_equal(marked == 255, values > 0.5)


def test_a_smaller_map_is_brought_to_the_size_of_its_image(root: Path, tmp_path: Path) -> None:
    """A slope stays a slope: bilinear, pixel centres on pixel centres."""
    can = MvtecAd2(DatasetSpec(name="mvtec_ad_2", root=root, categories=("can",)), root)
    slope = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    submission.write(can, tmp_path / "new", ((path, slope) for path in can.private()))
    seen = tifffile.imread(tmp_path / "new/anomaly_images/can/test_private_mixed/000_mixed.tiff")
    centres = np.clip((np.arange(64) + 0.5) / 8 - 0.5, 0, 7)
    assert np.allclose(seen, centres, atol=2e-3)


def refused(dataset: MvtecAd2, folder: Path, given: Maps, limits: dict[str, float] | None = None) -> str:
    with pytest.raises(DataError) as error:
        submission.write(dataset, folder, given, limits)
    return str(error.value)


def test_an_image_without_a_map_is_named(dataset: MvtecAd2, tmp_path: Path) -> None:
    few = iter(list(maps(dataset))[:-2])
    assert "fabric/test_private_mixed/001_mixed.png and 1 more have no map" in refused(dataset, tmp_path / "new", few)


def test_a_map_of_another_image_is_refused(dataset: MvtecAd2, tmp_path: Path) -> None:
    other = iter([("can/test_public/good/000_regular.png", np.zeros((4, 4)))])
    assert "is no image without public truth" in refused(dataset, tmp_path / "new", other)


def test_a_second_map_is_refused(dataset: MvtecAd2, tmp_path: Path) -> None:
    twice = iter([("can/test_private/000_regular.png", np.zeros((4, 4)))] * 2)
    assert "two maps for can/test_private/000_regular.png" in refused(dataset, tmp_path / "new", twice)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 4, 4)), "must be (h, w) and finite, and has the shape (1, 4, 4)"),
        (np.full((4, 4), np.nan), "must be (h, w) and finite"),
        (np.full((4, 4), 7e4), "goes beyond 65504, where float16 ends; divide all maps"),
    ],
)
def test_a_map_that_is_none_is_refused(dataset: MvtecAd2, tmp_path: Path, values: np.ndarray, message: str) -> None:
    given = iter([("can/test_private/000_regular.png", values)])
    assert message in refused(dataset, tmp_path / "new", given)


def test_an_object_without_a_threshold_is_named_before_anything_is_written(dataset: MvtecAd2, tmp_path: Path) -> None:
    assert "no threshold for fabric" in refused(dataset, tmp_path / "new", maps(dataset), {"can": 1.0})
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(dataset: MvtecAd2, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    assert "not empty; name a new folder" in refused(dataset, tmp_path, maps(dataset))


def test_a_copy_without_private_images_is_told(tmp_path: Path) -> None:
    root = layouts.write("mvtec_ad_2", tmp_path / "copy")
    for file in (root / "can/test_private").iterdir():
        file.unlink()
    dataset = MvtecAd2(DatasetSpec(name="mvtec_ad_2", root=root), root)
    with pytest.raises(DataError, match=r"can/test_private holds no images; they come with the archive"):
        dataset.private()
