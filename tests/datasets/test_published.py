"""The public sets: each in its exact layout, from names to metrics."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adcore.core.plan import DatasetSpec, parse
from adcore.datasets import magnetic_tile, manifest, visa
from adcore.datasets.base import DataError, Dataset, Entry
from adcore.datasets.piped import Piped
from adcore.engine import bench, registry
from adcore.results import finished
from adcore.vision import foreground
from adcore.vision.masks import MaskFile
from tests.datasets import layouts

KINDS = sorted(layouts.WRITERS)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny copy of each set; not to be written to."""
    root = tmp_path_factory.mktemp("copies")
    for kind in KINDS:
        layouts.write(kind, root / kind)
    return root


def at(kind: str, root: Path, *categories: str) -> Dataset:
    spec = DatasetSpec(name=kind, kind=kind, root=root, categories=categories or None)
    return registry.dataset(kind)(spec, root)


def read(dataset: Dataset, tmp_path: Path) -> pd.DataFrame:
    return manifest.build(dataset, tmp_path / "cache/files.sqlite")


def counts(frame: pd.DataFrame) -> dict[Any, int]:
    return frame.groupby(["split", "defect"]).size().to_dict()


@pytest.mark.parametrize(
    ("kind", "category", "expected"),
    [
        ("mvtec_ad", "carpet", {("train", "good"): 6, ("test", "good"): 3, ("test", "contamination"): 3}),
        (
            "mvtec_ad_2",
            "can",
            {("train", "good"): 6, ("validation", "good"): 2, ("test", "good"): 6, ("test", "bad"): 6},
        ),
        (
            "autovi",
            "pipe_clip",
            {("train", "good"): 6, ("test", "good"): 3, ("test", "missing"): 2, ("test", "operator"): 1},
        ),
        ("mpdd", "tubes", {("train", "good"): 6, ("test", "good"): 3, ("test", "scratches"): 3}),
        ("kolektor_sdd2", "kolektor_sdd2", {("train", "good"): 12, ("test", "good"): 8, ("test", "defect"): 5}),
        ("bsdata", "bsdata", {("train", "good"): 12, ("test", "good"): 12, ("test", "pitting"): 6}),
        ("mtl_ad", "lychee", {("train", "good"): 6, ("test", "good"): 3, ("test", "broken"): 3}),
        (
            "mvtec_3d",
            "rope",
            {("train", "good"): 6, ("validation", "good"): 1, ("test", "good"): 3, ("test", "hole"): 3},
        ),
        ("visa", "candle", {("train", "good"): 6, ("test", "good"): 3, ("test", "anomaly"): 3}),
        ("btad", "03", {("train", "good"): 6, ("test", "good"): 3, ("test", "ko"): 3}),
        ("piped", "paper_zpb01", {("train", "good"): 16, ("test", "good"): 8, ("test", "impurity"): 24}),
        (
            "mvtec_loco",
            "juice_bottle",
            {
                ("train", "good"): 6,
                ("validation", "good"): 2,
                ("test", "good"): 3,
                ("test", "logical_anomalies"): 3,
                ("test", "structural_anomalies"): 3,
            },
        ),
        (
            "magnetic_tile",
            "magnetic_tile",
            {
                ("train", "good"): 36,
                ("test", "good"): 13,
                **{("test", defect): 2 for defect in ("blowhole", "break", "crack", "fray", "uneven")},
            },
        ),
    ],
)
def test_splits_and_masks(kind: str, category: str, expected: dict, copies: Path, tmp_path: Path) -> None:
    frame = read(at(kind, copies / kind, category), tmp_path)
    assert set(frame["category"]) == {category} and not frame["error"].any()
    assert counts(frame) == expected
    bad = frame[frame["label"] == 1]
    assert (bad["mask"] != "").all() and bad["mask_sha256"].str.len().eq(64).all()
    for row in bad.itertuples():
        mask = MaskFile(copies / kind / str(row.mask), str(row.mask_rule)).whole()
        assert mask.shape == (row.height, row.width) and 100 <= mask.sum() <= 600, row.path
        if kind != "magnetic_tile":  # there the defect is dark
            bright = np.asarray(Image.open(copies / kind / str(row.path)))[..., 0] > 200
            assert (mask & bright).sum() >= 0.9 * min(bright.sum(), mask.sum()), row.path


@pytest.fixture(scope="module")
def computed(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """The metrics of one category of each set, by PaDiM on a tiny network with random weights."""
    ones = {kind: next(iter(at(kind, copies / kind).categories_in(copies / kind))) for kind in KINDS}
    specs = [{"name": kind, "root": str(copies / kind), "categories": [ones[kind]], "max_train": 16} for kind in KINDS]
    plan = parse(
        {
            "image": {"resize": 64},
            "backbone": {"name": "resnet18", "weights": "random"},
            "datasets": specs,
            "methods": ["padim"],
            "device": "cpu",
        }
    )
    work = tmp_path_factory.mktemp("work")
    made = bench.Bench(plan, work, {spec.name: bench.prepare(spec, bench.Layout(work)) for spec in plan.datasets})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "problems", lambda *_: [])  # a second a set; test_facts.py validates them
        assert len(made.cells) == len(KINDS)
    for cell in made.cells:
        made.computer.fit(cell, lambda done: None)
        made.computer.score(cell, lambda done: None)
        made.computer.evaluate(cell)
    return {
        result.row["dataset"]: dict(result.row) for result in finished.read(made, made.store, list(registry.metrics()))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_set_reads_through_to_metrics(kind: str, computed: dict[str, dict[str, float]]) -> None:
    """Even random weights see the squares, where image, mask and split are joined the right way round."""
    row = computed[kind]
    assert row["i_auroc"] > 0.6
    assert math.isnan(row["p_auroc"]) == (kind == "vad")  # it has no masks
    assert kind == "vad" or (row["p_auroc"] > 0.8 and row["aupro"] > 0.5)
    assert math.isnan(row["spro"]) == (kind not in ("autovi", "mvtec_loco"))


def test_loco_is_scored_apart_and_averaged(computed: dict[str, dict[str, float]]) -> None:
    row = computed["mvtec_loco"]
    for metric in ("spro", "i_auroc", "p_auroc"):
        assert row[metric] == pytest.approx((row[f"{metric}_logical"] + row[f"{metric}_structural"]) / 2)
    assert 0 < row["spro_logical"] <= 1 and 0 < row["spro_structural"] <= 1


# what all of them have in common


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_that_is_not_there_names_the_command(kind: str, tmp_path: Path) -> None:
    absent = registry.dataset(kind)(DatasetSpec(name=kind), tmp_path)
    with pytest.raises(DataError, match=rf"{kind}.* does not exist; run `python -m flows\.prepare --dataset {kind}`"):
        absent.prepare()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_something_else_is_no_copy(kind: str, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    with pytest.raises(DataError, match=f"is no copy of {kind}"):
        at(kind, tmp_path / "else").entries()


def test_categories_that_are_missing_or_misspelt(copies: Path) -> None:
    errors = {e.category: e.error for e in at("mvtec_ad", copies / "mvtec_ad").entries() if e.error}
    assert len(errors) == 13
    assert errors["zipper"].startswith("no such category: zipper is missing in this copy")
    (error,) = [e.error for e in at("mvtec_ad", copies / "mvtec_ad", "bottles").entries()]
    assert error == "no such category: bottles; the nearest name is bottle"


@pytest.mark.parametrize(
    ("kind", "train", "good", "bad"),
    [
        ("mvtec_ad", 3629, 467, 1258),
        ("mvtec_loco", 1772 + 6, 575, 993),  # the archive holds six more than the paper prints
        ("mvtec_3d", 2656, 249, 948),
        ("visa", 8659, 962, 1200),
        ("mpdd", 888, 176, 282),
        ("vad", 2000, 1000, 1000),
        ("kolektor_sdd2", 2085, 894, 110),
    ],
)
def test_facts_add_up_to_the_printed_totals(kind: str, train: int, good: int, bad: int) -> None:
    facts = registry.dataset(kind).facts.values()
    assert (sum(f.train or 0 for f in facts), sum(f.good or 0 for f in facts)) == (train, good)
    assert sum(f.defective or 0 for f in facts) == bad
    assert all(sum(f.defects.values()) in (0, f.defective) for f in facts)


def test_facts_of_btad_and_loco() -> None:
    btad, loco = registry.dataset("btad").facts.values(), registry.dataset("mvtec_loco").facts.values()
    assert sum((f.good or 0) + (f.defective or 0) for f in btad) == 2540 - 1799
    assert sum(f.defects["logical_anomalies"] for f in loco) == 561
    assert sum(f.validation or 0 for f in loco) == 304 + 1  # the archive holds one more than the paper prints


def test_mvtec_ad_knows_textures_and_where_its_objects_are() -> None:
    kind = registry.dataset("mvtec_ad")
    assert kind.thresholds == foreground.MVTEC_AD
    assert set(kind.thresholds) | set(kind.textures) == set(kind.facts)


# what only one of them has


@pytest.fixture
def loco(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], list[Entry]]]]:
    root = layouts.write("mvtec_loco", tmp_path / "loco")
    yield root, lambda: at("mvtec_loco", root, "pushpins").entries()


def test_loco_subsets_and_folders_of_masks(loco) -> None:
    _, entries = loco
    found = [e for e in entries() if e.split == "test"]
    assert Counter(e.subset for e in found) == {"": 3, "logical": 3, "structural": 3}
    entry = next(e for e in found if e.subset == "logical")
    assert entry.path == "pushpins/test/logical_anomalies/000.png"
    assert (entry.mask, entry.mask_rule) == ("pushpins/ground_truth/logical_anomalies/000", "channels")
    aside = [e.path for e in entries() if e.split == "validation"]
    assert aside == ["pushpins/validation/good/000.png", "pushpins/validation/good/001.png"]


def test_loco_faults(loco, tmp_path: Path) -> None:
    root, entries = loco
    truth = root / "pushpins/ground_truth"
    shutil.rmtree(truth / "logical_anomalies/000")
    (truth / "logical_anomalies/orphan").mkdir()
    layouts.save(truth / "logical_anomalies/001/001.png", np.full((64, 96), 17, np.uint8))
    layouts.save(truth / "logical_anomalies/002/001.png", np.zeros((64, 96), np.uint8))
    layouts.save(truth / "structural_anomalies/000/000.png", np.full((64, 64), 253, np.uint8))
    layouts.save(truth / "structural_anomalies/001/001.png", np.full((64, 64), 253, np.uint8))
    frame = read(at("mvtec_loco", root, "pushpins"), tmp_path)
    errors: dict[str, str] = dict(frame.loc[frame["error"] != "", ["path", "error"]].itertuples(index=False))
    test = "pushpins/test"
    assert errors == {
        f"{test}/logical_anomalies/000.png": "no mask: ground_truth/logical_anomalies/000 does not exist",
        "pushpins/ground_truth/logical_anomalies/orphan": "mask without image: expected test/logical_anomalies/orphan",
        f"{test}/logical_anomalies/001.png": "mask value unknown: 001/001.png holds 17, not in defects_config.json",
        f"{test}/logical_anomalies/002.png": "mask is empty: 002/001.png marks nothing",
        f"{test}/structural_anomalies/000.png": "mask of another size: "
        "pushpins/ground_truth/structural_anomalies/000 is 64x64, its image 96x64",
        f"{test}/structural_anomalies/001.png": "mask cannot be read: 001: the masks in it have several sizes",
    }
    (root / "pushpins/defects_config.json").unlink()
    assert [e.error for e in entries() if e.path == "pushpins"] == [
        "no defects_config.json: pushpins cannot be scored without it"
    ]


def test_loco_a_changed_region_or_config_is_another_mask(loco, tmp_path: Path) -> None:
    root, _ = loco
    dataset = at("mvtec_loco", root, "pushpins")
    masks = [read(dataset, tmp_path).set_index("path")["mask_sha256"]]
    path = root / "pushpins/ground_truth/logical_anomalies/000/001.png"
    layouts.save(path, np.asarray(Image.open(path))[::-1])
    masks.append(read(dataset, tmp_path).set_index("path")["mask_sha256"])
    (root / "pushpins/defects_config.json").write_text(json.dumps([*layouts.CONFIG, layouts.CONFIG[0]]))
    masks.append(read(dataset, tmp_path).set_index("path")["mask_sha256"])
    assert list(masks[0].index[masks[0] != masks[1]]) == ["pushpins/test/logical_anomalies/000.png"]
    assert (masks[1] != masks[2]).sum() == 6


def test_ad_2_a_missing_mask_and_one_too_many(tmp_path: Path) -> None:
    truth = "test_public/ground_truth/bad"
    place = layouts.write("mvtec_ad_2", tmp_path / "copy") / "can" / truth
    (place / "001_regular_mask.png").rename(place / "007_regular_mask.png")
    errors = {e.path: e.error for e in at("mvtec_ad_2", tmp_path / "copy", "can").entries() if e.error}
    assert errors == {
        "can/test_public/bad/001_regular.png": f"no mask: {truth}/001_regular_mask.png does not exist",
        f"can/{truth}/007_regular_mask.png": "mask without image: expected test_public/bad/007_regular",
    }


def test_ad_2_lights_of_one_scene_are_a_group(copies: Path) -> None:
    entries = at("mvtec_ad_2", copies / "mvtec_ad_2", "can").entries()
    scene = [e.path for e in entries if e.group == "test_public/bad/001"]
    assert scene == ["can/test_public/bad/001_regular.png", "can/test_public/bad/001_underexposed.png"]


def test_ad_2_private_images_are_in_no_manifest(copies: Path) -> None:
    assert not [e for e in at("mvtec_ad_2", copies / "mvtec_ad_2", "can").entries() if "private" in e.path]


def test_vad_has_image_labels_and_no_defective_training_images(copies: Path, tmp_path: Path) -> None:
    frame = read(at("vad", copies / "vad"), tmp_path)
    kinds = {("train", "good"): 12, ("test", "good"): 6, ("test", "bad"): 4, ("test", "bad_unseen_defects"): 2}
    assert counts(frame) == kinds
    assert set(frame["mask"]) == {""}


@pytest.mark.parametrize("place", ["", "vad"])
def test_vad_is_found_with_its_folder_and_without(copies: Path, place: str) -> None:
    assert list(at("vad", copies / "vad" / place).categories_in(copies / "vad" / place)) == ["vad"]


def test_kolektor_a_mask_says_what_is_good(copies: Path, tmp_path: Path) -> None:
    frame = read(at("kolektor_sdd2", copies / "kolektor_sdd2"), tmp_path).set_index("path")
    for split in ("train", "test"):
        for file in sorted((copies / "kolektor_sdd2" / split).glob("*_GT.png")):
            path, marks = f"{split}/{file.name.replace('_GT', '')}", bool(np.asarray(Image.open(file)).any())
            assert (path in frame.index) == (split == "test" or not marks)
            assert path not in frame.index or frame.loc[path, "label"] == int(marks)
    assert set(frame.loc[frame["label"] == 0, "mask"]) == {""}


def test_kolektor_a_missing_mask_and_one_too_many(tmp_path: Path) -> None:
    root = layouts.write("kolektor_sdd2", tmp_path / "copy")
    (root / "test/20000_GT.png").rename(root / "test/29999_GT.png")
    frame = read(at("kolektor_sdd2", root), tmp_path)
    assert frame[frame["error"] != ""].set_index("path")["error"].to_dict() == {
        "test/20000.png": "no mask: test/20000_GT.png does not exist",
        "test/29999_GT.png": "mask without image: expected test/29999.png",
    }


def test_bsdata_keeps_all_images_of_a_spot_on_one_side(copies: Path, tmp_path: Path) -> None:
    frame = read(at("bsdata", copies / "bsdata"), tmp_path)
    spots = frame["path"].str.extract(r"_(\d{6})_315_crop")[0]
    assert frame.groupby(spots)["split"].nunique().eq(1).all()
    assert set(frame.groupby(spots)["split"].first()) == {"train", "test"}


def test_bsdata_an_outline_without_image(tmp_path: Path) -> None:
    root = layouts.write("bsdata", tmp_path / "copy")
    (root / "label/KGT1-S-065-A02_crop_0.json").rename(root / "label/other.json")
    errors = {e.path: e.error for e in at("bsdata", root).entries() if e.error}
    assert errors == {"label/other.json": "mask without image: expected data/other.jpg"}


def test_3d_takes_the_photographs_only(copies: Path) -> None:
    entries = at("mvtec_3d", copies / "mvtec_3d", "bagel").entries()
    assert all("/rgb/" in e.path and e.path.endswith(".png") for e in entries)
    assert [e.mask for e in entries if e.defect == "hole"] == [f"bagel/test/hole/gt/00{i}.png" for i in range(3)]
    good = [e for e in entries if e.split == "test" and e.defect == "good"]
    assert all(e.mask.startswith("bagel/test/good/gt/") for e in good)  # empty ones, which validation checks


def test_3d_a_missing_mask_and_one_too_many(tmp_path: Path) -> None:
    root = layouts.write("mvtec_3d", tmp_path / "copy")
    truth = root / "bagel/test/hole/gt"
    (truth / "001.png").rename(truth / "007.png")
    errors = {e.path: e.error for e in at("mvtec_3d", root, "bagel").entries() if e.error}
    assert errors == {
        "bagel/test/hole/rgb/001.png": "no mask: test/hole/gt/001.png does not exist",
        "bagel/test/hole/gt/007.png": "mask without image: expected test/hole/rgb/007",
    }


def test_visa_needs_its_split(tmp_path: Path) -> None:
    root = layouts.write("visa", tmp_path / "copy")
    (root / visa.SPLIT).write_text("object,image\n")
    with pytest.raises(DataError, match="is not the split of VisA with columns object, split, label, image, mask"):
        at("visa", root).entries()
    (root / visa.SPLIT).unlink()
    with pytest.raises(DataError, match=r"1cls\.csv does not exist"):
        at("visa", root).entries()


def test_visa_follows_the_csv_and_not_the_folders(tmp_path: Path) -> None:
    root = layouts.write("visa", tmp_path / "copy")
    layouts.save(root / "candle/Data/Images/Normal/9999.JPG", np.zeros((8, 8, 3), np.uint8))
    (root / "candle/Data/Images/Normal/0001.JPG").unlink()
    frame = read(at("visa", root, "candle"), tmp_path)
    assert counts(frame)["train", "good"] == 6 and "9999" not in " ".join(frame["path"])
    assert frame[frame["error"] != ""].set_index("path")["error"].to_dict() == {
        "candle/Data/Images/Normal": "passed over: 1 file (9999.JPG) that the set does not list",
        "candle/Data/Images/Normal/0001.JPG": "image cannot be read: the file is missing",
    }


# kind -> where files are put that nobody reads, beside the images, and the category of it
STRAYS = {
    "mvtec_ad": ("bottle/test/good", "bottle"),
    "mvtec_ad_2": ("can/test_public/bad", "can"),
    "mvtec_loco": ("pushpins/ground_truth/logical_anomalies/000", "pushpins"),
    "mvtec_3d": ("bagel/test/hole/rgb", "bagel"),
    "visa": ("candle/Data/Masks/Anomaly", "candle"),
    "btad": ("01/train/ok", "01"),
    "mtl_ad": ("ostrich/test/broken", "ostrich"),
    "piped": ("PA_BTN01_RL/NoDefects", "paper_btn01"),
    "magnetic_tile": ("MT_Crack/Imgs", "magnetic_tile"),
    "autovi": ("pipe_clip/ground_truth/missing/0000", "pipe_clip"),
    "mpdd": ("tubes/test/good", "tubes"),
    "vad": ("vad/test/bad", "vad"),
    "kolektor_sdd2": ("train", "kolektor_sdd2"),
    "bsdata": ("label", "bsdata"),
}


@pytest.mark.parametrize("kind", layouts.WRITERS)
def test_files_that_are_not_read_are_named_and_those_as_published_are_not(kind: str, tmp_path: Path) -> None:
    place, category = STRAYS[kind]
    root = layouts.write(kind, tmp_path / "copy")
    assert not [e for e in at(kind, root, category).entries() if e.error]
    for name in ("a.gif", "b.gif"):
        (root / place / name).write_bytes(b"GIF89a")
    (entry,) = [e for e in at(kind, root, category).entries() if e.error]
    assert (entry.path, entry.category, entry.split) == (place, category, "")
    assert entry.error.startswith("passed over: 2 files (a.gif, b.gif) that are not read")


def test_visa_a_mask_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    root = layouts.write("visa", tmp_path / "copy")
    (root / "pcb1/Data/Masks/Anomaly/001.png").unlink()
    frame = read(at("visa", root, "candle", "pcb1"), tmp_path).set_index("path")
    assert frame["error"][frame["error"] != ""].to_dict() == {
        "pcb1/Data/Images/Anomaly/001.JPG": "mask cannot be read: 001.png: the file is missing"
    }


def test_btad_mixes_image_types(copies: Path) -> None:
    entries = at("btad", copies / "btad").entries()
    kinds = {e.category: (Path(e.path).suffix, Path(e.mask).suffix) for e in entries if e.mask}
    assert kinds == {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}


def test_piped_pairs_by_numbers_splits_by_sheet_and_drops_repeats(tmp_path: Path) -> None:
    root = layouts.write("piped", tmp_path / "copy")
    good = root / "PA_BTN01_RL/NoDefects"
    for target in ("2_2", "6_1"):  # the same picture again, in training and in test
        shutil.copy(good / "PA_BTN01_RL_S_ND_1_1.bmp", good / f"PA_BTN01_RL_S_ND_{target}.bmp")
    entries = at("piped", root, "paper_btn01").entries()
    assert (
        "PA_BTN01_RL/Defects/PA_BTN01_RL_S_D_02_3.bmp",
        "PA_BTN01_RL/Defects/GroundTruth/PA_BTN01_RL_S_GT_2_3.bmp",
    ) in {(e.path, e.mask) for e in entries}
    frame = read(at("piped", root, "paper_btn01"), tmp_path)
    assert counts(frame) == {("train", "good"): 15, ("test", "good"): 7, ("test", "impurity"): 24}
    sheets = frame[frame["label"] == 0].assign(sheet=lambda f: f["path"].str.extract(r"(\d+)_\d+\.bmp$")[0])
    assert sheets.groupby("sheet")["split"].nunique().eq(1).all()
    assert set(at("piped", root).categories_in(root)) == {"paper_btn01", "paper_zpb01"}


def test_piped_in_the_layout_of_mvtec(tmp_path: Path) -> None:
    layouts.mvtec_ad(tmp_path / "copy", ("paper_btn01",), "impurity")
    frame = read(at("piped", tmp_path / "copy", "paper_btn01"), tmp_path)
    assert counts(frame) == {("train", "good"): 6, ("test", "good"): 3, ("test", "impurity"): 3}
    assert set(frame["mask_rule"]) == {""} and not frame["error"].any()


def test_one_file_read_by_two_rules_is_two_masks(tmp_path: Path) -> None:
    """Read as an ordinary mask, an inverted one is still binary, but not the same mask."""
    layouts.mvtec_ad(tmp_path / "copy", ("paper_btn01",), "impurity")
    plain = [e for e in at("piped", tmp_path / "copy", "paper_btn01").entries() if e.mask]

    class Inverted(Piped):
        def entries(self) -> list[Entry]:
            return [Entry(e.path, e.category, e.split, e.defect, e.mask, mask_rule="inverted") for e in plain]

    other = Inverted(DatasetSpec(name="piped", root=tmp_path / "copy"), tmp_path)
    first, second = read(at("piped", tmp_path / "copy", "paper_btn01"), tmp_path), read(other, tmp_path)
    assert not set(first["mask_sha256"]) & set(second["mask_sha256"])


def test_magnetic_tile_keeps_all_exposures_of_a_tile_on_one_side(copies: Path, tmp_path: Path) -> None:
    frame = read(at("magnetic_tile", copies / "magnetic_tile"), tmp_path)
    tiles = frame.assign(tile=[magnetic_tile.tile(Path(path)) for path in frame["path"]])
    assert tiles.groupby("tile")["split"].nunique().eq(1).all()
    assert set(tiles.loc[tiles["tile"] == "num_100", "defect"]) == {
        "good",
        "blowhole",
    }  # a good photograph of a bad tile
    assert set(tiles.loc[tiles["tile"] == "num_100", "split"]) == {"test"}
    assert "num_110" not in set(tiles["tile"])  # its mask is empty
