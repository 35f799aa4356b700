"""The registry: a file or an entry point is all that a new method needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from adcore.api import check
from adcore.core import keys
from adcore.core.contracts import Method
from adcore.core.plan import Choice, PlanError, parse
from adcore.engine import identity, registry
from adcore.engine.cells import contenders
from adcore.metrics.base import Scored, values

METHOD = """
from adcore.core.contracts import FeatureMethod, MethodOptions

class Widths(MethodOptions):
    width: int = 3

class Mine(FeatureMethod):
    name = "mine"
    Options = Widths
    levels = (2,)
    def fit(self, features, progress=None): ...
    def score(self, features): ...
    def state(self): return {}
    def restore(self, state): ...
"""


METRIC = """
from adcore.columns.base import CellColumn
from adcore.core.columns import Column
from adcore.metrics import ImageRanking
from adcore.metrics.base import Metric

class Mine(Metric):
    column = Column("mine", "mine", "something of image scores", better="lower")
    reads = ImageRanking
    def value(self, read): return 0.25

class Taken(CellColumn):
    column = Column("taken", "taken", "something of a cell", kind="note")
    def value(self, cell): return 1
"""


def test_every_file_of_methods_is_one() -> None:
    folder = Path(registry.__file__).parents[1] / "methods"
    files = {path.stem for path in folder.glob("[!_]*.py")}
    assert set(registry.modules("methods")) == files >= {"padim", "patchcore", "cfa"}


def test_kinds_of_datasets_are_no_helpers() -> None:
    assert {"elpv", "elpv_full", "generated", "folder"} <= set(registry.modules("datasets"))
    for kind in registry.modules("datasets"):
        assert registry.dataset(kind).kind == kind


@pytest.mark.parametrize("find", [registry.method, registry.dataset])
def test_unknown_names(find: Callable[[str], type]) -> None:
    with pytest.raises(PlanError, match=r"unknown .* 'x'; known: "):
        find("x")


def test_another_package_brings_a_method(installed: Callable[..., None]) -> None:
    installed("[adcore.methods]\nmine = their_methods\n", METHOD)
    found = registry.method("mine")
    assert issubclass(found, Method) and found.__module__ == "their_methods"
    assert len(keys.code(found.__module__)) == 32
    plan = parse({"datasets": ["elpv"], "methods": [{"name": "mine", "width": 5}, "padim"]})
    assert [contender.names["method_label"] for contender in contenders(plan)] == ["mine(width=5)", "padim"]
    with pytest.raises(PlanError, match=r"method 'mine': unknown key 'widht' \(did you mean 'width'\?\)"):
        contenders(parse({"datasets": ["elpv"], "methods": [{"name": "mine", "widht": 5}]}))


def test_another_package_brings_a_metric_and_a_column(installed: Callable[..., None]) -> None:
    before = identity.cell()
    installed("[adcore.metrics]\nmine = their_methods\n[adcore.columns]\ntaken = their_methods:Taken\n", METRIC)
    names = list(registry.columns())
    assert names.index("spro") < names.index("mine") < names.index("taken") < names.index("extract_s")
    assert "mine" in parse({"datasets": ["elpv"], "methods": ["padim"]}).metrics
    assert values(registry.metrics(), [Scored([0.0, 1.0], [0, 1])])["mine"] == 0.25
    assert identity.cell() != before


def test_a_metric_and_a_column_of_one_name_are_refused(installed: Callable[..., None]) -> None:
    installed("[adcore.metrics]\nmine = their_methods\n[adcore.columns]\nmine = twice\n", METRIC)
    (Path(next(iter(sys.path))) / "twice.py").write_text(METRIC.replace('"taken"', '"mine"'))
    with pytest.raises(PlanError, match="two columns are called 'mine'; rename the file of one"):
        registry.columns()


def test_a_plan_that_names_a_metric_that_nothing_computes_is_refused() -> None:
    message = r"metrics: unknown metric 'i_aurok' \(did you mean 'i_auroc'\?\); known: aupro, aupro05, i_ap, i_auroc, "
    with pytest.raises(PlanError, match=message):
        parse({"datasets": ["elpv"], "methods": ["padim"], "metrics": ["i_aurok"]})


def test_an_entry_point_may_name_the_class(installed: Callable[..., None]) -> None:
    installed("[adcore.methods]\nmine = their_methods:Mine\n", METHOD)
    assert registry.method("mine").levels == (2,)


def test_an_entry_point_cannot_take_the_name_of_a_method(installed: Callable[..., None]) -> None:
    installed("[adcore.methods]\npadim = their_methods\n", METHOD)
    with pytest.raises(PlanError, match="their_methods brings method 'padim', which exists"):
        registry.method("padim")


def test_a_module_without_such_a_method_is_named(installed: Callable[..., None]) -> None:
    installed("[adcore.methods]\nother = their_methods\n", METHOD)
    with pytest.raises(PlanError, match="their_methods has no Method whose name is 'other'"):
        registry.method("other")


class Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid")
    wide: int = 1
    high: float = 0.5
    kind: str | None = None


def test_options_are_checked_and_labelled() -> None:
    choice = Choice.model_validate({"name": "m", "wide": 2, "kind": "x", "high": 0.5})
    checked = registry.options(choice, Sizes, "method")
    assert checked == Sizes(wide=2, kind="x")
    assert registry.label(choice, checked) == "m(kind=x,wide=2)"
    with pytest.raises(PlanError, match=r"method 'm': wide: .*integer"):
        registry.options(Choice.model_validate({"name": "m", "wide": "far"}), Sizes, "method")
    with pytest.raises(PlanError, match=r"enhancer 'm': unknown key 'hihg' \(did you mean 'high'\?\)"):
        registry.options(Choice.model_validate({"name": "m", "hihg": 1}), Sizes, "enhancer")


@pytest.mark.parametrize(
    ("name", "options", "inside"),
    [
        ("tfa_net", {"preset": "small"}, "epochs=30,preset=small"),
        ("tfa_net", {"preset": "small", "standardise": False}, "epochs=30,preset=small,standardise=False"),
        ("tfa_net", {"preset": "small", "standardise": True}, "epochs=30,preset=small"),
        ("agpnet", {"preset": "small", "lr": 1e-4}, "epochs=30,lr=0.0001,preset=small"),
        ("agpnet", {"preset": "small", "lr": 1e-3}, "epochs=30,preset=small"),
        ("agpnet", {"lr": 1e-3}, "lr=0.001"),
        ("agpnet", {"preset": "paper", "lr": 1e-4}, "epochs=500"),
    ],
)
def test_a_label_tells_what_differs_from_the_preset(name: str, options: dict[str, Any], inside: str) -> None:
    """Also where it is the default without one."""
    choice = Choice.model_validate({"name": name, **options})
    checked = registry.options(choice, registry.method(name).Options, "method")
    assert registry.label(choice, checked) == f"{name}({inside})"


def test_a_plug_in_that_cannot_be_imported_is_named(installed: Callable[..., None]) -> None:
    installed("[adcore.methods]\nmine = their_methods\n", "import nothing_of_this_name\n")
    with pytest.raises(PlanError, match="their_methods cannot be imported: No module named 'nothing_of_this_name'"):
        registry.method("mine")


def test_a_metric_that_is_none_stops_a_plan_before_anything(installed: Callable[..., None]) -> None:
    installed("[adcore.metrics]\nmine = their_methods\n", "")
    with pytest.raises(PlanError, match=r"their_methods has no Metric whose column.name is 'mine'"):
        check(parse({"datasets": ["elpv"], "methods": ["padim"]}))
