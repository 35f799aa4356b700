"""`make serve` and what README says to run beside it, as a user's shells run them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import _heartbeat, _start

REPO = Path(__file__).parents[2]
PlanFile = Callable[..., Path]


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server with its deployments, as in a shell that has only PREFECT_API_URL set."""
    port = _start.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.serve"], cwd=REPO, env=shell(port), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert re.fullmatch(
            rf"Prefect: http://127.0.0.1:{port}; its page asks once for this: adcore:\S+\n", next(lines)
        )
        assert any("being served" in line for line in lines)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def shell(port: int) -> dict[str, str]:
    own = ("PREFECT_HOME", "PREFECT_API_AUTH_STRING", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    return environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deployment_runs_for_us_and_for_nobody_else(port: int, plan_file: PlanFile, tmp_path: Path) -> None:
    for headers in ({}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"name": "attack"})
        connection.request("POST", "/api/flows/", body, {"Content-Type": "application/json", **headers})
        assert connection.getresponse().status in (400, 401, 403)
    given = ["-p", f"plan={plan_file()}", "-p", f"workspace={tmp_path / 'work'}"]
    told = prefect(port, "deployment", "run", "prepare/demo", "--watch", *given)
    assert "finished successfully" in told
    assert (tmp_path / "work" / "results" / "validation.html").exists()
    assert _heartbeat.TAG in prefect(port, "deployment", "inspect", "prepare/demo")
    assert _heartbeat.TAG in prefect(port, "automation", "inspect", _heartbeat.NAME)


def prefect(port: int, *arguments: str) -> str:
    """What that command says, in a user's shell. It ended well."""
    command = [str(Path(sys.executable).parent / "prefect"), *arguments]
    done = subprocess.run(command, cwd=REPO, env=shell(port), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
