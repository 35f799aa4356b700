"""The lifetime of a Prefect server of our own: started, waited for, ended with the process that started it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows._start import OWN


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Prefect's server for the time of the block, unless a configured one answers. It dies with this process.

    Prefect's own temporary server would survive a SIGKILL of its parent, and loses events where `prefect.toml` names
    another one. Raises RuntimeError when it does not start.
    """
    if not os.environ.pop(OWN, ""):
        yield
        return
    url = os.environ["PREFECT_API_URL"]
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    with (home / "start.lock").open(
        "w"
    ) as lock:  # two processes that make Prefect's database at once disturb each other
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = _launch(url, home)
        try:
            wait_until_healthy(url, process, f"{home / 'server.log'} tells why")
        except BaseException:
            process.kill()
            raise
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for connections that idle clients hold
            process.kill()
            process.wait()


def _launch(url: str, home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    command += ["--host", "127.0.0.1", "--port", str(urlsplit(url).port), "--log-level", "error"]
    settings = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    settings |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(command, env=settings, cwd=home, stdout=log, stderr=log, preexec_fn=die_with_parent)


def die_with_parent() -> None:
    """For the child of a process that may be killed: end when it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], why: str) -> None:
    """Wait until the server at `url` answers. Raises RuntimeError, with `why`, when it ends or takes three minutes."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Prefect's server did not start; {why}")
