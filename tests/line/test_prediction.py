"""Tables, maps and pictures of new images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adcore.core.plan import PlanError
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.engine.enhancement import image_set
from adcore.line import prediction
from adcore.line.scorer import Scorer


@pytest.fixture(scope="module")
def scorer(done: Bench, cells: dict[str, Cell]) -> Scorer:
    return Scorer(done, cells["padim"])


@pytest.fixture(scope="module")
def out(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The predictions of all test images, and of a file that is none."""
    folder = tmp_path_factory.mktemp("predicted")
    (folder / "bad.png").write_bytes(b"no image")
    prediction.predict(scorer, [*image_set(scorer.cell, "test").paths, folder / "bad.png"], folder / "out")
    return folder / "out"


@pytest.fixture
def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "predictions.csv", keep_default_na=False, na_values=[""])


def test_there_is_a_row_an_image_in_order(scorer: Scorer, table: pd.DataFrame) -> None:
    paths = [str(path) for path in image_set(scorer.cell, "test").paths]
    assert table["path"].tolist()[:-1] == paths


def test_both_tables_say_the_same(out: Path, table: pd.DataFrame) -> None:
    other = pd.read_parquet(out / "predictions.parquet")
    np.testing.assert_array_equal(other["score"], table["score"])


def test_verdicts_follow_the_threshold(scorer: Scorer, table: pd.DataFrame) -> None:
    assert scorer.image is not None
    expected = ["defective" if score > scorer.image.value else "normal" for score in table["score"][:-1]]
    assert table["verdict"].tolist()[:-1] == expected


def test_a_bad_file_is_one_failed_row(table: pd.DataFrame) -> None:
    last = table.iloc[-1]
    assert last["verdict"] == "failed" and "it is no image" in last["error"] and np.isnan(last["score"])


def test_maps_are_those_of_the_benchmark(done: Bench, scorer: Scorer, out: Path, table: pd.DataFrame) -> None:
    maps = np.load(done.store.path("maps", scorer.cell.maps_key) / "maps.npy")
    np.testing.assert_array_equal(np.stack([np.load(out / name) for name in table["map"][:-1]]), maps)


def test_an_overlay_has_the_size_of_its_image(out: Path, table: pd.DataFrame) -> None:
    with Image.open(out / table["overlay"][0]) as picture, Image.open(table["path"][0]) as image:
        assert picture.size == image.size


def test_boxes_lie_within_the_image(table: pd.DataFrame) -> None:
    every = [box for text in table["boxes"] for box in json.loads(text)]
    assert every and all(0 <= box[0] < box[2] <= 64 and 0 <= box[1] < box[3] <= 64 for box in every)


def test_predictions_are_not_written_over(scorer: Scorer, out: Path) -> None:
    with pytest.raises(PlanError, match="holds predictions already"):
        prediction.predict(scorer, [], out)


def test_a_large_overlay_is_made_smaller(scorer: Scorer, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large.png")
    prediction.predict(scorer, [tmp_path / "large.png"], tmp_path / "out")
    with Image.open(next((tmp_path / "out" / "overlays").iterdir())) as picture:
        assert picture.size == (1024, 512)


def test_files_folders_and_patterns_are_taken_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "below/c.bmp", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = prediction.images([str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [path.name for path in found] == ["a.png", "b.JPG", "c.bmp"]


def test_a_folder_that_a_pattern_matches_is_one(tmp_path: Path) -> None:
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "in" / "below" / "a.png").write_bytes(b"")
    assert prediction.images([str(tmp_path / "i*")]) == [tmp_path / "in" / "below" / "a.png"]


def test_a_name_of_any_length_has_a_map(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 120}.png"
    Image.new("RGB", (9, 9)).save(path)
    (row,) = prediction.predict(scorer, [path], tmp_path / "out")
    assert (tmp_path / "out" / row.map).exists() and (tmp_path / "out" / row.overlay).exists()


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="cannot be written to"):
        prediction.require_free(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none.png", "is no image, folder or pattern"),
        ("", "has no image"),
        ("a**b", "is no image, folder or pattern"),
        ("a" * 300, "is no image, folder or pattern"),
    ],
)
def test_what_means_no_image_is_refused(tmp_path: Path, name: str, error: str) -> None:
    with pytest.raises(PlanError, match=error):
        prediction.images([str(tmp_path / name)])
