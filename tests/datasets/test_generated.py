"""The generated set: the same bits everywhere, defects inside their masks, no source shared by train and test."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adcore.datasets import _scenes, generated
from adcore.datasets._drawing import SIZE
from adcore.datasets.generated import Picture, pictures, render

# If these change, raise generated.VERSION, so that sets of the older version are replaced, and commit the manifest.
PINNED = {
    "brick/test/rotated/005.png": "b3d54ddfcce9516d",
    "brick/ground_truth/rotated/005_mask.png": "2b12721a55feeb00",
    "gravel/train/good/005.png": "c77a1f0a23d2aa84",
    "leather/test/broken_ring/005.png": "ca17459e0c8a4e18",
    "leather/ground_truth/broken_ring/005_mask.png": "66198348a71cb686",
    "nut/test/off_centre/005.png": "f9f1f725e8cc78b6",
    "nut/ground_truth/off_centre/005_mask.png": "0b584ede8219d3ec",
    "pill/test/scratch/005.png": "6c78378f1633d2b0",
    "pill/ground_truth/scratch/005_mask.png": "0eaf5e91bbea4476",
}
SAMPLE = [("brick", "test", "rotated"), ("gravel", "train", "good"), ("leather", "test", "broken_ring")]
SAMPLE += [("nut", "test", "off_centre"), ("pill", "test", "scratch")]
DEFECTS = [(category, defect) for category, scene in _scenes.SCENES.items() for defect in scene.defects]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


SCRIPT = """
import hashlib, json
from adcore.datasets.generated import Picture, render

files = {path: content for kind in SAMPLE for path, content in render(Picture(*kind, index=5)).items()}
print(json.dumps({path: hashlib.sha256(content).hexdigest()[:16] for path, content in files.items()}))
"""


@pytest.mark.parametrize("without", ["", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"])
def test_the_bits_are_the_same_with_and_without_vector_units(without):
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": without}
    environment["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F" if without else ""
    command = [sys.executable, "-W", "ignore", "-c", f"SAMPLE = {SAMPLE}\n{SCRIPT}"]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert json.loads(output) == PINNED


def test_two_builds_are_equal(dataset, tmp_path, monkeypatch):
    few = [p for p in pictures() if p.index == 2 and p.category in ("gravel", "nut")]
    monkeypatch.setattr(generated, "pictures", lambda: iter(few))
    trees = []
    for name in ("a", "b"):
        monkeypatch.setattr(generated.Generated, "folder", name)
        made = dataset("generated")
        made.prepare()
        trees.append({p.relative_to(made.root): p.read_bytes() for p in made.root.rglob("*.*")})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 1 + len(few) + 8


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_a_defect_lies_inside_its_mask(category, defect):
    for index in (0, generated.PER_DEFECT - 1):
        picture = Picture(category, "test", defect, index)
        files = render(picture)
        image, mask = pixels(files[picture.path]), pixels(files[picture.mask_path])
        good = np.clip(np.rint(generated._scene(picture, "", 0.0)), 0, 255)
        assert image.shape == (SIZE, SIZE, 3)
        assert set(np.unique(mask)) == {0, 255}
        change = np.abs(image - good).max(axis=2)
        assert change[mask == 0].max() == 0
        assert np.median(change[mask > 0]) >= generated.VISIBLE
        assert generated.SMALLEST <= (mask > 0).sum() < SIZE * SIZE / 5


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_defects_grow_from_subtle_to_plain(category, defect):
    def damage(index):
        picture = Picture(category, "test", defect, index)
        good = generated._scene(picture, "", 0.0)
        return np.abs(pixels(render(picture)[picture.path]) - good).sum()

    assert sum(map(damage, range(4))) < sum(map(damage, range(4, 8)))


def test_train_and_test_share_no_source_region(monkeypatch):
    columns = np.broadcast_to(np.arange(512.0) / 2, (512, 512))
    monkeypatch.setattr(_scenes, "_photograph", lambda name: columns)
    monkeypatch.setattr(_scenes, "grain", lambda rng, amplitude: 0.0)
    seen = {"train": set(), "test": set()}
    for split in seen:
        for i in range(40):
            image = _scenes._texture("brick", (1, 1, 1), np.random.default_rng(i), split)[0, :, 0]
            light = np.abs(np.diff(image)).mean() * 2
            seen[split] |= set(np.rint(image / light * 2).astype(int))
    assert max(seen["train"]) < min(seen["test"])


def test_images_of_a_category_differ():
    images = [render(Picture(c, "train", "good", i)).popitem()[1] for c in _scenes.SCENES for i in range(3)]
    assert len(set(images)) == len(images)


def test_the_set_is_as_large_as_it_says():
    counts = {}
    for picture in pictures():
        counts.setdefault(picture.category, []).append((picture.split, picture.defect))
    assert len(counts) == 5
    for kinds in counts.values():
        assert (kinds.count(("train", "good")), kinds.count(("test", "good")), len(kinds)) == (40, 15, 87)


def test_only_what_is_missing_is_made_again(dataset, files, monkeypatch):
    few = [Picture("pill", "test", "dent", i) for i in range(2)]
    monkeypatch.setattr(generated, "pictures", lambda: iter(few))
    made = dataset("generated")
    made.prepare()
    gone, kept = (made.root / picture.mask_path for picture in few)
    content = gone.read_bytes()
    gone.unlink()
    before = kept.stat().st_mtime_ns
    made.prepare()
    assert gone.read_bytes() == content
    assert kept.stat().st_mtime_ns == before
    stale = files.save(made.root / "pill/test/colour/000.png", 0)
    monkeypatch.setattr(generated, "VERSION", "next")
    made.prepare()
    assert kept.stat().st_mtime_ns != before
    assert (made.root / "version.txt").read_text() == "next"
    assert not stale.exists()


def test_it_is_labelled_a_demo(dataset):
    assert dataset("generated").note == "a demo, never a benchmark"
    assert [c for c in _scenes.SCENES if dataset("generated").is_texture(c)] == ["brick", "gravel", "leather"]
