"""A plan in this process, without Prefect and MLflow: for a notebook, a script, or code of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from adcore.core.disk import room
from adcore.core.plan import DatasetSpec, Plan, PlanError
from adcore.core.store import Remembering
from adcore.datasets.base import DataError
from adcore.engine import cells, registry, schedule
from adcore.engine.bench import Bench, Failure, Layout, kind_of, make_dataset, prepare, read
from adcore.features.backbones import identity, require_known
from adcore.results import finished
from adcore.results.frame import frame


def run(plan: Plan, workspace: str | Path = ".") -> pd.DataFrame:
    """Compute what is missing of a plan, step by step, and give its rows as `read_results` does.

    What a run of the command has computed in this workspace is not computed again, and the other way round.

    Raises PlanError, WeightsError, WorkspaceError or RemoteError where nothing can be computed. A step that fails
    raises its own error: what was finished before it stays, and the next run goes on from there. (The command goes on
    with the other cells instead, and writes the report, which this function does not.)"""
    layout = _layout(plan, workspace)
    bench, failures = put_in_place(plan, layout)
    steps = list(schedule.Work.find(bench).planned())
    if steps:
        for backbone in plan.every_backbone:
            require_known(backbone.name)
        require_device(plan.device)
    with room(layout.workspace):
        for step, cell, _ in steps:
            if not step.present:
                schedule.STEPS[step.name](bench, cell, step.key, lambda fraction: None)
    return _rows(bench, failures)


def read_results(plan: Plan, workspace: str | Path = ".") -> pd.DataFrame:
    """The finished cells of a plan in a workspace, computing none: a row a cell, in the columns of `leaderboard.csv`.

    Metrics are fractions, NaN where one does not apply. Cells of a category that cannot be used are rows with the
    `status` failed. Raises PlanError, WeightsError, WorkspaceError or RemoteError."""
    return _rows(*in_place(plan, _layout(plan, workspace)))


def check(plan: Plan) -> None:
    """Raise PlanError for a dataset, method, enhancer, protocol or option that does not exist, or a metric or column
    that cannot be read, and WeightsError for weights that are not there."""
    registry.columns()
    for dataset in plan.datasets:
        kind_of(dataset)
    cells.contenders(plan)
    for backbone in plan.every_backbone:
        identity(backbone)


def require_device(name: str) -> None:
    """Raise PlanError where a plan computes on a CUDA device that torch does not see."""
    if not name.startswith("cuda"):  # asked first, because torch takes seconds to import
        return
    import torch

    count = torch.cuda.device_count()
    if int(name.partition(":")[2] or 0) >= count:
        seen = ", ".join(f"cuda:{index}" for index in range(count)) or "no CUDA device"
        raise PlanError(f"device: {name}: torch sees {seen} here; write auto, or cpu")


def is_in_place(spec: DatasetSpec, layout: Layout) -> bool:
    """Whether there is something to read; a root that the plan names is not ours to make."""
    return spec.root is not None or make_dataset(spec, layout).root.is_dir()


def in_place(plan: Plan, layout: Layout) -> tuple[Bench, list[Failure]]:
    """The datasets of a plan that are there already, read; those that cannot be are failures, and the others go on."""
    return _gathered(plan, layout, [spec for spec in plan.datasets if is_in_place(spec, layout)], read)


def put_in_place(plan: Plan, layout: Layout) -> tuple[Bench, list[Failure]]:
    """The datasets of a plan, put in place where they are not; those that cannot be are failures, and others go on."""
    return _gathered(plan, layout, plan.datasets, prepare)


def _gathered(
    plan: Plan, layout: Layout, specs: Iterable[DatasetSpec], get: Callable[[DatasetSpec, Layout], str]
) -> tuple[Bench, list[Failure]]:
    manifests: dict[str, str] = {}
    failures: list[Failure] = []
    for spec in specs:
        try:
            manifests[spec.name] = get(spec, layout)
        except DataError as error:
            failures += Failure.of(spec, str(error))
    bench = Bench(plan, layout.workspace, manifests)
    return bench, failures + bench.failures


def _layout(plan: Plan, workspace: str | Path) -> Layout:
    check(plan)
    layout = Layout.of(workspace)
    layout.check()
    return layout


def _rows(bench: Bench, failures: list[Failure]) -> pd.DataFrame:
    rows = [cell.row for cell in finished.read(bench, Remembering(bench.store), bench.plan.metrics)]
    return frame([*rows, *finished.failed_rows(bench, failures)])
