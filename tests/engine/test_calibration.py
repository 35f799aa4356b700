"""What models score normal images that they have not seen, against fits that are made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adcore.core.contracts import silent
from adcore.core.plan import Plan
from adcore.engine import bench, calibrated, evaluation
from adcore.engine.bench import Bench
from adcore.engine.cells import FINE_FOLDS, FOLDS, Cell, contenders, folds, most_folds, unseen
from adcore.engine.compute import Computer
from adcore.engine.schedule import Work
from adcore.vision.maps import postprocess

Make = Callable[..., Plan]


@pytest.fixture(scope="module")
def opened(plan: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The tiny plan with thresholds, of one category, prepared."""
    made = plan(alarms=0.2)
    made = made.model_copy(update={"datasets": (made.datasets[0].model_copy(update={"categories": ("bolt",)}),)})
    layout = bench.Layout(tmp_path_factory.mktemp("calibrated"))
    return Bench(made, layout.workspace, {spec.name: bench.prepare(spec, layout) for spec in made.datasets})


@pytest.fixture(scope="module", params=["padim", "patchcore"])
def cell(request: pytest.FixtureRequest, opened: Bench) -> Cell:
    """A cell that is calibrated."""
    (found,) = [each for each in opened.cells if each.names["method"] == request.param]
    opened.computer.calibrate(found, silent)
    return found


def rows(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns).assign(variant=0)


def test_every_image_is_left_out_once() -> None:
    train = rows(sha256=[f"{n:03d}" for n in range(23)])
    np.testing.assert_array_equal(np.sum(folds(train, 0, FOLDS), axis=0), np.ones(23))


def test_there_are_as_many_folds_as_images_where_these_are_few() -> None:
    assert [len(folds(rows(sha256=[str(n) for n in range(count)]), 0, FOLDS)) for count in (1, 2, 4, 9)] == [
        0,
        2,
        4,
        FOLDS,
    ]


def test_versions_of_an_image_are_left_out_together() -> None:
    train = rows(sha256=["a", "a", "b", "b", "c"])
    assert all(out[0] == out[1] and out[2] == out[3] for out in folds(train, 0, FOLDS))


def test_images_of_a_group_are_left_out_together() -> None:
    train = rows(sha256=[str(n) for n in range(12)], group=["left"] * 4 + ["right"] * 4 + [""] * 4)
    assert all(len(set(out[:4])) == len(set(out[4:8])) == 1 for out in folds(train, 0, FOLDS))


def test_other_seeds_leave_out_others() -> None:
    train = rows(sha256=[f"{n:03d}" for n in range(40)])
    assert not np.array_equal(folds(train, 0, FOLDS), folds(train, 1, FOLDS))


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"methods": ["padim"]}, FINE_FOLDS),
        ({"methods": [{"name": "cfa", "epochs": 1}]}, FOLDS),
        ({"methods": ["padim"], "enhancers": ["sbm"]}, FOLDS),
    ],
)
def test_what_is_trained_is_fitted_again_less_often(plan: Make, changes: dict[str, Any], count: int) -> None:
    (contender,) = contenders(plan(**changes))
    assert most_folds(contender) == count


def test_scores_are_those_of_models_without_the_image(opened: Bench, cell: Cell, tmp_path: Path) -> None:
    """Each is fitted once more by the plain steps, with a store and a bank of its own."""
    computer = Computer(opened.plan, type(opened.store)(tmp_path / "store"), tmp_path / "bank")
    scores, peaks = [], []
    for number, out in enumerate(folds(cell.train, cell.seed, FINE_FOLDS)):
        part = replace(
            cell, train=cell.train[~out], test=cell.train[out], fit_key=f"fit{number}", maps_key=f"maps{number}"
        )
        computer.fit(part, silent)
        maps, found = evaluation.score(computer._fitted(part).method, computer._source(part, "test"), silent)
        smooth = postprocess(torch.from_numpy(maps), (64, 64), cell.contender.method.smoothing)
        scores += found.tolist()
        peaks += smooth.flatten(1).amax(1).tolist()
    calibration = calibrated.read(opened.store, cell)
    assert calibration is not None
    np.testing.assert_allclose(np.sort(calibration.scores), np.sort(scores), rtol=1e-5)
    np.testing.assert_allclose(np.sort(calibration.peaks), np.sort(peaks), rtol=1e-5)


def test_a_model_scores_what_it_was_fitted_on_lower(opened: Bench, cell: Cell) -> None:
    computer = opened.computer
    computer.fit(cell, silent)
    own = evaluation.score(computer._fitted(cell).method, computer._source(cell, "train"), silent)[1]
    calibration = calibrated.read(opened.store, cell)
    assert calibration is not None and own.mean() < calibration.scores.mean()


def test_the_fits_are_not_kept(opened: Bench, cell: Cell) -> None:
    assert not list((opened.store.root / "fit").glob(f"{cell.calibration_key}*"))


def test_what_is_there_is_not_computed_again(opened: Bench, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "score", lambda *_: pytest.fail("scored again"))
    opened.computer.calibrate(cell, silent)


def test_a_plan_without_alarms_wants_none(prepared: Bench) -> None:
    assert {cell.calibration_key for cell in prepared.cells} == {""}


def test_thresholds_move_no_other_key(plan: Make, opened: Bench) -> None:
    plain = Bench(opened.plan.model_copy(update={"alarms": None}), opened.layout.workspace, opened.manifests)
    names = ("fit_key", "maps_key", "key", "latency_key", "gallery_key")
    assert [[getattr(each, name) for name in names] for each in plain.cells] == [
        [getattr(each, name) for name in names] for each in opened.cells
    ]


def test_a_calibration_serves_every_wanted_share(opened: Bench) -> None:
    other = Bench(opened.plan.model_copy(update={"alarms": 0.01}), opened.layout.workspace, opened.manifests)
    assert [each.calibration_key for each in other.cells] == [each.calibration_key for each in opened.cells]


def test_only_what_is_missing_is_planned(opened: Bench, cell: Cell) -> None:
    steps = [step.name for step, of, _ in Work.find(opened).planned() if of.title == cell.title]
    assert "calibrate" not in steps


def test_a_method_that_picks_its_epoch_on_test_images_is_not_calibrated(plan: Make, opened: Bench) -> None:
    methods = plan(methods=[{"name": "cfa", "selection": "best_test"}]).methods
    other = opened.plan.model_copy(update={"methods": methods})
    assert [each.calibration_key for each in Bench(other, opened.layout.workspace, opened.manifests).cells] == [""]


def test_a_validation_split_is_taken_instead(opened: Bench, cell: Cell) -> None:
    """Its images are scored by the cell's own fit."""
    frame = cell.category.manifest.copy()
    moved = (frame["category"] == "bolt") & (frame["split"] == "test") & (frame["label"] == 0)
    frame.loc[moved, "split"] = "validation"
    category = replace(cell.category, manifest=frame)
    validation = unseen(category, cell.train)
    assert sorted(validation["path"]) == sorted(frame[moved]["path"])
    other = replace(cell, category=category, calibration_key=f"{cell.calibration_key}v")
    opened.computer.fit(cell, silent)
    opened.computer.calibrate(other, silent)
    opened.computer.score(cell, silent)
    scores = np.load(opened.store.path("maps", cell.maps_key) / "scores.npy")[(cell.test["label"] == 0).to_numpy()]
    found = calibrated.read(opened.store, other)
    assert found is not None
    np.testing.assert_allclose(np.sort(found.scores), np.sort(scores), rtol=1e-5)


def test_another_category_of_the_same_images_has_the_same_thresholds(opened: Bench, cell: Cell) -> None:
    """Its key is the same, and whichever comes first computes it."""
    twin = replace(
        cell, category=replace(cell.category, name="screw"), train=cell.train.assign(category="screw"), test=cell.test
    )
    mine, theirs = (calibrated.read(opened.store, each) for each in (cell, twin))
    assert mine is not None and theirs is not None and len(theirs)
    np.testing.assert_array_equal(mine.scores, theirs.scores)


def test_a_joint_model_has_thresholds_of_each_category(plan: Make, opened: Bench) -> None:
    made = plan(alarms=0.2, protocols=["multi-class"], methods=["padim"])
    both = Bench(made, opened.layout.workspace, opened.manifests)
    for each in both.cells:
        both.computer.calibrate(each, silent)
    found = {each.category.name: calibrated.read(both.store, each) for each in both.cells}
    assert len({each.calibration_key for each in both.cells}) == 1
    assert {name: len(each) for name, each in found.items() if each} == {
        each.category.name: int((each.train["category"] == each.category.name).sum()) for each in both.cells
    }
