"""Validate the datasets of a plan: results/validation.html, and Great Expectations' Data Docs in results/data_docs."""

from __future__ import annotations

from typing import Any

from prefect import State, flow

from flows import command
from flows._heartbeat import untagged
from flows.prepare import prepared


@flow(name="validate")
@untagged
def validate(plan: str = "params.yaml", workspace: str = "") -> State[Any]:
    """Every check on every dataset, and the pages that show them."""
    return prepared(plan, workspace, pages=True)


if __name__ == "__main__":
    command.run(validate, command.arguments(__doc__))
