"""What a web page, or another user of this machine, may send to a Prefect server of our own: nothing that counts."""

from __future__ import annotations

import base64
import http.client
import json
import os
import stat
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import get_client
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from flows import _guard

FOREIGN = "http://evil.example"
PREFECT = Subprotocol("prefect")
JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain"}  # a page may send it anywhere without asking first
UNTYPED: dict[str, str] = {}  # so may it a Blob without a type, which Prefect takes for JSON


def server() -> str:
    return urlsplit(os.environ["PREFECT_API_URL"]).netloc


def auth() -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()}


def send(method: str, path: str, body: object, headers: dict[str, str]) -> http.client.HTTPResponse:
    """One request, with exactly these headers beside Host and Content-Length."""
    connection = http.client.HTTPConnection(server(), timeout=30)
    connection.request(method, path, json.dumps(body) if body else None, headers)
    return connection.getresponse()


def flows(name: str) -> list[object]:
    body = {"flows": {"name": {"any_": [name]}}}
    found: list[object] = json.loads(send("POST", "/api/flows/filter", body, JSON | auth()).read())
    return found


@pytest.mark.parametrize("kind", [JSON, PLAIN, UNTYPED], ids=["json", "plain", "untyped"])
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (401, {"Authorization": "Basic " + base64.b64encode(b"adcore:guessed").decode()}),
        (403, {"Origin": FOREIGN}),
        (403, {"Origin": "null"}),
        (403, {"Origin": "http://localhost:1"}),
        (400, {"Host": "evil.example:4200"}),
        (400, {"Host": "127.0.0.1.evil.example"}),
    ],
    ids=["no string", "wrong string", "foreign origin", "no origin of its own", "other port", "rebound", "lookalike"],
)
def test_attacks_are_refused(kind: dict[str, str], status: int, headers: dict[str, str]) -> None:
    answer = send("POST", "/api/flows/", {"name": "attack"}, kind | headers)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] in (None, "")
    assert not flows("attack")


@pytest.mark.parametrize("headers", [{"Origin": FOREIGN}, {"Host": "evil.example"}], ids=["origin", "host"])
def test_knowing_the_string_does_not_help_a_page(headers: dict[str, str]) -> None:
    """Where it was once typed into a page that rebinds its name, or was read from a screen."""
    assert send("POST", "/api/flows/", {"name": "attack"}, JSON | auth() | headers).status in (400, 403)
    assert not flows("attack")


def test_a_page_is_not_told_that_it_may_ask() -> None:
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "*"}
    answer = send("OPTIONS", "/api/deployments/", None, preflight)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_deployment_that_holds_a_command_needs_the_string() -> None:
    """The steps of the attack: a flow, a deployment of it whose pull steps are a shell command, and its run."""
    pull = [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/attacked"}}]
    body = {"name": "demo", "flow_id": "00000000-0000-0000-0000-000000000000", "pull_steps": pull}
    assert send("POST", "/api/deployments/", body, JSON).status == 401
    assert send("POST", "/api/deployments/filter", {}, JSON).status == 401
    assert send("GET", "/api/admin/settings", None, {}).status == 401


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_sockets_are_guarded_too(path: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://{server()}{path}", origin=Origin(FOREIGN), subprotocols=[PREFECT], proxy=None)
    with connect(f"ws://{server()}{path}", subprotocols=[PREFECT], proxy=None) as socket:
        socket.send(json.dumps({"type": "auth", "token": "guessed"}))
        with pytest.raises(ConnectionClosedError, match="1008"):
            socket.recv()


def test_our_own_client_and_the_pages_of_the_server_are_let_in() -> None:
    with get_client(sync_client=True) as client:
        assert client.create_flow_from_name("ours")
    assert len(flows("ours")) == 1
    for origin in (f"http://{server()}", f"http://localhost:{urlsplit('//' + server()).port}"):
        assert send("GET", "/api/admin/version", None, auth() | {"Origin": origin}).status == 200
    assert send("GET", "/api/health", None, {}).status == 200


def test_the_string_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    profiles = tmp_path / "prefect" / "profiles.toml"
    string = _guard.auth_string(profiles)
    assert len(string) > 40
    assert stat.S_IMODE(profiles.stat().st_mode) == 0o600
    assert _guard.auth_string(profiles) == string
    assert _guard.auth_string(tmp_path / "another.toml") != string
    assert [path.name for path in profiles.parent.iterdir()] == ["profiles.toml"]
    named = tomllib.loads((Path(__file__).parents[2] / "prefect.toml").read_text(encoding="utf-8"))["profiles_path"]
    assert named == ".cache/prefect/profiles.toml"
