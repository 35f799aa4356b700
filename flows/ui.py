"""Serve the MLflow pages of a workspace on this machine only, and print the link that opens as a leaderboard."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from flows._start import REPO
from tasks.tracking import Tracker, TrackingError, view_url


def main() -> None:
    """`make ui`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=REPO)
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args()
    workspace = given.workspace.resolve()
    if not (workspace / "mlflow.db").exists():
        sys.exit(f"error: no runs in {workspace} yet; run `make demo` first")
    tracker = Tracker(workspace)
    try:
        link = view_url(tracker.experiment_id, f"http://127.0.0.1:{given.port}")
    except TrackingError as error:
        sys.exit(f"error: {error}")
    print(f"leaderboard: {link}\nstop with Ctrl-C", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracker.url]
    server += ["--artifacts-destination", str(workspace / "mlartifacts"), "--host", "127.0.0.1"]
    os.execv(sys.executable, [*server, "--port", str(given.port), "--workers", "1"])


if __name__ == "__main__":
    main()
