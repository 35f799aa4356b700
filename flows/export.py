"""Bring the finished cells of a plan under WORKSPACE/artifacts, which DVC versions; clones pull them from there."""

from __future__ import annotations

import shutil

from adcore.bench import Bench, Layout
from flows import command, stages


def export(bench: Bench, layout: Layout) -> int:
    """Link or copy every artifact of the plan's finished cells, and remove what is no longer in the plan."""
    wanted = {(kind, key) for cell in bench.cells for kind, key in cell.artifacts if bench.store.has(kind, key)}
    for kind, key in sorted(wanted):
        bench.store.export(kind, key, layout.artifacts)
    for folder in sorted(layout.artifacts.glob("*/*")):
        if (folder.parent.name, folder.name) not in wanted:
            shutil.rmtree(folder)
    return len(wanted)


if __name__ == "__main__":
    given = command.arguments(__doc__)
    command.check(given.plan, given.workspace)
    plan, layout = command.opened(given.plan, given.workspace)
    bench, _ = stages.in_place(plan, layout)
    print(f"artifacts: {export(bench, layout)} in {layout.artifacts.relative_to(layout.workspace)}")
