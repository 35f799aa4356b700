"""Finished cells as MLflow runs, each logged once: where MLFLOW_TRACKING_URI says, else on SQLite in the workspace.

Only this package imports mlflow."""

from tasks.tracking.place import TrackingError
from tasks.tracking.tracker import Tracker

__all__ = ["Tracker", "TrackingError"]
