"""MLflow runs: one a group, whoever asks and however often, on a real SQLite database."""

import json
import math
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adcore.core.words import TRAINING
from adcore.results.groups import CellResult, group_rows
from adcore.results.trained import Trained
from adcore.vision.gallery import make_gallery
from tasks import tracking
from tasks.tracking import Tracker, TrackingError, view_state, view_tag, view_url

ROOT = Path(tracking.__file__).parents[1]
LOG = "import pickle, sys, pathlib; from tasks.tracking import Tracker; "
LOG += "Tracker(pathlib.Path(sys.argv[1])).log_groups(pickle.loads(pathlib.Path(sys.argv[2]).read_bytes()))"


def a_cell(folder, category="mono", **changes):
    """A finished cell: four images, a gallery, and a fit with a loss curve."""
    (folder / "gallery").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    images, maps = rng.integers(0, 255, (4, 32, 32, 3)).astype(np.uint8), rng.random((4, 32, 32)).astype(np.float32)
    make_gallery(folder / "gallery", images, maps, scores, labels, list("abcd"))
    pd.DataFrame({"path": list("abcd"), "label": labels, "score": scores}).to_parquet(folder / "images.parquet")
    curve = {"fpr": [0.0, 0.5, 1.0], "tpr": [0.5, 1.0, 1.0], "recall": [0.0, 0.5, 1.0], "precision": [1.0, 1.0, 0.66]}
    (folder / "curves.json").write_text(json.dumps({"image": curve}))
    (folder / TRAINING).write_text(json.dumps({"loss": [2.0, 1.0]}))
    row = {"dataset": "elpv", "category": category, "protocol": "one-class", "enhancer": "none", "method": "padim"}
    row |= {"protocol_label": "one-class", "enhancer_label": "none", "method_label": "padim", "backbone": "resnet18"}
    row |= {"weights": "pretrained", "image": "256", "seed": 0, "i_auroc": 0.75, "aupro": math.nan, "extract_s": 1.0}
    row |= {"learnable_params": 0.0, "total_params": 2e6, "macs": 3e9}
    row |= {"fit_s": 2.0, "score_ms": 10.0, "peak_mb": 100.0, "key": f"key-{category}", "mlflow_run_id": ""}
    return CellResult(row | {"status": "ok"} | changes, folder, folder / "gallery", folder)


def trained(folder, category, part, **curves):
    """A training of a part on a category with these values an epoch."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"chance": 0.1}))
    (folder / "curves.json").write_text(json.dumps(curves))
    return Trained("elpv", category, 0, "sbm+pfam", part, folder)


@pytest.fixture
def enhanced(tmp_path):
    """Two categories of one enhancer; the second trained for an epoch more."""
    losses = {"mono": [3.0, 1.0], "poly": [1.0, 2.0, 0.5]}
    found = []
    for category, loss in losses.items():
        cell = a_cell(tmp_path / category, category, enhancer_label="sbm+pfam")
        sbm = trained(tmp_path / category / "sbm", category, "sbm", accuracy=[x / 10 for x in loss], loss=loss)
        pfam = trained(tmp_path / category / "pfam", category, "pfam", loss=loss)
        found.append(replace(cell, trained=(sbm, pfam)))
    return found


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """mono, poly, and poly with other numbers."""
    folder = tmp_path_factory.mktemp("cells")
    costs = {"i_auroc": 0.85, "fit_s": 4.0, "score_ms": 14.0, "peak_mb": 300.0}
    return [a_cell(folder / "mono"), a_cell(folder / "poly", "poly", **costs)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, cells):
    """A workspace that two processes opened for the first time, at once, to log the same group."""
    folder = tmp_path_factory.mktemp("work space")  # paths may hold blanks
    (folder / ".cache" / "adcore").mkdir(parents=True)
    (folder / ".cache" / "adcore" / "mlflow.db.part").write_bytes(b"left by a process that was killed")
    groups = tmp_path_factory.mktemp("pickled") / "groups"
    groups.write_bytes(pickle.dumps(group_rows(cells)))
    command = [sys.executable, "-c", LOG, str(folder), str(groups)]
    pair = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], errors
    assert not any("Creating initial" in error or "alembic" in error for error in errors)
    return folder


@pytest.fixture
def client(workspace):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=Tracker(workspace).url)


def runs(client, tracker):
    return client.search_runs([tracker.experiment_id])


def test_two_processes_at_once_log_one_complete_run(workspace, client, cells):
    tracker = Tracker(workspace)
    (run,) = runs(client, tracker)
    assert run.info.status == "FINISHED" and run.info.run_name == "elpv · padim"
    assert tracker.log_groups(group_rows(cells)) == {group_rows(cells)[0].run_key: run.info.run_id}


def test_run_holds_means_costs_params_and_artifacts(workspace, client):
    (run,) = runs(client, Tracker(workspace))
    costs = {"extract_s": 2.0, "fit_s": 6.0, "score_ms": 12.0, "peak_mb": 300.0}
    costs |= {"learnable_params": 0.0, "total_params": 2e6, "macs": 3e9}
    assert run.data.metrics == pytest.approx({"i_auroc": 0.8, "padim.loss": 1.0} | costs)  # no aupro: it does not apply
    history = client.get_metric_history(run.info.run_id, "padim.loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert run.data.params["method"] == "padim" and run.data.params["categories"] == "mono, poly"
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"categories.csv", "images.csv", "curves.png", "gallery.jpg", "training.png"}
    assert run.info.artifact_uri.startswith((workspace / "mlartifacts").as_uri())
    images = pd.read_csv(client.download_artifacts(run.info.run_id, "images.csv"))
    assert images.groupby("category")["score"].count().to_dict() == {"mono": 4, "poly": 4}


def test_tags_tell_plan_and_commit(workspace, client, cells):
    tracker = Tracker(workspace, "tags")
    (run_id,) = tracker.log_groups(group_rows(cells[:1]), {"git_commit": "abc", "plan": "demo"}).values()
    tags = client.get_run(run_id).data.tags
    assert (tags["git_commit"], tags["plan"]) == ("abc", "demo") and "0.750" in tags["mlflow.note.content"]


def test_logged_again_it_is_the_same_run(workspace, client, cells, monkeypatch):
    tracker = Tracker(workspace, "again")
    first = tracker.log_groups(group_rows(cells))
    monkeypatch.setattr(tracking, "_log", lambda *_: pytest.fail("logged twice"))
    assert tracker.log_groups(group_rows(cells[::-1])) == first and len(runs(client, tracker)) == 1


@pytest.mark.parametrize("part", ["_params", "write_artifacts"])
def test_a_run_that_was_cut_off_is_completed(workspace, client, cells, monkeypatch, part):
    tracker = Tracker(workspace, f"cut off in {part}")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(tracking, part, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tracker.log_groups(group_rows(cells))
    (left,) = runs(client, tracker)
    assert left.info.status == "RUNNING"
    (run_id,) = tracker.log_groups(group_rows(cells)).values()
    (run,) = runs(client, tracker)
    assert run.info.run_id == left.info.run_id == run_id and run.info.status == "FINISHED"
    assert len(client.get_metric_history(run_id, "i_auroc")) == 1 and len(client.list_artifacts(run_id)) == 5


def test_other_categories_are_another_run(workspace, client, cells):
    tracker = Tracker(workspace, "categories")
    both, one = (tracker.log_groups(group_rows(chosen)) for chosen in (cells, cells[:1]))
    assert both.keys().isdisjoint(one) and len(runs(client, tracker)) == 2


def test_a_deleted_run_is_logged_anew(workspace, client, cells):
    tracker = Tracker(workspace, "deleted")
    (gone,) = tracker.log_groups(group_rows(cells[:1])).values()
    client.delete_run(gone)
    (run_id,) = tracker.log_groups(group_rows(cells[:1])).values()
    assert run_id != gone


@pytest.fixture
def own(workspace, tmp_path):
    """A workspace with one logged run, which a test may damage."""
    shutil.copy(workspace / "mlflow.db", tmp_path)
    return tmp_path


def header(path):
    with path.open("r+b") as file:
        file.write(b"not a database at all")


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def page(path):
    """Pages in the middle, which few queries meet."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 4)
        file.write(bytes(path.stat().st_size // 2))


@pytest.mark.parametrize("damage", [header, cut, page])
def test_a_damaged_database_is_set_aside_whole(own, cells, damage):
    damage(own / "mlflow.db")
    before = (own / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match=r"mlflow\.db is damaged .* set aside as mlflow\.damaged-1\.db"):
        Tracker(own).log_groups(group_rows(cells))
    assert (own / "mlflow.damaged-1.db").read_bytes() == before
    assert not (own / "mlflow.db").exists()


def test_a_new_database_takes_the_runs_of_one_set_aside(own, cells):
    for number in (1, 2):
        (own / "mlflow.db").write_bytes(b"no database" * number)
        with pytest.raises(TrackingError):
            Tracker(own).experiment_id  # noqa: B018
    assert (own / "mlflow.damaged-1.db").read_bytes() == b"no database"
    assert (own / "mlflow.damaged-2.db").read_bytes() == b"no database" * 2
    (run_id,) = Tracker(own).log_groups(group_rows(cells)).values()
    assert Tracker(own)._runs("FINISHED") == {group_rows(cells)[0].run_key: run_id}


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_locked_database_is_told_and_caught_up(own, cells, monkeypatch, lock):
    monkeypatch.setattr(tracking, "PATIENCE", 0.2)
    groups = group_rows(cells[:1])
    with closing(sqlite3.connect(own / "mlflow.db", isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        with pytest.raises(TrackingError, match=r"runs were not logged to .*mlflow\.db: database is locked"):
            Tracker(own).log_groups(groups)
    assert Tracker(own).log_groups(groups).keys() == {groups[0].run_key}


CUT_OFF = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
numbers = "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n WHERE x < 9999) SELECT x FROM n"
database.execute(f"CREATE TABLE big AS {numbers}")
os._exit(0)
"""


def test_what_a_kill_left_in_the_database_is_rolled_back(own, cells):
    subprocess.run([sys.executable, "-c", CUT_OFF, own / "mlflow.db"], check=True)
    assert (own / "mlflow.db-journal").stat().st_size > 0
    assert Tracker(own)._runs("FINISHED").keys() == {group_rows(cells)[0].run_key}


def test_a_deleted_experiment_is_brought_back_without_its_runs(own, cells):
    tracker = Tracker(own)
    (gone,) = tracker._runs().values()
    client = tracking._mlflow(tracker.url)
    client.delete_experiment(tracker.experiment_id)
    (run_id,) = tracker.log_groups(group_rows(cells)).values()
    assert [run.info.run_id for run in runs(client, tracker)] == [run_id]
    assert client.get_run(gone).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize("name", ["what?mode=memory", "100%41", "a#b", "ä & ö"])
def test_any_folder_holds_its_own_database_and_artifacts(workspace, cells, tmp_path, name):
    own = tmp_path / name
    own.mkdir()
    shutil.copy(workspace / "mlflow.db", own)
    tracker = Tracker(own, "here")
    (run_id,) = tracker.log_groups(group_rows(cells[:1])).values()
    with closing(sqlite3.connect(own / "mlflow.db")) as database:
        assert run_id in {identity for (identity,) in database.execute("SELECT run_uuid FROM runs")}
    assert len(list(own.glob("mlartifacts/**/categories.csv"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_what_is_logged_is_answered_without_mlflow(workspace, cells, tmp_path):
    (tmp_path / "groups").write_bytes(pickle.dumps(group_rows(cells)))
    check = LOG + "; assert not {'mlflow', 'matplotlib', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check, workspace, tmp_path / "groups"], cwd=ROOT, check=True, timeout=60)


def test_training_is_logged_by_epoch_as_the_mean_over_categories(workspace, client, enhanced, monkeypatch):
    tracker = Tracker(workspace, "training")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(tracking, "write_artifacts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tracker.log_groups(group_rows(enhanced))
    (run_id,) = tracker.log_groups(group_rows(enhanced)).values()
    history = {
        name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        for name in ("sbm.loss", "sbm.accuracy", "pfam.loss", "i_auroc")
    }
    means = [(1, 2.0), (2, 1.5), (3, 0.5)]  # of the third epoch, those that came so far
    assert history["sbm.loss"] == history["pfam.loss"] == means
    assert history["sbm.accuracy"] == [(epoch, pytest.approx(x / 10)) for epoch, x in means]
    assert history["i_auroc"] == [(0, 0.75)]
    table = pd.read_csv(client.download_artifacts(run_id, "pretext.csv"))
    assert table.groupby(["category", "part"])["epoch"].max().to_dict() == {
        ("mono", "pfam"): 2,
        ("mono", "sbm"): 2,
        ("poly", "pfam"): 3,
        ("poly", "sbm"): 3,
    }
    assert table.query("category == 'mono' and part == 'sbm'")["loss"].tolist() == [3.0, 1.0]
    assert "pretext.png" in {file.path for file in client.list_artifacts(run_id)}


def test_training_takes_only_the_names_that_the_metrics_leave(enhanced):
    (group,) = group_rows(enhanced)
    assert list(tracking._training(group, 3)) == ["padim.loss", "sbm.loss", "pfam.loss"]
    assert len(tracking._training(group, 40)) == 4 and not tracking._training(group, 0)


def test_nothing_to_log_makes_nothing(tmp_path):
    assert Tracker(tmp_path).log_groups([]) == {} and not list(tmp_path.iterdir())


def test_a_database_without_tables_counts_as_empty(tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert Tracker(tmp_path)._runs() == {}


def test_names_stay_few_and_keep_the_headline(cells):
    row = cells[0].row
    wide = {"i_auroc": 0.5, "i_auroc_untwinned": 0.4} | {f"i_auroc_x{i}": 0.5 for i in range(60)}
    kept = tracking._metrics(tracking.frame([{**{k: v for k, v in row.items() if k != "aupro"}, **wide}]))
    assert len(kept) == tracking.MOST_METRICS and {"i_auroc", "i_auroc_untwinned", "score_ms"} <= kept.keys()


def test_view_tag_round_trips_through_the_database(workspace, client):
    tracker = Tracker(workspace)
    tag = client.get_experiment(tracker.experiment_id).tags["mlflow.sharedViewState.leaderboard"]
    state = view_state(tag)
    assert state == view_state(view_tag()) and json.loads(tag)["name"] == "Leaderboard"
    assert state["orderByKey"] == "metrics.`i_auroc`" and not state["orderByAsc"]
    shown = {name.split("`")[1] for name in state["selectedColumns"]}
    (run,) = runs(client, tracker)
    assert shown - {"p_auroc", "aupro"} <= run.data.params.keys() | run.data.metrics.keys()
    assert view_url("7").endswith("#/experiments/7/runs?viewStateShareKey=leaderboard&workflowType=machine_learning")
