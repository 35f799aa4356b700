"""The layout of MVTec AD: what is listed, and how masks find their images."""

import os
import shutil
import subprocess
from pathlib import Path
from unicodedata import normalize

import pytest

from adcore.datasets.base import PASSED_OVER, DataError
from adcore.engine.bench import Layout


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


def test_validation_images_are_a_split_of_their_own(line, dataset, files):
    files.save(line / "bolt/validation/good/000.png", 99)
    entries = dataset("folder", root="line").entries()
    assert [e.path for e in entries if e.split == "validation"] == ["bolt/validation/good/000.png"]


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
    (line / "empty/test/good").mkdir(parents=True)
    (entry,) = [e for e in dataset("folder", root="line").entries() if e.category == "empty"]
    assert entry.error.startswith("empty category")


def remarks(entries):
    """What is passed over: path -> category and remark."""
    beginning = f"{PASSED_OVER}: "
    return {e.path: (e.category, e.error.removeprefix(beginning)) for e in entries if e.error.startswith(beginning)}


def test_folders_that_are_no_category_are_named_and_left_alone(line, files, dataset):
    """What archives, servers and people leave beside the categories, even where it looks like one."""
    files.save(line / "__MACOSX/train/good/._000.png", 1)
    files.save(line / "@eaDir/bolt/thumbnail.png", 1)
    (line / "lost+found").mkdir()
    (line / "docs").mkdir()
    (line / "docs/readme.txt").write_text("read me")
    (line / ".hidden/train").mkdir(parents=True)
    (line / "Thumbs.db").write_bytes(b"litter")
    (line / "circle").symlink_to(line / "circle")
    entries = dataset("folder", root="line").entries()
    others = "without a folder train or test these are no categories: @eaDir, __MACOSX, docs, lost+found"
    assert remarks(entries) == {".": ("", others)}
    assert {e.category for e in entries if e.split} == {"bolt", "cap"}


def test_a_plan_may_ask_for_any_folder(line, dataset):
    (line / "docs").mkdir()
    entries = dataset("folder", root="line", categories=["docs", "cap"]).entries()
    assert [e.error for e in entries if e.category == "docs"] == ["empty category: no images in train/good or test"]
    assert not remarks(entries)


def test_litter_within_a_category_is_no_image_and_no_remark(line, files, dataset):
    for name in ("._000.png", ".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r"):
        (line / "cap/train/good" / name).write_bytes(b"litter")
    files.save(line / "cap/train/good/@eaDir/000.png/SYNOPHOTO_THUMB_M.png", 1)
    files.save(line / "cap/test/@eaDir/000.png", 1)
    assert len(dataset("folder", root="line").entries()) == 18


def test_what_is_not_read_is_counted_and_named(line, files, dataset):
    cap = line / "cap"
    for name in ("a.gif", "b.gif", "notes.txt"):
        (cap / "test/good" / name).write_bytes(b"GIF89a")
    files.save(cap / "test/hole/monday/late/000.png", 1)
    for i in range(5):
        files.save(cap / "train" / f"{i}.png", i)
    files.save(cap / "ground_truth/hole/old/000_mask.png", 1)
    files.save(cap / "Test/good/000.png", 1)
    files.save(cap / "loose.png", 1)
    files.save(line / "stray.tif", 1)
    assert remarks(dataset("folder", root="line").entries()) == {
        ".": ("", "1 file (stray.tif) beside the categories"),
        "cap": ("cap", "1 file (loose.png) beside train and test; move them into a folder of these"),
        "cap/Test": ("cap", "1 file (000.png) in a folder that is none of train, validation, test, ground_truth"),
        "cap/train": ("cap", "5 files (0.png, 1.png, 2.png, ...) beside the folders of images; move them into one"),
        "cap/test/good": (
            "cap",
            "3 files (a.gif, b.gif, notes.txt) that are not read, as png, jpg, jpeg, bmp, tif, tiff, webp, pgm, ppm, "
            "pbm are",
        ),
        "cap/test/hole/monday": ("cap", "1 file (000.png) within a folder of images; move them up into hole"),
        "cap/ground_truth/hole/old": ("cap", "1 file (000_mask.png) within a folder of images; move them up into hole"),
    }


def test_an_empty_category_tells_of_what_lies_there_instead(line, dataset):
    for image in (line / "cap").rglob("*.png"):
        image.rename(image.with_suffix(".gif"))
    (error,) = [e.error for e in dataset("folder", root="line").entries() if e.category == "cap" and "empty" in e.error]
    assert "no images in train/good or test (cap/train/good: passed over: 4 files (000.gif, 001.gif, 002.gif" in error


@pytest.fixture
def deep(line):
    """A sub-folder of a defect that goes down further than Python recurses."""
    place = line / "cap/test/hole/deep"
    place.mkdir()
    folder = os.open(place, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    yield place
    subprocess.run(["rm", "-rf", place], check=True)


def test_a_deep_folder_is_counted_to_its_end(deep, files, dataset):
    files.save(deep / "d/d/000.png", 1)
    remark = remarks(dataset("folder", root="line").entries())["cap/test/hole/deep"]
    assert remark == ("cap", "1 file (000.png) within a folder of images; move them up into hole")


def test_good_images_in_folders_of_other_names(line, dataset):
    (line / "cap/test/good").rename(line / "cap/test/OK")
    (line / "cap/train/good").rename(line / "cap/train/ok")
    entries = dataset("folder", root="line", good=["ok", "OK"]).entries()
    assert {e.path.split("/")[2] for e in entries if e.defect == "good"} == {"ok", "OK", "good"}
    assert not [e for e in entries if e.error]
    defects = {e.defect for e in dataset("folder", root="line", good=["ok"]).entries()}
    assert defects == {"good", "hole", "OK"}


def test_good_folders_of_a_kind_that_has_none(dataset, tmp_path):
    (tmp_path / "data/elpv").mkdir(parents=True)
    with pytest.raises(DataError, match="kind elpv does not tell good images by the name of a folder; leave `good`"):
        dataset("elpv", good=["ok"]).require_root()


@pytest.mark.parametrize("root", ["line", "line/bolt"])
def test_a_root_that_is_the_workspace_as_well(line, dataset, tmp_path, files, root):
    """Our own folders lie beside the categories, or beside train and test; none of them is data."""
    made = dataset("folder", root=root)
    made.data = tmp_path / root / "data"
    before = made.entries()
    workspace = Layout(tmp_path / root)
    ours = (workspace.results, workspace.manifests, workspace.artifacts, workspace.cache, made.data)
    for folder in (*ours, workspace.workspace / "mlartifacts"):
        files.save(folder / "test/good/000.png", 1)
    assert made.entries() == before


def test_a_workspace_within_the_root(line, dataset):
    dataset_ = dataset("folder", root="line")
    dataset_.data = line / "work/data"
    (line / "work/results").mkdir(parents=True)
    assert not remarks(dataset_.entries())


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_image_and_mask_in_different_normal_forms(line, dataset, forms):
    one, other = forms
    cap = line / "cap"
    for i in range(3):
        name = f"Prüfling_{i}"
        (cap / f"test/hole/00{i}.png").rename(cap / "test/hole" / f"{normalize(one, name)}.png")
        mask = cap / f"ground_truth/hole/00{i}_mask.png"
        mask.rename(mask.with_name(f"{normalize(other, name)}_mask.png"))
    (cap / "test/hole").rename(cap / "test" / normalize(one, "Löcher"))
    (cap / "ground_truth/hole").rename(cap / "ground_truth" / normalize(other, "Löcher"))
    cap.rename(line / normalize(one, "Käppchen"))
    entries = dataset("folder", root="line", categories=[normalize(other, "Käppchen")]).entries()
    assert not [e.error for e in entries if e.error]
    assert sum(bool(e.mask) for e in entries) == 3


def test_one_mask_for_two_images_of_one_stem(line, files, dataset):
    files.save(line / "cap/test/hole/000.bmp", 1)
    (error,) = [e for e in dataset("folder", root="line").entries() if e.error]
    assert (error.path, error.mask) == ("cap/test/hole/000.png", "")
    assert error.error.startswith("no mask: ground_truth/hole/000_mask.png belongs to test/hole/000.bmp")


def test_a_folder_that_cannot_be_read_stops_its_category_only(line, dataset):
    """A path longer than the system opens; root may read everything else."""
    deep = line
    while len(os.fsencode(deep)) < 4096 - 260:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    shutil.move(line / "cap", deep / "cap")
    inner = os.open(deep / "cap/test", os.O_RDONLY)
    os.rename("hole", "h" * 250, src_dir_fd=inner, dst_dir_fd=inner)
    os.close(inner)
    shutil.copytree(line / "bolt", deep / "bolt")
    entries = dataset("folder", root=str(deep)).entries()
    assert [e.error for e in entries if e.category == "cap"] == [
        f"folder cannot be read: {deep}/cap/test/{'h' * 250}: File name too long"
    ]
    assert len([e for e in entries if e.category == "bolt" and e.split]) == 9


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
    accented = dataset("folder", root="line", textures=[normalize("NFC", "Käppchen")])
    assert accented.is_texture(normalize("NFD", "Käppchen"))


def test_the_plan_says_by_a_pattern_which_images_are_of_one_group(line, dataset):
    (line / "bolt/test/hole/000.png").rename(line / "bolt/test/hole/part7_a.png")
    (line / "bolt/ground_truth/hole/000_mask.png").rename(line / "bolt/ground_truth/hole/part7_a_mask.png")
    (line / "bolt/test/good/000.png").rename(line / "bolt/test/good/part7_b.png")
    groups = {e.path: e.group for e in dataset("folder", root="line", group=r"(part\d+)_").entries() if e.group}
    assert groups == {"bolt/test/good/part7_b.png": "part7", "bolt/test/hole/part7_a.png": "part7"}


def test_without_a_pattern_every_image_is_its_own(line, dataset):
    assert {entry.group for entry in dataset("folder", root="line").entries()} == {""}


def test_a_pattern_that_is_found_in_no_path_is_an_error(line, dataset):
    message = r"group: 'part\(\.\)' is found in no path, such as bolt/test/good/000\.png"
    with pytest.raises(DataError, match=message):
        dataset("folder", root="line", group="part(.)").entries()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(part", r"'\(part' is no regular expression: missing \)"),
        ("part", "'part' has 0 pairs of parentheses; put one around what names the part"),
        ("(a)(b)", r"'\(a\)\(b\)' has 2 pairs of parentheses"),
    ],
)
def test_a_pattern_that_names_no_group_is_refused(dataset, pattern, message):
    with pytest.raises(ValueError, match=message):
        dataset("folder", root="line", group=pattern)


def test_a_kind_that_knows_its_groups_takes_none_from_the_plan(dataset, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(DataError, match="kind visa does not take groups from the plan; leave `group` away"):
        dataset("visa", root="copy", group="(x)").prepare()
