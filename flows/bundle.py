"""Write a finished cell as a folder that tells images without adcore: ONNX, thresholds, model card, proof of parity.

    adcore export --best elpv/mono --to bundle
    adcore export --run 1f3a9c20 --to bundle --alarms 0.005
    python bundle/infer.py line/*.png

A cell is named as for `adcore predict`. Its test images go through adcore and through the bundle; where both do not
tell the same, only the report of that is left, in FOLDER.failed. It computes on the CPU. Exit codes: 0 well; 2 nothing
could be done; 3 the bundle is not the cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.core.plan import expanded
from adcore.engine.bench import Bench
from flows import command
from flows._heartbeat import untagged
from flows.predict import name_cell, opened
from flows.stages import Row
from tasks import line


@flow(name="export")
@untagged
def export(
    plan: str = "params.yaml",
    workspace: str = "",
    run: str = "",
    best: str = "",
    to: str = "bundle",
    alarms: float | None = None,
) -> State[Any]:
    """A finished cell as a bundle, by a path on the machine that computes.

    alarms: the wanted share of false alarms; None: the plan's, else 0.01."""
    to = str(expanded(to).absolute())
    bench = _opened(plan, workspace, to, alarms)
    cell = line.chosen(run, best, *bench.text)
    summary = _summary(cell, to, line.bundle(cell, to, *bench.text))
    return (Failed if summary["failed"] else Completed)(message=summary["last_line"], data=summary)


def alone(given: argparse.Namespace) -> Row:
    """The same without Prefect."""
    bench = _opened(given.plan, given.workspace, given.to, given.alarms)
    cell = line.chosen(given.run, given.best, *bench.text)
    return _summary(cell, given.to, line.bundle.fn(cell, given.to, *bench.text))


def _opened(plan: str, workspace: str, to: str, alarms: float | None) -> Bench:
    """The plan on the CPU, with a wanted share of alarms. Raises PlanError, before anything is read, where a package is
    missing or `to` is taken."""
    from adcore.line import _graph, bundle

    _graph.require_packages()
    bundle.require_free(Path(to))
    return opened(plan, workspace, alarms, device="cpu")


def _summary(cell: str, to: str, found: dict[str, Any]) -> Row:
    if found["failures"]:
        last = f"{cell}: not exported, since the bundle is not the cell: {'; '.join(found['failures'])}; {to}.failed"
    else:
        last = f"{cell}: {found['images']} test images told alike, scores within {found['score']:.2g}; {to}"
    return {"failed": len(found["failures"]), "untracked": "", "last_line": last}


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    name_cell(parser)
    parser.add_argument("--to", required=True, metavar="FOLDER", help="the bundle; not there yet")
    given = command.settled(parser.parse_args())
    with command.clear_errors(given.workspace):
        given.to = str(expanded(given.to).absolute())
    return command.checked(given)


if __name__ == "__main__":
    given = _arguments()
    command.run(export, given, "run", "best", "to", "alarms", alone=lambda: alone(given))
