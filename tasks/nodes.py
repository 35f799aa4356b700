"""A node of a cluster: what it works in, and why it cannot work for a plan."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adcore.core.costs import git_commit
from adcore.core.disk import room
from adcore.datasets.base import DataError
from adcore.engine import bench
from adcore.engine.bench import reopened
from adcore.features.backbones import WeightsError

OWN = "ADCORE_NODE_WORKSPACE"  # set where a node of a cluster starts: the folder that it works in


class Node(NamedTuple):
    """name: of the machine. id: as Ray calls it; "" outside Ray."""

    name: str
    id: str

    @classmethod
    def here(cls) -> Node:
        ray = sys.modules.get("ray")  # never imported for this: asked outside a cluster it starts one
        inside = ray is not None and ray.is_initialized()
        return cls(socket.gethostname(), ray.get_runtime_context().get_node_id() if ray and inside else "")


class NodeError(RuntimeError):
    """A node has other code or other images than the machine that planned the work, or no room for it."""

    def __init__(self, reason: str, node: Node) -> None:
        super().__init__(reason, node)  # both, since it is pickled by what it was given
        self.node = node

    def __str__(self) -> str:
        return f"node {self.node.name}: {self.args[0]}"


def own_workspace(dataset: str, wanted: Sequence[tuple[str, str]], plan: str, manifests: str, commit: str) -> str:
    """The folder that this node works in, with the images of a data set in place.

    wanted: (cell, key) of the plan. commit: of the code that made them. Raises NodeError unless images and code give
    the same keys here."""
    node = Node.here()
    if not os.environ.get(OWN):
        raise NodeError(f"{OWN} is not set where its Ray was started; it names the folder to work in", node)
    opened = reopened(plan, str(Path(os.environ[OWN]).resolve()), manifests)
    try:
        with room(opened.layout.workspace):
            found = bench.prepare(opened.dataset(dataset).spec, opened.layout)
        if found != opened.manifests[dataset]:
            mend = "run `dvc pull` there, or copy them"
            raise NodeError(f"its images of {dataset} are not those of the plan; {mend}", node)
        cells = opened.by_title
    except (DataError, WeightsError) as error:
        raise NodeError(str(error), node) from None
    for cell, key in wanted:
        if cell not in cells or key not in cells[cell].keys:
            own = git_commit() or "of another version"
            raise NodeError(f"its code is {own}, that of the plan is {commit}; bring it up to date", node)
    return opened.text[1]
