"""What is done with a finished cell, as Prefect tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from adcore.core.disk import room
from adcore.engine.bench import reopened
from adcore.line import bundle as bundles
from adcore.line import choice, prediction
from adcore.line.scorer import Scorer


@task(name="predict", task_run_name="predict {cell}", cache_policy=NO_CACHE)
def predict(cell: str, images: Sequence[str], out: str, plan: str, workspace: str, manifests: str) -> dict[str, int]:
    """Images through the cell of a title; how many are normal, defective, failed, and '' without a threshold."""
    opened = reopened(plan, workspace, manifests)
    files = prediction.images(images)
    with room(Path(out)):
        rows = prediction.predict(Scorer(opened, opened.by_title[cell]), files, Path(out), _progress(len(files)))
    verdicts = [row.verdict for row in rows]
    return {name: verdicts.count(name) for name in dict.fromkeys(verdicts)}


@task(name="export", task_run_name="export {cell}", cache_policy=NO_CACHE)
def bundle(cell: str, to: str, plan: str, workspace: str, manifests: str) -> dict[str, Any]:
    """The cell of a title as a bundle; how many test images were compared, by how much scores differ, and why it is not
    the cell."""
    opened = reopened(plan, workspace, manifests)
    scorer = Scorer(opened, opened.by_title[cell])
    with room(Path(to)):
        parity = bundles.write(opened, scorer, Path(to), _progress(len(scorer.cell.test)))
    return {"images": len(parity.images), "score": parity.score, "failures": parity.failures}


def _progress(count: int) -> Callable[[int], None]:
    """Writes a line each tenth of so many images."""
    told = 0

    def progress(done: int) -> None:
        nonlocal told
        if (tenth := 10 * done // count) > told:
            told = tenth
            sys.stderr.write(f"[{10 * tenth:3d}%] {done:,} of {count:,} images\n")

    return progress


def chosen(run: str, best: str, plan: str, workspace: str, manifests: str) -> str:
    """The title of the cell that is meant. Raises PlanError."""
    return choice.cell(reopened(plan, workspace, manifests), run, best).title
