"""What has to be settled before Prefect is imported: no telemetry, which server, where its files go."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import tomllib
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
