"""An array of jobs for SLURM: one for each group of a plan that is not computed yet, then one that publishes.

The script is printed, or with --submit handed to sbatch. Its jobs meet in the workspace, which all nodes have to see,
or in a store (`--store`). Exit codes: 0 well, also where nothing is missing; 2 plan, workspace or sbatch cannot be
used; 3 some data could not be read, the rest is planned.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from adcore.api import in_place, is_in_place
from adcore.core import plan
from adcore.engine.bench import Bench
from adcore.engine.schedule import Work, group_title, grouped
from flows import command
from flows._start import ServerError


def script(name: str, run: Sequence[str], groups: Sequence[str], lines: Sequence[str]) -> str:
    """The text of the array. run: the command that computes, to which `--only GROUP` is added. lines: of #SBATCH."""
    header = [f"--job-name=adcore-{name}", f"--array=0-{len(groups) - 1}", *lines]
    directives = "\n".join(f"#SBATCH {line}" for line in header)
    listed = "\n".join(f"  {shlex.quote(group)}" for group in groups)
    return f"""#!/bin/bash
{directives}
groups=(
{listed}
)
exec {shlex.join(run)} --only "${{groups[$SLURM_ARRAY_TASK_ID]}}"
"""


def missing(bench: Bench) -> list[str]:
    """Titles of the groups that have something left, each as `--only` knows it."""
    left = Work.find(bench).missing
    groups = [group for group in grouped(bench.cells) if any(left[cell.title] for cell in group)]
    return list(dict.fromkeys(map(group_title, groups)))


def submit(text: str, publish: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The ids of the array and of the job that publishes behind it. Raises ServerError where sbatch refuses them."""
    array = _sbatch([], text)
    behind = [f"--dependency=afterany:{array}", "--job-name=adcore-publish", *lines]
    try:
        return [array, _sbatch(behind, f"#!/bin/bash\nexec {shlex.join(publish)}\n")]
    except ServerError as error:
        raise ServerError(f"the array {array} is submitted, but nothing that publishes behind it: {error}") from None


def _sbatch(arguments: Sequence[str], text: str) -> str:
    if shutil.which("sbatch") is None:
        raise ServerError("there is no sbatch here; without --submit the script is printed, to be taken where it is")
    done = subprocess.run(["sbatch", "--parsable", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"sbatch refuses the jobs: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    what = "a further #SBATCH line, such as --sbatch=--gres=gpu:1; may be repeated"
    parser.add_argument("--sbatch", metavar="LINE", action="append", default=[], help=what)
    parser.add_argument("--submit", action="store_true", help="hand the jobs to sbatch")
    return command.checked(command.settled(parser.parse_args()))


def main() -> None:
    """`adcore slurm`."""
    given = _arguments()
    with command.clear_errors(given.workspace):
        loaded, layout = command.opened(given.plan, given.workspace)
        bench, lost = in_place(loaded, layout)
        for failure in lost:
            sys.stderr.write(f"failed: {failure.text}\n")
        absent = [spec.name for spec in loaded.datasets if not is_in_place(spec, layout)]
        for name in absent:
            sys.stderr.write(f"missing: the files of {name}, and so all of its cells; run `adcore prepare` first\n")
        groups = missing(bench)
        path = plan.expanded(given.plan).resolve()
        own = ["--plan", str(path), "--workspace", str(layout.workspace)]
        own += ["--store", given.store] if given.store else []
        run, publish = ([sys.executable, "-m", f"flows.{name}", *own] for name in ("benchmark", "leaderboard"))
        text = script(path.stem, run, groups, given.sbatch)
        if not groups:
            sys.stderr.write("nothing else is missing\n" if absent or lost else "nothing is missing\n")
        elif given.submit:
            array, published = submit(text, publish, given.sbatch)
            print(f"array {array}: {len(groups)} groups; then {published} publishes")
        else:
            print(text, end="")
    sys.exit(command.PARTLY if lost or absent else command.WELL)


if __name__ == "__main__":
    main()
