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

from flows import _guard, _start
from flows._start import ServerError


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Prefect's server for the time of the block, unless a configured one answers. It dies with this process.

    Prefect's own temporary server would survive a SIGKILL of its parent, lets anyone in, and loses events where
    `prefect.toml` names another one. Raises ServerError when it does not start, or the configured one is none.
    """
    url = _start.connect()
    with started(url, os.environ["PREFECT_API_AUTH_STRING"]) if url else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def started(url: str, auth: str, pages: bool = False) -> Iterator[None]:
    """A server of our own at a URL for the time of the block, for who has the authentication string; `pages` also shows
    Prefect's. Raises ServerError when it does not start."""
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    # Two processes that make Prefect's database at once disturb each other.
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = home / "server.log"
        length = log.stat().st_size if log.exists() else 0
        process = _launch(url, _guard.environment(url, auth, pages), log)
        try:
            _wait_until_healthy(url, process)
        except TimeoutError:
            process.kill()
            raise ServerError(_why(process, log, length)) from None
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


def _launch(url: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows._guard:create_app", "--app-dir", str(_start.REPO)]
    command += ["--host", "127.0.0.1", "--port", str(urlsplit(url).port), "--lifespan", "on", "--log-level", "error"]
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=environment, cwd=log.parent, stdout=output, stderr=output, preexec_fn=die_with_parent
        )


def die_with_parent() -> None:
    """For the child of a process that may be killed: end when it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server at `url` answers. Raises TimeoutError when it ends, or takes five minutes."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError


def _why(process: subprocess.Popen[bytes], log: Path, length: int) -> str:
    """Why it did not start: how it ended, and the last of what it wrote after the first `length` bytes of its log."""
    code = process.poll()
    if code is None:
        end = "it did not answer within five minutes"
    else:
        end = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
    with log.open("rb") as output:
        output.seek(length)
        lines = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    last = f"{' | '.join(lines[-3:])} ({log})" if lines else f"it wrote nothing to {log}"
    return f"Prefect's server did not start: {end}; {last}"
