"""Validation: each bad input is found, named by its file, and laid at the right category's door."""

import shutil
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from adcore.datasets import _doubts
from adcore.datasets.validation import DIM, NAMED, NOTED, READ, Problem, means_good, validate
from adcore.datasets.validation_page import write_page


@dataclass
class Found:
    problems: list[Problem]

    def of(self, category):
        return {(p.severity, p.check, p.path) for p in self.problems if p.category == category}


@pytest.fixture
def check(dataset, build):
    """Validate the folder `line`."""

    def run(**options):
        folder = dataset("folder", root="line", **options)
        return Found(validate(build(folder), folder))

    return run


def test_a_sound_set_has_no_problems(line, check):
    assert check().problems == []


def test_bad_files(line, files, check):
    """All faults of single files, in one run; bolt stays usable."""
    cap = line / "cap"
    (cap / "train/good/000.png").write_bytes(b"no image")
    truncated = cap / "test/good/000.png"
    truncated.write_bytes(truncated.read_bytes()[:300])
    for i in range(3, 9):
        files.save(cap / f"test/hole/00{i}.png", 300 + i)
        files.save_mask(cap / f"ground_truth/hole/00{i}_mask.png")
    (cap / "ground_truth/hole/003_mask.png").unlink()
    (cap / "test/hole/004.png").unlink()
    files.save_mask(cap / "ground_truth/hole/005_mask.png", 12)
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(cap / "ground_truth/hole/006_mask.png")
    Image.new("L", (16, 16)).save(cap / "ground_truth/hole/007_mask.png")
    (cap / "ground_truth/hole/008_mask.png").write_bytes(b"no image")
    found = check()
    assert found.of("bolt") == set()
    assert found.of("cap") == {
        ("error", "image readable", "cap/train/good/000.png"),
        ("error", "image readable", "cap/test/good/000.png"),
        ("error", "mask present", "cap/test/hole/003.png"),
        ("error", "mask belongs to an image", "cap/ground_truth/hole/004_mask.png"),
        ("error", "mask as large as its image", "cap/test/hole/005.png"),
        ("error", "mask binary", "cap/test/hole/006.png"),
        ("error", "mask not empty", "cap/test/hole/007.png"),
        ("error", "mask readable", "cap/test/hole/008.png"),
    }


def test_bad_sets(line, files, check):
    """All faults of splits and categories, in one run."""
    shutil.rmtree(line / "bolt/train")
    for name in ("leak", "odd", "onlygood", "onlybad", "untested"):
        files.make_category(line / name, 1000 * len(name))
    (line / "void/test").mkdir(parents=True)
    shutil.copy(line / "leak/train/good/001.png", line / "leak/test/good/007.png")
    shutil.copytree(line / "leak/test/hole", line / "leak/train/hole")
    shutil.copy(line / "odd/train/good/001.png", line / "odd/train/good/007.png")
    Image.new("L", (9, 9)).save(line / "odd/train/good/008.png")
    shutil.rmtree(line / "onlygood/test/hole")
    shutil.rmtree(line / "onlygood/ground_truth")
    shutil.rmtree(line / "onlybad/test/good")
    shutil.rmtree(line / "untested/test")
    shutil.rmtree(line / "untested/ground_truth")
    found = check()
    assert found.of("cap") == set()
    assert found.of("bolt") == {("error", "training images", "")}
    assert found.of("void") == {("error", "category not empty", "")}
    assert found.of("untested") == {("error", "test images", "")}
    assert found.of("onlygood") == {("warning", "defective test images", "")}
    assert found.of("onlybad") == {("warning", "good test images", "")}
    assert found.of("odd") == {
        ("warning", "no repeated image", "odd/train/good/007.png"),
        ("warning", "one size", ""),
        ("warning", "one kind of pixels", ""),
        ("warning", "image of several colours", "odd/train/good/008.png"),
    }
    holes = {f"leak/{split}/hole/00{i}.png" for split in ("train", "test") for i in range(3)}
    twins = holes | {"leak/train/good/001.png", "leak/test/good/007.png"}
    assert found.of("leak") == {("error", "train and test disjoint", path) for path in twins} | {
        ("error", "training images normal", path) for path in holes if "train" in path
    } | {("warning", "no twins in training", "")}
    messages = {p.path: p.message for p in found.problems if p.check == "train and test disjoint"}
    assert messages["leak/test/good/007.png"] == "the same content as leak/train/good/001.png; remove one of them"
    (sizes,) = [p.message for p in found.problems if p.check == "one size"]
    assert sizes == "images of several sizes, 16x16 (10), 9x9 (1): all are resized to one"


def messages(found, check):
    return {(p.category, p.severity): p.message for p in found.problems if p.check == check}


def test_folders_whose_name_means_good_are_asked_about(line, check):
    shutil.copytree(line / "bolt", line / "nut")
    (line / "bolt/test/good").rename(line / "bolt/test/Good")
    (line / "cap/test/good").rename(line / "cap/test/ok")
    (line / "cap/train/good").rename(line / "cap/train/ok")
    for category in ("bolt", "cap"):
        shutil.rmtree(line / category / "ground_truth")
    found = check()
    asked = "images in test/{0} count as defective; if they are good, write `good: [{0}]` in the dataset's entry"
    assert messages(found, NAMED) == {("bolt", "warning"): asked.format("Good"), ("cap", "warning"): asked.format("ok")}
    mend = "if ok means good, write `good: [ok]` in the dataset's entry"
    assert mend in messages(found, "training images normal")["cap", "error"]
    assert check(good=["Good", "ok"]).problems == []


@pytest.mark.parametrize("name", ["Good", "OK", "ok_2", "normal", "NORMAL images", "i.O.", "no_defects", "defect-free"])
def test_names_that_mean_good(name):
    assert means_good(name)


@pytest.mark.parametrize(
    "name",
    ["ng", "ko", "hole", "not_good", "good_but_dirty", "abnormal", "token", "defect", "2", "", "images", "io_port"],
)
def test_names_that_mean_nothing_of_the_kind(name):
    assert not means_good(name)


def test_what_is_passed_over_is_a_warning_that_stops_nothing(line, files, check):
    (line / "docs").mkdir()
    files.save(line / "cap/test/hole/more/000.png", 1)
    found = check()
    assert found.of("cap") == {("warning", READ, "cap/test/hole/more")}
    assert found.of("") == {("warning", READ, ".")}
    assert found.of("bolt") == set()


def test_the_same_content_in_two_categories_is_no_leak(line, check):
    shutil.copy(line / "bolt/train/good/000.png", line / "cap/test/good/009.png")
    assert check().problems == []


def test_an_unknown_category_stops_itself_only(line, check):
    found = check(categories=["bolt", "capp"])
    assert found.of("bolt") == set()
    (problem,) = found.problems
    assert (problem.category, problem.severity) == ("capp", "error")
    assert problem.message == "no such category: capp; the nearest name is cap"


def test_wrong_labels_splits_and_faults_of_other_kinds(line, dataset, build):
    folder = dataset("folder", root="line")
    frame = build(folder)
    frame.loc[frame["path"] == "bolt/test/hole/000.png", "label"] = 2
    frame.loc[frame["path"] == "bolt/test/hole/001.png", "split"] = "val"
    frame.loc[frame["path"] == "cap/test/good/001.png", "error"] = "a plug-in's own fault"
    found = {(p.check, p.path, p.message) for p in validate(frame, folder)}
    assert found == {
        ("label known", "bolt/test/hole/000.png", "its label is 2, neither 0 nor 1"),
        ("split known", "bolt/test/hole/001.png", "its split is 'val', none of train, validation, test"),
        ("no other fault", "cap/test/good/001.png", "a plug-in's own fault"),
    }


def test_only_empty_categories(tmp_path, check):
    (tmp_path / "line/void/train").mkdir(parents=True)
    assert check().of("void") == {("error", "category not empty", "")}


def test_data_docs(line, dataset, build, tmp_path):
    folder = dataset("folder", root="line")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/mine.txt").write_text("kept")
    for _ in range(2):
        validate(build(folder), folder, tmp_path / "docs")
    assert "folder-images" in (tmp_path / "docs/index.html").read_text()
    assert len(list((tmp_path / "docs/validations").rglob("*.html"))) == 2  # those of the last run
    assert (tmp_path / "docs/mine.txt").exists()


def test_the_page_names_the_failing_files_and_is_self_contained(line, files, dataset, build, tmp_path):
    shutil.rmtree(line / "bolt/train")
    (line / "docs").mkdir()
    files.save(line / "cap/test/hole/<b>&.png", 7)
    folder = dataset("folder", root="line")
    frame = build(folder)
    problems = {"line": validate(frame, folder), "gone": [Problem("", "error", "usable", "", "the root is missing")]}
    write_page(problems, {"line": frame}, tmp_path / "out/page.html", {"line": "CC0"})
    page = (tmp_path / "out/page.html").read_text()
    assert "cap/test/hole/&lt;b&gt;&amp;.png" in page
    assert "<b>" not in page
    for text in (
        "0 usable",
        "3 stopped",
        "the root is missing",
        "hole (4)",
        "CC0",
        "no training images",
        "no categories: docs",
    ):
        assert text in page
    assert "http" not in page


def test_the_page_cuts_long_lists(line, dataset, build, tmp_path):
    many = [Problem("cap", "error", "image readable", f"{i}.png", "broken") for i in range(1000)]
    write_page({"line": many}, {"line": build(dataset("folder", root="line"))}, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("broken") == 200
    assert "and 800 more" in page
    assert "(1000 findings)" in page


def random(low, high, shape=(16, 16, 3), dtype=np.uint8):
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def camera(bits):
    return random(0, 2**bits, (16, 16), np.uint16)


def behind(alpha):
    return lambda rng: np.dstack([random(0, 256)(rng), alpha(rng).astype(np.uint8)])


TOP = np.indices((16, 16))[0] < 6
ODD_PICTURES = {
    **{f"camera{bits}": (camera(bits), DIM) for bits in (8, 10, 12, 14)},
    "camera16": (camera(16), ""),
    "clear": (behind(random(0, 1, (16, 16))), "image opaque"),
    "alpha_of_one": (behind(random(1, 2, (16, 16))), "image opaque"),
    "infrared": (behind(random(0, 200, (16, 16))), "image opaque"),
    "cut_out": (behind(lambda rng: np.where(TOP, 255, 0)), ""),
    "grey": (lambda rng: np.full((16, 16, 3), 128, np.uint8), "image of several colours"),
    "dark": (random(0, 12), "image not black"),
}


@pytest.fixture
def odd_pictures(tmp_path, files):
    """A category for each kind of pictures; of its training images the first two are such."""
    for seed, (name, (make, _)) in enumerate(ODD_PICTURES.items()):
        files.make_category(tmp_path / "line" / name, 1000 * seed)
        for number in range(2):
            picture = make(np.random.default_rng(number))
            Image.fromarray(picture).save(tmp_path / "line" / name / f"train/good/00{number}.png")


def test_pictures_that_nobody_can_have_meant_are_told(odd_pictures, check):
    found = [p for p in check().problems if p.check in NOTED]
    assert {p.severity for p in found} == {"warning"}
    assert {(p.category, p.check) for p in found} == {
        (name, check) for name, (_, check) in ODD_PICTURES.items() if check
    }
    assert {p.path for p in found if p.category == "clear"} == {f"clear/train/good/00{n}.png" for n in range(2)}
    messages = {p.category: p.message for p in found}
    for bits, white in ((8, 255), (10, 1023), (12, 4095), (14, 16383)):
        start = f"2 images of 16 bits, the first camera{bits}/train/good/000.png, hold values up to"
        assert messages[f"camera{bits}"].startswith(start)
        assert f"`pixels: {{max: {white}}}`" in messages[f"camera{bits}"]


def test_the_plan_settles_how_pixels_are_read(odd_pictures, dataset, build):
    for alpha in ("black", "ignore"):
        frame = build(dataset("folder", root="line", pixels={"alpha": alpha}))
        doubtful = frame[frame["warning"].str.startswith("hidden")]
        assert doubtful.empty
    frame = build(dataset("folder", root="line", pixels={"max": 4095}))
    texts = {name: (_doubts.dim(rows), _doubts.cut(rows)) for name, rows in frame.groupby("category")}
    assert texts["camera12"] == ("", "")
    assert texts["camera14"][1].startswith("2 images, the first camera14/train/good/000.png, hold values up to")


def test_colours_of_16_bits_from_a_camera_of_12_are_told(line, dataset, build):
    values = np.random.default_rng(0).integers(0, 2**12, (16, 16, 3)).astype(">u2")
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in parts]
    (line / "cap/train/good/000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    frame = build(dataset("folder", root="line"))
    (warning,) = frame.loc[frame["warning"] != "", "warning"]
    assert warning.startswith("nearly black")
    assert "its colours have 16 bits" in warning
