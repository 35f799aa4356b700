"""MLflow runs: each once, whoever asks and however often, on a database in the workspace, on another, on a server."""

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import tasks
from adcore.results.runs import run_results
from tasks.tracking import Tracker, run
from tasks.tracking.place import open_client
from tasks.tracking.view import tag, view_state, view_tag, view_url
from tests.tasks.conftest import PATIENT

ROOT = Path(tasks.__file__).parents[1]
LOG = "import pickle, sys, pathlib; from tasks.tracking import Tracker; "
LOG += "print(Tracker(pathlib.Path(sys.argv[1])).log_runs(pickle.loads(pathlib.Path(sys.argv[2]).read_bytes())))"


@pytest.fixture(scope="module", params=["workspace", "database", pytest.param("server", marks=pytest.mark.slow)])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def uri(request, kind, tmp_path_factory):
    """What MLFLOW_TRACKING_URI is."""
    if kind == "database":
        uri = f"sqlite:///{tmp_path_factory.mktemp('database')}/mlflow.db"
        open_client(uri).search_experiments()  # MLflow's own first use of a database is a race
        return uri
    return request.getfixturevalue("server") if kind == "server" else ""


@pytest.fixture(scope="module")
def workspace(kind, uri, tmp_path_factory, cells):
    """A workspace from which a run was logged for the first time while another process did the same: in the same
    workspace, or as from another machine."""
    folder = tmp_path_factory.mktemp("work space")  # paths may hold blanks
    other = folder if kind == "workspace" else tmp_path_factory.mktemp("other")
    (folder / ".cache" / "adcore").mkdir(parents=True)
    (folder / ".cache" / "adcore" / "mlflow.db.part").write_bytes(b"left by a process that was killed")
    results = tmp_path_factory.mktemp("pickled") / "results"
    results.write_bytes(pickle.dumps(run_results(cells)))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOG, str(place), str(results)],
            cwd=ROOT,
            env=os.environ | PATIENT | {"MLFLOW_TRACKING_URI": uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in (folder, other)
    ]
    told = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert told[0] == told[1] and told[0][1] == ""  # the same run, and nothing else is said
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch, uri):
    for name, value in (PATIENT | {"MLFLOW_TRACKING_URI": uri}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(workspace):
    return open_client(Tracker(workspace).place.url)


def runs(client, tracker):
    return client.search_runs([tracker.experiment_id])


def test_two_processes_at_once_log_one_complete_run(workspace, client, cells):
    tracker = Tracker(workspace)
    (run,) = runs(client, tracker)
    assert run.info.status == "FINISHED" and run.info.run_name == "elpv · padim"
    assert tracker.log_runs(run_results(cells)) == {run_results(cells)[0].run_key: run.info.run_id}


def test_run_holds_means_costs_params_and_artifacts(kind, workspace, client):
    (run,) = runs(client, Tracker(workspace))
    costs = {"extract_s": 2.0, "fit_s": 6.0, "score_ms": 12.0, "peak_mb": 300.0}
    costs |= {"learnable_params": 0.0, "total_params": 2e6, "macs": 3e9}
    assert run.data.metrics == pytest.approx({"i_auroc": 0.8, "padim.loss": 1.0} | costs)  # no aupro: it does not apply
    history = client.get_metric_history(run.info.run_id, "padim.loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert run.data.params["method"] == "padim" and run.data.params["categories"] == "mono, poly"
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"categories.csv", "images.csv", "curves.png", "gallery.jpg", "training.png"}
    images = pd.read_csv(client.download_artifacts(run.info.run_id, "images.csv"))
    assert images.groupby("category")["score"].count().to_dict() == {"mono": 4, "poly": 4}


def test_artifacts_are_in_the_workspace_unless_a_server_keeps_them(kind, workspace, client):
    (run,) = runs(client, Tracker(workspace))
    folders = {
        "server": "mlflow-artifacts:/",
        "workspace": (workspace / "mlartifacts").as_uri(),
        "database": "file:///",
    }
    assert run.info.artifact_uri.startswith(folders[kind])


def test_tags_tell_plan_and_commit(workspace, client, cells):
    tracker = Tracker(workspace, "tags")
    (run_id,) = tracker.log_runs(run_results(cells[:1]), {"git_commit": "abc", "plan": "demo"}).values()
    tags = client.get_run(run_id).data.tags
    assert (tags["git_commit"], tags["plan"]) == ("abc", "demo") and "0.750" in tags["mlflow.note.content"]


def test_logged_again_it_is_the_same_run(workspace, client, cells, monkeypatch):
    tracker = Tracker(workspace, "again")
    first = tracker.log_runs(run_results(cells))
    monkeypatch.setattr(run, "log", lambda *_: pytest.fail("logged twice"))
    assert tracker.log_runs(run_results(cells[::-1])) == first and len(runs(client, tracker)) == 1


def test_a_latency_that_came_later_is_added_to_its_run(workspace, client, cells):
    tracker = Tracker(workspace, "busy")
    busy = [replace(cell, row=cell.row | {"score_ms": math.nan}) for cell in cells]
    (run_id,) = tracker.log_runs(run_results(busy)).values()
    assert "score_ms" not in client.get_run(run_id).data.metrics
    assert [*tracker.log_runs(run_results(cells)).values()] == [run_id]
    assert client.get_run(run_id).data.metrics["score_ms"] == pytest.approx(12.0)


def test_a_latency_that_never_came_logs_nothing_again(workspace, cells, monkeypatch):
    tracker = Tracker(workspace, "still busy")
    busy = [replace(cell, row=cell.row | {"score_ms": math.nan}) for cell in cells]
    first = tracker.log_runs(run_results(busy))
    monkeypatch.setattr(run, "log", lambda *_: pytest.fail("logged twice"))
    assert tracker.log_runs(run_results(busy)) == first


@pytest.mark.parametrize("part", ["_params", "write_artifacts"])
def test_a_run_that_was_cut_off_is_completed(workspace, client, cells, monkeypatch, part):
    tracker = Tracker(workspace, f"cut off in {part}")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(run, part, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tracker.log_runs(run_results(cells))
    (left,) = runs(client, tracker)
    assert left.info.status == "RUNNING"
    (run_id,) = tracker.log_runs(run_results(cells)).values()
    (done,) = runs(client, tracker)
    assert done.info.run_id == left.info.run_id == run_id and done.info.status == "FINISHED"
    assert len(client.get_metric_history(run_id, "i_auroc")) == 1 and len(client.list_artifacts(run_id)) == 5


def test_other_categories_are_another_run(workspace, client, cells):
    tracker = Tracker(workspace, "categories")
    both, one = (tracker.log_runs(run_results(chosen)) for chosen in (cells, cells[:1]))
    assert both.keys().isdisjoint(one) and len(runs(client, tracker)) == 2


def test_a_deleted_run_is_logged_anew(workspace, client, cells):
    tracker = Tracker(workspace, "deleted")
    (gone,) = tracker.log_runs(run_results(cells[:1])).values()
    client.delete_run(gone)
    (run_id,) = tracker.log_runs(run_results(cells[:1])).values()
    assert run_id != gone


def test_a_deleted_experiment_is_brought_back_without_its_runs(workspace, client, cells):
    tracker = Tracker(workspace, "deleted whole")
    (gone,) = tracker.log_runs(run_results(cells[:1])).values()
    client.delete_experiment(tracker.experiment_id)
    (run_id,) = tracker.log_runs(run_results(cells[:1])).values()
    assert [run.info.run_id for run in runs(client, tracker)] == [run_id]
    assert client.get_run(gone).info.lifecycle_stage == "deleted"


def test_training_is_logged_by_epoch_as_the_mean_over_categories(workspace, client, enhanced, monkeypatch):
    tracker = Tracker(workspace, "training")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(run, "write_artifacts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tracker.log_runs(run_results(enhanced))
    (run_id,) = tracker.log_runs(run_results(enhanced)).values()
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


def test_nothing_to_log_makes_nothing(tmp_path):
    assert Tracker(tmp_path).log_runs([]) == {} and not list(tmp_path.iterdir())


def test_view_tag_round_trips_through_the_database(workspace, client):
    tracker = Tracker(workspace)
    tag = client.get_experiment(tracker.experiment_id).tags["mlflow.sharedViewState.leaderboard"]
    state = view_state(tag)
    assert state == view_state(view_tag()) and json.loads(tag)["name"] == "Leaderboard"
    assert state["orderByKey"] == "metrics.`i_auroc`" and not state["orderByAsc"]
    shown = {name.split("`")[1] for name in state["selectedColumns"]}
    (run,) = runs(client, tracker)
    assert shown - {"p_auroc", "aupro"} <= run.data.params.keys() | run.data.metrics.keys()


def test_a_dataset_has_a_view_of_its_own(workspace, client):
    tags = client.get_experiment(Tracker(workspace).experiment_id).tags
    assert view_state(tags[tag("elpv")])["searchFilter"] == 'params.dataset = "elpv"'


def test_links_of_datasets_name_their_views(workspace):
    tracker = Tracker(workspace)
    (link,) = tracker.links(["elpv"]).values()
    assert f"viewStateShareKey={tag('elpv').removeprefix('mlflow.sharedViewState.')}&" in link


def test_link_leads_to_the_pages_of_the_server_or_of_make_ui(kind, uri, workspace):
    tracker = Tracker(workspace)
    base = uri if kind == "server" else "http://127.0.0.1:5000"
    assert tracker.link == view_url(tracker.experiment_id, base)
    end = "#/experiments/7/runs?viewStateShareKey=leaderboard&workflowType=machine_learning"
    assert view_url("7", base) == f"{base}/{end}"
