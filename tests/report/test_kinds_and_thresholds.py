"""Thresholds and kinds of defects, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from adcore.core.conformal import Alarms, Calibration
from adcore.report import defects, thresholds
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.run import Results
from adcore.results.runs import CellResult
from tests.report.conftest import a_row

GOOD = {"path": "g", "label": 0, "defect": "good", "subset": ""}


def a_cell(folder: Path, method: str, seed: int, alarms: bool) -> CellResult:
    """Ten good images, three scratches, two dents; of the first method scratches score high and dents low."""
    rng = np.random.default_rng(seed)
    high = 2.0 if method == "padim" else 0.0
    rows = [{**GOOD, "score": float(score)} for score in rng.random(10)]
    rows += [{**GOOD, "label": 1, "defect": "scratch", "score": high + float(score)} for score in rng.random(3)]
    rows += [{**GOOD, "label": 1, "defect": "dent", "score": float(score)} for score in rng.random(2)]
    folder.mkdir(parents=True)
    images = pd.DataFrame(rows)
    images.to_parquet(folder / "images.parquet")
    calibration = Calibration(np.arange(1.0, 20.0) / 20, np.arange(1.0, 20.0))
    told = Alarms.of(calibration, 0.1, images["score"], images["label"]) if alarms else None
    return CellResult(a_row(method_label=method, seed=seed), folder, alarms=told)


def results(folder: Path, alarms: bool = True) -> Results:
    cells = [
        a_cell(folder / f"{method}{seed}", method, seed, alarms) for method in ("padim", "patchcore") for seed in (0, 1)
    ]
    return Results(Contests(frame([cell.row for cell in cells])), cells)


def test_the_table_counts_both_errors_of_the_first_seed(tmp_path: Path) -> None:
    made = results(tmp_path)
    table = thresholds.section(made, "elpv")
    assert table is not None
    row = next(row for row in table.texts if row[0] == "padim")
    scores = made.finished[0].images
    false = int(((scores["label"] == 0) & (scores["score"] > 0.9)).sum())
    missed = int(((scores["label"] == 1) & (scores["score"] <= 0.9)).sum())
    assert row[1:5] == ["mono", "19", "100", "100"]
    assert (row[5].split()[0], row[6].split()[0]) == (str(100 * false), str(200 * missed))


@pytest.mark.parametrize(("share", "text"), [(0.0005, "0.5"), (0.005, "5"), (0.0244, "24"), (0.2, "200")])
def test_small_shares_are_told_as_what_they_are(share: float, text: str) -> None:
    assert thresholds._of_1000(share) == text


@pytest.mark.parametrize(("count", "of"), [(0, 10), (3, 10), (10, 10)])
def test_intervals_are_clopper_and_pearsons(count: int, of: int) -> None:
    from scipy.stats import beta

    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    assert thresholds.interval(count, of) == pytest.approx((low, high))


def test_both_files_have_every_cell(tmp_path: Path) -> None:
    thresholds.write(tmp_path / "results", results(tmp_path))
    assert len(pd.read_csv(tmp_path / "results" / "thresholds.csv")) == 4


def test_old_files_go_where_no_threshold_is_asked_for(tmp_path: Path) -> None:
    thresholds.write(tmp_path / "results", results(tmp_path / "with"))
    thresholds.write(tmp_path / "results", results(tmp_path / "without", alarms=False))
    assert not [*(tmp_path / "results").iterdir()]


def test_a_kind_is_held_against_all_good_images(tmp_path: Path) -> None:
    made = results(tmp_path)
    table = made.defects
    images = made.finished[0].images
    part = images[images["defect"].isin(["good", "dent"])]
    row = table[(table["contender"] == "padim") & (table["seed"] == 0) & (table["defect"] == "dent")].iloc[0]
    assert row["i_auroc"] == pytest.approx(roc_auc_score(part["label"], part["score"])) and row["images"] == 2


def test_what_is_above_the_threshold_is_found(tmp_path: Path) -> None:
    table = results(tmp_path).defects
    assert table[(table["contender"] == "padim") & (table["defect"] == "scratch")]["found"].tolist() == [1.0, 1.0]


def test_the_section_has_means_over_seeds(tmp_path: Path) -> None:
    table = results(tmp_path).defects
    shown = defects.section(table, "elpv")
    assert shown is not None
    dents = table[(table["contender"] == "patchcore") & (table["defect"] == "dent")]["i_auroc"]
    (row,) = [row for row in shown.texts if row[1] == "dent"]
    assert row[shown.header.index("patchcore")] == f"{100 * dents.mean():.1f}"


def test_one_kind_alone_has_no_section(tmp_path: Path) -> None:
    table = results(tmp_path).defects
    assert defects.section(table[table["defect"] == "dent"], "elpv") is None


def test_files_that_say_this_are_left(tmp_path: Path) -> None:
    made = results(tmp_path)
    assert [defects.write(tmp_path, made), defects.write(tmp_path, made)] == [True, False]
