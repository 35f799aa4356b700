"""Parameters, multiply-accumulates and throughput of a plan's methods on its backbone, without data or training.

Writes WORKSPACE/results/efficiency.csv and efficiency.md.
"""

from __future__ import annotations

import sys

from adcore.cells import Arm, arms
from adcore.report import efficiency as tables
from flows import command


def once(found: list[Arm]) -> list[Arm]:
    """An arm a method: enhancers of the backbone, protocols and seeds change no size."""
    return list({arm.names["method_label"]: arm for arm in found}.values())


if __name__ == "__main__":
    given = command.arguments(__doc__)
    plan, layout = command.opened(given.plan, given.workspace)
    from adcore.efficiency import measure

    rows = [measure(plan, arm) for arm in once(arms(plan))]
    tables.write(layout.results, rows)
    print(f"methods: {len(rows)} in {(layout.results / 'efficiency.md').relative_to(layout.workspace)}")
    sys.exit(command.WELL)
