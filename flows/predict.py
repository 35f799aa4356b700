"""Apply a finished cell to images: a table with score, p-value, verdict and boxes, raw maps, and pictures.

    adcore predict --best elpv/mono new/*.png --out found
    adcore predict --run 1f3a9c20 line/ --out found --alarms 0.005

A cell is named by the beginning of its key or of its MLflow run (results/leaderboard.csv has both), or as the best of a
category. Exit codes: 0 well; 2 nothing could be done; 3 some images could not be read, the rest is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.api import in_place
from adcore.core.conformal import ALARMS
from adcore.core.names import printable
from adcore.core.plan import PlanError, expanded
from adcore.engine.bench import Bench
from adcore.line import prediction
from flows import command
from flows._heartbeat import untagged
from flows.stages import Row
from tasks import line


@flow(name="predict")
@untagged
def predict(
    plan: str = "params.yaml",
    workspace: str = "",
    run: str = "",
    best: str = "",
    images: Sequence[str] = (),
    out: str = "predictions",
    alarms: float | None = None,
) -> State[Any]:
    """Images through a finished cell, by paths on the machine that computes.

    alarms: the wanted share of false alarms; None: the plan's, else 0.01."""
    _require(images, out)
    out = str(expanded(out).absolute())
    bench = opened(plan, workspace, alarms)
    cell = line.chosen(run, best, *bench.text)
    summary = _summary(cell, out, line.predict(cell, list(images), out, *bench.text))
    return (Failed if summary["failed"] else Completed)(message=summary["last_line"], data=summary)


def alone(given: argparse.Namespace) -> Row:
    """The same without Prefect."""
    _require(given.images, given.out)
    bench = opened(given.plan, given.workspace, given.alarms)
    cell = line.chosen(given.run, given.best, *bench.text)
    return _summary(cell, given.out, line.predict.fn(cell, given.images, given.out, *bench.text))


def opened(plan: str, workspace: str, alarms: float | None, **changes: str) -> Bench:
    """The plan with a wanted share of alarms and other changes, over the data that are there. Raises PlanError."""
    loaded, layout = command.opened(plan, workspace)
    wanted = alarms if alarms is not None else loaded.alarms or ALARMS
    if not 0 < wanted < 1:
        raise PlanError(f"alarms: {wanted} is no share of false alarms; give one between 0 and 1, such as 0.01")
    bench, lost = in_place(loaded.model_copy(update={"alarms": wanted, **changes}), layout)
    for failure in lost:
        sys.stderr.write(f"warning: {failure.text}\n")
    return bench


def name_cell(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which cell, and how many false alarms are wanted."""
    parser.add_argument("--run", default="", help="the cell: beginning of its key, or MLflow run (RUN/CATEGORY)")
    parser.add_argument("--best", metavar="DATASET/CATEGORY", default="", help="the cell that leads there")
    alarms = "wanted share of false alarms (default: the plan's, else 0.01)"
    parser.add_argument("--alarms", type=float, default=None, help=alarms)


def _require(images: Sequence[str], out: str) -> None:
    """Raise PlanError for images that are not there, and for an `out` that is taken, before anything is read."""
    prediction.images(images)
    prediction.require_free(expanded(out))


def _summary(cell: str, out: str, verdicts: dict[str, int]) -> Row:
    failed = verdicts.get(prediction.FAILED, 0)
    told = {name or "scored, without a threshold": count for name, count in verdicts.items()}
    counts = ", ".join(f"{count} {name}" for name, count in told.items())
    return {"failed": failed, "untracked": "", "last_line": f"{cell}: {counts}; {printable(out)}/{prediction.ROWS}"}


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, or patterns in quotes")
    name_cell(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the table, maps and overlays go")
    given = command.settled(parser.parse_args())
    with command.clear_errors(given.workspace):
        given.images = [str(expanded(text).absolute()) for text in given.images]
        given.out = str(expanded(given.out).absolute())
    return command.checked(given)


if __name__ == "__main__":
    given = _arguments()
    command.run(predict, given, "run", "best", "images", "out", "alarms", alone=lambda: alone(given))
