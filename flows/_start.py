"""What has to be settled before a command works: telemetry, proxies, where files go, which server is asked."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import warnings
from pathlib import Path
from urllib.parse import urlsplit

from adcore.core import digests
from adcore.core.shipped import CHECKOUT, PACKAGE

SOURCE = PACKAGE.parent  # of our packages
# What a command reads and writes by default: the checkout, or for an installed package the folder that it is run in.
PLACE = CHECKOUT or Path.cwd()
ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # what its server says while its database is started again
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "GOMP_SPINCOUNT": "0",  # threads of torch that wait for each other sleep, so that other work can have the core
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HOSTS = ("localhost", "127.0.0.1", "[::1]")  # the same as a URL or a Host header names them
HOME = PLACE / ".cache/prefect/home"  # Prefect's, until the workspace is known


class ServerError(RuntimeError):
    """The Prefect server that is configured cannot be used."""


def configure() -> None:
    """Set the environment of this process and its children, before a library reads it; a value that is set wins."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = without_proxy()
    os.environ.setdefault("PREFECT_HOME", str(HOME))
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")  # it tries when it is imported
    try:
        Path.home()
    except RuntimeError:  # a uid without a name, as in `docker run --user 12345`; Prefect wants some path
        os.environ["HOME"] = "/nonexistent"


def without_proxy() -> str:
    """The hosts that are asked without a proxy: those that are set, and this machine."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in hosts.split(",") if name.strip()]
    return ",".join(names if "*" in names else dict.fromkeys([*names, *LOOPBACK]))


def settle(workspace: Path, console: str = "CRITICAL") -> None:
    """For a command: the files of the libraries go under the workspace, and Prefect tells only from `console` upwards.

    It tells nothing by default, since failures are told once, at the end.
    """
    cache = workspace / ".cache"
    if os.environ["PREFECT_HOME"] == str(HOME):
        (cache / "prefect" / "home").mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(cache / "prefect" / "home")
    digests.keep(cache / "adcore")
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "numba"))
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", console)
    _refresh()


def _refresh() -> None:
    """Prefect read its settings when it was imported, which may have been before ours."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging()


def connect() -> str:
    """Settle which Prefect server this process asks; the URL of one that is to be started, "" where one answers.

    Raises ServerError where PREFECT_API_URL names something else than a Prefect server that lets us in.
    """
    from prefect.settings import get_current_settings

    api = _configured(str(get_current_settings().api.url or ""))
    if api:
        use(api)
        return ""
    own = f"http://127.0.0.1:{free_port()}/api"
    use(own, f"adcore:{secrets.token_urlsafe()}")
    return own


def use(api: str, auth: str = "") -> None:
    """Ask the Prefect server at that address, here and in child processes; `auth` replaces the string that is set."""
    os.environ["PREFECT_API_URL"] = api
    if auth:
        os.environ["PREFECT_API_AUTH_STRING"] = auth
    _refresh()


def _configured(url: str) -> str:
    try:
        return reachable(url) if url else ""
    except ServerError as error:
        if os.environ.get("PREFECT_API_URL"):
            raise
        sys.stderr.write(f"{error}; this command starts a server of its own\n")
        return ""


def reachable(url: str) -> str:
    """The address of the Prefect API at a URL, or below it at /api; "" where nothing listens.

    Raises ServerError where something else answers, or where Prefect refuses our authentication string.
    """
    import httpx

    if _is_silent(url):
        return ""
    base = url.rstrip("/")
    for api in (base, f"{base}/api"):
        try:
            if isinstance(_version(api), str):
                return api
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return ""
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED:
                raise ServerError(f"the server at {url} refuses our authentication string") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            continue
    raise ServerError(f"what answers at {url} is no Prefect server (its address ends with /api)")


def _is_silent(url: str) -> bool:
    """Whether nothing listens at an address of this machine, which Prefect's client takes seconds to find out."""
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        return False
    if host not in LOOPBACK or not port:
        return False
    try:
        socket.create_connection((host, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _version(api: str) -> object:
    """What is told at /admin/version, asked once and as Prefect's own client would: its keys, certificates, headers."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    settings = {"timeout": httpx.Timeout(10, connect=1)}
    once = temporary_settings({PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0})
    with once, get_client(settings, sync_client=True) as client:
        return client.api_version()


def free_port(wish: int = 0) -> int:
    """A port on which nothing listens here: the one wished for, if it can be had."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what hangs up is no listener
        try:
            listener.bind(("127.0.0.1", wish))
        except (OSError, OverflowError):
            if not wish:
                raise
            return free_port()
        return int(listener.getsockname()[1])
