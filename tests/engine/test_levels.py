"""A method that reads a class token and blocks of its choice, in a plan beside one that reads maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adcore
from adcore.core.plan import Plan, PlanError
from adcore.engine.cells import contenders

CENTRE = """
from __future__ import annotations

import torch
from adcore.core.contracts import FeatureMethod, MethodOptions, silent

class Options(MethodOptions):
    block: int = 2


class Centre(FeatureMethod):
    # The distance of a block's tokens and of the class token from their means.

    name = "centre"
    Options = Options

    @classmethod
    def reads(cls, options):
        return f"block{options.block}", "cls"

    def fit(self, features, progress=silent):
        maps, vectors = (torch.cat(parts) for parts in zip(*features, strict=True))
        self.means = maps.mean(0), vectors.mean((0, 2, 3))
        return {}

    def score(self, features):
        maps, vectors = features
        return (maps - self.means[0]).norm(dim=1), (vectors[..., 0, 0] - self.means[1]).norm(dim=1)

    def state(self):
        return {"maps": self.means[0], "vectors": self.means[1]}

    def restore(self, state):
        self.means = state["maps"], state["vectors"]
"""


@pytest.fixture
def both(plan: Callable[..., Plan], installed: Callable[[str, str], None]) -> Callable[..., Plan]:
    installed("[adcore.methods]\ncentre = their_methods\n", CENTRE)

    def make(**changes: Any) -> Plan:
        backbone = {"name": "test_vit", "weights": "random"}
        given: dict[str, Any] = {"backbone": backbone, "methods": ["padim", "centre", {"name": "centre", "block": 4}]}
        return plan(**given | changes)

    return make


def test_one_pass_over_the_images_gives_all_that_is_read(both: Callable[..., Plan], tmp_path: Path) -> None:
    made = both(metrics=["i_auroc"])
    table = adcore.run(made, tmp_path)
    assert table["status"].tolist() == ["ok"] * 6
    (folder, *_) = (tmp_path / ".cache/adcore/bank").glob("*/seconds.json")
    assert folder.read_text().count("level1+level2+level3+block2+block4+cls") == 1


def test_an_enhancer_of_maps_refuses_a_vector(both: Callable[..., Plan]) -> None:
    message = "enhancer 'pfam': centre reads 'cls', which is no map to enhance; name the enhancers of centre without it"
    with pytest.raises(PlanError, match=message):
        contenders(both(enhancers=["none", "pfam"]))


def test_an_enhancer_of_the_backbone_may_stand_before_it(both: Callable[..., Plan]) -> None:
    assert len(contenders(both(enhancers=["none", "sbm"]))) == 6


def test_a_level_that_there_is_not_is_refused(both: Callable[..., Plan]) -> None:
    with pytest.raises(PlanError, match="method 'centre': it reads 'block0', which is no level; a block is such as"):
        contenders(both(methods=[{"name": "centre", "block": 0}]))
