"""MLflow on SQLite in the workspace: damage, locks and kills, odd paths, and what is answered without MLflow."""

import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import tasks
from adcore.results.runs import run_results
from tasks.tracking import Tracker, TrackingError, workspace

ROOT = Path(tasks.__file__).parents[1]


@pytest.fixture(scope="module")
def logged(tmp_path_factory, cells):
    """A workspace with one logged run."""
    folder = tmp_path_factory.mktemp("logged")
    Tracker(folder).log_runs(run_results(cells))
    return folder


def finished(folder, cells):
    return Tracker(folder).place.finished("adcore", [result.run_key for result in run_results(cells)])


@pytest.fixture
def own(logged, tmp_path):
    """A workspace with one logged run, which a test may damage."""
    shutil.copy(logged / "mlflow.db", tmp_path)
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
        Tracker(own).log_runs(run_results(cells))
    assert (own / "mlflow.damaged-1.db").read_bytes() == before
    assert not (own / "mlflow.db").exists()


def test_a_new_database_takes_the_runs_of_one_set_aside(own, cells):
    for number in (1, 2):
        (own / "mlflow.db").write_bytes(b"no database" * number)
        with pytest.raises(TrackingError):
            Tracker(own).experiment_id  # noqa: B018
    assert (own / "mlflow.damaged-1.db").read_bytes() == b"no database"
    assert (own / "mlflow.damaged-2.db").read_bytes() == b"no database" * 2
    (run_id,) = Tracker(own).log_runs(run_results(cells)).values()
    assert finished(own, cells) == {run_results(cells)[0].run_key: run_id}


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_locked_database_is_told_and_caught_up(own, cells, monkeypatch, lock):
    monkeypatch.setattr(workspace, "PATIENCE", 0.2)
    results = run_results(cells[:1])
    with closing(sqlite3.connect(own / "mlflow.db", isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        with pytest.raises(TrackingError, match=r"runs were not logged to .*mlflow\.db: database is locked"):
            Tracker(own).log_runs(results)
    assert Tracker(own).log_runs(results).keys() == {results[0].run_key}


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
    assert finished(own, cells).keys() == {run_results(cells)[0].run_key}


@pytest.mark.parametrize("name", ["what?mode=memory", "100%41", "a#b", "ä & ö"])
def test_any_folder_holds_its_own_database_and_artifacts(logged, cells, tmp_path, name):
    own = tmp_path / name
    own.mkdir()
    shutil.copy(logged / "mlflow.db", own)
    tracker = Tracker(own, "here")
    (run_id,) = tracker.log_runs(run_results(cells[:1])).values()
    with closing(sqlite3.connect(own / "mlflow.db")) as database:
        assert run_id in {identity for (identity,) in database.execute("SELECT run_uuid FROM runs")}
    assert len(list(own.glob("mlartifacts/**/categories.csv"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_what_is_logged_is_answered_without_mlflow(logged, cells, tmp_path):
    (tmp_path / "results").write_bytes(pickle.dumps(run_results(cells)))
    check = "import pickle, sys, pathlib; from tasks.tracking import Tracker; "
    check += "Tracker(pathlib.Path(sys.argv[1])).log_runs(pickle.loads(pathlib.Path(sys.argv[2]).read_bytes()))"
    check += "; assert not {'mlflow', 'matplotlib', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check, logged, tmp_path / "results"], cwd=ROOT, check=True, timeout=60)


def test_a_database_without_tables_counts_as_empty(tmp_path, cells):
    (tmp_path / "mlflow.db").touch()
    assert finished(tmp_path, cells) == {}
