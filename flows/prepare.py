"""Put the datasets of a plan in place, read every file, and validate them."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Completed, Failed, State

from flows import command, stages


@flow(name="prepare")
def prepare(plan: str = "params.yaml", workspace: str = "") -> State[Any]:
    """Datasets in place and validated."""
    return prepared(plan, workspace)


def prepared(plan: str, workspace: str, pages: bool = False) -> State[Any]:
    """Prepare and validate within a flow; `pages` also writes Data Docs."""
    loaded, layout = command.opened(plan, workspace)
    bench, lost = stages.prepare_all(loaded, layout)
    stages.write_pages(bench, lost, data_docs=pages)
    ready = len({(cell.category.dataset, cell.category.name) for cell in bench.cells})
    failures = [f"failed: {failure.dataset}/{failure.category}: {failure.error}" for failure in lost]
    line = "\n".join([*failures, f"categories: {ready} ready, {len(lost)} failed"])
    state = Failed if lost else Completed
    return state(message=line, data={"failed": len(lost), "last_line": line})


if __name__ == "__main__":
    command.run(prepare, command.arguments(__doc__))
