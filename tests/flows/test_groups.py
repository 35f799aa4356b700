"""Groups on the nodes of a cluster: what fails on one of them is tried on another."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adcore.core.errors import RemoteGone
from adcore.engine.bench import Bench, Layout, prepare
from adcore.engine.schedule import Missing, Work
from flows import _groups
from tasks.nodes import Node, NodeError
from tasks.progress import Display
from tasks.steps import Ended, Fault

Outcome = Callable[[str, dict[str, Any]], object]  # of a group, by node and parameters; an exception is raised there


class Nodes:
    """Two nodes, of which the first that is allowed takes a group, and what they were given."""

    ray = "127.0.0.1:6379"
    options = SimpleNamespace(model_dump=lambda **_: {})
    latency: object = None  # not pinned

    def __init__(self, outcome: Outcome, names: tuple[str, ...] = ("a", "b")) -> None:
        self.outcome, self.names = outcome, names
        self.given: list[tuple[str, str]] = []
        self.steps: list[list[str]] = []
        self.without: Collection[str] = ()

    def resources(self, timing: bool) -> SimpleNamespace:
        return self.options

    def has_node(self, timing: bool, without: Collection[str] = ()) -> bool:
        return bool(set(self.names) - set(without))

    def reserved(self, timing: bool, without: Collection[str] = ()) -> AbstractContextManager[object]:
        self.without = without
        return nullcontext()

    def submit(self, _: object, parameters: dict[str, Any]) -> Future:
        node = next(name for name in self.names if name not in self.without)
        self.given.append((node, parameters["title"]))
        self.steps.append(
            [call.step for calls in (parameters["shared"], *parameters["own"].values()) for call in calls]
        )
        result = self.outcome(node, parameters)
        state = SimpleNamespace(is_completed=lambda: not isinstance(result, Exception), message="")
        return Future(result, state)


@dataclass(eq=False)  # hashed by identity
class Future:
    outcome: object
    state: SimpleNamespace

    def wait(self) -> None: ...

    def result(self, raise_on_failure: bool) -> object:
        return self.outcome


@pytest.fixture
def work(prepared: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Of two groups."""
    monkeypatch.setattr(_groups, "as_completed", lambda futures: futures)
    plan = prepared.plan
    manifests = {spec.name: prepare(spec, Layout(tmp_path)) for spec in plan.datasets}
    return Work.find(Bench(plan, tmp_path, manifests))


def run(work: Work, nodes: Nodes) -> dict[str, Fault]:
    return _groups._Groups(work, nodes, nodes, Display(work.weights())).run()  # type: ignore[arg-type]


def fault(parameters: dict[str, Any]) -> dict[str, Fault]:
    return dict.fromkeys(parameters["own"], Fault("OSError: its disk is broken", ""))


def broken(*names: str) -> Outcome:
    return lambda node, parameters: Ended(Node(node, node), fault(parameters) if node in names else {})


def refusing(*names: str) -> Outcome:
    def outcome(node: str, _: object) -> object:
        return NodeError("its code is old", Node(node, node)) if node in names else Ended(Node(node, node), {})

    return outcome


def test_what_fails_on_one_node_is_tried_on_another(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(broken("a"))
    assert run(work, nodes) == {}
    assert [node for node, _ in nodes.given] == ["a", "a", "b", "b"]
    told = capsys.readouterr().err
    assert "warning: parts/bolt failed on a and is tried on another node: OSError: its disk is broken" in told


def test_what_fails_on_two_nodes_has_failed(work: Work) -> None:
    nodes = Nodes(broken("a", "b", "c"), ("a", "b", "c"))
    assert set(run(work, nodes)) == {cell.title for cell in work.cells}
    assert [node for node, _ in nodes.given] == ["a", "a", "b", "b"]


def test_where_there_is_no_other_node_it_has_failed(work: Work) -> None:
    assert set(run(work, Nodes(broken("a"), ("a",)))) == {cell.title for cell in work.cells}


def test_a_node_that_refuses_is_given_nothing_more(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(refusing("a"))
    assert run(work, nodes) == {}
    assert [node for node, _ in nodes.given] == ["a", "a", "b", "b"]
    assert capsys.readouterr().err.count("node a: its code is old; it is given nothing more") == 1


def test_where_all_nodes_refuse_the_cells_have_failed(work: Work) -> None:
    faults = run(work, Nodes(refusing("a", "b")))
    assert {title: fault.error for title, fault in faults.items()} == {
        cell.title: "NodeError: node b: its code is old" for cell in work.cells
    }


def test_what_a_refused_group_fails_with_elsewhere_is_tried_once_more(work: Work) -> None:
    """A refusal is no failure of the group."""

    def outcome(node: str, parameters: dict[str, Any]) -> object:
        return refusing("a")(node, parameters) if node == "a" else broken("b")(node, parameters)

    nodes = Nodes(outcome, ("a", "b", "c"))
    assert run(work, nodes) == {}
    assert [node for node, _ in nodes.given] == ["a", "a", "b", "b", "c", "c"]


def test_a_group_that_ended_as_a_whole_has_lost_the_cells_that_are_not_there(work: Work) -> None:
    nodes = Nodes(lambda *_: RuntimeError("its worker died"))
    faults = run(work, nodes)
    assert len(nodes.given) == 4  # each was tried once more
    assert {fault.error for fault in faults.values()} == {"RuntimeError: its worker died"}


def test_cells_of_which_a_store_that_is_gone_cannot_tell_are_lost(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: str) -> bool:
        raise RemoteGone("the store is gone")

    monkeypatch.setattr(work.bench.store, "has", gone)
    assert set(run(work, Nodes(lambda *_: RuntimeError("its worker died")))) == {cell.title for cell in work.cells}


def test_a_cell_whose_thresholds_are_not_there_is_lost(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = work.bench.plan.model_copy(update={"alarms": 0.2})
    other = Work.find(Bench(plan, work.bench.layout.workspace, work.bench.manifests))
    monkeypatch.setattr(other.bench.store, "has", lambda kind, key: kind == "cell")
    assert set(run(other, Nodes(lambda *_: RuntimeError("its worker died")))) == {cell.title for cell in other.cells}


def test_no_node_that_can_give_what_a_group_reserves_is_told(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(broken())
    nodes.has_node = lambda timing, without=(): False  # type: ignore[method-assign]
    run(work, nodes)
    assert (
        "no node of the cluster can give a group {'num_cpus': 1}; one that can is waited for" in capsys.readouterr().err
    )


def test_latencies_that_are_pinned_are_measured_behind_all_else_and_once_a_key(work: Work) -> None:
    nodes = Nodes(broken())
    nodes.latency = nodes.options
    assert run(work, nodes) == {}
    whole = ["extract", "fit", "score", "evaluate", "fit", "score", "evaluate"]
    assert nodes.steps == [whole, whole, ["latency", "latency"]]  # two methods on two categories
    assert [title for _, title in nodes.given] == ["parts/bolt", "parts/cloth", "latency of parts/bolt"]


def test_no_latency_of_a_cell_that_has_failed_is_measured(work: Work) -> None:
    nodes = Nodes(broken("a"), ("a",))
    nodes.latency = nodes.options
    assert set(run(work, nodes)) == {cell.title for cell in work.cells}
    assert "latency" not in [step for steps in nodes.steps for step in steps]


def test_what_lacks_only_its_latency_is_given_to_where_that_is_pinned(work: Work) -> None:
    for cell in work.cells:
        work.missing[cell.title] = Missing(fit=True, maps=False, evaluate=False, latency=True, computed=False)
    nodes = Nodes(broken())
    nodes.latency = nodes.options
    run(work, nodes)
    assert nodes.steps == [["latency", "latency"]]
