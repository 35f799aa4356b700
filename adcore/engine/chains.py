"""Enhancers in a row: `sbm+pfam`, and `paper`, which is another chain for objects than for textures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from adcore.core.contracts import Enhancer
from adcore.core.plan import BackboneSpec, Choice, PlanError, known, nearest
from adcore.engine import registry

NONE = "none"
PAPER = {"objects": "sbm+pfam", "textures": "pfam"}  # docs/papers/sbm-pfam.md: no jigsaw of a stationary texture


@dataclass(frozen=True)
class Chain:
    """The enhancers of a plan entry, in the order in which they are trained and applied."""

    name: str
    label: str
    objects: tuple[Enhancer, ...]
    textures: tuple[Enhancer, ...]

    def of(self, texture: bool) -> tuple[Enhancer, ...]:
        """The chain for a category."""
        return self.textures if texture else self.objects

    @property
    def parts(self) -> set[str]:
        """Names of all its enhancers."""
        return {enhancer.name for enhancer in (*self.objects, *self.textures)}

    @property
    def control(self) -> str:
        """`identity` or `random` where the whole entry is a control; else ''."""
        kinds = {enhancer.control for enhancer in (*self.objects, *self.textures)}
        return kinds.pop() if len(kinds) == 1 else ""


def chain(choice: Choice, backbone: BackboneSpec) -> Chain:
    """The enhancers of a plan entry; an option goes to every one of them that knows it.

    Raises PlanError for an unknown enhancer or option, or an order that cannot work.
    """
    names = {kind: _parts(name) for kind, name in _spelled(choice.name).items()}
    every = list(dict.fromkeys(part for parts in names.values() for part in parts))
    try:
        for name in every:
            alone = [] if "+" in choice.name else [NONE, "paper"]
            known(name, [*registry.modules("enhancers"), *alone], "enhancer")
    except ValueError as error:
        raise PlanError(f"enhancer '{choice.name}': {error}" if "+" in choice.name else str(error)) from None
    classes = {name: registry.enhancer(name) for name in every}
    _require_known(choice, classes)
    own = {name: {k: v for k, v in choice.options.items() if k in _keys(cls)} for name, cls in classes.items()}
    made = {
        name: cls(registry.options(Choice(name=name, **own[name]), cls.Options, "enhancer"))
        for name, cls in classes.items()
    }
    for parts in names.values():
        _require_order(choice.name, [made[part] for part in parts])
    chains = {kind: tuple(made[part] for part in parts) for kind, parts in names.items()}
    label = _label(choice, list(made.values()), backbone)
    return Chain(choice.name, label, chains["objects"], chains["textures"])


def _spelled(name: str) -> dict[str, str]:
    return PAPER if name == "paper" else {"objects": name, "textures": name}


def _parts(name: str) -> list[str]:
    return [] if name == NONE else name.split("+")


def _keys(cls: type[Enhancer]) -> list[str]:
    return list(cls.Options.model_fields)


def _require_known(choice: Choice, classes: dict[str, type[Enhancer]]) -> None:
    keys = sorted({key for cls in classes.values() for key in _keys(cls)})
    for key in choice.options:
        if key not in keys:
            listed = ", ".join(keys) or "no keys"
            raise PlanError(f"enhancer '{choice.name}': unknown key '{key}'{nearest(key, keys)}; known: {listed}")


def _require_order(name: str, chained: Sequence[Enhancer]) -> None:
    if len({type(enhancer) for enhancer in chained}) < len(chained):
        raise PlanError(f"enhancer '{name}': an enhancer stands in it twice; remove one")
    for before, after in itertools.pairwise(chained):
        if before.on_maps and not after.on_maps:
            mend = f"write {after.name} before {before.name}"
            raise PlanError(f"enhancer '{name}': {after.name} trains the backbone itself; {mend}")
        if before.on_maps and before.outputs(3) != 3:
            raise PlanError(f"enhancer '{name}': nothing can follow {before.name}, which leaves a single map")


def _label(choice: Choice, made: Sequence[Enhancer], backbone: BackboneSpec) -> str:
    """Name and every non-default option, sorted, and whether some weights only stand in."""
    changed: dict[str, str] = {}
    for enhancer in made:
        options: BaseModel = enhancer.options
        fields = type(options).model_fields
        for key in choice.options:
            if key in fields and getattr(options, key) != fields[key].default:
                changed[key] = registry.shown(getattr(options, key))
    inside = ",".join(f"{key}={changed[key]}" for key in sorted(changed))
    label = f"{choice.name}({inside})" if inside else choice.name
    return label + " [stand-in]" * any(enhancer.stand_in(backbone) for enhancer in made)
