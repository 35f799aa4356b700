"""Finds methods, enhancers, datasets, protocols, metrics and columns: one file or entry point each."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from adcore.core.columns import FIXED, KINDS, Column, Kind, Place
from adcore.core.contracts import PresetOptions
from adcore.core.plan import Choice, PlanError, explain, nearest
from adcore.core.plugins import modules as modules

if TYPE_CHECKING:
    from adcore.columns.base import CellColumn
    from adcore.core.contracts import Enhancer, Method
    from adcore.datasets.base import Dataset
    from adcore.metrics.base import Metric
    from adcore.protocols.base import Protocol

Model = TypeVar("Model", bound=BaseModel)


def plugins(group: Literal["methods", "enhancers", "datasets", "protocols", "metrics"]) -> list[str]:
    """What a plan may name there, sorted; plug-ins of other packages are among them."""
    return sorted(modules(group))


def _find(group: str, name: str, base: type, attribute: str) -> Any:
    known = modules(group)
    if name not in known:
        what = "dataset kind" if group == "datasets" else group[:-1]
        raise PlanError(f"unknown {what} '{name}'{nearest(name, known)}; known: {', '.join(sorted(known))}")
    try:
        module = importlib.import_module(known[name])
    except (ImportError, SyntaxError) as error:
        raise PlanError(f"{known[name]} cannot be imported: {error}") from error
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, base) and _attribute(value, attribute) == name:
            return value
    raise PlanError(f"{known[name]} has no {base.__name__} whose {attribute} is '{name}'")


def _attribute(cls: type, path: str) -> Any:
    """`column.name` of a class; None where it lacks one of them, as an abstract one does."""
    value: Any = cls
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def method(name: str) -> type[Method]:
    """The method class called `name`. Raises PlanError with the nearest known name."""
    from adcore.core.contracts import Method

    found: type[Method] = _find("methods", name, Method, "name")
    return found


def enhancer(name: str) -> type[Enhancer]:
    """The enhancer class called `name`. Raises PlanError with the nearest known name."""
    from adcore.core.contracts import Enhancer

    found: type[Enhancer] = _find("enhancers", name, Enhancer, "name")
    return found


def dataset(kind: str) -> type[Dataset]:
    """The dataset class of that kind. Raises PlanError with the nearest known kind."""
    from adcore.datasets.base import Dataset

    found: type[Dataset] = _find("datasets", kind, Dataset, "kind")
    return found


def protocol(name: str) -> type[Protocol]:
    """The protocol class called `name`. Raises PlanError with the nearest known name."""
    from adcore.protocols.base import Protocol

    found: type[Protocol] = _find("protocols", name, Protocol, "name")
    return found


@functools.cache
def metrics() -> dict[str, Metric[Any]]:
    """All metrics by name, in the leaderboard's order. Raises PlanError where a module has none of its name."""
    from adcore.metrics.base import Metric

    every: dict[str, Metric[Any]] = {
        name: _find("metrics", name, Metric, "column.name")() for name in modules("metrics")
    }
    return dict(sorted(every.items(), key=lambda item: _place(item[1].column)))


@functools.cache
def cell_columns() -> tuple[CellColumn, ...]:
    """The columns that are no metric of a plan. Raises PlanError where a module has none of its name."""
    from adcore.columns.base import CellColumn

    return tuple(_find("columns", name, CellColumn, "column.name")() for name in modules("columns"))


@functools.cache
def columns() -> dict[str, Column]:
    """The table of columns: all of the leaderboard, by name, in its order.

    Raises PlanError where two plug-ins bring one name."""
    every = [*FIXED, *(metric.column for metric in metrics().values()), *(each.column for each in cell_columns())]
    table = {column.name: column for column in sorted(every, key=_place)}
    for column in every:
        if table[column.name] is not column:
            raise PlanError(f"two columns are called '{column.name}'; rename the file of one")
    return table


def _place(column: Column) -> tuple[int, int, str]:
    return KINDS.index(column.kind), column.order, column.name


def column(name: str) -> Column:
    """The column called `name`, of all test images or, as `i_auroc_logical`, of a named subset of them.

    Raises ValueError for a name that nothing brings."""
    table = columns()
    if name in table:
        return table[name]
    metric = metric_of(name)
    if not metric:
        raise ValueError(f"no column is called '{name}'{nearest(name, table)}; a file in adcore/columns/ brings one")
    return table[metric].of(name.removeprefix(f"{metric}_"))


def judged_by_pixel(name: str) -> bool:
    """Whether a column is of a metric of masks, which depends on the resolution that a plan judges at."""
    from adcore.metrics.base import Masked

    metric = metrics().get(metric_of(name))
    return metric is not None and metric.reads.sees is Masked


def metric_of(name: str) -> str:
    """The metric whose column it is, of all test images or of a named subset; "" of none."""
    return max((metric for metric in metrics() if f"{name}_".startswith(f"{metric}_")), key=len, default="")


def in_order(names: Iterable[str]) -> list[str]:
    """Names of columns in the leaderboard's order. Raises ValueError for a name that nothing brings."""
    return sorted(dict.fromkeys(names), key=lambda name: _place(column(name)))


def of_kind(*kinds: Kind) -> list[str]:
    """Names of the columns of these kinds, in the leaderboard's order."""
    return [name for name, column in columns().items() if column.kind in kinds]


def shown_in(place: Place) -> list[str]:
    """Names of the columns that are shown there, in the leaderboard's order."""
    return [name for name, column in columns().items() if place in column.shown]


def options(choice: Choice, model: type[Model], what: str) -> Model:
    """The checked options of a plan entry. Raises PlanError naming the entry, the key and the nearest known one."""
    try:
        return model.model_validate(choice.options)
    except ValidationError as error:
        raise PlanError(f"{what} '{choice.name}': {explain(error, model)}") from None


def label(choice: Choice, checked: BaseModel) -> str:
    """Name and every option that was given and is not the default, or not what the preset says, sorted:
    `patchcore(coreset=0.01)`; with a preset always epochs too."""
    given = choice.options
    defaults = {name: field.default for name, field in type(checked).model_fields.items()}
    always: tuple[str, ...] = ()
    if isinstance(checked, PresetOptions) and "preset" in given:
        preset = type(checked).model_validate({"preset": given["preset"]})
        defaults, always = preset.model_dump() | {"preset": defaults["preset"]}, checked.told
    values = {
        name: value
        for name, value in checked.model_dump().items()
        if name in always or (name in given and value != defaults[name])
    }
    inside = ",".join(f"{key}={shown(values[key])}" for key in sorted(values))
    return f"{choice.name}({inside})" if inside else choice.name


def shown(value: Any) -> str:
    """The value of an option in a label; of a file or folder its name."""
    return value.name if isinstance(value, Path) else str(value)
