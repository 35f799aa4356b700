"""Finds methods, enhancers, datasets and protocols: one file each, and entry points for other packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from adcore.plan import Choice, PlanError, explain, nearest

if TYPE_CHECKING:
    from adcore.datasets.base import Dataset
    from adcore.enhancers.base import Enhancer
    from adcore.methods.base import Method
    from adcore.protocols.base import Protocol

HYPHENS = ("protocols",)  # groups whose names have hyphens where a file's name has underscores

Model = TypeVar("Model", bound=BaseModel)


@functools.cache
def modules(group: str) -> dict[str, str]:
    """Name -> module path of every member of `group`: files of adcore/GROUP/, then entry points `adcore.GROUP`."""
    package = importlib.import_module(f"adcore.{group}")
    helpers = getattr(package, "HELPERS", ("base",))
    found = {
        info.name.replace("_", "-") if group in HYPHENS else info.name: f"adcore.{group}.{info.name}"
        for info in pkgutil.iter_modules(package.__path__)
        if info.name not in helpers and not info.name.startswith("_")
    }
    for entry in importlib.metadata.entry_points(group=f"adcore.{group}"):
        if entry.name in found:
            raise PlanError(f"{entry.value} brings {group[:-1]} '{entry.name}', which exists; rename its entry point")
        found[entry.name] = entry.value.split(":")[0]
    return found


def plugins(group: Literal["methods", "enhancers", "datasets", "protocols"]) -> list[str]:
    """What a plan may name there, sorted; plug-ins of other packages are among them."""
    return sorted(modules(group))


def _find(group: str, name: str, base: type, attribute: str) -> Any:
    known = modules(group)
    if name not in known:
        what = "dataset kind" if group == "datasets" else group[:-1]
        raise PlanError(f"unknown {what} '{name}'{nearest(name, known)}; known: {', '.join(sorted(known))}")
    module = importlib.import_module(known[name])
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, base) and getattr(value, attribute, None) == name:
            return value
    raise PlanError(f"{known[name]} has no {base.__name__} whose {attribute} is '{name}'")


def method(name: str) -> type[Method]:
    """The method class called `name`. Raises PlanError with the nearest known name."""
    from adcore.methods.base import Method

    found: type[Method] = _find("methods", name, Method, "name")
    return found


def enhancer(name: str) -> type[Enhancer]:
    """The enhancer class called `name`. Raises PlanError with the nearest known name."""
    from adcore.enhancers.base import Enhancer

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


def options(choice: Choice, model: type[Model], what: str) -> Model:
    """The checked options of a plan entry. Raises PlanError naming the entry, the key and the nearest known one."""
    try:
        return model.model_validate(choice.options)
    except ValidationError as error:
        raise PlanError(f"{what} '{choice.name}': {explain(error, model)}") from None


def label(choice: Choice, checked: BaseModel) -> str:
    """Name and every option that was given and is not the default, or not what the preset says, sorted:
    `patchcore(coreset=0.01)`; with a preset always epochs too."""
    given, model = choice.options, type(checked)
    defaults = {name: field.default for name, field in model.model_fields.items()}
    always = {"epochs"} if "preset" in given else set()
    if "preset" in given:
        implied = model.model_validate({"preset": given["preset"]}).model_dump()
        defaults = implied | {"preset": defaults["preset"]}
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
