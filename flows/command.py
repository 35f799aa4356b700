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
from flows import stages
from flows._server import server
from flows._start import REPO

WELL, UNUSABLE, PARTLY = 0, 2, 3
UNUSABLE_BECAUSE = (plan.PlanError, WeightsError, WorkspaceError)


def arguments(description: str | None) -> argparse.Namespace:
    """`--plan`, `--workspace`, `--dry-run`, checked. Exits with code 2 for a plan or workspace that cannot be used, and
    after listing what is missing in a dry run."""
    return checked(parser(description).parse_args())


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every flow takes."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    found.add_argument("--plan", default=str(REPO / "params.yaml"), help="YAML file (default: params.yaml)")
    found.add_argument("--workspace", default=str(REPO), help="all is written under this folder (default: the repo)")
    found.add_argument("--dry-run", action="store_true", help="list what is missing and compute nothing")
    return found


def checked(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, where plan and workspace can be used; else, and after a dry run, this exits."""
    try:
        loaded, layout = opened(given.plan, given.workspace)
    except UNUSABLE_BECAUSE as error:
        unusable(error)
    if given.dry_run:
        sys.exit(WELL if stages.list_missing(loaded, layout) else PARTLY)
    return given


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


def run(flow: Callable[..., Any], given: argparse.Namespace) -> NoReturn:
    """Run the flow, print its last line to stdout, and exit with its code."""
    path, workspace = given.plan, given.workspace
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
