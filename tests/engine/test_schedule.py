"""Which steps a plan needs: nothing is computed that no method reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adcore.core.plan import Plan
from adcore.engine import bench
from adcore.engine.bench import Bench
from adcore.engine.schedule import Step, Work

AGPNET = {"name": "agpnet", "preset": "small", "epochs": 1}


@pytest.fixture
def steps(plan: Callable[..., Plan], tmp_path: Path) -> Callable[..., tuple[Bench, list[Step]]]:
    """steps(methods): the bench of a plan over the tiny set, and all its steps."""

    def make(*methods: object) -> tuple[Bench, list[Step]]:
        made = plan(methods=list(methods))
        opened = Bench(made, tmp_path, {"parts": bench.prepare(made.datasets[0], bench.Layout(tmp_path))})
        return opened, [step for step, _, _ in Work.find(opened).planned()]

    return make


def test_a_method_that_is_given_images_needs_no_features(steps: Callable[..., tuple[Bench, list[Step]]]) -> None:
    _, found = steps(AGPNET)
    assert {step.name for step in found} == {"fit", "score", "evaluate", "latency"}


def test_features_are_those_that_the_others_read(steps: Callable[..., tuple[Bench, list[Step]]]) -> None:
    opened, found = steps(AGPNET, {"name": "patchcore", "coreset": 0.5})
    keys = {cell.fit_key for cell in opened.cells if cell.contender.names["method"] == "patchcore"}
    assert {step.key for step in found if step.name == "extract"} == keys
    assert opened.levels(opened.cells[0]) == (2, 3)
