"""The surroundings of a command: proxies, other servers, no home, a profiler around it."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from flows import _server, _start

REPO = Path(__file__).parents[2]
PlanFile = Callable[..., Path]


class Website(http.server.BaseHTTPRequestHandler):
    """As a front-end developer's server: its page under any path, or the status that its server is given."""

    def do_GET(self) -> None:
        self.send_response(getattr(self.server, "status", 200))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>shop</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def website() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings that a test changes are the session's again after it."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    yield monkeypatch
    monkeypatch.undo()
    _start.use(os.environ["PREFECT_API_URL"])


def run(arguments: list[str | Path], **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A command of ours with an environment changed so; None takes a variable away."""
    changed = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [str(argument) for argument in arguments]
    return subprocess.run(command, cwd=REPO, env=changed, capture_output=True, text=True, timeout=290, check=False)


@pytest.mark.parametrize("suffix", ["", "/", "/api", "/api/"])
def test_the_api_is_found_below_the_address(suffix: str) -> None:
    api = os.environ["PREFECT_API_URL"]
    assert _start.reachable(api.removesuffix("/api") + suffix) == api


def test_where_nothing_listens_nothing_is_found() -> None:
    assert _start.reachable(f"http://127.0.0.1:{_start.free_port()}/api") == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_where_nothing_listens_on_this_machine_prefect_is_not_asked(host: str, kept: pytest.MonkeyPatch) -> None:
    kept.setattr(_start, "_version", lambda api: pytest.fail("asked"))
    assert _start.reachable(f"http://{host}:{_start.free_port()}/api") == ""


def test_another_machine_is_asked_by_prefect_which_knows_the_proxy(kept: pytest.MonkeyPatch) -> None:
    kept.setattr(_start, "_version", lambda api: "3")
    assert _start.reachable("http://elsewhere.invalid:4200/api") == "http://elsewhere.invalid:4200/api"


@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_another_web_server_is_not_taken_for_prefect(website: http.server.HTTPServer, status: int) -> None:
    website.status = status  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{website.server_port}/api"
    with pytest.raises(_start.ServerError, match=f"what answers at {url} is no Prefect server"):
        _start.reachable(url)


@pytest.mark.parametrize("url", ["127.0.0.1:4200/api", "http://127.0.0.1:port/api", "x"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(_start.ServerError, match="is no Prefect server"):
        _start.reachable(url)


def test_a_refused_string_is_told(kept: pytest.MonkeyPatch) -> None:
    _start.use(os.environ["PREFECT_API_URL"], "adcore:guessed")
    with pytest.raises(_start.ServerError, match="refuses our authentication string"):
        _start.connect()


def test_a_command_has_a_server_of_its_own_where_another_web_server_has_the_port_of_the_repository(
    website: http.server.HTTPServer, kept: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{website.server_port}/api"
    (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "{url}"\n')
    kept.chdir(tmp_path)
    kept.delenv("PREFECT_API_URL")
    _start.settle(tmp_path)
    own = _start.connect()
    assert own != url
    assert own == get_current_settings().api.url == os.environ["PREFECT_API_URL"]
    assert f"what answers at {url} is no Prefect server" in capsys.readouterr().err


def test_one_named_by_hand_has_to_be_prefect(website: http.server.HTTPServer, kept: pytest.MonkeyPatch) -> None:
    kept.setenv("PREFECT_API_URL", f"http://127.0.0.1:{website.server_port}")
    _start.settle(Path(os.environ["PREFECT_HOME"]))
    with pytest.raises(_start.ServerError, match="is no Prefect server"):
        _start.connect()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("intranet, localhost", "intranet,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_this_machine_is_asked_without_a_proxy(before: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", before)
    assert _start.without_proxy() == after


def test_a_proxy_that_is_out_of_order_is_not_asked_for_our_server() -> None:
    """By none of the clients in a command: urllib, httpx in Prefect, WebSockets."""
    script = """
import os, flows, urllib.request
from prefect.events.clients import get_events_client
from prefect.events import Event
from flows import _start
url = os.environ["PREFECT_API_URL"]
assert urllib.request.urlopen(f"{url}/health").status == 200
assert _start.reachable(url) == url
import asyncio
async def emit():
    async with get_events_client() as client:
        await client.emit(Event(event="a", resource={"prefect.resource.id": "b"}))
asyncio.run(emit())
"""
    dead = f"http://127.0.0.1:{_start.free_port()}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ws_proxy"), dead)
    done = run([sys.executable, "-c", script], **proxies, no_proxy=None, NO_PROXY=None)
    assert done.returncode == 0, done.stderr


def test_prefect_learns_its_settings_whoever_imported_it_first(kept: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept.setenv("PREFECT_HOME", str(_start.HOME))
    _start.settle(tmp_path)
    assert get_current_settings().home == tmp_path / ".cache/prefect/home"


def nameless(arguments: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """As in `docker run --user 12345`: a uid that no file of users knows, and no HOME."""
    user = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    if subprocess.run([*user, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine makes no user namespaces")
    return run([*user, *arguments], HOME=None, USER=None, LOGNAME=None, PREFECT_HOME=None, PREFECT_API_URL="")


def test_a_user_without_name_and_home_can_import_everything() -> None:
    done = nameless([sys.executable, "-c", "import flows.benchmark, tasks.tracking"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_a_user_without_name_and_home_can_run_a_plan(plan_file: PlanFile, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "flows.benchmark", "--plan", plan_file(methods=["padim"])]
    done = nameless([*command, "--workspace", tmp_path / "work"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cells: 2 computed, 0 cached, 0 failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        ["-m", "cProfile", "-o", os.devnull, "-m", "flows.prepare"],
        ["-m", "pdb", "-c", "continue", "-c", "quit", "-m", "flows.prepare"],
        ["flows/prepare.py"],
    ],
    ids=["profiler", "debugger", "file"],
)
def test_a_command_runs_under_a_tool(way: list[str], plan_file: PlanFile, tmp_path: Path) -> None:
    given: list[str | Path] = ["--plan", plan_file(), "--workspace", tmp_path / "work"]
    taken = {"PYTHONPATH": str(REPO), "PREFECT_HOME": None, "PREFECT_API_URL": ""}
    done = run([sys.executable, *way, *given], **taken)
    assert "categories: 2 ready, 0 failed" in done.stdout, done.stderr
    assert (tmp_path / "work/.cache/prefect/home/server.log").exists()


def test_a_server_that_dies_first_says_why(kept: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept.setenv("PREFECT_HOME", str(tmp_path))
    kept.setenv("PREFECT_SERVER_API_KEEPALIVE_TIMEOUT", "soon")
    (tmp_path / "server.log").write_text("what an earlier one wrote\n")
    url = f"http://127.0.0.1:{_start.free_port()}/api"
    with pytest.raises(_start.ServerError) as error, _server.started(url, "adcore:string"):
        pass
    told = str(error.value)
    assert told.startswith("Prefect's server did not start: it ended with exit code 1; ")
    assert "input_value='soon'" in told
    assert "earlier" not in told


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"])
def test_a_server_keeps_to_the_database_that_a_person_names(
    name: str, kept: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept.setenv("PREFECT_HOME", str(tmp_path / "home"))
    kept.setenv(name, f"sqlite+aiosqlite:///{tmp_path}/own.db")
    with _server.started(f"http://127.0.0.1:{_start.free_port()}/api", "adcore:string"):
        pass
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path("own.db")]


@pytest.mark.parametrize(
    ("end", "reason"), [("exit(7)", "it ended with exit code 7"), ("os.abort()", "it was ended by SIGABRT")]
)
def test_a_server_that_says_nothing_is_told_by_how_it_ended(end: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("what an earlier one wrote\n")
    process = subprocess.Popen([sys.executable, "-c", f"import os; {end}"])
    process.wait()
    told = _server._why(process, log, log.stat().st_size)
    assert told == f"Prefect's server did not start: {reason}; it wrote nothing to {log}"
