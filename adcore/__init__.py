"""adcore: a benchmark pipeline for industrial visual anomaly detection.

Others may build on the names in `__all__`, which docs/api.md shows. Each is imported when it is first asked for, so
that `import adcore` takes no time."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adcore.api import read_results, run
    from adcore.columns.base import CellColumn
    from adcore.core.contracts import Enhancer, Method
    from adcore.core.errors import RemoteError
    from adcore.core.plan import Plan, PlanError
    from adcore.core.plan import load as load_plan
    from adcore.core.plan import parse as parse_plan
    from adcore.datasets.base import DataError, Dataset
    from adcore.engine.bench import WorkspaceError
    from adcore.engine.registry import dataset, enhancer, method, plugins, protocol
    from adcore.features.backbones import WeightsError
    from adcore.metrics import image_metrics, pixel_metrics, spro
    from adcore.metrics.base import Metric
    from adcore.protocols.base import Protocol

    __version__: str

__all__ = [
    "CellColumn",
    "DataError",
    "Dataset",
    "Enhancer",
    "Method",
    "Metric",
    "Plan",
    "PlanError",
    "Protocol",
    "RemoteError",
    "WeightsError",
    "WorkspaceError",
    "__version__",
    "dataset",
    "enhancer",
    "image_metrics",
    "load_plan",
    "method",
    "parse_plan",
    "pixel_metrics",
    "plugins",
    "protocol",
    "read_results",
    "run",
    "spro",
]

_HOMES = {
    "CellColumn": "adcore.columns.base:CellColumn",
    "DataError": "adcore.datasets.base:DataError",
    "Dataset": "adcore.datasets.base:Dataset",
    "Enhancer": "adcore.core.contracts:Enhancer",
    "Method": "adcore.core.contracts:Method",
    "Metric": "adcore.metrics.base:Metric",
    "Plan": "adcore.core.plan:Plan",
    "PlanError": "adcore.core.plan:PlanError",
    "Protocol": "adcore.protocols.base:Protocol",
    "RemoteError": "adcore.core.errors:RemoteError",
    "WeightsError": "adcore.features.backbones:WeightsError",
    "WorkspaceError": "adcore.engine.bench:WorkspaceError",
    "dataset": "adcore.engine.registry:dataset",
    "enhancer": "adcore.engine.registry:enhancer",
    "image_metrics": "adcore.metrics:image_metrics",
    "load_plan": "adcore.core.plan:load",
    "method": "adcore.engine.registry:method",
    "parse_plan": "adcore.core.plan:parse",
    "pixel_metrics": "adcore.metrics:pixel_metrics",
    "plugins": "adcore.engine.registry:plugins",
    "protocol": "adcore.engine.registry:protocol",
    "read_results": "adcore.api:read_results",
    "run": "adcore.api:run",
    "spro": "adcore.metrics:spro",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adcore")
    if name in _HOMES:
        return pkgutil.resolve_name(_HOMES[name])
    raise AttributeError(f"module 'adcore' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
