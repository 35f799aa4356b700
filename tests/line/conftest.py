"""The tiny plan with thresholds, computed once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adcore import api
from adcore.core.plan import Plan
from adcore.engine.bench import Bench, Layout
from adcore.engine.cells import Cell


@pytest.fixture(scope="session")
def done(plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two categories, two methods, two seeds of them."""
    made = plan(alarms=0.2, seeds=[0, 1])
    folder = tmp_path_factory.mktemp("line")
    api.run(made, folder)
    return api.in_place(made, Layout.of(folder))[0]


@pytest.fixture(scope="session")
def cells(done: Bench) -> dict[str, Cell]:
    """Method -> its cell of the category bolt and seed 0."""
    own = [cell for cell in done.cells if cell.category.name == "bolt" and cell.seed == 0]
    return {cell.names["method"]: cell for cell in own}
