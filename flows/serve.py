"""Start a Prefect server on this machine, unless one answers, and serve the deployments until interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from flows import _start


def main() -> None:
    """`make serve`."""
    os.environ.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)  # runs of deployments tell more than a command
    if os.environ.pop(_start.OWN, ""):
        del os.environ["PREFECT_API_URL"]  # not a temporary one: prefect.toml's
    _ensure_server()
    from prefect import serve

    from flows.benchmark import benchmark
    from flows.leaderboard import leaderboard
    from flows.prepare import prepare

    parameters = {"plan": "params.yaml", "workspace": "."}
    print("Prefect: http://127.0.0.1:4200 - try: .venv/bin/prefect deployment run 'benchmark/demo' --watch", flush=True)
    serve(*(found.to_deployment(name="demo", parameters=parameters) for found in (prepare, benchmark, leaderboard)))


def _ensure_server() -> None:
    url = "http://127.0.0.1:4200/api"
    if _start.answers(url):
        return
    prefect = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--background",
        "--host",
        "127.0.0.1",
        "--port",
        "4200",
    ]
    subprocess.run(prefect, cwd=_start.REPO, check=True)
    waited = time.monotonic()
    while not _start.answers(url):
        if time.monotonic() - waited > 120:
            sys.exit("error: the Prefect server is not up after two minutes; `prefect server start` shows why")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
