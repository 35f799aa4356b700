"""Several backbones and image sizes in one plan: each is an axis of the grid, and changes nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from adcore.core.plan import Plan, PlanError, load, parse
from adcore.engine import bench, forecast
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.engine.schedule import Work

BACKBONES = [{"name": "test_resnet", "weights": "random"}, {"name": "test_efficientnet", "weights": "random"}]
IMAGES = [64, {"resize": 80, "crop": 64}]
ENHANCERS = ["none", {"name": "pfam", "epochs": 1, "pool_kv": 4}]

Opened = Callable[..., Bench]


@pytest.fixture
def opened(parts: Path, tmp_path: Path) -> Opened:
    """opened(**parts of the plan): its cells over the tiny set, in one workspace."""

    def make(**parts_of_plan: Any) -> Bench:
        datasets = [{"name": "parts", "kind": "folder", "root": str(parts), "categories": ["bolt"]}]
        plan = parse({"datasets": datasets, "methods": ["padim", "patchcore"], "device": "cpu"} | parts_of_plan)
        return Bench(plan, tmp_path, {"parts": bench.prepare(plan.datasets[0], bench.Layout(tmp_path))})

    return make


def keys(cells: Iterable[Cell]) -> set[tuple[str, str, str, str]]:
    return {(cell.fit_key, cell.maps_key, cell.key, cell.latency_key) for cell in cells}


def test_each_is_combined_with_each(opened: Opened) -> None:
    made = opened(backbones=BACKBONES, images=IMAGES, enhancers=ENHANCERS, seeds=[0, 1])
    assert len(made.cells) == 2 * 2 * 2 * 2 * 2
    assert len(made.by_title) == len(made.cells)


def test_a_cell_has_the_keys_that_it_has_in_a_plan_of_its_own(opened: Opened) -> None:
    together = opened(backbones=BACKBONES, images=IMAGES, enhancers=ENHANCERS)
    apart = [
        cell
        for backbone in BACKBONES
        for image in ({"resize": 64}, {"resize": 80, "crop": 64})
        for cell in opened(backbone=backbone, image=image, enhancers=ENHANCERS).cells
    ]
    assert keys(together.cells) == keys(apart)


def test_rows_tell_them_apart(opened: Opened) -> None:
    names = [cell.names for cell in opened(backbones=BACKBONES, images=IMAGES).cells]
    assert {(name["backbone"], name["image"]) for name in names} == {
        (backbone, image) for backbone in ("test_resnet", "test_efficientnet") for image in ("64", "80/64")
    }


def test_a_cell_is_compared_with_the_plain_one_on_its_own_network(opened: Opened) -> None:
    made = opened(backbones=BACKBONES, images=IMAGES, enhancers=ENHANCERS)
    pairs = [(cell, made.plain(cell)) for cell in made.cells if cell.links]
    assert len(pairs) == 8
    assert all(plain and (plain.backbone, plain.image) == (cell.backbone, cell.image) for cell, plain in pairs)


def test_only_the_levels_of_the_own_backbone_are_extracted(opened: Opened) -> None:
    made = opened(backbones=[BACKBONES[0], {**BACKBONES[1], "layers": [2, 3]}])
    assert {cell.backbone.name: made.levels(cell) for cell in made.cells} == {
        "test_resnet": (1, 2, 3),
        "test_efficientnet": (),
    }


def test_features_are_extracted_once_a_network(opened: Opened) -> None:
    steps = list(Work.find(opened(backbones=BACKBONES, images=IMAGES)).planned())
    titles = [title for step, _, title in steps if step.name == "extract"]
    assert len(titles) == 4
    assert len(set(titles)) == 4


def test_a_forecast_is_the_sum_of_those_of_each(opened: Opened) -> None:
    made = opened(backbones=BACKBONES)
    whole = forecast.foresee(made.plan, made.cells)
    parts = [forecast.foresee(one.plan, one.cells) for one in (opened(backbone=backbone) for backbone in BACKBONES)]
    assert whole.features == sum(part.features for part in parts)
    assert whole.models == sum(part.models for part in parts)
    assert whole.largest[0] == max(part.largest[0] for part in parts)


def test_a_single_one_stands_in_no_title(opened: Opened) -> None:
    one = opened(backbones=BACKBONES[:1], images=IMAGES[:1])
    assert [cell.title for cell in one.cells] == ["parts/bolt padim seed 0", "parts/bolt patchcore seed 0"]
    assert keys(one.cells) == keys(opened(backbone=BACKBONES[0], image={"resize": 64}).cells)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"backbone": BACKBONES[0], "backbones": BACKBONES}, "backbone and backbones are both given"),
        ({"image": {"resize": 64}, "images": IMAGES}, "image and images are both given"),
        ({"backbones": ["test_resnet", "test_resnet"]}, "backbone 'test_resnet' is listed twice"),
        ({"images": [64, {"resize": 64}]}, "image '64' is listed twice"),
        ({"backbones": []}, "backbones"),
        ({"images": [8]}, r"images.0.resize"),
        ({"backbones": [{"name": "test_resnet", "weight": "random"}]}, "did you mean 'weights'"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse({"datasets": ["elpv"], "methods": ["padim"]} | content)


def test_files_of_weights_are_beside_the_plan(tmp_path: Path) -> None:
    text = (
        "backbones: [test_resnet, {name: test_resnet, weights: mine.safetensors}]\ndatasets: [elpv]\nmethods: [padim]"
    )
    (tmp_path / "plan.yaml").write_text(text)
    plan: Plan = load(tmp_path / "plan.yaml")
    assert [backbone.weights for backbone in plan.every_backbone] == ["pretrained", str(tmp_path / "mine.safetensors")]
