"""Start a Prefect server on this machine, unless one answers, and serve the deployments until interrupted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from flows import _server, _start

URL = "http://127.0.0.1:4200"


def main() -> None:
    """`make serve`."""
    os.environ.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)  # runs of deployments tell more than a command does
    if os.environ.pop(_start.OWN, ""):
        del os.environ["PREFECT_API_URL"]  # not a temporary one: prefect.toml's
    with _pages():
        from prefect import serve

        from flows.benchmark import benchmark
        from flows.leaderboard import leaderboard
        from flows.prepare import prepare

        parameters = {"plan": "params.yaml", "workspace": "."}
        print(
            f"Prefect: {URL}\ntry: .venv/bin/prefect deployment run 'benchmark/demo' --watch\nstop: Ctrl-C", flush=True
        )
        serve(*(flow.to_deployment(name="demo", parameters=parameters) for flow in (prepare, benchmark, leaderboard)))


@contextlib.contextmanager
def _pages() -> Iterator[None]:
    """A Prefect server with its pages at URL for the time of the block, unless one answers there."""
    if _start.answers(URL):
        yield
        return
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", "4200"]
    process = subprocess.Popen(command, cwd=_start.REPO, preexec_fn=_server.die_with_parent)
    try:
        _server.wait_until_healthy(f"{URL}/api", process, "its output above tells why")
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


if __name__ == "__main__":
    main()
