"""What a dry run says of disk and time, against counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adcore.core.contracts import Levels
from adcore.core.plan import Plan, parse
from adcore.engine import bench, forecast, work
from adcore.engine.cells import Cell, expand

PLAN: dict[str, Any] = {
    "image": {"resize": 64},
    "backbone": {"name": "resnet18", "weights": "random"},
    "datasets": [{"name": "mvtec_ad", "categories": ["bottle"]}],
    "methods": [{"name": "padim", "n_features": 10}],
    "device": "cpu",
}
BOTTLE = (209, 83)  # training and test images, as published


def foreseen(folder: Path, **changes: Any) -> tuple[Plan, list[Cell]]:
    plan = parse(PLAN | changes)
    layout = bench.Layout(folder)
    return plan, expand(plan, [category for spec in plan.datasets for category in bench.foreseen(spec, layout)])


def test_a_public_set_is_foreseen_by_its_published_counts(tmp_path: Path) -> None:
    _, cells = foreseen(tmp_path)
    assert [(cell.title, len(cell.train), len(cell.test)) for cell in cells] == [
        ("mvtec_ad/bottle padim(n_features=10) seed 0", *BOTTLE)
    ]


def test_a_cap_of_the_plan_counts(tmp_path: Path) -> None:
    _, cells = foreseen(tmp_path, datasets=[{"name": "mvtec_ad", "categories": ["bottle"], "max_train": 5}])
    assert len(cells[0].train) == 5


def test_a_set_without_published_counts_has_no_cells(tmp_path: Path) -> None:
    assert foreseen(tmp_path, datasets=["mtl_ad"])[1] == []


def test_bytes_are_those_of_float32_maps_and_gaussians(tmp_path: Path) -> None:
    plan, cells = foreseen(tmp_path)
    result = forecast.foresee(plan, cells)
    positions, values = 16 * 16, 64 * 16 * 16 + 128 * 8 * 8 + 256 * 4 * 4  # of ResNet-18's three levels at 64 pixels
    assert result.features == 4 * values * sum(BOTTLE)
    assert result.largest == (4 * positions * (10 + 10 * 11 // 2), cells[0].title)
    assert result.models == result.largest[0]
    assert result.maps == 4 * 64 * 64 * BOTTLE[1]


def test_features_count_once_for_all_methods_and_models_of_each(tmp_path: Path) -> None:
    one = forecast.foresee(*foreseen(tmp_path))
    both = forecast.foresee(*foreseen(tmp_path, methods=[*PLAN["methods"], {"name": "padim", "n_features": 5}]))
    assert both.features == one.features
    assert both.models == one.models + 4 * 256 * (5 + 15)


def test_a_joint_model_counts_once(tmp_path: Path) -> None:
    changes = {"datasets": [{"name": "mvtec_ad", "categories": ["bottle", "screw"]}], "protocols": ["multi-class"]}
    plan, cells = foreseen(tmp_path, **changes)
    result = forecast.foresee(plan, cells)
    assert len(cells) == 2
    assert result.models == result.largest[0]


def test_a_method_that_reads_images_needs_no_features(tmp_path: Path) -> None:
    plan, cells = foreseen(tmp_path, methods=[{"name": "agpnet", "preset": "small"}])
    assert forecast.foresee(plan, cells).features == 0


def networks(cell: Cell) -> dict[Levels, forecast._Network]:
    return {cell.levels: forecast._Network(cell.backbone, cell.image, cell.levels, "cpu")}


def test_more_epochs_take_longer_in_proportion(tmp_path: Path) -> None:
    found = [
        forecast._work(cells, networks(cells[0]))
        for _, cells in (foreseen(tmp_path, methods=[{"name": "cfa", "epochs": n}]) for n in (10, 20, 30))
    ]
    assert found[2] - found[1] == pytest.approx(found[1] - found[0])
    assert found[1] > found[0]


def test_thresholds_take_twenty_fits_of_nineteen_twentieths(tmp_path: Path) -> None:
    _, plain = foreseen(tmp_path)
    _, told = foreseen(tmp_path, alarms=0.01)
    known = networks(plain[0])
    fits = 19 * work.fit(plain[0], known[plain[0].levels].share(plain[0]))
    found = forecast._work(told, known) - forecast._work(plain, known)
    assert found == pytest.approx(fits + 0.3 * len(told[0].train))


@pytest.mark.parametrize(("name", "pictures"), [("sbm", 16), ("psg", 32)])
def test_an_enhancer_takes_its_least_steps_however_few_the_images(name: str, pictures: int, tmp_path: Path) -> None:
    def work(**options: int) -> float:
        _, cells = foreseen(tmp_path, enhancers=[{"name": name, **options}])
        return forecast._work(cells, networks(cells[0]))

    steps = -(-BOTTLE[0] // pictures)
    assert work(epochs=1, min_steps=10 * steps) == work(epochs=10, min_steps=0)
    assert work(epochs=0, min_steps=10 * steps) < work(epochs=1, min_steps=0)


def test_lines_name_what_they_count(tmp_path: Path) -> None:
    plan, _ = foreseen(tmp_path)
    largest, slowest = (38 * 10**8, "a/b padim seed 0"), (0.25, "resnet18 on cpu")
    made = forecast.Forecast(3 * 10**9, 342 * 10**9, 10**9, largest, slowest, 7200.0)
    assert forecast.lines(made, plan) == [
        "disk: 3 GB of features and 342 GB of models (of each at most 20 GB are kept), 1 GB of maps at most",
        "largest model: 3.8 GB (a/b padim seed 0)",
        "time: roughly 2 hours here, at 0.25 s an image through resnet18 on cpu",
    ]
