"""A node of a cluster computes what was planned, or says why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adcore.engine.bench import Bench, Layout, prepare
from adcore.engine.schedule import Work
from tasks import nodes
from tasks.nodes import NodeError, own_workspace
from tasks.steps import Call


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv(nodes.OWN, str(tmp_path / "node"))
    return tmp_path / "node"


def wanted(bench: Bench) -> list[tuple[str, str]]:
    """A key of every cell, whatever is computed of it."""
    return [(cell.title, cell.maps_key) for cell in bench.cells]


def test_a_node_with_the_same_code_and_images_goes_on(prepared: Bench, node: Path) -> None:
    plan, _, manifests = prepared.text
    own_workspace("parts", wanted(prepared), plan, manifests, "abc")
    assert list((node / ".cache/adcore/store/manifest").iterdir())  # it has read the images


def test_a_node_with_other_images_is_named(prepared: Bench, node: Path) -> None:
    manifests = json.dumps(dict.fromkeys(prepared.manifests, "0" * 32))
    with pytest.raises(NodeError, match="its images of parts are not those of the plan; run `dvc pull` there"):
        own_workspace("parts", wanted(prepared), prepared.text[0], manifests, "abc")


def test_a_node_with_other_code_is_named(prepared: Bench, node: Path) -> None:
    stale = [(cell, "0" * 32) for cell, _ in wanted(prepared)]
    plan, _, manifests = prepared.text
    with pytest.raises(NodeError, match="that of the plan is abc; bring it up to date"):
        own_workspace("parts", stale, plan, manifests, "abc")


def test_every_step_has_a_key_of_its_cell(prepared: Bench, tmp_path: Path) -> None:
    manifests = {spec.name: prepare(spec, Layout(tmp_path)) for spec in prepared.plan.datasets}
    fresh = Bench(prepared.plan, tmp_path, manifests)
    planned = [Call.of(each) for each in Work.find(fresh).planned()]
    assert len(planned) > len(fresh.cells)
    assert all(call.key in fresh.by_title[call.cell].keys for call in planned)


def test_a_node_without_a_folder_is_named(prepared: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(nodes.OWN, raising=False)
    plan, _, manifests = prepared.text
    with pytest.raises(NodeError, match="ADCORE_NODE_WORKSPACE is not set where its Ray was started"):
        own_workspace("parts", wanted(prepared), plan, manifests, "abc")


def test_a_node_that_lacks_the_images_is_named(prepared: Bench, node: Path, tmp_path: Path) -> None:
    absent = prepared.plan.datasets[0].model_copy(update={"root": tmp_path / "nowhere"})
    plan = prepared.plan.model_copy(update={"datasets": (absent,)}).model_dump_json()
    with pytest.raises(NodeError, match=r"^node \S+: dataset parts: the folder .*nowhere does not exist"):
        own_workspace("parts", [], plan, prepared.text[2], "abc")
