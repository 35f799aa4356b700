"""A plan in a workspace: computed once, failing category by category, and told in rows."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from adcore.columns.base import FinishedCell
from adcore.columns.i_auroc_untwinned import ImageAurocUntwinned
from adcore.core import costs, store
from adcore.core.errors import RemoteGone
from adcore.core.plan import DatasetSpec, Plan
from adcore.core.store import Store, intact
from adcore.datasets import manifest
from adcore.datasets.base import DataError
from adcore.datasets.cautions import cautions
from adcore.engine import bench, cells, latency, registry
from adcore.engine.bench import Bench, Layout, WorkspaceError
from adcore.engine.cells import Cell
from adcore.engine.schedule import Missing, Work, missing
from adcore.results import finished
from adcore.results.frame import frame, metric_columns
from adcore.results.run import gather
from adcore.vision.images import ChangedError

UNTWINNED = "i_auroc_untwinned"


def silent(done: float) -> None: ...


@pytest.fixture(scope="module")
def computed(prepared: Bench) -> Bench:
    """The tiny plan, all its cells computed (and latencies measured in no time)."""
    from adcore.metrics import curves  # noqa: F401  (numba and torch are loaded before anything is measured)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.0)
        for cell in prepared.cells:
            run(prepared, cell)
    return prepared


def run(opened: Bench, cell: Cell) -> None:
    opened.computer.fit(cell, silent)
    opened.computer.score(cell, silent)
    opened.computer.evaluate(cell)
    opened.computer.latency(cell)


def test_cells_of_a_prepared_workspace(prepared: Bench) -> None:
    assert [cell.title for cell in prepared.cells] == [
        f"parts/{category} {method} seed 0"
        for category in ("bolt", "cloth")
        for method in ("padim", "patchcore(coreset=0.5)")
    ]
    assert prepared.failures == [] and prepared.levels(prepared.cells[0]) == (1, 2, 3)
    cell = prepared.cells[0]
    assert len(cell.train) == 6 and len(cell.test) == 6 and prepared.by_title[cell.title] is cell


def test_preparing_again_gives_the_same_key_and_a_manifest_for_people(prepared: Bench) -> None:
    spec = prepared.plan.datasets[0]
    assert bench.read(spec, prepared.layout) == prepared.manifests["parts"]
    frame = pd.read_csv(prepared.layout.manifests / "parts.csv")
    assert len(frame) == 24 and frame["label"].sum() == 6
    assert prepared.frame("parts")["path"].tolist() == frame["path"].tolist()


def test_a_plan_with_fewer_categories_leaves_the_manifest_for_people_whole(tmp_path: Path, parts: Path) -> None:
    shutil.copytree(parts, tmp_path / "parts")
    whole = DatasetSpec(name="parts", kind="folder", root=tmp_path / "parts")
    fewer, layout = whole.model_copy(update={"categories": ["cloth"]}), Layout(tmp_path)
    listing = layout.manifests / "parts.csv"
    alone = bench.read(fewer, layout)
    assert set(pd.read_csv(listing)["category"]) == {"cloth"}
    key, content = bench.read(whole, layout), listing.read_bytes()
    assert bench.read(fewer, layout) == alone != key and listing.read_bytes() == content
    assert set(pd.read_csv(layout.store().path("manifest", alone) / "manifest.csv")["category"]) == {"cloth"}
    (tmp_path / "parts/bolt/train/good/000.png").write_bytes(b"another")
    bench.read(fewer, layout)
    assert set(pd.read_csv(listing)["category"]) == {"cloth"}  # what has changed since is not vouched for
    listing.write_text("not ours")
    bench.read(fewer, layout)
    assert set(pd.read_csv(listing)["category"]) == {"cloth"}


def test_what_tasks_reopen_has_the_same_cells(prepared: Bench) -> None:
    arguments = prepared.plan.model_dump_json(), str(prepared.layout.workspace), json.dumps(prepared.manifests)
    again = bench.reopened(*arguments)
    assert again.cells == prepared.cells and bench.reopened(*arguments) is again


def test_every_artifact_is_there_with_its_costs(computed: Bench) -> None:
    for cell in computed.cells:
        for kind, key in [("fit", cell.fit_key), *cell.artifacts]:
            assert intact(computed.store.path(kind, key)), kind
        assert not missing(store.Remembering(computed.store), cell)
        maps = np.load(computed.store.path("maps", cell.maps_key) / "maps.npy")
        scores = np.load(computed.store.path("maps", cell.maps_key) / "scores.npy")
        assert maps.dtype == scores.dtype == np.float32 and len(maps) == len(scores) == 6 and maps.ndim == 3
        meta = computed.store.meta("cell", cell.key)
        assert meta["parents"] == {"fit": cell.fit_key, "maps": cell.maps_key}
        assert meta["fit_s"] > 0 and meta["extract_s"] > 0 and meta["peak_mb"] > 50
        assert {"torch", "timm", "numpy"} <= set(meta["versions"])


def test_rows_tell_what_the_artifacts_hold(computed: Bench) -> None:
    found = finished.read(computed, computed.store, list(registry.metrics()))
    assert [row.row["category"] for row in found] == ["bolt", "bolt", "cloth", "cloth"]
    for cell, result in zip(computed.cells, found, strict=True):
        row = result.row
        assert {name: row[name] for name in cell.names} == cell.names
        assert row["key"] == cell.key and row["status"] == "ok" and row["score_ms"] > 0
        images = result.images
        assert row["i_auroc"] == pytest.approx(roc_auc_score(images["label"], images["score"]))
        assert images["path"].tolist() == cell.test["path"].tolist()
        assert set(computed.plan.metrics) <= set(row) and set(result.curves) == {"image", "pixel"}
        assert result.gallery is not None and (result.gallery / "index.json").exists()


def row_without(opened: Bench, cell: Cell, twins: set[tuple[str, str]]) -> dict[str, Any]:
    return finished.result(opened.store, cell, list(registry.metrics()), twins).row


def test_image_auroc_without_twins_is_that_of_the_images_left(computed: Bench) -> None:
    cell = computed.cells[0]
    images = pd.read_parquet(computed.store.path("cell", cell.key) / "images.parquet")
    gone = {*images["path"][images["label"] == 0][:1], *images["path"][images["label"] == 1][:2]}
    kept = images[~images["path"].isin(gone)]
    row = row_without(computed, cell, {(cell.category.name, path) for path in gone})
    assert row[UNTWINNED] == roc_auc_score(kept["label"], kept["score"])


def test_image_auroc_without_twins_of_a_category_without_any_is_the_whole(computed: Bench) -> None:
    row = row_without(computed, computed.cells[0], {("cloth", "cloth/test/good/000.png")})
    assert row[UNTWINNED] == row["i_auroc"]


def test_image_auroc_without_twins_is_empty_where_there_are_none_or_nothing_is_left(computed: Bench) -> None:
    cell = computed.cells[0]
    assert math.isnan(row_without(computed, cell, set())[UNTWINNED])
    everything = {(cell.category.name, path) for path in cell.test["path"]}
    assert math.isnan(row_without(computed, cell, everything)[UNTWINNED])
    good = {(cell.category.name, path) for path in cell.test["path"][cell.test["label"] == 0]}
    assert math.isnan(row_without(computed, cell, good)[UNTWINNED])


def test_subsets_without_twins_are_averaged_as_with_them(computed: Bench, tmp_path: Path) -> None:
    cell = computed.cells[0]
    images = pd.DataFrame(
        {"path": list("abcdef"), "label": [0, 0, 1, 1, 1, 1], "score": [0.1, 0.5, 0.3, 0.9, 0.2, 0.6]}
    )
    images.assign(subset=["", "", *["logical"] * 2, *["structural"] * 2]).to_parquet(tmp_path / "images.parquet")
    finished = FinishedCell(cell.names, {"i_auroc": 0.0}, {}, {}, tmp_path, {(cell.category.name, "d")})
    found = ImageAurocUntwinned().value(finished)
    assert found == pytest.approx((0.5 + 0.75) / 2)


@pytest.fixture
def leaky(own_parts: Path, tmp_path: Path, plan: Callable[..., Plan]) -> Bench:
    """The tiny dataset where one test image of bolt is a training image in less light."""
    dark = np.asarray(Image.open(own_parts / "bolt/train/good/002.png")) * 0.6
    Image.fromarray(dark.astype(np.uint8)).save(own_parts / "bolt/test/good/009.png")
    made = plan(datasets=[{"name": "parts", "kind": "folder", "root": str(own_parts)}])
    layout = Layout(tmp_path / "work")
    return Bench(made, layout.workspace, {"parts": bench.read(made.datasets[0], layout)})


def test_leaks_are_told_beside_the_results_and_known_to_the_metric(leaky: Bench) -> None:
    assert leaky.twins == {"parts": {("bolt", "bolt/test/good/009.png")}}
    assert "test images with a twin in training: 1 of 7 of bolt (14.3%)" in leaky.remarks()["parts"]
    assert [line for line in cautions(leaky.problems("parts")) if "have a twin in training" in line] == [
        "bolt: 1 of 7 test images (14.3%) have a twin in training, to the bit or to the eye: "
        "what is measured on them is too good"
    ]


def test_twins_are_looked_for_once(leaky: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = leaky.twins
    monkeypatch.delattr(bench, "validate")
    assert Bench(leaky.plan, leaky.layout.workspace, leaky.manifests).twins == first


def test_bright_squares_are_found(computed: Bench) -> None:
    """Even random weights see them: the parts are joined the right way round."""
    for result in finished.read(computed, computed.store, list(registry.metrics())):
        assert result.row["i_auroc"] == 1 and result.row["p_auroc"] > 0.8, result.row["method"]


def test_nothing_is_computed_twice(computed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    for cell in computed.cells:
        monkeypatch.setattr(cell.contender.method, "fit", never)
        monkeypatch.setattr(cell.contender.method, "score", never)
    monkeypatch.setattr("adcore.engine.evaluation.evaluate", never)
    fresh = Bench(computed.plan, computed.layout.workspace, computed.manifests)
    for cell in fresh.cells:
        run(fresh, cell)


def test_a_second_run_elsewhere_gives_the_same_bits(
    computed: Bench, plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another workspace and a smaller disk budget: the same keys, states, maps and scores."""
    made = plan(budget={"disk_gb": 0}, seeds=[0])
    shutil.copytree(computed.layout.cache / "store" / "manifest", tmp_path / ".cache/adcore/store/manifest")
    shutil.copytree(computed.layout.cache / "store" / "validation", tmp_path / ".cache/adcore/store/validation")
    other = Bench(made, tmp_path, computed.manifests)
    assert other.cells == computed.cells
    for cell in other.cells[:2]:
        other.computer.fit(cell, silent)
        other.computer.score(cell, silent)
        for kind, key in (("fit", cell.fit_key), ("maps", cell.maps_key)):
            assert other.store.meta(kind, key)["files"] == computed.store.meta(kind, key)["files"], cell.title


def test_a_fit_that_went_for_want_of_room_is_done_again_where_it_is_wanted(
    computed: Bench, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    shutil.copytree(computed.layout.cache / "store" / "manifest", tmp_path / ".cache/adcore/store/manifest")
    shutil.copytree(computed.layout.cache / "store" / "validation", tmp_path / ".cache/adcore/store/validation")
    small = Bench(plan(budget={"disk_gb": 0}, seeds=[0]), tmp_path, computed.manifests)
    first, second = small.cells[:2]
    small.computer.fit(first, silent)
    small.computer.fit(second, silent)
    assert not small.store.path("fit", first.fit_key).exists()
    small.computer.score(first, silent)
    assert small.store.meta("maps", first.maps_key)["files"] == computed.store.meta("maps", first.maps_key)["files"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), Missing(False, False, False, False, False)),
        (("fit",), Missing(False, False, False, False, False)),
        (("fit", "maps"), Missing(False, False, False, False, False)),
        (("cell",), Missing(False, False, True, False, True)),
        (("gallery",), Missing(False, False, True, False, False)),
        (("gallery", "maps"), Missing(False, True, True, False, False)),
        (("cell", "maps", "fit"), Missing(True, True, True, False, True)),
        (("latency",), Missing(False, False, False, True, False)),
        (("latency", "fit"), Missing(True, False, False, True, False)),
    ],
)
def test_what_is_missing_and_no_more(
    computed: Bench, tmp_path: Path, kinds: tuple[str, ...], expected: Missing
) -> None:
    cell = computed.cells[0]
    for kind, key in [("fit", cell.fit_key), *cell.artifacts]:
        if kind not in kinds:
            computed.store.export(kind, key, tmp_path)
    found = missing(store.Remembering(Store(tmp_path)), cell)
    assert found == expected and bool(found) == (expected.evaluate or expected.latency)


def _strip(parts: Path) -> str:
    shutil.rmtree(parts / "bolt" / "train")
    return "no training images"


def _corrupt(parts: Path) -> str:
    (parts / "bolt" / "test" / "square" / "001.png").write_bytes(b"\x89PNG not one")
    return "bolt/test/square/001.png"


def _unmask(parts: Path) -> str:
    (parts / "bolt" / "ground_truth" / "square" / "002_mask.png").unlink()
    return "002_mask.png"


@pytest.mark.parametrize("damage", [_strip, _corrupt, _unmask])
def test_a_damaged_category_fails_alone(
    own_parts: Path, tmp_path: Path, plan: Callable[..., Plan], damage: Callable[[Path], str]
) -> None:
    expected = damage(own_parts)
    made = plan(datasets=[{"name": "parts", "kind": "folder", "root": str(own_parts)}])
    layout = Layout(tmp_path / "workspace")
    opened = Bench(made, layout.workspace, {"parts": bench.prepare(made.datasets[0], layout)})
    assert {cell.category.name for cell in opened.cells} == {"cloth"}
    assert [(failure.dataset, failure.category) for failure in opened.failures] == [("parts", "bolt")]
    assert expected in opened.failures[0].error
    assert not any(cell.category.manifest["category"].eq("bolt").any() for cell in opened.cells)  # for joint models
    rows = finished.failed_rows(opened, opened.failures)
    assert [row["method_label"] for row in rows] == ["padim", "patchcore(coreset=0.5)"]
    assert all(row["status"] == "failed" and row["category"] == "bolt" for row in rows)
    assert all(math.isnan(row[name]) for row in rows for name in (*made.metrics, "fit_s", "score_ms"))
    assert set(rows[0]) == set(finished.failed_row(opened.cells[0].names, opened.plan))


def test_a_category_that_is_not_there_fails_and_the_others_go_on(
    parts: Path, tmp_path: Path, plan: Callable[..., Plan]
) -> None:
    spec = {"name": "parts", "kind": "folder", "root": str(parts), "categories": ["cloht", "bolt"]}
    made = plan(datasets=[spec])
    layout = Layout(tmp_path)
    opened = Bench(made, tmp_path, {"parts": bench.prepare(made.datasets[0], layout)})
    assert {cell.category.name for cell in opened.cells} == {"bolt"}
    assert opened.failures[0].category == "cloht" and "cloth" in opened.failures[0].error


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = DatasetSpec(name="mine", kind="folder", root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dataset mine: the folder .*nowhere does not exist"):
        bench.prepare(spec, Layout(tmp_path))


def test_a_changed_image_is_another_manifest(own_parts: Path, tmp_path: Path) -> None:
    spec = DatasetSpec(name="parts", kind="folder", root=own_parts)
    layout = Layout(tmp_path / "workspace")
    before = bench.prepare(spec, layout)
    assert bench.prepare(spec, layout) == before
    Image.new("RGB", (64, 64), "red").save(own_parts / "bolt" / "train" / "good" / "000.png")
    assert bench.prepare(spec, layout) != before


def test_a_file_that_changes_after_preparing_fails_its_category_by_name(
    own_parts: Path, tmp_path: Path, plan: Callable[..., Plan]
) -> None:
    """Whichever step reads it; nothing is kept under the key of what it was, and the other category goes on."""
    made = plan(datasets=[{"name": "parts", "kind": "folder", "root": str(own_parts)}], methods=["padim"])
    layout = Layout(tmp_path / "workspace")
    opened = Bench(made, layout.workspace, {"parts": bench.prepare(made.datasets[0], layout)})
    cells = {cell.category.name: cell for cell in opened.cells}
    cell, store = cells["bolt"], opened.store
    steps = [
        ("train/good/000.png", opened.computer.fit, ("fit", cell.fit_key)),
        ("test/good/000.png", opened.computer.score, ("maps", cell.maps_key)),
        ("ground_truth/square/000_mask.png", lambda cell, _: opened.computer.evaluate(cell), ("cell", cell.key)),
    ]
    for name, step, artifact in steps:
        file = own_parts / "bolt" / name
        content = file.read_bytes()
        Image.new("L" if "mask" in name else "RGB", (64, 64), 255).save(file)
        with pytest.raises(ChangedError, match=f"{file}: it changed after its data set was prepared"):
            step(cell, silent)
        assert not store.has(*artifact)
        file.write_bytes(content)
        step(cell, silent)
        assert store.has(*artifact)
        step(cells["cloth"], silent)


def test_how_files_are_read_stands_beside_the_results(tmp_path: Path, plan: Callable[..., Plan]) -> None:
    spec = {"name": "mine", "kind": "folder", "root": str(tmp_path), "masks": {"reduce": "area", "threshold": 0.5}}
    made = plan(datasets=[spec | {"pixels": {"max": 4095}}, {"name": "plain", "kind": "folder"}])
    assert Bench(made, tmp_path).notes() == {"mine": "masks: threshold=0.5 reduce=area; pixels: max=4095", "plain": ""}


def test_what_the_image_size_loses_of_masks_is_noted_beside_the_results(
    own_parts: Path, tmp_path: Path, plan: Callable[..., Plan]
) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[0, 0] = 255  # nearest neighbour takes pixel 2, 6, 10 ... of 64 at 16
    Image.fromarray(mask).save(own_parts / "bolt/ground_truth/square/000_mask.png")
    made = plan(datasets=[{"name": "parts", "kind": "folder", "root": str(own_parts)}], image={"resize": 16})
    layout = Layout(tmp_path / "workspace")
    opened = Bench(made, layout.workspace, {"parts": bench.prepare(made.datasets[0], layout)})
    (caution,) = opened.cautions("parts")
    assert caution.startswith("bolt: nearest neighbour leaves no pixel of its mask at 16 x 16 pixels")
    assert caution.endswith("(bolt/test/square/000.png)")
    assert caution in opened.remarks()["parts"]
    assert not opened.failures


def test_the_cap_of_a_plan(prepared: Bench, plan: Callable[..., Plan], parts: Path) -> None:
    spec = {"name": "parts", "kind": "folder", "root": str(parts), "max_train": 4, "max_test": 2}
    capped = Bench(plan(datasets=[spec]), prepared.layout.workspace, prepared.manifests)
    assert all(len(cell.train) == 4 and sorted(cell.test["label"]) == [0, 1] for cell in capped.cells)


def test_a_workspace_that_cannot_be_written_to(tmp_path: Path) -> None:
    Layout(tmp_path / "new" / "one").check()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WorkspaceError, match=f"cannot write to the workspace {blocked}.*--workspace"):
        Layout(blocked).check()


def test_pulled_artifacts_are_used(computed: Bench, tmp_path: Path) -> None:
    cell = computed.cells[0]
    for kind, key in cell.artifacts:
        computed.store.export(kind, key, Layout(tmp_path).artifacts)
    assert not missing(store.Remembering(Layout(tmp_path).store()), cell)


@pytest.mark.skipif(not costs._reset_peak(), reason="this kernel does not let a process forget its peak memory")
def test_costs_are_of_the_block() -> None:
    with costs.measured() as idle:
        pass
    with costs.measured() as busy:
        block = np.ones(30_000_000)  # 240 MB, written to
        del block
    with costs.measured() as after:
        pass
    assert busy.peak_mb - idle.peak_mb > 200 and busy.seconds > idle.seconds >= 0
    assert busy.peak_mb - after.peak_mb > 200  # the peak of a block is not inherited


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (os.fsdecode(b"fr\xfch"), r"the path of the workspace, .*/fr\\xfch, is not printable text"),
        ("a\rb", r"a\\x0db, is not printable text"),
        ("/".join(["d" * 100] * 5), r"has \d+ bytes, and SQLite opens no files below more than 440"),
    ],
)
def test_a_workspace_whose_path_cannot_be_kept(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(WorkspaceError, match=told):
        Layout(tmp_path / name).check()
    assert not list(tmp_path.iterdir())


def test_a_workspace_as_long_as_is_allowed_holds_databases(tmp_path: Path) -> None:
    length = bench.LONGEST - len(os.fsencode(tmp_path)) - 1
    workspace = tmp_path / "/".join(["d" * 99] * (length // 100) + ["d" * (length % 100 or 99)])
    layout = Layout(workspace)
    layout.check()
    for database in (layout.cache / "mlflow.db.part", layout.cache / "files.sqlite", workspace / "mlflow.db"):
        with sqlite3.connect(database) as opened:
            opened.execute("CREATE TABLE kept (value TEXT)")


def test_a_refused_category_with_a_name_of_any_bytes_leaves_the_others(own_parts: Path, tmp_path: Path) -> None:
    odd = own_parts / os.fsdecode(b"n\xfct\r")
    shutil.copytree(own_parts / "bolt", odd)
    shutil.rmtree(odd / "train")
    (own_parts / "docs").mkdir()
    spec = DatasetSpec(name="parts", kind="folder", root=own_parts)
    plan = Plan.model_validate({"datasets": [spec.model_dump()], "methods": ["padim"]})
    layout = Layout(tmp_path / "work")
    opened = Bench(plan, layout.workspace, {"parts": bench.prepare(spec, layout)})
    assert [failure.category for failure in opened.failures] == [r"n\xfct\x0d"]
    assert {cell.category.name for cell in opened.cells} == {"bolt", "cloth"}
    assert "these are no categories: docs" in opened.remarks()["parts"]


def counting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Counter[str]:
    """How often each first argument is given to a function, which goes on as before."""
    calls: Counter[str] = Counter()
    function = getattr(owner, name)

    def counted(first: Any, *others: Any, **named: Any) -> Any:
        calls[str(first)] += 1
        return function(first, *others, **named)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_a_run_asks_reads_and_expands_once(computed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what is missing to what the pages and MLflow are given."""
    fresh = Bench(computed.plan, computed.layout.workspace, computed.manifests)
    sums = counting(monkeypatch, store, "intact")
    plans = counting(monkeypatch, cells, "contenders")
    manifests = counting(monkeypatch, manifest, "read_manifest")
    work = Work.find(fresh)
    results = gather(fresh, work.store, "tiny", [], [])
    assert len(results.runs) == 2
    folders = {str(fresh.store.path(kind, key)) for cell in fresh.cells for kind, key in cell.artifacts}
    asked = {folder for folder in sums if Path(folder).parent.name not in ("validation", "sample", "manifest")}
    assert asked == {folder for folder in folders if Path(folder).parent.name in ("cell", "gallery", "latency")}
    assert {sums[folder] for folder in asked} == {1}
    assert sum(plans.values()) == 1
    assert set(manifests.values()) == {1}


def test_results_have_the_metrics_of_the_plan_and_mlflow_all(computed: Bench) -> None:
    few = computed.plan.model_copy(update={"metrics": ("p_auroc",)})
    opened = Bench(few, computed.layout.workspace, computed.manifests)
    results = gather(opened, opened.store, "tiny", [], [])
    assert metric_columns(results.table) == ["p_auroc"]
    assert "i_auroc_untwinned" not in results.table
    assert set(registry.metrics()) <= set(results.runs[0].cells[0].row)
    again = frame([cell.row for cell in finished.read(opened, opened.store, ["p_auroc"])])
    pd.testing.assert_frame_equal(results.table, again)


def test_what_a_run_found_intact_it_does_not_look_at_again_but_the_next_run_does(computed: Bench) -> None:
    key = computed.cells[0].key
    run, path = store.Remembering(computed.store), computed.store.path("cell", key) / "metrics.json"
    content = path.read_bytes()
    assert not run.has("cell", "0" * 20)
    assert run.has("cell", key)
    moved = path.rename(path.with_suffix(".moved"))
    try:
        assert run.has("cell", key)
        assert not store.intact(path.parent)
    finally:
        moved.rename(path)
    assert path.read_bytes() == content


def test_problems_are_told_where_the_shared_store_is_gone(prepared: Bench, tmp_path: Path, monkeypatch) -> None:
    """Both where they were found before, and where they were not."""
    manifests = {spec.name: bench.prepare(spec, Layout(tmp_path)) for spec in prepared.plan.datasets}
    opened = Bench(prepared.plan, tmp_path, manifests)

    def gone(*_: object) -> bool:
        raise RemoteGone("it is gone")

    with monkeypatch.context() as lost:
        lost.setattr(opened.store, "has", gone)
        first = opened.problems("parts")
    opened.problems("parts")
    monkeypatch.setattr(opened.store, "has", gone)
    assert opened.problems("parts") == first
