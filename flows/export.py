"""Bring the finished cells of a plan under WORKSPACE/artifacts, which DVC versions; clones pull them from there."""

from __future__ import annotations

import shutil
import sys

from adcore.api import in_place, is_in_place
from adcore.core.store import Remembering
from adcore.engine.bench import Bench, Layout
from flows import command


def export(bench: Bench, layout: Layout) -> int:
    """Link or copy every artifact of the plan's finished cells; how many there are."""
    store = Remembering(bench.store)
    wanted = {(kind, key) for cell in bench.cells for kind, key in cell.artifacts if store.has(kind, key)}
    for kind, key in sorted(wanted):
        store.export(kind, key, layout.artifacts)
    return len(wanted)


def prune(bench: Bench, layout: Layout) -> None:
    """Remove exported artifacts that are no longer in the plan."""
    wanted = {artifact for cell in bench.cells for artifact in cell.artifacts}
    for folder in sorted(layout.artifacts.glob("*/*")):
        if (folder.parent.name, folder.name) not in wanted:
            shutil.rmtree(folder)


if __name__ == "__main__":
    given = command.arguments(__doc__)
    with command.clear_errors(given.workspace):
        plan, layout = command.opened(given.plan, given.workspace)
        bench, lost = in_place(plan, layout)
        absent = [spec.name for spec in plan.datasets if not is_in_place(spec, layout)]
        count = export(bench, layout)
    if not lost and not absent:  # otherwise cells of the plan are not known, and theirs stay
        prune(bench, layout)
    for problem in (*(f"{f.dataset}/{f.category}: {f.error}" for f in lost), *absent):
        print(f"not exported: {problem}")
    print(f"artifacts: {count} in {layout.artifacts.relative_to(layout.workspace)}")
    sys.exit(command.PARTLY if lost or absent else command.WELL)
