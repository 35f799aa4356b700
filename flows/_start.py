"""What has to be settled before Prefect is imported: no telemetry, which server, where its files go."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

REPO = Path(__file__).resolve().parents[1]
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
OWN = "ADCORE_OWN_SERVER"  # set while the server at PREFECT_API_URL is ours to start


def configure() -> None:
    """Set the environment of this process and its children. As a command (`python -m flows.X`): also a quiet console,
    Prefect's own files under the workspace, and a server of our own where the configured one does not answer."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if sys.argv[0] != "-m":
        return  # imported by a worker, a test or a shell, which has its own settings
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # failures are told once, at the end
    cache = workspace_of(sys.argv[1:]) / ".cache"
    try:
        (cache / "prefect" / "home").mkdir(parents=True, exist_ok=True)
    except OSError:  # an unwritable workspace gets its own message; until then the libraries need some folder
        cache = Path(tempfile.mkdtemp(prefix="adcore-"))
    os.environ.setdefault("PREFECT_HOME", str(cache / "prefect" / "home"))
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "numba"))
    if not answers(_configured()):
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{free_port()}/api"
        os.environ[OWN] = "1"


def workspace_of(arguments: list[str]) -> Path:
    """The folder named by `--workspace`, else the repository."""
    for position, argument in enumerate(arguments):
        if argument == "--workspace" and position + 1 < len(arguments):
            return Path(arguments[position + 1]).resolve()
        if argument.startswith("--workspace="):
            return Path(argument.partition("=")[2]).resolve()
    return REPO


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


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _configured() -> str:
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"]
    try:
        settings = tomllib.loads((Path.cwd() / "prefect.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return ""
    return str(settings.get("api", {}).get("url", ""))


def answers(url: str) -> bool:
    """Whether something listens at a URL."""
    parts = urlsplit(url)
    if not parts.hostname:
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), 0.5).close()
    except OSError:
        return False
    return True
