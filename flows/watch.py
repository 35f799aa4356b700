"""Watch a folder: each image that appears in it goes through a finished cell, and has exactly one result.

    adcore watch --best elpv/mono --in /data/line --out /data/found

OUT/index.html shows the latest images, OUT/predictions.csv all of them. Ctrl-C ends it; the next start goes on where it
ended. Exit codes: 0 with --once, when all that is there has a result; 2 nothing could be done; 3 the disk is full; 130
and 143 you stopped it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time

from adcore.core.disk import DiskFull
from adcore.core.plan import PlanError, expanded
from adcore.line import choice
from adcore.line.scorer import Scorer
from adcore.line.watch import SETTLED, Watch
from flows import _stopping, command, predict


def watch(given: argparse.Namespace) -> None:
    """Until it is stopped; with `once` until nothing is left to be done. Raises PlanError, DiskFull."""
    bench = predict.opened(given.plan, given.workspace, given.alarms)
    watching = Watch(Scorer(bench, choice.cell(bench, given.run, given.best)), given.source, given.out)
    with watching.alone():
        _stopping.tell(watching.summary)
        watching.write()
        with _stopping.ending(lambda: _last(watching)):
            while (done := watching.step()) or watching.waiting or not given.once:
                if done:
                    sys.stderr.write(f"{watching.summary()}\n")
                time.sleep(given.every if not given.once else SETTLED)
        watching.write()
    print(watching.summary(), flush=True)


def _last(watching: Watch) -> None:
    """The table and the page of a command that is stopped; what cannot be written now is at the next start."""
    with contextlib.suppress(OSError, DiskFull):
        watching.write()


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    predict.name_cell(parser)
    parser.add_argument("--in", dest="source", required=True, metavar="FOLDER", help="where images appear")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where results go; not in the other")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")
    parser.add_argument("--once", action="store_true", help="end when all that is there has a result")
    given = command.checked(command.settled(parser.parse_args()))
    with command.clear_errors(given.workspace):
        given.source, given.out = expanded(given.source).absolute(), expanded(given.out).absolute()
        if not 0 < given.every < math.inf:
            raise PlanError(f"--every {given.every:g} is no number of seconds; give one above 0, such as 1")
    return given


if __name__ == "__main__":
    given = _arguments()
    with command.clear_errors(given.workspace):
        watch(given)
