"""The command line that all flows share: arguments, clear errors, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from prefect.logging.handlers import APILogHandler

from adcore import cells, plan, registry
from adcore.backbones import WeightsError, identity
from adcore.bench import Layout, WorkspaceError
from flows._start import REPO, server

WELL, UNUSABLE, PARTLY = 0, 2, 3
UNUSABLE_BECAUSE = (plan.PlanError, WeightsError, WorkspaceError)


def arguments(description: str | None, dry_run: bool = False) -> argparse.Namespace:
    """`--plan`, `--workspace` and, where asked for, `--dry-run`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--plan", default=str(REPO / "params.yaml"), help="YAML file (default: params.yaml)")
    parser.add_argument("--workspace", default=str(REPO), help="all is written under this folder (default: the repo)")
    if dry_run:
        parser.add_argument("--dry-run", action="store_true", help="list what is missing and compute nothing")
    return parser.parse_args()


def opened(path: str, workspace: str) -> tuple[plan.Plan, Layout]:
    """The checked plan and the workspace. Raises PlanError, WeightsError, WorkspaceError."""
    loaded = plan.load(Path(path))
    for dataset in loaded.datasets:
        registry.dataset(dataset.of_kind)
    cells.arms(loaded)
    identity(loaded.backbone)
    layout = Layout(Path(workspace).resolve() if workspace else REPO)
    layout.check()
    return loaded, layout


def unusable(error: Exception) -> NoReturn:
    """End with code 2 and the error in one line."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(UNUSABLE)


def check(path: str, workspace: str) -> None:
    """Exit with code 2 unless the plan and the workspace can be used."""
    try:
        opened(path, workspace)
    except UNUSABLE_BECAUSE as error:
        unusable(error)


def run(flow: Callable[..., Any], path: str, workspace: str) -> NoReturn:
    """Check, run the flow, print its last line to stdout, and exit with its code."""
    check(path, workspace)
    with server():
        state = flow(plan=str(Path(path).resolve()), workspace=str(Path(workspace).resolve()), return_state=True)
        outcome = state.result(raise_on_failure=False)
        APILogHandler().flush()
    if isinstance(outcome, UNUSABLE_BECAUSE):
        unusable(outcome)
    if isinstance(outcome, BaseException):
        sys.stderr.write(f"error: {outcome}\n")
        sys.exit(1)
    print(outcome["last_line"], flush=True)
    sys.exit(PARTLY if outcome["failed"] else WELL)
