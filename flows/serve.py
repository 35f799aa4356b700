"""Serve the deployments until interrupted, by a Prefect server on this machine, which is started unless it answers."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import psutil

from adcore.core.disk import DiskFull
from adcore.engine.bench import Layout, WorkspaceError
from flows import _guard, _server, _start, _stopping, command

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

PROFILES = _start.PLACE / ".cache/prefect/profiles.toml"  # as prefect.toml names it


def main() -> None:
    """`make serve`."""
    try:
        Layout(_start.PLACE).check()
        auth = _guard.auth_string(PROFILES)
        _start.settle(_start.PLACE, console="NOTSET")  # runs of deployments tell more than a command does
        with _pages(auth), _stopping.ending(_end_runs):
            _serve()
    except DiskFull as error:
        command.full(error)
    except (_start.ServerError, WorkspaceError) as error:
        command.unusable(error)


def _serve() -> None:
    from prefect import serve

    from flows import _heartbeat
    from flows.benchmark import benchmark
    from flows.leaderboard import leaderboard
    from flows.predict import predict
    from flows.prepare import prepare

    url, auth = os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
    print(
        f"Prefect: {url.removesuffix('/api')}; its page asks once for this: {auth}\n"
        "try: .venv/bin/prefect deployment run 'benchmark/demo' --watch\nstop: Ctrl-C",
        flush=True,
    )
    _heartbeat.watch()
    with _heartbeat.sent():
        serve(*(_deployment(flow, _heartbeat.TAG) for flow in (prepare, benchmark, leaderboard, predict)))


def _deployment(flow: Flow[..., Any], tag: str) -> RunnerDeployment:
    from prefect.types.entrypoint import EntrypointType

    parameters = {"plan": "params.yaml", "workspace": "."}
    by_module = EntrypointType.MODULE_PATH  # Ray's workers import what the flow of a run names
    # Prefect types it as if an event loop were running here, where it would be awaited.
    made = flow.to_deployment(name="demo", parameters=parameters, tags=[tag], entrypoint_type=by_module)
    return cast("RunnerDeployment", made)


def _end_runs() -> None:
    """End the runs of deployments, which would compute on without us. The server, which they tell of it, ends later."""
    runs = [child for child in psutil.Process().children(recursive=True) if not _is_server(child)]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for run in runs:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(run)
        _, runs = psutil.wait_procs(runs, timeout=_stopping.PATIENCE / 2)


def _is_server(process: psutil.Process) -> bool:
    try:
        return "uvicorn" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _pages(auth: str) -> AbstractContextManager[None]:
    """The configured server, by default one with its pages at port 4200, for the time of the block.

    Raises ServerError where something else answers, or nothing at an address that is not this machine's.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings().api
    url = settings.url or "http://127.0.0.1:4200/api"
    mend = "`PREFECT_API_URL=http://127.0.0.1:4201/api`, for `prefect` too, takes another port"
    try:
        api = _start.reachable(url)
    except _start.ServerError as error:
        raise _start.ServerError(f"{error}; {mend}") from None
    own = f"{url.rstrip('/').removesuffix('/api')}/api"
    if not api and urlsplit(own).hostname not in _start.LOOPBACK:
        raise _start.ServerError(f"nothing answers at {url}, and only a server on this machine can be started here")
    _start.use(api or own, settings.auth_string.get_secret_value() if settings.auth_string else auth)
    return nullcontext() if api else _server.started(own, os.environ["PREFECT_API_AUTH_STRING"], pages=True)


if __name__ == "__main__":
    main()
