"""The manifest: contents, the cache of what was read, CSV, and caps."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcore.core import keys
from adcore.core.names import located, written
from adcore.datasets import manifest
from adcore.engine import bench
from adcore.vision.masks import MaskFile


def errors(frame):
    return dict(frame.loc[frame["error"] != "", ["path", "error"]].itertuples(index=False))


def test_a_row_says_what_the_file_holds(line, dataset, build):
    frame = build(dataset("folder", root="line"))
    assert list(frame.columns) == manifest.COLUMNS
    assert len(frame) == 18
    assert not errors(frame)
    assert frame["path"].is_monotonic_increasing
    row = frame[frame["path"] == "cap/test/hole/002.png"].iloc[0]
    content = (line / row["path"]).read_bytes()
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert row["bytes"] == len(content)
    assert row["mask_sha256"] == hashlib.sha256((line / row["mask"]).read_bytes()).hexdigest()
    assert (row["split"], row["label"], row["defect"], row["mode"]) == ("test", 1, "hole", "RGB")
    assert (row["width"], row["height"]) == (16, 16)
    assert set(frame.loc[frame["defect"] == "good", "label"]) == {0}


SOFT = "; `masks: {threshold: 0.5}` in the data set's entry reads soft edges and masks stored with losses"
LEVELS = "; `masks: {threshold: 0}` in the data set's entry takes every value above 0 for a defect"


def write_mask(line, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(line / "cap/ground_truth/hole/001_mask.png")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.full((8, 16), 255), "mask of another size: cap/ground_truth/hole/001_mask.png is 16x8, its image 16x16"),
        (np.zeros((16, 16)), "mask is empty: cap/ground_truth/hole/001_mask.png marks nothing"),
        (np.arange(256).reshape(16, 16), f"mask is not binary: 001_mask.png holds 256 grey values from 0 to 255{SOFT}"),
        (np.indices((16, 16))[0] % 3, f"mask is not binary: 001_mask.png holds 3 grey values from 0 to 2{LEVELS}"),
        (np.indices((16, 16))[0] % 2 + 1, "mask is not binary: 001_mask.png holds 2 grey values from 1 to 2"),
    ],
)
def test_bad_masks(line, dataset, build, values, error):
    write_mask(line, values)
    assert errors(build(dataset("folder", root="line"))) == {"cap/test/hole/001.png": error}


@pytest.mark.parametrize("values", [np.full((16, 16), 255), np.indices((16, 16))[0] % 2])
def test_full_masks_and_masks_of_0_and_1_are_sound(line, dataset, build, values):
    write_mask(line, values)
    assert not errors(build(dataset("folder", root="line")))


def test_a_good_image_may_have_an_empty_mask_only(line, files, dataset, build):
    (line / "cap/ground_truth/good").mkdir()
    Image.new("L", (16, 16)).save(line / "cap/ground_truth/good/000_mask.png")
    assert not errors(build(dataset("folder", root="line")))
    files.save_mask(line / "cap/ground_truth/good/000_mask.png")
    found = errors(build(dataset("folder", root="line")))
    assert found == {"cap/test/good/000.png": "mask of a good image is not empty: cap/ground_truth/good/000_mask.png"}


def test_corrupt_and_truncated_files(line, dataset, build):
    (line / "bolt/train/good/000.png").write_bytes(b"no image")
    path = line / "cap/test/hole/000.png"
    path.write_bytes(path.read_bytes()[:300])
    (line / "cap/ground_truth/hole/002_mask.png").write_bytes(b"")
    frame = build(dataset("folder", root="line"))
    found = errors(frame)
    assert found.pop("bolt/train/good/000.png").startswith("image cannot be read: it is no image")
    assert found.pop("cap/test/hole/000.png").startswith("image cannot be read: it is corrupt")
    assert found.pop("cap/test/hole/002.png").startswith("mask cannot be read: 002_mask.png")
    assert not found
    assert (frame["sha256"] != "").all()


def test_a_turned_image_and_its_upright_mask_agree(line, dataset, build):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 20)).save(line / "cap/test/hole/001.png", exif=exif)
    mask = np.zeros((10, 20), np.uint8)
    mask[2, 3] = 255
    write_mask(line, mask)
    frame = build(dataset("folder", root="line"))
    assert not errors(frame)
    assert frame.loc[frame["path"] == "cap/test/hole/001.png", ["width", "height"]].to_numpy().tolist() == [[20, 10]]


def test_a_second_reading_opens_no_file(line, dataset, build, monkeypatch):
    first = build(dataset("folder", root="line"))
    monkeypatch.setattr(manifest, "_probe", None)
    pd.testing.assert_frame_equal(build(dataset("folder", root="line")), first)


def test_a_changed_file_is_noticed(line, dataset, build):
    before = build(dataset("folder", root="line")).set_index("path")["sha256"]
    path = line / "cap/train/good/002.png"
    content, status = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1  # same size: only the time tells
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    after = build(dataset("folder", root="line")).set_index("path")["sha256"]
    assert list(after.index[after != before]) == ["cap/train/good/002.png"]
    other = path.with_suffix(".new")
    other.write_bytes((line / "bolt/train/good/000.png").read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))  # same time: the inode tells
    other.replace(path)
    again = build(dataset("folder", root="line")).set_index("path")["sha256"]
    assert again["cap/train/good/002.png"] == again["bolt/train/good/000.png"]


def test_a_removed_file_leaves_the_manifest(line, dataset, build):
    build(dataset("folder", root="line"))
    (line / "cap/train/good/002.png").unlink()
    assert len(build(dataset("folder", root="line"))) == 17


SCRIPT = """
import sys
from pathlib import Path
from adcore.datasets import manifest
from adcore.core import keys
from adcore.core.names import located, written
from adcore.datasets.folder import Folder
from adcore.core.plan import DatasetSpec

root, cache, out = map(Path, sys.argv[1:])
manifest.write(manifest.build(Folder(DatasetSpec(name="line", root=root), Path()), cache), out)
"""


def test_processes_at_once_share_one_cache(line, tmp_path):
    outputs = [tmp_path / f"{i}.csv" for i in range(3)]
    command = [sys.executable, "-c", SCRIPT, str(line), str(tmp_path / "cache/files.sqlite")]
    running = [subprocess.Popen([*command, str(output)]) for output in outputs]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len({output.read_bytes() for output in outputs}) == 1
    assert len(manifest.read_manifest(outputs[0])) == 18


def test_threads_at_once_share_one_cache(line, dataset, build):
    with ThreadPoolExecutor(6) as pool:
        frames = list(pool.map(build, [dataset("folder", root="line")] * 12))
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0])


@pytest.mark.timeout(60)
def test_three_thousand_files_that_have_not_changed_are_not_opened_again(tmp_path, files, dataset, build, monkeypatch):
    source = files.save(tmp_path / "one.png", 0, 2)
    for category in range(3):
        folder = tmp_path / f"many/{category}/train/good"
        folder.mkdir(parents=True)
        for i in range(1000):
            os.link(source, folder / f"{i}.png")
    many = dataset("folder", root="many")
    build(many)
    monkeypatch.setattr(manifest, "_probe", lambda task: pytest.fail(f"{task} was opened"))
    assert len(build(many)) == 3000


ODD = [
    b"fr\xfch.png",
    b"000\r.png",
    b"a\nb.png",
    b"\x1b[31mred.png",
    b"back\\slash \\x41.png",
    b' lead, "quoted".png',
    b"NA.png",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_the_file_system_allows_is_read_and_written(line, dataset, build, tmp_path, name):
    """As image and mask, as a kind of defect and as a category: read, remembered, written and found again."""
    sha256 = hashlib.sha256((line / "cap/test/hole/000.png").read_bytes()).hexdigest()
    odd, stem = os.fsdecode(name), os.fsdecode(name.removesuffix(b".png"))
    (line / "cap/test/hole/000.png").rename(line / "cap/test/hole" / odd)
    (line / "cap/ground_truth/hole/000_mask.png").rename(line / "cap/ground_truth/hole" / f"{stem}_mask.png")
    (line / "cap/test/hole").rename(line / "cap/test" / stem)
    (line / "cap/ground_truth/hole").rename(line / "cap/ground_truth" / stem)
    (line / "cap").rename(line / stem)
    folder = dataset("folder", root="line")
    frame = build(folder)
    assert not errors(frame)
    (path,) = frame.loc[frame["sha256"] == sha256, "path"]
    assert path == f"{written(stem)}/test/{written(stem)}/{written(odd)}"
    assert located(line, path).samefile(line / stem / "test" / stem / odd)
    pd.testing.assert_frame_equal(build(folder), frame)
    manifest.write(frame, tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(manifest.read_manifest(tmp_path / "manifest.csv"), frame)
    assert len((tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()) == len(frame) + 1
    assert dataset("folder", root="line", categories=[written(stem)]).entries()[-1].category == written(stem)


def test_a_pipe_is_not_waited_for(line, dataset, build):
    os.mkfifo(line / "cap/test/good/pipe.png")
    assert errors(build(dataset("folder", root="line"))) == {
        "cap/test/good/pipe.png": "image cannot be read: it is no file"
    }


def test_a_file_whose_path_the_system_does_not_open_stops_its_category_only(line, dataset, build):
    deep = line
    while len(os.fsencode(deep)) < 4096 - 260:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    for category in ("bolt", "cap"):
        (line / category).rename(deep / category)
    inner = os.open(deep / "cap/test/hole", os.O_RDONLY)
    os.rename("000.png", "h" * 251 + ".png", src_dir_fd=inner, dst_dir_fd=inner)
    os.close(inner)
    frame = build(dataset("folder", root=str(deep)))
    assert "image cannot be read: File name too long" in frame.loc[frame["error"] != "", "error"].iloc[-1]
    assert set(frame.loc[frame["error"] != "", "category"]) == {"cap"}


def test_categories_of_an_older_manifest_stay_with_their_remarks(line, files, dataset, build, tmp_path):
    files.save(line / "cap/test/good/more/000.png", 1)
    manifest.write(build(dataset("folder", root="line")), tmp_path / "all.csv")
    smaller = build(dataset("folder", root="line", categories=["bolt"]))
    kept = manifest.with_others(smaller, tmp_path / "all.csv", line)
    pd.testing.assert_frame_equal(kept, manifest.read_manifest(tmp_path / "all.csv"))


def test_csv_is_deterministic_and_returns_the_frame(line, dataset, build, tmp_path):
    (line / "cap/train/good/000.png").rename(line / 'cap/train/good/NA, "0".png')
    frame = build(dataset("folder", root="line"))
    manifest.write(frame, tmp_path / "a/manifest.csv")
    manifest.write(frame.copy(), tmp_path / "b/manifest.csv")
    assert (tmp_path / "a/manifest.csv").read_bytes() == (tmp_path / "b/manifest.csv").read_bytes()
    pd.testing.assert_frame_equal(manifest.read_manifest(tmp_path / "a/manifest.csv"), frame)
    assert str(tmp_path) not in (tmp_path / "a/manifest.csv").read_text()


def made_up(train: int, good: int, bad: int, category: str = "x") -> pd.DataFrame:
    kinds = [("train", 0)] * train + [("test", 0)] * good + [("test", 1)] * bad
    rows = [
        (f"{i}.png", category, split, label, hashlib.sha256(f"{category}{i}".encode()).hexdigest())
        for i, (split, label) in enumerate(kinds)
    ]
    return pd.DataFrame(rows, columns=["path", "category", "split", "label", "sha256"])


counts = st.integers(0, 30)


@settings(deadline=None, max_examples=30)
@given(counts, counts, counts, st.integers(1, 40), st.integers(2, 40))
def test_cap(train, good, bad, max_train, max_test):
    frame = made_up(train, good, bad)
    capped = manifest.cap(frame, max_train, max_test)
    test = capped[capped["split"] == "test"]
    assert (capped["split"] == "train").sum() == min(train, max_train)
    assert len(test) == min(good + bad, max_test)
    assert (test["label"] == 0).any() == (good > 0)
    assert (test["label"] == 1).any() == (bad > 0)
    if good and bad and good + bad > max_test:
        assert abs((test["label"] == 1).sum() - max_test * bad / (good + bad)) <= 1
    for part, all_of in ((capped, frame), (test[test["label"] == 1], frame[frame["label"] == 1])):
        assert list(part["path"]) == [p for p in all_of["path"] if p in set(part["path"])]


@settings(deadline=None, max_examples=12)
@given(counts, counts, counts, st.randoms(use_true_random=False))
def test_cap_depends_on_content_alone_and_grows(train, good, bad, random):
    frame = pd.concat([made_up(train, good, bad), made_up(3, 2, 2, "y")], ignore_index=True)
    small, large = (set(manifest.cap(frame, n, n)["sha256"]) for n in (5, 9))
    assert small <= large
    order = list(frame.index)
    random.shuffle(order)
    renamed = frame.loc[order].reset_index(drop=True).assign(path=lambda f: f.index.map(str))
    assert set(manifest.cap(renamed, 5, 5)["sha256"]) == small


def test_no_cap_keeps_all_and_faults_stay():
    frame = pd.concat([made_up(3, 2, 2), made_up(1, 0, 0).assign(split="")], ignore_index=True)
    pd.testing.assert_frame_equal(manifest.cap(frame, None, None), frame)
    assert (manifest.cap(frame, 1, 2)["split"] == "").sum() == 1


def test_a_cap_takes_no_validation_image_away_and_what_it_chooses_does_not_depend_on_them():
    frame = made_up(5, 4, 4)
    aside = made_up(3, 0, 0).assign(split="validation", path=lambda f: "v" + f["path"])
    capped = manifest.cap(pd.concat([frame, aside], ignore_index=True), 2, 2)
    assert (capped["split"] == "validation").sum() == 3
    assert set(capped["path"]) - set(aside["path"]) == set(manifest.cap(frame, 2, 2)["path"])


def test_a_manifest_without_groups_is_what_it_was_before_there_were_any(line, dataset, build, tmp_path):
    """Text and key: neither has the column."""
    frame = build(dataset("folder", root="line"))
    before = frame.drop(columns="group").to_csv(index=False)
    manifest.write(frame, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == before
    key = bench.read(dataset("folder", root="line").spec, bench.Layout(tmp_path / "work"))
    assert key == keys.digest({"manifest": before})


def test_groups_are_in_the_text_of_a_manifest_and_come_back(line, dataset, build, tmp_path):
    frame = build(dataset("folder", root="line", group=r"/(\d)\d\d\."))
    manifest.write(frame, tmp_path / "a.csv")
    assert set(frame["group"]) == {"0"}
    pd.testing.assert_frame_equal(manifest.read_manifest(tmp_path / "a.csv"), frame)


# What tools make of a mask -> the option that reads it as it was meant, and what is wrong with it by default.
SQUARE = np.zeros((16, 16), np.uint8)
SQUARE[3:7, 4:9] = 255
SOFT_EDGES = np.where(SQUARE > 0, 255, np.where(scipy.ndimage.binary_dilation(SQUARE), 90, 0)).astype(np.uint8)


def palette(colours):
    image = Image.fromarray(SQUARE // 255, "P")
    image.putpalette(colours)
    return image


BLACK_WITH_ALPHA = Image.merge("LA", (Image.new("L", (16, 16)), Image.fromarray(SQUARE)))
AS_PEOPLE_HAVE_THEM = [
    (Image.fromarray(SOFT_EDGES), {"threshold": 0.5}, "mask is not binary"),
    (Image.fromarray(np.pad(SQUARE, ((0, 1), (0, 1)))), {"fit": "pad"}, "mask of another size"),
    (Image.fromarray(SQUARE[:-1, :-2]), {"fit": "pad"}, "mask of another size"),
    (BLACK_WITH_ALPHA, {"channel": "alpha"}, "mask is empty"),
    (palette([0] * 6), {"channel": "index"}, "mask is empty"),
    (palette([255, 255, 255, 255, 0, 0]), {"channel": "index"}, "marks nearly everything"),
    (Image.fromarray(255 - SQUARE), {"inverted": True}, "marks nearly everything"),
]


@pytest.mark.parametrize(("image", "option", "complaint"), AS_PEOPLE_HAVE_THEM)
def test_a_mask_is_refused_or_doubted_with_the_option_that_reads_it(line, dataset, build, image, option, complaint):
    path = "cap/ground_truth/hole/001_mask.png"
    image.save(line / path)
    plain = build(dataset("folder", root="line"))
    row = plain[plain["mask"] == path].iloc[0]
    assert (row["error"] or row["warning"]).startswith(complaint)
    ((name, value),) = option.items()
    assert f"{name}: {str(value).lower()}" in row["error"] or row["warning"]
    mended = build(dataset("folder", root="line", masks=option))
    row = mended[mended["mask"] == path].iloc[0]
    assert not row["error"]
    assert np.array_equal(MaskFile.of(line, row).whole(), SQUARE > 0)
    assert set(mended["mask_sha256"]).isdisjoint(set(plain["mask_sha256"]) - {""})
    assert plain["sha256"].equals(mended["sha256"])


def test_jpeg_masks_are_read_by_a_threshold(line, dataset, build):
    path = line / "cap/ground_truth/hole/001_mask.png"
    path.unlink()
    Image.fromarray(SQUARE).save(path.with_suffix(".jpg"), quality=90)
    assert list(errors(build(dataset("folder", root="line")))) == ["cap/test/hole/001.png"]
    frame = build(dataset("folder", root="line", masks={"threshold": 0.5}))
    assert not errors(frame)
    row = frame[frame["path"] == "cap/test/hole/001.png"].iloc[0]
    assert np.array_equal(MaskFile.of(line, row).whole(), SQUARE > 0)


def test_a_mask_far_from_its_image_s_size_does_not_fit(line, dataset, build):
    write_mask(line, SQUARE[::2, ::2])
    (error,) = errors(build(dataset("folder", root="line", masks={"fit": "pad"}))).values()
    assert error == "mask of another size: cap/ground_truth/hole/001_mask.png is 8x8, its image 16x16"


def turned_photograph(line, size, orientation=6):
    """A test image of cap that EXIF turns, with its mask on the stored pixels (width, height)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(9).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(line / "cap/test/hole/001.png", exif=exif)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[0, :3] = 255
    write_mask(line, mask)
    return mask


@pytest.mark.parametrize(("size", "orientation"), [((16, 16), 6), ((16, 16), 3), ((24, 16), 3), ((24, 16), 2)])
def test_a_turned_photograph_with_a_mask_that_is_not_turned_is_doubted(line, dataset, build, size, orientation):
    turned_photograph(line, size, orientation)
    frame = build(dataset("folder", root="line"))
    doubtful = frame[frame["warning"] != ""]
    assert list(doubtful["path"]) == ["cap/test/hole/001.png"]
    assert doubtful["warning"].iloc[0].startswith("turned by EXIF, its mask is not")
    for frame_of_masks in ("stored", "upright"):
        settled = build(dataset("folder", root="line", masks={"frame": frame_of_masks}))
        assert not settled["warning"].any()
        assert not settled["error"].any()


def test_a_wide_photograph_tells_by_its_size_that_the_mask_is_on_stored_pixels(line, dataset, build):
    mask = turned_photograph(line, (24, 16))
    (error,) = errors(build(dataset("folder", root="line"))).values()
    assert error.endswith("write `masks: {frame: stored}` in the entry")
    frame = build(dataset("folder", root="line", masks={"frame": "stored"}))
    assert not errors(frame)
    row = frame[frame["path"] == "cap/test/hole/001.png"].iloc[0]
    assert np.array_equal(MaskFile.of(line, row).whole(), np.rot90(mask, -1) > 0)


def test_options_of_reading_stay_out_of_what_they_do_not_change(line, dataset, build):
    """The file's own sha256 stays, so that caps and splits by content choose the same images."""
    plain = build(dataset("folder", root="line"))
    other = build(dataset("folder", root="line", pixels={"alpha": "ignore"}, masks={"reduce": "area"}))
    assert plain["sha256"].equals(other["sha256"])
    assert set(other["pixel_rule"]) == {"alpha=ignore"}
    assert set(plain["pixel_rule"]) == {""}
    assert set(other.loc[other["mask"] == "", "mask_rule"]) == {""}


def test_a_file_written_anew_under_its_old_size_and_time_is_read_again(line, dataset, build):
    before = build(dataset("folder", root="line"))
    path = line / "cap/test/hole/001.png"
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = build(dataset("folder", root="line"))
    changed = before["sha256"] != after["sha256"]
    assert list(before["path"][changed]) == ["cap/test/hole/001.png"]
