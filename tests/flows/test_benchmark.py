"""The benchmark flow from a plan to a leaderboard: what is computed, cached, failed and reported."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import TaskRun
from prefect.states import Running

import adcore
from adcore.api import in_place
from adcore.core.contracts import FeatureSource
from adcore.engine.bench import Layout
from adcore.methods.padim import PaDiM
from adcore.results.frame import read, same
from flows import _start, stages
from flows.benchmark import benchmark
from flows.leaderboard import leaderboard
from tasks.tracking import workspace as workspace_database

PlanFile = Callable[..., Path]


def run(plan: Path, workspace: Path) -> dict[str, Any]:
    state = benchmark(plan=str(plan), workspace=str(workspace), return_state=True)
    outcome = state.result(raise_on_failure=False)
    assert isinstance(outcome, dict), outcome
    return outcome


def board(workspace: Path) -> pd.DataFrame:
    return read(workspace / "results" / "leaderboard.csv")


def test_cells_are_computed_once_and_reported(plan_file: PlanFile, work: Path) -> None:
    plan, workspace = plan_file(), work
    assert run(plan, workspace)["last_line"] == "cells: 4 computed, 0 cached, 0 failed"
    first = board(workspace)
    assert list(first.columns[:12]) == [
        "dataset", "category", "protocol", "enhancer", "method", "protocol_label", "enhancer_label", "method_label",
        "backbone", "weights", "image", "seed",
    ]  # fmt: skip
    assert list(first.columns[-11:]) == [
        "extract_s", "fit_s", "score_ms", "hardware", "peak_mb", "learnable_params", "total_params", "macs",
        "key", "mlflow_run_id", "status",
    ]  # fmt: skip
    assert set(first["method_label"]) == {"padim", "patchcore(coreset=0.5)"}
    assert first[["i_auroc", "p_auroc", "aupro", "score_ms", "peak_mb", "macs"]].notna().all(axis=None)
    assert (first["i_auroc"] > 0.9).all()  # a white square on a texture is plain to see, whatever the weights
    assert first["mlflow_run_id"].nunique() == 2  # a run a method over both categories
    assert run(plan, workspace)["last_line"] == "cells: 0 computed, 4 cached, 0 failed"
    assert same(first, board(workspace))
    assert same(first, adcore.read_results(adcore.load_plan(plan), workspace))
    assert first["mlflow_run_id"].tolist() == board(workspace)["mlflow_run_id"].tolist()
    for name in ("leaderboard.md", "metrics/parts/padim (random weights).json", "report.html", "validation.html"):
        assert (workspace / "results" / name).stat().st_size > 0
    padim = json.loads((workspace / "results/metrics/parts/padim (random weights).json").read_text())
    assert padim["i_auroc"] == pytest.approx(first[first["method"] == "padim"]["i_auroc"].mean(), abs=1e-6)


def test_results_stand_without_tracking_and_the_next_run_catches_up(
    plan_file: PlanFile, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace_database, "PATIENCE", 0.2)
    plan = plan_file(methods=["padim"])
    with closing(sqlite3.connect(work / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        outcome = run(plan, work)
    assert outcome["last_line"] == "cells: 2 computed, 0 cached, 0 failed"
    assert "mlflow.db: database is locked; the next run logs them" in outcome["untracked"]
    before = board(work)
    assert before["i_auroc"].notna().all()
    assert set(before["mlflow_run_id"]) == {""}
    again: Any = leaderboard(plan=str(plan), workspace=str(work), return_state=True).result()
    assert again["untracked"] == ""
    after = board(work)
    assert after["mlflow_run_id"].nunique() == 1
    assert after.drop(columns="mlflow_run_id").equals(before.drop(columns="mlflow_run_id"))
    with sqlite3.connect(work / "mlflow.db") as database:
        assert set(after["mlflow_run_id"]) == {run for (run,) in database.execute("SELECT run_uuid FROM runs")}


def test_results_stand_where_a_server_is_gone_and_another_place_takes_the_runs(
    plan_file: PlanFile, work: Path, tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{_start.free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
    plan = plan_file(methods=["padim"])
    outcome = run(plan, work)
    assert outcome["last_line"] == "cells: 2 computed, 0 cached, 0 failed"
    assert outcome["untracked"].startswith(f"runs were not logged to http://{address}: it does not answer")
    assert board(work)["i_auroc"].notna().all()
    elsewhere = shutil.copy(fresh_database, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    assert run(plan, work)["untracked"] == ""
    with sqlite3.connect(elsewhere) as database:
        assert set(board(work)["mlflow_run_id"]) == {run for (run,) in database.execute("SELECT run_uuid FROM runs")}


def test_fresh_workspaces_give_bit_equal_metrics(plan_file: PlanFile, tmp_path: Path, work: Path) -> None:
    """Whether Prefect starts the steps or the library does."""
    plan = plan_file(methods=["padim", "patchcore", {"name": "cfa", "epochs": 1}])
    run(plan, work)
    assert same(board(work), adcore.run(adcore.load_plan(plan), tmp_path / "other"))


def test_a_new_option_computes_its_own_cells_only(plan_file: PlanFile, work: Path) -> None:
    run(plan_file(methods=["padim"]), work)
    more = plan_file(methods=["padim", {"name": "padim", "n_features": 20}])
    assert run(more, work)["last_line"] == "cells: 2 computed, 2 cached, 0 failed"


def test_damaged_artifact_is_computed_again(plan_file: PlanFile, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Prefect's server is late to know how a step ended."""
    plan, workspace = plan_file(methods=["padim"]), work
    run(plan, workspace)
    first = board(workspace)
    victim = workspace / ".cache/adcore/store/cell" / first["key"].iloc[0] / "metrics.json"
    victim.write_text(victim.read_text().replace("0", "1"))
    late = TaskRun(task_key="late", dynamic_key="0", state=Running())
    monkeypatch.setattr(SyncPrefectClient, "read_task_run", lambda *_, **__: late)
    assert run(plan, workspace)["last_line"] == "cells: 1 computed, 1 cached, 0 failed"
    assert same(first, board(workspace))


def test_exported_artifacts_spare_another_workspace_the_work(plan_file: PlanFile, tmp_path: Path, work: Path) -> None:
    from flows import command
    from flows.export import export

    plan, workspace = plan_file(methods=["padim"]), work
    run(plan, workspace)
    loaded, layout = command.opened(str(plan), str(workspace))
    bench, _ = in_place(loaded, layout)
    export(bench, layout)
    clone = tmp_path / "clone"
    shutil.copytree(workspace / "artifacts", clone / "artifacts")
    shutil.copy(workspace / "mlflow.db", clone)
    outcome: Any = leaderboard(plan=str(plan), workspace=str(clone), return_state=True).result()
    assert outcome["last_line"] == "cells: 0 computed, 2 cached, 0 failed"
    assert run(plan, clone)["last_line"] == "cells: 0 computed, 2 cached, 0 failed"
    assert same(board(workspace), board(clone))


def test_a_corrupt_image_stops_its_category_only(plan_file: PlanFile, own_parts: Path, work: Path) -> None:
    image = own_parts / "bolt" / "train" / "good" / "000.png"
    image.write_bytes(image.read_bytes()[:200])
    assert run(plan_file(methods=["padim"]), work)["last_line"] == "cells: 1 computed, 0 cached, 1 failed"
    found = board(work).set_index("category")
    assert found["status"].to_dict() == {"bolt": "failed", "cloth": "ok"}
    assert np.isnan(found["i_auroc"]["bolt"])
    assert "bolt/train/good/000.png" in (work / "results" / "leaderboard.md").read_text()


def test_a_category_that_cannot_be_used_counts_its_cells_of_all_seeds(
    plan_file: PlanFile, own_parts: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_parts / "bolt" / "train" / "good" / "000.png").write_bytes(b"no image")
    plan = plan_file(methods=["padim"], seeds=[0, 1])
    assert not stages.list_missing(adcore.load_plan(plan), Layout(work))
    assert capsys.readouterr().out.splitlines()[-1] == "cells: 0 computed, 0 cached, 2 failed"
    assert run(plan, work)["last_line"] == "cells: 2 computed, 0 cached, 2 failed"


def test_a_dry_run_lists_thresholds_that_a_plan_asks_for_later(
    plan_file: PlanFile, own_parts: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plan_file(methods=["padim"]), work)
    assert stages.list_missing(adcore.load_plan(plan_file(methods=["padim"], alarms=0.2)), Layout(work))
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")] == [
        f"missing: the threshold of parts/{name} padim seed 0" for name in ("bolt", "cloth")
    ]


def test_a_missing_root_fails_and_other_datasets_go_on(
    plan_file: PlanFile, own_parts: Path, tmp_path: Path, work: Path
) -> None:
    datasets = [
        {"name": "parts", "kind": "folder", "root": str(tmp_path / "parts")},
        {"name": "gone", "kind": "folder", "root": str(tmp_path / "nowhere")},
    ]
    outcome = run(plan_file(methods=["padim"], datasets=datasets), work)
    assert outcome["last_line"] == "cells: 2 computed, 0 cached, 1 failed"
    assert "nowhere" in (work / "results" / "leaderboard.md").read_text()


def test_a_failing_method_spares_the_others(plan_file: PlanFile, work: Path) -> None:
    plan = plan_file(methods=["padim", {"name": "cfa", "gamma_c": 10000}])
    assert run(plan, work)["last_line"] == "cells: 2 computed, 0 cached, 2 failed"
    assert "gamma_c" in (work / "results" / "leaderboard.md").read_text()
    assert "Traceback" in (work / "results" / "failures.txt").read_text()
    assert run(plan, work)["last_line"] == "cells: 0 computed, 2 cached, 2 failed"  # no error is cached


def test_only_good_test_images_give_empty_metrics(plan_file: PlanFile, own_parts: Path, work: Path) -> None:
    shutil.rmtree(own_parts / "bolt" / "test" / "square")
    shutil.rmtree(own_parts / "bolt" / "ground_truth")
    run(plan_file(methods=["padim"]), work)
    found = board(work).set_index("category")
    assert found.loc["bolt", "status"] == "ok"
    assert found.loc["bolt", ["i_auroc", "p_auroc", "aupro"]].isna().all()


def test_original_resolution_needs_no_new_fit(plan_file: PlanFile, own_parts: Path, work: Path) -> None:
    for path in own_parts.glob("bolt/**/*.png"):
        image = Image.open(path)
        image.resize((80, 96), Image.Resampling.NEAREST).save(path)
    run(plan_file(methods=["padim"]), work)
    store = work / ".cache/adcore/store"
    fits = sorted(path.name for path in (store / "fit").iterdir())
    outcome = run(plan_file(methods=["padim"], evaluate_at="original"), work)
    assert outcome["last_line"] == "cells: 2 computed, 0 cached, 0 failed"
    assert sorted(path.name for path in (store / "fit").iterdir()) == fits


def test_the_leaderboard_flow_computes_nothing(plan_file: PlanFile, work: Path) -> None:
    outcome: Any = leaderboard(plan=str(plan_file()), workspace=str(work), return_state=True).result()
    assert outcome["last_line"].endswith("cells: 0 computed, 0 cached, 0 failed")
    assert not (work / ".cache/adcore/store/fit").exists()


@pytest.mark.parametrize("key", ["methods", "enhancers", "protocols"])
def test_an_unknown_name_ends_the_flow_before_any_work(key: str, plan_file: PlanFile, work: Path) -> None:
    state = benchmark(plan=str(plan_file(**{key: ["padin"]})), workspace=str(work), return_state=True)
    assert state.is_failed()
    assert "padin" in str(state.message)
    assert [path.name for path in work.iterdir()] == ["mlflow.db"]


def test_equal_contents_in_two_datasets_are_computed_once_and_reported_twice(
    plan_file: PlanFile, tmp_path: Path, work: Path
) -> None:
    datasets = [{"name": name, "kind": "folder", "root": str(tmp_path / "parts")} for name in ("one", "two")]
    run(plan_file(methods=["padim"], datasets=datasets), work)
    found = board(work)
    assert found["key"].nunique() == 2 and len(found) == 4
    assert found["score_ms"].notna().all()
    assert found.groupby("dataset")["mlflow_run_id"].nunique().tolist() == [1, 1]
    assert found["mlflow_run_id"].nunique() == 2


def test_a_failing_cell_takes_no_latency_from_the_next(
    plan_file: PlanFile, own_parts: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PaDiM.fit

    def fit(self: PaDiM, features: FeatureSource, *rest: Any) -> None:
        if len(features) == 1:
            raise ValueError("one image is too few")
        real(self, features, *rest)

    for path in sorted((own_parts / "bolt" / "train" / "good").iterdir())[1:]:
        path.unlink()
    monkeypatch.setattr(PaDiM, "fit", fit)
    assert run(plan_file(methods=["padim"]), work)["last_line"] == "cells: 1 computed, 0 cached, 1 failed"
    assert board(work).set_index("category").loc["cloth", ["score_ms", "fit_s"]].notna().all()


def test_failing_extraction_fails_the_cells_of_those_images_only(
    plan_file: PlanFile, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adcore.engine.compute import Computer

    real = Computer.extract

    def extract(self: Computer, cell: Any, *rest: Any) -> None:
        if cell.category.name == "bolt":
            raise OSError("Input/output error")
        real(self, cell, *rest)

    monkeypatch.setattr(Computer, "extract", extract)
    assert run(plan_file(methods=["padim"]), work)["last_line"] == "cells: 1 computed, 0 cached, 1 failed"
    assert "Input/output error" in (work / "results" / "leaderboard.md").read_text()


def test_a_failing_latency_leaves_one_row_a_cell(
    plan_file: PlanFile, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adcore.engine import latency

    monkeypatch.setattr(latency, "measure", lambda *_: 1 / 0)
    assert run(plan_file(methods=["padim"]), work)["last_line"] == "cells: 0 computed, 0 cached, 2 failed"
    assert board(work)["status"].tolist() == ["ok", "ok"]
    assert "ZeroDivisionError" in (work / "results" / "leaderboard.md").read_text()


def test_extraction_beyond_the_disk_budget_is_no_part_of_the_fit(plan_file: PlanFile, work: Path) -> None:
    banked = adcore.run(adcore.load_plan(plan_file(methods=["padim"])), work / "banked")
    run(plan_file(methods=["padim"], budget={"disk_gb": 0}), work)
    live = board(work)
    assert same(banked, live)
    assert (live["extract_s"] > 0).all() and (live["fit_s"] > 0).all()


def test_the_tracker_holds_all_metrics_whatever_the_plan_shows(plan_file: PlanFile, work: Path) -> None:
    run(plan_file(methods=["padim"], metrics=["i_ap"]), work)
    assert "i_auroc" not in board(work)
    with sqlite3.connect(work / "mlflow.db") as database:
        names = {name for (name,) in database.execute("SELECT DISTINCT key FROM metrics")}
    assert {"i_auroc", "aupro", "score_ms"} <= names


ENHANCED = [
    "none",
    {"name": "sbm+pfam", "epochs": 1, "min_steps": 0, "pool_kv": 4},
    {"name": "pfam", "train": "identity"},
]


def test_enhancers_are_trained_once_and_compared_with_none_and_their_control(
    plan_file: PlanFile, own_parts: Path, work: Path
) -> None:
    datasets = [{"name": "parts", "kind": "folder", "root": str(own_parts), "categories": ["bolt"]}]
    plan = plan_file(datasets=datasets, enhancers=ENHANCED, methods=["padim"])
    assert run(plan, work)["last_line"] == "cells: 3 computed, 0 cached, 0 failed"
    results = work / "results"
    effects = pd.read_csv(results / "enhancers.csv")
    found = effects[(effects["metric"] == "i_auroc") & (effects["against"] == "none")].set_index("enhancer_label")
    table = board(work).groupby("enhancer_label")["i_auroc"].mean()
    label = "sbm+pfam(epochs=1,min_steps=0,pool_kv=4)"
    assert found.loc[label, "difference"] == pytest.approx(table[label] - table["none"])
    assert found.loc["pfam(train=identity)", "verdict"] == "identical to none, as it must be"
    latency = pd.read_csv(results / "latency.csv")
    assert set(latency["enhancer_label"]) == {"none", label, "pfam(train=identity)"}
    report = (results / "report.html").read_text()
    assert "What the enhancers were trained on" in report and "data:image/jpeg" in report
    with sqlite3.connect(work / "mlflow.db") as database:
        logged = {name for (name,) in database.execute("SELECT DISTINCT key FROM metrics")}
    assert {"sbm.loss", "sbm.accuracy", "pfam.loss", "pfam.mask"} <= logged
    store = work / ".cache/adcore/store/enhancer"
    before = {folder.name: folder.stat().st_mtime_ns for folder in store.iterdir()}
    assert run(plan, work)["last_line"] == "cells: 0 computed, 3 cached, 0 failed"
    enhancers = ["none", {"name": "sbm", "epochs": 1, "min_steps": 0}]
    more = plan_file(datasets=datasets, enhancers=enhancers, methods=["padim"])
    assert run(more, work)["last_line"] == "cells: 1 computed, 1 cached, 0 failed"
    assert {folder.name: folder.stat().st_mtime_ns for folder in store.iterdir()} == before  # sbm was there already


def test_trained_enhancers_are_exported_with_their_cells(plan_file: PlanFile, tmp_path: Path, work: Path) -> None:
    from flows.command import opened
    from flows.export import export

    plan = plan_file(enhancers=[{"name": "psg", "epochs": 1, "min_steps": 0}], methods=["padim"])
    run(plan, work)
    loaded, layout = opened(str(plan), str(work))
    bench, _ = in_place(loaded, layout)
    export(bench, layout)
    names = {path.parent.name for path in (work / "artifacts" / "enhancer").glob("*/weights.safetensors")}
    assert names == {link.key for cell in bench.cells for link in cell.links} and len(names) == 2
    shutil.copytree(work / "artifacts", tmp_path / "other" / "artifacts")
    assert run(plan, tmp_path / "other")["last_line"] == "cells: 0 computed, 2 cached, 0 failed"


def test_a_failing_enhancer_fails_its_own_cells_only(
    plan_file: PlanFile, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adcore.engine import enhancement

    def broken(*_: Any) -> None:
        raise RuntimeError("sbm: the loss is nan in epoch 1 of 1, step 1 of 1; lower the learning rate")

    monkeypatch.setattr(enhancement, "train", broken)
    outcome = run(plan_file(enhancers=["none", {"name": "sbm", "epochs": 1, "min_steps": 0}], methods=["padim"]), work)
    assert outcome["last_line"] == "cells: 2 computed, 0 cached, 2 failed"
    assert set(board(work).set_index("enhancer")["status"].items()) == {("none", "ok"), ("sbm", "failed")}
    assert "the loss is nan in epoch 1" in (work / "results" / "failures.txt").read_text()


def test_every_protocol_from_a_plan_to_the_leaderboard(plan_file: PlanFile, work: Path) -> None:
    protocols = ["one-class", "multi-class", {"name": "few-shot", "k": 2, "draws": 2}]
    protocols.append({"name": "contaminated", "share": 0.4})
    plan = plan_file(protocols=protocols, methods=["padim"])
    assert run(plan, work)["last_line"] == "cells: 10 computed, 0 cached, 0 failed"
    table = board(work)
    assert dict(table["protocol_label"].value_counts()) == {
        "one-class": 2, "multi-class": 2, "few-shot(draws=2,k=2)": 4, "contaminated(share=0.4)": 2,
    }  # fmt: skip
    assert len(list((work / ".cache/adcore/store/fit").iterdir())) == 9  # the joint model is fitted once
    picked = pd.read_csv(work / "results" / "protocols.csv")
    assert dict(picked["role"].value_counts()) == {"support": 8, "moved": 2}
    moved = set(picked[picked["role"] == "moved"]["path"])
    for key in table[table["protocol"] == "contaminated"]["key"]:
        judged = pd.read_parquet(work / ".cache/adcore/store/cell" / key / "images.parquet")
        assert len(judged) == 5 and moved.isdisjoint(judged["path"])
    assert run(plan, work)["last_line"] == "cells: 0 computed, 10 cached, 0 failed"
