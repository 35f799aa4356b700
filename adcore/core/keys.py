"""Canonical content keys: the same data, code, parameters and seed give the same key on every machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from typing import Any

from adcore.core._scopes import EVERYTHING, Reference
from adcore.core.digests import kept
from adcore.core.sources import FOLLOWED, Definitions, reached


def digest(value: Any) -> str:
    """32 hex digits of a JSON-like value (mappings in any order). Raises TypeError or ValueError for anything else."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """The versions that can change a result: torch's and timm's major.minor, read without importing them."""
    return {name: ".".join(importlib.metadata.version(name).split(".")[:2]) for name in ("torch", "timm")}


@functools.cache
def code(*names: str, outside: tuple[str, ...] = ()) -> str:
    """Digest of what `module:definition` (or a whole `module`) needs of its package and of adcore, without `outside`.

    See adcore.core.sources for what does not count. Raises ModuleNotFoundError and AttributeError for what is not
    there.
    """
    if all(name.startswith(f"{FOLLOWED}.") for name in names):
        return kept(json.dumps([names, outside]), lambda: _code(names, outside))
    return _code(names, outside)


def _code(names: Sequence[str], outside: Iterable[str]) -> str:
    definitions = reached([reference(name) for name in names], {reference(name) for name in outside})
    return digest(sorted(set(_colours(definitions).values())))


def reference(name: str) -> Reference:
    """`module:definition` or `module` in two parts."""
    module, _, definition = name.partition(":")
    return module, definition or EVERYTHING


def _colours(definitions: Definitions) -> dict[Reference, str]:
    """A digest of each definition and of those that it refers to, without their names.

    By colour refinement, since they may refer to each other: every round puts into each digest those of the round
    before, until no more of them differ (https://en.wikipedia.org/wiki/Colour_refinement_algorithm).
    """
    members = _members(definitions)
    colours = {each: digest(definition.text) for each, definition in definitions.items()}
    while True:
        parts = {
            each: [colours[each], *(colours.get(other, "") for other in (*definition.references, *members[each]))]
            for each, definition in definitions.items()
        }
        finer = {each: digest(part) for each, part in parts.items()}
        if len(set(finer.values())) == len(set(colours.values())):
            return finer
        colours = finer


def _members(definitions: Definitions) -> dict[Reference, list[Reference]]:
    """Of each class those of its members that count."""
    return {
        (module, name): [
            member for inner in sorted(definition.members) if (member := (module, f"{name}.{inner}")) in definitions
        ]
        for (module, name), definition in definitions.items()
    }
