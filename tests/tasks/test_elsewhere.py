"""MLflow where MLFLOW_TRACKING_URI says: several machines at once, many runs, places that fail, and credentials."""

import base64
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tasks
from adcore.results.runs import run_results
from tasks.tracking import Tracker, TrackingError, index, run
from tasks.tracking.place import open_client
from tests.tasks.conftest import PATIENT

ROOT = Path(tasks.__file__).parents[1]
MANY = 1000


@pytest.fixture(scope="module", params=["database", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path_factory):
    """What MLFLOW_TRACKING_URI is, and the database that is behind it."""
    if request.param == "server":
        return request.getfixturevalue("server"), request.getfixturevalue("server_folder") / "mlflow.db"
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    return f"sqlite:///{file}", file


@pytest.fixture
def two(place, tmp_path, monkeypatch, request):
    """Trackers of two workspaces, as on two machines, which log to the same experiment."""
    for name, value in (PATIENT | {"MLFLOW_TRACKING_URI": place[0]}).items():
        monkeypatch.setenv(name, value)
    return [Tracker(tmp_path / name, request.node.name) for name in ("a", "b")]


def runs(tracker):
    return open_client(tracker.place.url).search_runs([tracker.experiment_id])


def make_at_once(monkeypatch, other, **changes):
    """Just before a tracker makes its run, which it has not found, the other does all that it does for the same one;
    `changes` are made to the slower one's run."""
    from mlflow import MlflowClient

    create, first = MlflowClient.create_run, []

    def create_run(self, *arguments, **named):
        if not first:
            first.append(True)
            first.append(other())
        else:
            return create(self, *arguments, **named)
        return create(self, *arguments, **named, **changes)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    return first


@pytest.mark.parametrize("changes", [{}, {"start_time": 1}], ids=["clocks agree", "the slower one's clock is behind"])
def test_a_run_that_another_machine_completed_meanwhile_is_not_doubled(two, cells, monkeypatch, changes):
    results = run_results(cells)
    first = make_at_once(monkeypatch, lambda: two[1].log_runs(results), **changes)
    found = two[0].log_runs(results)
    assert found == first[1] and [run.info.run_id for run in runs(two[0])] == [*found.values()]


def test_a_run_that_another_machine_has_just_made_is_completed_by_both(two, cells, monkeypatch):
    (result,) = run_results(cells)
    experiment, client = two[1].experiment_id, open_client(two[1].place.url)
    first = make_at_once(monkeypatch, lambda: client.create_run(experiment, tags={"run_key": result.run_key}))
    found = two[0].log_runs([result])
    (left,) = runs(two[0])
    assert [left.info.run_id] == [*found.values()] == [first[1].info.run_id] and left.info.status == "FINISHED"


def test_two_that_finish_a_run_of_their_own_leave_the_same_one(two, cells, monkeypatch):
    """The slower one's run counts as the older, and completes while the other has gone."""
    results = run_results(cells)
    log, inside = run.log, []

    def slow(*arguments):
        if not inside:
            inside.append(True)
            experiment, client = two[1].experiment_id, open_client(two[1].place.url)
            made = client.create_run(experiment, start_time=1, tags={"run_key": results[0].run_key})
            client.set_terminated(made.info.run_id)
        log(*arguments)

    monkeypatch.setattr(run, "log", slow)
    found = two[0].log_runs(results)
    assert [left.info.run_id for left in runs(two[0])] == [*found.values()]


def test_who_completed_a_run_while_an_older_one_was_not_keeps_it(two, cells, monkeypatch):
    """The other machine has gone with its run by the time that ours, begun before it, is complete."""
    results, log, gone = run_results(cells), run.log, []

    def slow(client, logged, *rest):
        if not gone:
            gone.append(None)
            gone[0] = client.create_run(two[0].experiment_id, tags={"run_key": results[0].run_key}).info.run_id
            client.set_terminated(gone[0], end_time=logged.info.start_time + 1)
        log(client, logged, *rest)

    monkeypatch.setattr(run, "log", slow)
    assert [*two[0].log_runs(results).values()] == gone == [left.info.run_id for left in runs(two[0])]


WRITES = ["create_experiment", "set_experiment_tag", "create_run", "log_batch", "set_terminated", "delete_run"]


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_is_refused_because_another_machine_made_the_same_is_made_again(
    two, cells, monkeypatch, write, done
):
    """As MLflow's `set_experiment_tag` and `delete_run` are, when two send them at once."""
    from mlflow import MlflowClient, MlflowException

    results, original, told = run_results(cells), getattr(MlflowClient, write), []

    def refuse(self, *arguments, **named):
        if not told:
            told.append(write)
            if done:
                original(self, *arguments, **named)
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed")
        return original(self, *arguments, **named)

    if write == "delete_run":
        make_at_once(monkeypatch, lambda: two[1].log_runs(results))
    monkeypatch.setattr(MlflowClient, write, refuse)
    found = two[0].log_runs(results)
    assert told == [write]
    assert [(left.info.run_id, left.info.status) for left in runs(two[0])] == [(*found.values(), "FINISHED")]


@pytest.fixture
def many(two, place, cells):
    """Trackers of two workspaces, and a thousand results, whose runs are all there."""
    (result,) = run_results(cells)
    results = [replace(result, seed=seed) for seed in range(MANY)]
    (first,) = two[0].log_runs(results[:1]).values()
    with closing(sqlite3.connect(place[1])) as database:
        for other in results[1:]:
            copy = uuid.uuid4().hex
            for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
                names = [column[1] for column in database.execute(f"PRAGMA table_info({table})")]
                chosen = ", ".join("?" if name == "run_uuid" else name for name in names)
                sql = f"INSERT INTO {table} ({', '.join(names)}) SELECT {chosen} FROM {table} WHERE run_uuid = ?"
                database.execute(sql, (copy, first))
            database.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'run_key'", (other.run_key, copy))
        database.commit()
    return two, results


@pytest.fixture
def requests(monkeypatch):
    """The names of what MLflow's client is asked for."""
    from mlflow import MlflowClient

    asked = []

    def watch(name, method):
        def watched(self, *arguments, **named):
            asked.append(name)
            return method(self, *arguments, **named)

        monkeypatch.setattr(MlflowClient, name, watched)

    for name in ("search_runs", "get_run", "get_experiment_by_name", "search_experiments", "create_run"):
        watch(name, getattr(MlflowClient, name))
    return asked


def test_a_thousand_runs_are_found_with_few_requests(many, requests):
    (_, other), results = many
    found = other.log_runs(results)
    assert len(set(found.values())) == MANY and len(requests) <= 7  # pages of 200; nothing is known in this workspace
    requests.clear()
    assert Tracker(other.place.memory.parents[2], other.experiment).log_runs(results) == found
    assert len(requests) <= 4
    stranger = Tracker(other.place.memory.parents[2].with_name("c"), other.experiment)
    requests.clear()
    assert stranger.log_runs(results) == found
    asked = [name for name in requests if name != "search_experiments"]  # with which a server is greeted
    assert asked == ["get_experiment_by_name", *["search_runs"] * 2]  # by the index; are they still there?
    gone = found[results[500].run_key]
    open_client(other.place.url).delete_run(gone)
    requests.clear()
    again = other.log_runs(results)
    assert {key for key in found if again[key] != found[key]} == {results[500].run_key}
    assert requests.count("create_run") == 1 and len(requests) <= 14


def test_who_knows_nothing_finds_what_was_logged_since_by_the_index(two, cells):
    """Also where a run was deleted, and logged anew; of two that name a key the later one counts."""
    results = run_results(cells)
    (first,) = two[0].log_runs(results).values()
    open_client(two[0].place.url).delete_run(first)
    again = two[1].log_runs(results)
    client = open_client(two[0].place.url)
    assert index.read(client.get_experiment_by_name(two[0].experiment)) == again
    assert [*again.values()] != [first]


def test_an_index_holds_many_runs_and_passes_over_what_is_none_of_ours(two, cells):
    experiment, client = two[0].experiment_id, open_client(two[0].place.url)
    runs = {uuid.uuid4().hex[:20]: uuid.uuid4().hex for _ in range(1000)}
    index.write(client, experiment, runs)
    tags = client.get_experiment(experiment).tags
    sizes = [len(value) for name, value in tags.items() if name.startswith(index.PREFIX)]
    assert max(sizes) < 5000 and len(sizes) == 13
    for number, damaged in enumerate(("{", "[]", '{"key": 7}', '{"key": "a\'b"}')):
        client.set_experiment_tag(experiment, f"{index.PREFIX}x{number}", damaged)
    assert index.read(client.get_experiment(experiment)) == runs


@pytest.mark.parametrize("content", ["", "{", "[]", '{"KEY": 7}', '{"KEY": "\'"}'])
def test_a_damaged_memory_of_runs_is_passed_over(two, cells, content):
    results = run_results(cells)
    first = two[0].log_runs(results)
    (memory,) = two[0].place.memory.iterdir()
    memory.write_text(content.replace("KEY", results[0].run_key))
    assert two[0].log_runs(results) == first


# What fails, and how that is told


class Answers:
    """An HTTP server that answers everything alike, and remembers who wanted to be let in."""

    def __init__(self, status, body):
        self.authorizations = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                self.authorizations.append(handler.headers["Authorization"])
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def answers():
    made = []

    def make(status, body=b""):
        made.append(Answers(status, body))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture
def failure(tmp_path, cells, monkeypatch):
    """The sentence in which a tracker fails for a URI."""

    def told(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError) as error:
            Tracker(tmp_path / "work").log_runs(run_results(cells[:1]))
        return str(error.value)

    return told


@pytest.fixture
def nobody():
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_is_gone_is_named_without_credentials(failure, nobody):
    why = "it does not answer (is it up, and is MLFLOW_TRACKING_URI its address?)"
    told = f"runs were not logged to http://{nobody}/mlflow: {why}; the next run logs them"
    assert failure(f"http://me:secret@{nobody}/mlflow/") == told


def test_a_server_that_never_answers_is_given_up_after_what_the_user_has_set(failure, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert failure(f"http://{address}").startswith(f"runs were not logged to http://{address}: it does not answer")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_database_that_is_gone_is_told_at_once(failure, nobody):
    assert failure(f"postgresql://me:secret@{nobody}/mlflow") == (
        f"runs were not logged to postgresql://{nobody}/mlflow: it does not answer (is it up, and is "
        "MLFLOW_TRACKING_URI its address?); the next run logs them"
    )


def test_a_driver_that_is_missing_is_named(failure):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        told = failure(f"postgresql+pg8000://me:secret@{address}/mlflow")
    assert "the package pg8000 is wanted for it; install it with pip" in told


def test_a_server_that_does_not_let_us_in_is_told_with_what_it_asks_for(failure, answers):
    refuses = answers(401)
    told = failure(f"http://me:se%20cret@{refuses.address}")
    assert told.startswith(
        f"runs were not logged to http://{refuses.address}: it does not let us in; set MLFLOW_TRACKING_"
    )
    assert {*refuses.authorizations} == {"Basic " + base64.b64encode(b"me:se cret").decode()}


def test_nothing_of_it_stays_in_the_environment(failure, answers):
    before = dict(os.environ)
    failure(f"http://me:secret@{answers(401).address}")
    changed = {name for name in os.environ if os.environ[name] != before.get(name)}
    assert {name for name in changed if "TRACKING" in name or "HTTP" in name} == {"MLFLOW_TRACKING_URI"}


@pytest.mark.parametrize("status", [200, 404])
def test_another_server_is_told(failure, answers, status):
    other = answers(status, b"<html>me:secret</html>")
    assert "what answers there is no MLflow server" in failure(f"http://me:secret@{other.address}")


def test_a_server_that_fails_is_told_in_one_sentence(failure, answers, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = failure(f"http://me:secret@{answers(503, b'no database behind').address}")
    assert "503" in told and "secret" not in told and "\n" not in told


@pytest.mark.parametrize("uri", ["10.0.0.1:5000", "me:secret@10.0.0.1", "./mlruns", "file:///mlruns", "databricks"])
def test_what_is_neither_server_nor_database_is_refused(failure, uri):
    told = failure(uri)
    assert "and has to be the address of a server" in told and "secret" not in told


def test_this_machine_is_asked_without_a_proxy(answers, nobody, cells, tmp_path):
    (tmp_path / "results").write_bytes(pickle.dumps(run_results(cells)))
    script = "import flows, pickle, sys, pathlib; from tasks.tracking import Tracker; "
    script += "Tracker(pathlib.Path(sys.argv[1])).log_runs(pickle.loads(pathlib.Path(sys.argv[2]).read_bytes()))"
    refuses = answers(401)
    proxied = {"http_proxy": f"http://{nobody}", "MLFLOW_TRACKING_URI": f"http://me:secret@{refuses.address}"}
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    command = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, env=kept | proxied, capture_output=True, text=True, timeout=200)
    assert f"http://{refuses.address}: it does not let us in" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_proxy_that_does_not_let_us_there_is_told(failure, nobody, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://{nobody}")
    monkeypatch.setenv("no_proxy", "")
    assert "the proxy does not let us there" in failure("http://mlflow.invalid:5000")


@pytest.mark.slow
def test_credentials_are_kept_nowhere(server, server_folder, cells, tmp_path, monkeypatch, capfd):
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("://", "://user-zqxjk:word-zqxjk@"))
    tracker = Tracker(tmp_path, "credentials")
    (run_id,) = tracker.log_runs(run_results(cells), {"plan": "demo"}).values()
    said = capfd.readouterr()
    kept = [path.read_bytes() for folder in (tmp_path, server_folder) for path in folder.rglob("*") if path.is_file()]
    assert not [content for content in kept if b"zqxjk" in content]
    assert "zqxjk" not in said.out + said.err + tracker.link + repr(tracker.place.address)
    assert tracker.link.startswith(f"{server}/#/") and said.out == ""
    assert run_id in {run.info.run_id for run in runs(tracker)}
