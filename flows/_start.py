"""What has to be settled before Prefect is imported: no telemetry, which server, where its files go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

REPO = Path(__file__).resolve().parents[1]
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
_first_start: list[int] = []


def configure() -> None:
    """Set the environment of this process and its children. As a command (`python -m flows.X`): also quiet logs,
    Prefect's own files under the workspace, and a server of our own where the configured one does not answer."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if sys.argv[0] != "-m":
        return  # imported by a worker, a test or a shell, which has its own settings
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    home = workspace_of(sys.argv[1:]) / ".cache" / "prefect" / "home"
    os.environ.setdefault("PREFECT_HOME", str(home))
    if not answers(_server()):
        os.environ["PREFECT_API_URL"] = ""  # Prefect then starts one for the time of the flow
        _one_first_start(Path(os.environ["PREFECT_HOME"]))


def workspace_of(arguments: list[str]) -> Path:
    """The folder named by `--workspace`, else the repository."""
    for position, argument in enumerate(arguments):
        if argument == "--workspace" and position + 1 < len(arguments):
            return Path(arguments[position + 1]).resolve()
        if argument.startswith("--workspace="):
            return Path(argument.partition("=")[2]).resolve()
    return REPO


def started() -> None:
    """Let other processes start Prefect in this workspace: its database is there now."""
    while _first_start:
        os.close(_first_start.pop())


def _one_first_start(home: Path) -> None:
    """Two processes that make Prefect's database at once disturb each other, so the first one goes alone."""
    if (home / "prefect.db").exists():
        return
    with contextlib.suppress(OSError):  # an unwritable workspace gets its own message later
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "first-start.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _first_start.append(lock)


def _server() -> str:
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"]
    try:
        settings = tomllib.loads((Path.cwd() / "prefect.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return ""
    return str(settings.get("api", {}).get("url", ""))


def answers(url: str) -> bool:
    parts = urlsplit(url)
    if not parts.hostname:
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), 0.5).close()
    except OSError:
        return False
    return True
