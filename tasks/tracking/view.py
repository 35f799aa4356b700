"""MLflow's page of an experiment, preset as a leaderboard."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from typing import Any

from adcore.engine import registry

PAGES = "http://127.0.0.1:5000"  # of `make ui`
PREFIX = "mlflow.sharedViewState."
TAG = f"{PREFIX}leaderboard"
# Narrow enough to show the metrics beside the Assistant pane; the name of a run begins with its dataset.
VIEW_PARAMS = {"method": 170, "backbone": 140, "image": 60}
VIEW_METRIC = 80


def view_url(experiment_id: str, base: str = "", dataset: str = "") -> str:
    """Address at which the MLflow page opens as a leaderboard, of one dataset or of all; base: of the pages, by default
    those of `make ui`."""
    view = tag(dataset).removeprefix(PREFIX)
    return f"{base or PAGES}/#/experiments/{experiment_id}/runs?viewStateShareKey={view}&workflowType=machine_learning"


def tag(dataset: str = "") -> str:
    """Name of the experiment tag that presets a view: of a dataset, or of all. A hash, since a dataset's name may hold
    what an address may not."""
    return f"{TAG}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}" if dataset else TAG


def view_tag(dataset: str = "") -> str:
    """Value of that tag: an internal format of MLflow 3.15 to 3.17."""
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(preset(dataset)).encode())).decode()
    now = int(time.time() * 1000)
    name = f"Leaderboard of {dataset}" if dataset else "Leaderboard"
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": state})


def view_state(tag: str | None) -> dict[str, Any] | None:
    """The state in such a tag; None for no tag, and for one that is none of ours."""
    if tag is None:
        return None
    try:
        packed = base64.b64decode(json.loads(tag)["state"].removeprefix("deflate;"))
        state: dict[str, Any] = json.loads(zlib.decompress(packed))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None
    return state


def preset(dataset: str = "") -> dict[str, Any]:
    """The state that the page shall open in: sorted, and of a dataset, since scores of several do not compare."""
    widths = {f"params.`{name}`": width for name, width in VIEW_PARAMS.items()}
    widths |= {f"metrics.`{name}`": VIEW_METRIC for name in registry.shown_in("mlflow")}
    columns = list(widths)
    return {
        "searchFilter": f'params.dataset = "{dataset}"' if dataset else "",
        "orderByKey": f"metrics.`{registry.shown_in('ranking')[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
    }
