"""Parameters, multiply-accumulates and throughput of a plan's methods on its backbone, without data or training.

Writes WORKSPACE/results/efficiency.csv and efficiency.md.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from adcore.api import require_device
from adcore.core import keys
from adcore.core.plan import Plan
from adcore.engine import identity
from adcore.engine.bench import Layout
from adcore.engine.cells import Contender, contenders
from adcore.report import efficiency as tables
from flows import command

ROW = "row.json"


def rows(plan: Plan, layout: Layout) -> list[dict[str, Any]]:
    """A row a method, backbone and image size; enhancers, protocols and seeds are not looked at. What is in the store
    is not measured again."""
    found = {(each.names["method_label"], each.network): each for each in contenders(plan)}
    return [_row(plan, contender, layout) for contender in found.values()]


def _row(plan: Plan, contender: Contender, layout: Layout) -> dict[str, Any]:
    store, key = layout.store(), _key(plan, contender)
    with store.lock(key):
        if not store.has("efficiency", key):
            from adcore.engine.efficiency import measure

            with store.write("efficiency", key, {"names": contender.names}) as folder:
                (folder / ROW).write_text(json.dumps(measure(plan, contender)), encoding="utf-8")
    row: dict[str, Any] = json.loads((store.path("efficiency", key) / ROW).read_text(encoding="utf-8"))
    return row


def _key(plan: Plan, contender: Contender) -> str:
    return keys.digest(
        {
            "step": "efficiency",
            "method": contender.names["method_label"],
            "options": contender.method.identity(contender.options, contender.backbone),
            "backbone": [contender.backbone.name, contender.backbone.layers],  # whatever its weights
            "image": contender.image.model_dump(),
            "device": plan.device,
            "code": identity.efficiency(contender.method),
            "libraries": keys.libraries(),
        }
    )


if __name__ == "__main__":
    given = command.arguments(__doc__)
    with command.clear_errors(given.workspace):
        opened, place = command.opened(given.plan, given.workspace)
        require_device(opened.device)
        measured = rows(opened, place)
        tables.write(place.results, measured)
    print(f"methods: {len(measured)} in {(place.results / 'efficiency.md').relative_to(place.workspace)}")
    sys.exit(command.WELL)
