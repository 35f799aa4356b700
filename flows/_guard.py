"""What keeps the pages of other sites, and other users of this machine, off a Prefect server of our own.

A server that takes anyone's requests runs anyone's commands: a deployment may hold a shell command that a runner runs.
So a request has to name this machine as its host, which a page that rebound its own name to 127.0.0.1 does not; where a
browser says what page it comes from, that page has to be the server's own; and all but Prefect's health check has to
bring the server's authentication string. It travels in a header that no browser adds by itself, so that Prefect's CSRF
tokens, meant for servers that take cookies, would add nothing.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows._start import HOSTS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class OwnPagesOnly:
    """An ASGI application that refuses what a page of another origin asks of the one inside, WebSockets included."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self.app = app
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with 403."""
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        app = self.app
        if scope["type"] in ("http", "websocket"):
            origin = Headers(scope=scope).get("origin")
            if origin is not None and origin not in self.origins:
                app = PlainTextResponse("This server answers its own pages only.", status_code=403)
        await app(scope, receive, send)


def create_app() -> ASGIApp:
    """Prefect's application behind the guard, for uvicorn; its settings are those of `environment`."""
    from prefect.server.api.server import create_app as create_prefect
    from prefect.settings import get_current_settings
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    origins = get_current_settings().server.api.cors_allowed_origins.split(",")
    guarded = OwnPagesOnly(create_prefect(), origins)
    return TrustedHostMiddleware(guarded, allowed_hosts=HOSTS, www_redirect=False)


def environment(url: str, auth: str, pages: bool = False) -> dict[str, str]:
    """What a server of ours at a URL is started with: this environment, and who may ask; `pages` shows Prefect's."""
    port = urlsplit(url).port
    settings = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    settings |= {
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}:{port}" for host in HOSTS),
        "PREFECT_SERVER_UI_ENABLED": str(pages),
        "PREFECT__SERVER_FINAL": "1",
    }
    return settings if pages else settings | {"PREFECT__SERVER_EPHEMERAL": "1"}


def auth_string(profiles: Path) -> str:
    """The authentication string in a file of Prefect profiles, which is made, of mode 0600, if it is absent.

    `prefect.toml` names the file, so that `prefect` and its workers find the string when they run beside it.
    """
    profiles.parent.mkdir(parents=True, exist_ok=True)
    if not profiles.exists():
        auth = f'PREFECT_API_AUTH_STRING = "adcore:{secrets.token_urlsafe()}"'
        file, name = tempfile.mkstemp(dir=profiles.parent)  # of mode 0600
        os.write(file, f'active = "adcore"\n[profiles.adcore]\n{auth}\n'.encode())
        os.close(file)
        Path(name).replace(profiles)
    profiles.chmod(0o600)  # `prefect profile` rewrites it
    return str(tomllib.loads(profiles.read_text(encoding="utf-8"))["profiles"]["adcore"]["PREFECT_API_AUTH_STRING"])
