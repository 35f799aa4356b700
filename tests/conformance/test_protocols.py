"""Every registered method under every protocol, from a plan to finite numbers. New ones are tested without a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adcore.core.plan import Plan
from adcore.engine import bench, registry
from adcore.engine.bench import Bench
from adcore.results import finished

METHODS = sorted(registry.modules("methods"))
# options without a default
NEEDED: dict[str, dict[str, float]] = {"few-shot": {"k": 1, "draws": 1}, "contaminated": {"share": 0.3}}


def silent(done: float) -> None: ...


def short(name: str) -> dict[str, object]:
    """A method as in its trial, after one epoch where it is trained: numbers are wanted here, not good ones."""
    method = registry.method(name)
    trial = method.Options(**method.trial)
    quick = method.quick(trial)
    changed = {key: getattr(quick, key) for key in quick.model_fields_set if getattr(quick, key) != getattr(trial, key)}
    return {"name": name, **method.trial, **changed}


@pytest.mark.parametrize("protocol", sorted(registry.modules("protocols")))
def test_every_method_has_finite_numbers(protocol: str, plan: Callable[..., Plan], tmp_path: Path) -> None:
    made = plan(methods=[short(name) for name in METHODS], protocols=[{"name": protocol, **NEEDED.get(protocol, {})}])
    opened = Bench(made, tmp_path, {"parts": bench.prepare(made.datasets[0], bench.Layout(tmp_path))})
    cells = [cell for cell in opened.cells if cell.category.name == "bolt"]
    for cell in cells:
        opened.computer.fit(cell, silent)
        opened.computer.score(cell, silent)
        opened.computer.evaluate(cell)
    rows = [result.row for result in finished.read(opened, opened.store, ("i_auroc", "p_auroc"))]
    assert [row["method"] for row in rows] == METHODS and {row["protocol"] for row in rows} == {protocol}
    assert all(np.isfinite([row["i_auroc"], row["p_auroc"]]).all() for row in rows)
