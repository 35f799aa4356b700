"""What is read of a store that other machines share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adcore.core.plan import Plan
from adcore.core.store import Remembering
from adcore.engine.bench import Bench
from adcore.results import finished


class Asked(Remembering):
    """Remembers what it was asked to bring, by kind, and brings nothing."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.store)
        self.brought: dict[str, set[str]] = {}

    def bring(self, kind: str, keys: Iterable[str]) -> None:
        self.brought[kind] = set(keys)


def test_maps_are_brought_together_for_the_curves_of_a_training_and_for_nothing_else(
    plan: Callable[..., Plan], prepared: Bench
) -> None:
    methods = ["padim", {"name": "cfa", "epochs": 1, "gamma_c": 4}]
    bench = Bench(plan(methods=methods), prepared.layout.workspace, prepared.manifests)
    store = Asked(bench)
    finished.read(bench, store, ["i_auroc"])
    trained = {cell.maps_key for cell in bench.cells if cell.contender.names["method"] == "cfa"}
    assert len(trained) == 2
    assert store.brought["maps"] == trained
    assert store.brought["cell"] == {cell.key for cell in bench.cells}
