"""elpv: read from the package elpv-dataset, here a stand-in of it with made-up images."""

import importlib.util
from collections import Counter

import pytest

from adcore.datasets import elpv
from adcore.datasets.base import DataError

PROBABILITIES = ["0.0", "0.3333333333333333", "0.6666666666666666", "1.0"]


@pytest.fixture
def package(tmp_path, files, monkeypatch):
    """A package of 8 normals, 2 uncertain and 4 defective cells of each type."""
    data = tmp_path / "package/data"
    probabilities = [PROBABILITIES[0]] * 8 + PROBABILITIES[1:3] + [PROBABILITIES[3]] * 4
    lines = []
    for i, (cell, probability) in enumerate((c, p) for c in ("mono", "poly") for p in probabilities):
        files.save(data / f"images/cell{i:04d}.png", i)
        lines.append(f"images/cell{i:04d}.png  {probability:<20} {cell}\n")
    (data / "labels.csv").write_text("".join(lines))
    monkeypatch.setattr(elpv, "_package", lambda: data)
    return data


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(elpv, "TRAIN", 4)
    monkeypatch.setattr(elpv, "TEST", 3)


def split_of(frame, category):
    rows = frame[frame["category"] == category]
    return rows.groupby(["split", "defect"]).size().to_dict()


def test_splits_by_content(package, small, dataset, build, tmp_path):
    cells = dataset("elpv")
    cells.prepare()
    frame = build(cells)
    expected = {("train", "good"): 4, ("test", "good"): 3, ("test", "defective"): 3}
    assert split_of(frame, "mono") == split_of(frame, "poly") == expected
    assert (frame["error"] == "").all()
    first = frame[(frame["category"] == "mono") & (frame["label"] == 0)].sort_values("sha256")
    assert list(first["split"]) == ["train"] * 4 + ["test"] * 3
    uncertain = {"images/cell0008.png", "images/cell0009.png", "images/cell0022.png", "images/cell0023.png"}
    assert not uncertain & set(frame["path"])
    assert (tmp_path / "data/elpv/images/cell0003.png").read_bytes() == (package / "images/cell0003.png").read_bytes()


def test_elpv_full_takes_all_certain_ones_from_the_same_files(package, dataset, build, tmp_path):
    cells = dataset("elpv_full")
    cells.prepare()
    frame = build(cells)
    assert cells.root == tmp_path / "data/elpv"
    assert split_of(frame, "mono") == {("train", "good"): 6, ("test", "good"): 2, ("test", "defective"): 4}
    assert len(frame) == 24


def test_an_interrupted_copy_is_completed(package, dataset, tmp_path):
    dataset("elpv").prepare()
    damaged, missing, sound = (tmp_path / f"data/elpv/images/cell000{i}.png" for i in range(3))
    damaged.write_bytes(b"half")
    missing.unlink()
    before = sound.stat().st_mtime_ns
    calls = []
    dataset("elpv").prepare(lambda done, total: calls.append((done, total)))
    for path in (damaged, missing):
        assert path.read_bytes() == (package / "images" / path.name).read_bytes()
    assert sound.stat().st_mtime_ns == before
    assert calls[-1] == (29, 29)
    assert not list((tmp_path / "data/elpv").rglob(".*"))


def test_without_the_package(dataset, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install elpv-dataset"):
        dataset("elpv").prepare()


def test_unprepared_and_unknown_category(package, dataset):
    with pytest.raises(DataError, match=r"flows\.prepare"):
        dataset("elpv").entries()
    dataset("elpv").prepare()
    entries = dataset("elpv", categories=["mono", "thin"]).entries()
    assert {e.category for e in entries if not e.error} == {"mono"}
    assert [e.error for e in entries if e.error] == ["no such category: thin; elpv has mono and poly"]


def test_a_root_of_the_plan_is_read_and_never_written(package, dataset, tmp_path):
    (tmp_path / "mine").mkdir()
    cells = dataset("elpv", root="mine")
    cells.prepare()
    assert not list((tmp_path / "mine").iterdir())


def test_a_missing_image_is_an_error_of_its_row(package, dataset, build, tmp_path):
    dataset("elpv").prepare()
    (tmp_path / "data/elpv/images/cell0000.png").unlink()
    frame = build(dataset("elpv"))
    (row,) = frame[frame["error"] != ""].itertuples()
    assert (row.path, row.error) == ("images/cell0000.png", "image cannot be read: the file is missing")


def test_the_licence_keeps_images_out_of_the_readme(dataset):
    assert not dataset("elpv").show_images
    assert "CC BY-NC-SA 4.0" in dataset("elpv_full").licence


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="elpv-dataset is not installed")
def test_the_real_labels(dataset, tmp_path):
    (tmp_path / "data/elpv").mkdir(parents=True)
    (tmp_path / "data/elpv/labels.csv").write_bytes((elpv._package() / "labels.csv").read_bytes())
    entries = dataset("elpv").entries()
    mono, poly = (Counter(e.defect for e in entries if e.category == c) for c in elpv.CATEGORIES)
    assert mono == {"good": 588, "defective": 313}
    assert poly == {"good": 920, "defective": 402}
