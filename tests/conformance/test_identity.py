"""What runs in a step is in the key of what it makes: every call of our own code is recorded, for every method and
enhancer. A new file is tested without a line being added."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import adcore
from adcore.core.plan import Plan
from adcore.core.sources import Definitions
from adcore.engine import bench, identity, latency
from adcore.engine.bench import Bench
from tests.conformance import test_enhancers, test_protocols
from tests.conformance.test_devices import TINY, short
from tests.reach import behind

METHODS, ENHANCERS = test_protocols.METHODS, test_enhancers.ENHANCERS
ROOT = Path(adcore.__file__).parent
# Names of a cell, for its record and for messages: no numbers.
WORDS = {
    ("adcore.engine.cells", "Cell"),
    ("adcore.engine.cells", "columns"),
    ("adcore.engine.cells", "Contender"),
    ("adcore.engine.registry", ""),
}
# Methods whose answer stands in keys itself.
ANSWERS = {"reads"}
# Which part of a step is to be done; and what Python asks first, where a module is imported from the package.
DISPATCH = {("adcore.engine.compute", "Computer.evaluate"), ("adcore", "__getattr__")}

Opened = Callable[..., Bench]
Call = tuple[str, str]


@pytest.fixture(scope="module")
def opened(plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> Opened:
    workspace = tmp_path_factory.mktemp("identity")

    def make(**parts: object) -> Bench:
        made = plan(**{"backbone": TINY, **parts})
        return Bench(made, workspace, {"parts": bench.prepare(made.datasets[0], bench.Layout(workspace))})

    return make


@contextmanager
def recorded() -> Iterator[set[Call]]:
    """The functions of adcore that are called, in all threads, as (module, qualified name)."""
    codes: set[CodeType] = set()
    calls: set[Call] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_NEWLOCALS:  # no class, no module that is imported
            codes.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    for code in codes:
        path = Path(code.co_filename)
        if path.is_relative_to(ROOT):
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            module = ".".join(part for part in parts if part != "__init__")
            calls.add((module, code.co_qualname.partition(".<locals>")[0]))


def missing(calls: set[Call], definitions: Definitions) -> set[Call]:
    """Calls of code that is not among the definitions."""
    carriers = {*identity.CARRIERS}
    return {
        (module, name)
        for module, name in calls
        if module not in carriers
        and not module.startswith("adcore.core.sources")
        and (module, name) not in DISPATCH
        and name.rpartition(".")[2] not in ANSWERS
        and not {(module, name.partition(".")[0]), (module, "")} & WORDS
        and not counts(module, name, definitions)
    }


def counts(module: str, name: str, definitions: Definitions) -> bool:
    owner, _, member = name.partition(".")
    if owner.startswith("<"):  # of the module itself: an import, or a lambda or comprehension of a constant
        return True
    whole = definitions.get((module, owner))
    return whole is not None and (not member or member not in whole.members or (module, name) in definitions)


def silent(done: float) -> None: ...


@pytest.mark.parametrize("name", METHODS)
def test_of_a_method(name: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    made = opened(methods=[short(name)])
    cell, computer = made.cells[0], made.computer
    levels = made.levels(cell)
    method = cell.contender.method
    steps: list[tuple[Callable[[], None], list[Definitions]]] = [
        (lambda: computer.extract(cell, levels, silent), [behind(identity.features)]),
        (lambda: computer.fit(cell, silent), [behind(identity.fit, method, False)]),
        (lambda: computer.score(cell, silent), [behind(identity.maps, method)]),
        (lambda: computer.evaluate(cell), [behind(identity.cell), behind(identity.gallery)]),
        (lambda: computer.latency(cell), [behind(identity.latency, method), behind(identity.maps, method)]),
    ]
    for step, parts in steps:
        with recorded() as calls:
            step()
        assert missing(calls, joined(parts)) == set()


@pytest.mark.parametrize("name", ENHANCERS)
def test_of_an_enhancer(name: str, opened: Opened) -> None:
    made = opened(enhancers=[short(name)], methods=["padim"])
    cell, computer = made.cells[0], made.computer
    levels = made.levels(cell)
    parts = [behind(identity.enhancer, link.enhancer, link.made().wants_host) for link in cell.links]
    with recorded() as calls:
        for link in cell.links:
            computer.enhance(cell, link.key, silent)
    assert missing(calls, joined(parts)) == set()
    with recorded() as calls:
        computer.extract(cell, levels, silent)
        computer.fit(cell, silent)
    parts += [behind(identity.features), behind(identity.fit, cell.contender.method, False)]
    assert missing(calls, joined(parts)) == set()


def joined(parts: list[Definitions]) -> Definitions:
    return {reference: definition for part in parts for reference, definition in part.items()}


def test_a_call_outside_is_seen(opened: Opened) -> None:
    cell = opened().cells[0]
    with recorded() as calls:
        cell.contender.method.identity(cell.contender.options, cell.backbone)
    assert missing(calls, behind(identity.fit, cell.contender.method, False)) == {
        ("adcore.core.contracts", "Method.identity")
    }
