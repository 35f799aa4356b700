"""adcore: a benchmark pipeline for industrial visual anomaly detection.

Others may build on the names in `__all__`, which docs/api.md shows. Each is imported when it is first asked for, so
that `import adcore` takes no time."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adcore.backbones import WeightsError
    from adcore.bench import WorkspaceError
    from adcore.columns.base import CellColumn
    from adcore.core.contracts import Enhancer, Method
    from adcore.datasets.base import DataError, Dataset
    from adcore.metrics import image_metrics, pixel_metrics, spro
    from adcore.metrics.base import Metric
    from adcore.plan import Plan, PlanError
    from adcore.plan import load as load_plan
    from adcore.plan import parse as parse_plan
    from adcore.protocols.base import Protocol
    from adcore.registry import dataset, enhancer, method, plugins, protocol
    from adcore.running import read_results, run

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
    "Plan": "adcore.plan:Plan",
    "PlanError": "adcore.plan:PlanError",
    "Protocol": "adcore.protocols.base:Protocol",
    "WeightsError": "adcore.backbones:WeightsError",
    "WorkspaceError": "adcore.bench:WorkspaceError",
    "dataset": "adcore.registry:dataset",
    "enhancer": "adcore.registry:enhancer",
    "image_metrics": "adcore.metrics:image_metrics",
    "load_plan": "adcore.plan:load",
    "method": "adcore.registry:method",
    "parse_plan": "adcore.plan:parse",
    "pixel_metrics": "adcore.metrics:pixel_metrics",
    "plugins": "adcore.registry:plugins",
    "protocol": "adcore.registry:protocol",
    "read_results": "adcore.running:read_results",
    "run": "adcore.running:run",
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
