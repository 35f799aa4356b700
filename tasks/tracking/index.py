"""run_key -> run id of an experiment's runs, in tags of the experiment, which come with one request.

A hint for who does not know the runs yet: MLflow has no query for many tags, and sends a run only whole, which takes
seconds for 1,000. Every tag is written once, so that several machines may write at once; of two that name a key the
later one counts. Runs that were deleted stay in it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PREFIX = "mlflow.adcore.runs."  # MLflow's pages do not show what begins with mlflow.
EACH = 80  # runs a tag: below 5,000 characters, the most that any MLflow takes


def read(experiment: Experiment) -> dict[str, str]:
    """What the tags name; one that is none of ours is passed over."""
    found: dict[str, str] = {}
    for name in sorted(name for name in experiment.tags if name.startswith(PREFIX)):
        try:
            runs = json.loads(experiment.tags[name])
        except ValueError:
            continue
        if isinstance(runs, dict):
            found |= {key: run for key, run in runs.items() if isinstance(run, str) and run.isalnum()}
    return found


def write(client: MlflowClient, experiment: str, runs: Mapping[str, str]) -> None:
    """Add runs to it."""
    left = iter(runs.items())
    while some := dict(islice(left, EACH)):
        # The random end tells machines apart that write at the same moment.
        name = f"{PREFIX}{time.time_ns():020d}.{uuid.uuid4().hex[:8]}"
        client.set_experiment_tag(experiment, name, json.dumps(some, separators=(",", ":")))
