"""Leaks and facts: twins to the bit and to the eye, across splits and labels, and copies that are not as published."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from adcore.core.plan import DatasetSpec
from adcore.datasets import manifest
from adcore.datasets.base import Dataset, Facts
from adcore.datasets.validation import Problem, validate
from adcore.datasets.validation_page import twins_in_training, write_page
from adcore.engine import registry
from tests.datasets import layouts


def at(kind: str, root: Path, *categories: str) -> Dataset:
    return registry.dataset(kind)(DatasetSpec(name=kind, root=root, categories=categories or None), root)


def found(dataset: Dataset, tmp_path: Path) -> tuple[list[Problem], pd.DataFrame]:
    frame = manifest.build(dataset, tmp_path / "cache/files.sqlite")
    return validate(frame, dataset), frame


def twins(problems: list[Problem]) -> set[tuple[str, str, str, str]]:
    return {(p.severity, p.check, p.path, p.twin) for p in problems if p.twin}


def tiles_at_random(root: Path, seed: int = 0) -> Path:
    """Magnetic tile as it is often read: its photographs dealt out at random, whatever tile they show."""
    layouts.write("magnetic_tile", root / "published")
    photographs = sorted((root / "published/MT_Free/Imgs").glob("*_num_?.jpg"))
    order = np.random.default_rng(seed).permutation(len(photographs))
    for place, index in enumerate(order):
        target = root / "tiles/tile" / ("train" if place % 3 else "test") / "good" / photographs[index].name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photographs[index], target)
    for image in sorted((root / "published").glob("MT_B*/Imgs/*.jpg")):
        target = root / "tiles/tile/test/blowhole" / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    return root / "tiles"


def test_a_random_split_of_tiles_is_caught_and_the_split_by_tile_is_not(tmp_path: Path) -> None:
    root = tiles_at_random(tmp_path)
    problems, frame = found(at("folder", root), tmp_path)
    tile = frame["path"].str.extract(r"(num_\d+)")[0]
    training = set(tile[frame["split"] == "train"])
    test = frame[frame["split"] == "test"]
    leaked = set(test["path"][tile[test.index].isin(training)])
    assert 12 <= len(leaked) < len(test)  # the good ones, but not the broken tiles
    caught = {p.path: p.twin for p in problems if p.check == "train and test look different"}
    assert len(leaked & set(caught)) >= 0.9 * len(leaked)
    for path, twin in caught.items():
        assert path.split("num_")[1] == twin.split("num_")[1], (path, twin)
    share = [p for p in problems if p.check == "no twins in training"]
    assert f"{len(caught)} of {len(test)} test images ({len(caught) / len(test):.1%}) have a twin" in share[0].message
    assert twins_in_training(problems, frame) == {"tile": len(caught)}

    problems, frame = found(at("magnetic_tile", tmp_path / "published"), tmp_path)
    assert not [p for p in problems if p.check in ("train and test look different", "no twins in training")]
    assert [p for p in problems if p.check == "no image looks repeated"]  # the exposures, on one side


@pytest.fixture
def line(tmp_path: Path) -> Path:
    layouts.mvtec_ad(tmp_path / "line", ("bolt",))
    return tmp_path / "line"


@pytest.fixture
def check(line: Path, tmp_path: Path) -> Callable[[], list[Problem]]:
    return lambda: found(at("folder", line), tmp_path)[0]


def darker(source: Path, target: Path) -> None:
    """The same scene in less light, stored with losses."""
    ImageEnhance.Brightness(Image.open(source)).enhance(0.7).save(target, quality=70)


def test_a_sound_set_has_no_twins(check) -> None:
    assert check() == []


def test_each_kind_of_twin_is_told_apart(line: Path, check) -> None:
    train, good, bad = line / "bolt/train/good", line / "bolt/test/good", line / "bolt/test/contamination"
    shutil.rmtree(line / "bolt/ground_truth")
    shutil.copy(good / "000.png", bad / "copy.png")
    darker(train / "000.png", good / "like_train.jpg")
    darker(good / "001.png", bad / "like_good.jpg")
    darker(train / "001.png", train / "like_other.jpg")
    shutil.copy(train / "002.png", train / "same.png")
    assert twins(check()) == {
        ("error", "good and defective disjoint", "bolt/test/contamination/copy.png", "bolt/test/good/000.png"),
        ("error", "good and defective disjoint", "bolt/test/good/000.png", "bolt/test/contamination/copy.png"),
        ("warning", "train and test look different", "bolt/test/good/like_train.jpg", "bolt/train/good/000.png"),
        (
            "warning",
            "good and defective look different",
            "bolt/test/contamination/like_good.jpg",
            "bolt/test/good/001.png",
        ),
        ("warning", "no image looks repeated", "bolt/train/good/like_other.jpg", "bolt/train/good/001.png"),
        ("warning", "no repeated image", "bolt/train/good/same.png", "bolt/train/good/002.png"),
    }


def test_twins_to_the_bit_are_not_told_again_as_lookalikes(line: Path, check) -> None:
    shutil.copy(line / "bolt/train/good/000.png", line / "bolt/test/good/009.png")
    problems = check()
    assert {p.check for p in problems} == {"train and test disjoint", "no twins in training"}
    (share,) = [p.message for p in problems if p.check == "no twins in training"]
    assert share.startswith("1 of 7 test images (14.3%)")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A tiny LOCO, of one category, whose validation images are unlike all others."""
    layouts.write("mvtec_loco", tmp_path / "loco")
    shutil.rmtree(tmp_path / "loco/juice_bottle")
    return tmp_path / "loco/pushpins"


def leaks_of(scenes: Path, tmp_path: Path) -> tuple[set[tuple[str, str, str, str]], list[Problem]]:
    """Twins among the images of `scenes`, those between its two kinds of anomalies left out, and all problems."""
    problems, _ = found(at("mvtec_loco", scenes.parent, "pushpins"), tmp_path)
    return {twin for twin in twins(problems) if "anomalies" not in twin[2]}, problems


def test_validation_images_that_are_unlike_all_others_are_no_twins(scenes: Path, tmp_path: Path) -> None:
    assert leaks_of(scenes, tmp_path)[0] == set()


def test_a_twin_in_validation_is_told_and_is_none_in_training(scenes: Path, tmp_path: Path) -> None:
    aside = scenes / "validation/good"
    shutil.copy(scenes / "test/good/000.png", aside / "002.png")
    shutil.copy(scenes / "train/good/000.png", aside / "003.png")
    shutil.copy(aside / "000.png", aside / "004.png")
    told, problems = leaks_of(scenes, tmp_path)
    disjoint = "validation disjoint from the rest"
    assert told == {
        ("warning", disjoint, "pushpins/test/good/000.png", "pushpins/validation/good/002.png"),
        ("warning", disjoint, "pushpins/train/good/000.png", "pushpins/validation/good/003.png"),
        ("warning", "no repeated image", "pushpins/validation/good/004.png", "pushpins/validation/good/000.png"),
    }
    assert not [p for p in problems if p.check == "no twins in training"]


def test_a_validation_image_that_shows_the_piece_of_a_test_image_is_told(scenes: Path, tmp_path: Path) -> None:
    darker(scenes / "test/good/001.png", scenes / "validation/good/002.png")
    pair = ("pushpins/test/good/001.png", "pushpins/validation/good/002.png")
    assert leaks_of(scenes, tmp_path)[0] == {("warning", "validation looks different", *pair)}


def test_twins_of_training_are_the_same_with_validation_images_and_without(scenes: Path, tmp_path: Path) -> None:
    darker(scenes / "train/good/000.png", scenes / "test/good/like.png")
    with_them, _ = leaks_of(scenes, tmp_path)
    shutil.rmtree(scenes / "validation")
    without, _ = leaks_of(scenes, tmp_path)
    assert with_them == without
    assert [twin[1] for twin in without] == ["train and test look different"]


def test_a_defective_validation_image_is_an_error(scenes: Path, tmp_path: Path) -> None:
    layouts.save(scenes / "validation/scratch/000.png", np.random.default_rng(5).integers(0, 99, (64, 96, 3), np.uint8))
    errors = [(p.check, p.path) for p in leaks_of(scenes, tmp_path)[1] if p.severity == "error"]
    assert errors == [("validation images normal", "pushpins/validation/scratch/000.png")]


def test_a_count_of_validation_images_that_is_not_as_published_is_told(scenes: Path, tmp_path: Path) -> None:
    (differs,) = [p.message for p in leaks_of(scenes, tmp_path)[1] if p.check == "as published"]
    assert "validation has 2 images and 69 are published" in differs


def test_the_page_counts_validation_images_where_a_set_has_some(scenes: Path, line: Path, tmp_path: Path) -> None:
    for dataset, count in ((at("mvtec_loco", scenes.parent, "pushpins"), 1), (at("folder", line), 0)):
        problems, frame = found(dataset, tmp_path)
        write_page({"set": problems}, {"set": frame}, tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text().count(">Validation</th>") == count


def test_a_group_that_lies_in_two_splits_is_told(line: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (line / f"bolt/{split}/good/000.png").rename(line / f"bolt/{split}/good/part7_{split}.png")
    spec = DatasetSpec(name="line", kind="folder", root=line, group=r"(part\d)")
    told = twins(found(registry.dataset("folder")(spec, tmp_path), tmp_path)[0])
    pair = ("bolt/test/good/part7_test.png", "bolt/train/good/part7_train.png")
    assert told == {("warning", "groups not cut", *pair)}


def test_a_broken_image_is_like_nothing(line: Path, check) -> None:
    for name in ("001.png", "002.png"):
        (line / "bolt/train/good" / name).write_bytes(f"no image {name}".encode())
    assert {p.check for p in check()} == {"image readable"}


def test_the_page_shows_pairs_and_shares(tmp_path: Path) -> None:
    root = tiles_at_random(tmp_path)
    dataset = at("folder", root)
    problems, frame = found(dataset, tmp_path)
    write_page({"tiles": problems}, {"tiles": frame}, tmp_path / "page.html", {}, {"tiles": root})
    page = (tmp_path / "page.html").read_text()
    count, test = twins_in_training(problems, frame)["tile"], int((frame["split"] == "test").sum())
    assert f"{count} ({100 * count / test:.1f} %)" in page
    assert page.count("<figure>") == 16  # eight pairs a check at most
    heads = re.findall(r"<details[^>]*?( open)?>\s*<summary>.*?\n?tile fails &ldquo;(.*?)&rdquo;", page)
    assert heads == [
        (" open", "no twins in training"),
        (" open", "train and test look different"),
        ("", "no image looks repeated"),
    ]
    assert page.count("data:image/jpeg;base64,") == 32 and "http" not in page
    docs = tmp_path / "docs"
    validate(frame, dataset, docs)
    assert "near_train" in next(docs.rglob("validations/folder-images/**/*.html")).read_text()


def test_a_pair_is_shown_once(line: Path, tmp_path: Path) -> None:
    shutil.copy(line / "bolt/train/good/000.png", line / "bolt/test/good/009.png")
    problems, frame = found(at("folder", line), tmp_path)
    assert len([p for p in problems if p.check == "train and test disjoint"]) == 2  # told of either image
    write_page({"line": problems}, {"line": frame}, tmp_path / "page.html", {}, {"line": line})
    assert (tmp_path / "page.html").read_text().count("<figure>") == 1


# facts


def test_a_copy_is_compared_with_what_is_published(tmp_path: Path) -> None:
    layouts.write("mvtec_ad", tmp_path / "copy")
    problems, _ = found(at("mvtec_ad", tmp_path / "copy", "bottle", "carpet"), tmp_path)
    messages = {p.category: p.message for p in problems if p.check == "as published"}
    assert {p.check for p in problems} == {"as published"} and {p.severity for p in problems} == {"warning"}
    assert messages["bottle"] == (
        "train has 6 images and 209 are published, test good has 3 images and 20 are published, "
        "contamination has 3 images and 21 are published, broken_large has 0 images and 20 are published, "
        "broken_small has 0 images and 22 are published, most are 64x64 and 900x900 is published: "
        "results do not compare with published ones"
    )


def test_a_copy_as_published_has_no_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.write("mvtec_ad", tmp_path / "copy")
    dataset = at("mvtec_ad", tmp_path / "copy", "bottle", "carpet")
    facts = {
        "bottle": Facts(6, 3, 3, {"contamination": 3}, (64, 64)),
        "carpet": Facts(train=None, good=3, defective=3),
    }
    monkeypatch.setattr(type(dataset), "facts", facts)
    assert found(dataset, tmp_path)[0] == []
    monkeypatch.setattr(type(dataset), "facts", facts | {"carpet": Facts(defective=4)})
    (problem,) = found(dataset, tmp_path)[0]
    assert problem.message.startswith("test defective has 3 images and 4 are published:")
