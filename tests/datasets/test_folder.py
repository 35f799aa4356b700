"""The layout of MVTec AD: what is listed, and how masks find their images."""

import shutil
from pathlib import Path

import pytest

from adcore.datasets.base import DataError


def test_a_root_of_categories(line, dataset):
    entries = dataset("folder", root="line").entries()
    assert {e.category for e in entries} == {"bolt", "cap"}
    bolt = [e for e in entries if e.category == "bolt"]
    assert [(e.path, e.split, e.defect, e.mask, e.error) for e in bolt if e.split == "test"] == [
        ("bolt/test/good/000.png", "test", "good", "", ""),
        ("bolt/test/good/001.png", "test", "good", "", ""),
        ("bolt/test/hole/000.png", "test", "hole", "bolt/ground_truth/hole/000_mask.png", ""),
        ("bolt/test/hole/001.png", "test", "hole", "bolt/ground_truth/hole/001_mask.png", ""),
        ("bolt/test/hole/002.png", "test", "hole", "bolt/ground_truth/hole/002_mask.png", ""),
    ]
    assert [e.path for e in bolt if e.split == "train"] == [f"bolt/train/good/00{i}.png" for i in range(4)]


def test_a_root_that_is_one_category(line, dataset):
    entries = dataset("folder", root=str(line / "cap")).entries()
    assert {e.category for e in entries} == {"cap"}
    assert entries[-1].path == "train/good/003.png"


def test_without_a_root_the_folder_of_its_name_in_data(line, dataset, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.move(line, tmp_path / "data/my_line")
    assert len(dataset("folder", name="my_line").entries()) == 18


def test_masks_are_paired_by_exact_stem_never_by_position(tmp_path, files, dataset):
    for stem in ("1", "10", "3", "013"):
        files.save(tmp_path / "line/x/test/hole" / f"{stem}.png", int(stem))
    for stem in ("10", "013"):
        files.save_mask(tmp_path / "line/x/ground_truth/hole" / f"{stem}_mask.png")
    found = {Path(e.path).stem: (e.mask, bool(e.error)) for e in dataset("folder", root="line").entries()}
    assert found == {
        "1": ("", True),
        "3": ("", True),
        "10": ("x/ground_truth/hole/10_mask.png", False),
        "013": ("x/ground_truth/hole/013_mask.png", False),
    }


def test_a_category_without_ground_truth_has_image_labels_only(line, dataset):
    shutil.rmtree(line / "cap/ground_truth")
    assert not [e for e in dataset("folder", root="line").entries() if e.error]


def test_an_empty_ground_truth_misses_every_mask(line, dataset):
    shutil.rmtree(line / "cap/ground_truth/hole")
    errors = [e for e in dataset("folder", root="line").entries() if e.error]
    assert [e.path for e in errors] == [f"cap/test/hole/00{i}.png" for i in range(3)]
    assert errors[0].error == "no mask: ground_truth/hole/000_mask.png does not exist"


def test_a_mask_without_image(line, dataset):
    (line / "cap/test/hole/001.png").unlink()
    (error,) = [e for e in dataset("folder", root="line").entries() if e.error]
    assert (error.path, error.split, error.category) == ("cap/ground_truth/hole/001_mask.png", "", "cap")
    assert error.error == "mask without image: expected test/hole/001"


def test_a_mask_without_the_suffix(line, dataset):
    (line / "cap/ground_truth/hole/001_mask.png").rename(line / "cap/ground_truth/hole/001.png")
    errors = {e.path: e.error for e in dataset("folder", root="line").entries() if e.error}
    assert errors == {
        "cap/ground_truth/hole/001.png": "mask without image: expected a name like 001_mask",
        "cap/test/hole/001.png": "no mask: ground_truth/hole/001_mask.png does not exist",
    }


def test_two_masks_for_one_image(line, files, dataset):
    files.save_mask(line / "cap/ground_truth/hole/001_mask.bmp")
    (error,) = [e for e in dataset("folder", root="line").entries() if e.error]
    assert error.error.startswith("second mask")


def test_extensions_in_any_case_and_no_litter(line, files, dataset):
    files.save(line / "cap/train/good/A.BMP", 1)
    files.save(line / "cap/train/good/b.JpEg", 2)
    files.save(line / "cap/train/good/.hidden.png", 3)
    files.save(line / ".trash/train/good/c.png", 4)
    (line / "cap/train/good/Thumbs.db").write_bytes(b"litter")
    (line / "license.txt").write_text("litter")
    names = {e.path for e in dataset("folder", root="line", categories=["cap"]).entries() if e.split == "train"}
    assert names == {f"cap/train/good/{n}" for n in ("000.png", "001.png", "002.png", "003.png", "A.BMP", "b.JpEg")}
    assert {e.category for e in dataset("folder", root="line").entries()} == {"bolt", "cap"}


def test_an_unknown_category_names_the_nearest(line, dataset):
    entries = dataset("folder", root="line", categories=["bolts", "cap"]).entries()
    assert entries[0].error == "no such category: bolts; the nearest name is bolt"
    assert {e.category for e in entries if e.split} == {"cap"}


def test_an_empty_category(line, dataset):
    (line / "empty").mkdir()
    (entry,) = [e for e in dataset("folder", root="line").entries() if e.category == "empty"]
    assert entry.error.startswith("empty category")


def test_a_missing_root(dataset, tmp_path):
    with pytest.raises(
        DataError, match=f"dataset my_line: the folder {tmp_path}/nowhere does not exist; put the images"
    ):
        dataset("folder", name="my_line", root="nowhere").prepare()


def test_a_root_without_categories(dataset, tmp_path):
    (tmp_path / "line").mkdir()
    with pytest.raises(DataError, match="holds no category"):
        dataset("folder", root="line").entries()


def test_textures_are_those_of_the_spec(line, dataset):
    cap = dataset("folder", root="line", textures=["cap"])
    assert cap.is_texture("cap")
    assert not cap.is_texture("bolt")
    assert not dataset("folder", root="line").is_texture("cap")
