"""Serve the MLflow pages of a workspace on this machine only, and print the link that opens as a leaderboard; where
MLFLOW_TRACKING_URI names a server, only the link."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from flows import _start
from tasks.tracking import Tracker, TrackingError
from tasks.tracking.view import view_url
from tasks.tracking.workspace import WorkspaceDatabase


def main() -> None:
    """`make ui`. Exits with code 2 where there is nothing to show, or the port that was asked for is taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=_start.PLACE)
    parser.add_argument("--port", type=int, help="default: 5000, or another one where that is taken")
    given = parser.parse_args()
    workspace = given.workspace.resolve()
    tracker = Tracker(workspace)
    if isinstance(tracker.place, WorkspaceDatabase) and not tracker.place.database.exists():
        _unusable(f"no runs in {workspace} yet; run `make demo` first")
    port = _start.free_port(given.port or 5000)
    if given.port not in (None, port):
        _unusable(f"port {given.port} is taken or none; `--port {port}` is free")
    try:
        link = view_url(tracker.experiment_id, tracker.place.pages or f"http://127.0.0.1:{port}")
    except TrackingError as error:
        _unusable(str(error))
    print(f"leaderboard: {link}", flush=True)
    if tracker.place.pages:
        return
    print("stop with Ctrl-C", flush=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracker.place.url  # not an argument: everyone can list those
    server = [sys.executable, "-m", "mlflow", "server"]
    server += ["--artifacts-destination", str(workspace / "mlartifacts"), "--host", "127.0.0.1"]
    # By default it takes any host that begins like a private network's address, as 10.evil.example does.
    server += ["--allowed-hosts", ",".join(f"{host}:{port}" for host in _start.HOSTS)]
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # pages to look at; nothing is to run for them
    os.execv(sys.executable, [*server, "--port", str(port), "--workers", "1"])


def _unusable(error: str) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
