"""The command line that all flows share: arguments, clear errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from prefect.logging.handlers import APILogHandler

from adcore.api import check
from adcore.core import plan
from adcore.core.disk import DiskFull, is_full, room
from adcore.core.errors import RemoteError, RemoteGone
from adcore.core.remote import FORMS, VARIABLE
from adcore.engine.bench import Layout, WorkspaceError
from adcore.features.backbones import WeightsError
from flows import _heartbeat, _stopping, stages
from flows._cluster import Cluster
from flows._server import running
from flows._start import PLACE, ServerError, connect, settle

WELL, UNUSABLE, PARTLY = 0, 2, 3
WORKSPACE = "all is written under this folder (default: the checkout, or this folder where adcore is installed)"
STORE = f"where machines share artifacts: {FORMS} (default: {VARIABLE} of the environment, else no sharing)"
Outcome = dict[str, Any]  # failed: how many; untracked: why runs were not logged, or ""; last_line
UNUSABLE_BECAUSE = (plan.PlanError, WeightsError, WorkspaceError, RemoteError)


def arguments(description: str | None) -> argparse.Namespace:
    """`--plan`, `--workspace`, `--store`, `--dry-run`, checked. Exits with code 2 for a plan, workspace or store that
    cannot be used, and after listing what is missing in a dry run."""
    return checked(settled(parser(description).parse_args()))


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every flow takes."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    found.add_argument("--plan", default=str(PLACE / "params.yaml"), help="YAML file (default: params.yaml)")
    found.add_argument(
        "--workspace",
        default=str(PLACE),
        help=WORKSPACE,
    )
    found.add_argument("--store", metavar="URL", default="", help=STORE)
    found.add_argument("--dry-run", action="store_true", help="list what is missing and compute nothing")
    return found


def settled(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, with the libraries settled for their workspace. Exits with code 2 for one that cannot be used, and
    with 3 where its disk is full."""
    _stopping.listen()
    if given.store:
        os.environ[VARIABLE] = given.store  # for all that this process starts, too
    with clear_errors(given.workspace):
        layout = Layout.of(given.workspace)
        layout.check()
    settle(layout.workspace)
    return given


def checked(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, where plan and workspace can be used; else, and after a dry run, this exits."""
    with clear_errors(given.workspace):
        loaded, layout = opened(given.plan, given.workspace)
    if given.dry_run:
        sys.exit(WELL if stages.list_missing(loaded, layout) else PARTLY)
    return given


def opened(path: str, workspace: str) -> tuple[plan.Plan, Layout]:
    """The checked plan and the workspace. Raises PlanError, WeightsError, WorkspaceError."""
    loaded = plan.load(path)
    check(loaded)
    layout = Layout.of(workspace or PLACE)
    layout.check()
    return loaded, layout


def machines(cluster: str = "", ray: str = "", store: str = "") -> Cluster:
    """Where the work is done and kept. Raises PlanError and ServerError."""
    found = Cluster.load(cluster, ray, store)
    found.settle()
    found.check()
    return found


def unusable(error: Exception) -> NoReturn:
    """End with code 2 and the error in one line."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(UNUSABLE)


def full(error: DiskFull) -> NoReturn:
    """End with code 3, the error in one line, and what there is."""
    _stopping.leave(PARTLY, f"error: {error}")
    sys.exit(PARTLY)


@contextlib.contextmanager
def clear_errors(workspace: str) -> Iterator[None]:
    """Within the block a full disk, a shared store that is gone, and what cannot be used, ends the command in one line,
    with its exit code."""
    try:
        with room(plan.expanded(workspace).resolve()):
            yield
    except DiskFull as error:
        full(error)
    except RemoteGone as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(PARTLY)
    except (*UNUSABLE_BECAUSE, ServerError) as error:
        unusable(error)


def run(
    flow: Callable[..., Any],
    given: argparse.Namespace,
    *others: str,
    alone: Callable[[], Outcome | None] = lambda: None,
    meanwhile: Callable[[], object] = lambda: None,
) -> NoReturn:
    """Run the flow, print its last line to stdout, and exit with its code. others: arguments that it takes beside plan
    and workspace.

    Where nobody's Prefect server is there to keep a record of the run: alone does without Prefect what needs none, and
    gives what the flow would, or None; meanwhile is called while a server for the flow starts."""
    further = {name: vars(given)[name] for name in others}
    with clear_errors(given.workspace):
        url = connect()
        outcome: Any = alone() if url else None
        if outcome is None:
            with running(url, meanwhile), _heartbeat.sent():
                places = [str(plan.expanded(name).resolve()) for name in (given.plan, given.workspace)]
                state = flow(plan=places[0], workspace=places[1], **further, return_state=True)
                outcome = state.result(raise_on_failure=False)
                APILogHandler().flush()
        if isinstance(outcome, (DiskFull, RemoteGone, ServerError, *UNUSABLE_BECAUSE)) or is_full(outcome):
            raise outcome
    if isinstance(outcome, BaseException):
        sys.stderr.write(f"error: {outcome}\n")
        sys.exit(1)
    untracked = outcome.get("untracked", "")
    if untracked:
        sys.stderr.write(f"error: {untracked}\n")
    print(outcome["last_line"], flush=True)
    sys.exit(PARTLY if outcome["failed"] or untracked else WELL)
