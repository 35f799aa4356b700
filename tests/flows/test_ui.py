"""The MLflow pages of a workspace: their port, and what a page of another site may do to them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import _start

REPO = Path(__file__).parents[2]


def command(workspace: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "flows.ui", "--workspace", str(workspace), *more]


def call(workspace: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(workspace, *more), cwd=REPO, capture_output=True, text=True, timeout=200, check=False)


def test_a_port_that_was_asked_for_and_is_taken_is_told(work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call(work, "--port", str(port))
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"error: port {port} is taken or none; `--port \d+` is free\n", done.stderr)


def test_a_free_port_is_the_one_wished_for_unless_it_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert _start.free_port(port) not in (port, 0)
    assert _start.free_port(port) == port
    assert _start.free_port(99999) < 65536


@pytest.fixture
def port(work: Path) -> Iterator[int]:
    """The pages of a workspace, where port 5000 is taken, by us if nobody else has it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _start.free_port(5000) == 5000:
            taken.bind(("127.0.0.1", 5000))
            taken.listen()
        process = subprocess.Popen(command(work), cwd=REPO, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            link = process.stdout.readline()
            match = re.match(r"leaderboard: http://127\.0\.0\.1:(\d+)/", link)
            assert match, link
            number = int(match.group(1))
            deadline = time.monotonic() + 200
            while _start.free_port(number) == number and time.monotonic() < deadline:
                time.sleep(0.2)
            yield number
        finally:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C
            process.communicate(timeout=60)


def test_a_server_that_is_gone_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{_start.free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
    done = call(work)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and f"http://{address}: it does not answer" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.slow
def test_of_a_server_only_the_link_is_told(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    done = call(tmp_path / "other")
    page = rf"leaderboard: http://127\.0\.0\.1:{port}/#/experiments/\d+/runs\?viewStateShareKey=leaderboard&.*\n"
    assert done.returncode == 0 and re.fullmatch(page, done.stdout), done
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_pages_of_other_sites_change_nothing(port: int) -> None:
    def status(name: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"name": name})
        connection.request("POST", "/api/2.0/mlflow/experiments/create", body, headers)
        return connection.getresponse().status

    assert port != 5000
    for kind in ("application/json", "text/plain"):
        own = {"Content-Type": kind}
        assert status("attack", **own, Origin="http://evil.example") == 403
        assert status("attack", **own, Origin="null") == 403
        for host in ("evil.example", "10.evil.example", f"10.evil.example:{port}", f"192.168.evil.example:{port}"):
            assert status("attack", **own, Host=host) == 403
    ours = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}
    assert status("attack", **ours) == 200  # and so it was not there yet
    assert status("ours", **ours, Host=f"localhost:{port}") == 200
