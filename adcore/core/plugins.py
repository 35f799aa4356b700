"""Names of plug-ins: a file of adcore/GROUP/ each, and the entry points of other packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil

from adcore.core.errors import PlanError

HYPHENS = ("protocols",)  # groups whose names have hyphens where a file's name has underscores


@functools.cache
def modules(group: str) -> dict[str, str]:
    """Name -> module path of every member of `group`: files of adcore/GROUP/, then entry points `adcore.GROUP`.

    None of them is imported. Raises PlanError where an entry point takes a name that exists."""
    package = importlib.import_module(f"adcore.{group}")
    helpers = getattr(package, "HELPERS", ("base",))
    names = {
        info.name.replace("_", "-") if group in HYPHENS else info.name: f"adcore.{group}.{info.name}"
        for info in pkgutil.iter_modules(package.__path__)
        if info.name not in helpers and not info.name.startswith("_")
    }
    for entry in importlib.metadata.entry_points(group=f"adcore.{group}"):
        if entry.name in names:
            raise PlanError(f"{entry.value} brings {group[:-1]} '{entry.name}', which exists; rename its entry point")
        names[entry.name] = entry.value.split(":")[0]
    return names
